"""Describe the systems that bundles were measured on, as MLPerf's submission checker reads it.

A description covers a machine with its software, as in a submission's folder ``systems``. The
checker (mlcommons/inference, tools/submission, from v4.1 on) refuses missing fields, and empty
fields other than ``MAY_BE_EMPTY``. It takes the number 0 for empty, so every value is text here, as
in published submissions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.errors import UserError
from qbench.spec.system import FIELDS, mlperf_system

MAY_BE_EMPTY = (
    "system_type_detail", "host_processor_frequency", "host_processor_caches",
    "host_processor_interconnect", "accelerator_frequency", "accelerator_interconnect_topology",
    "accelerator_on-chip_memories", "hw_notes", "sw_notes",
)  # fmt: skip
"""Fields that are required, but may be empty."""


@dataclass(frozen=True)
class SystemFile:
    """A description as a file.

    Attributes:
        name: file name, derived from the system's name.
        content: JSON with every field that MLPerf requires; "" if unknown.
        needed, wanted: empty fields: those that the checker refuses, and those that it accepts.
    """

    name: str
    content: bytes
    needed: tuple[str, ...]
    wanted: tuple[str, ...]


def system_files(bundles: Sequence[Bundle]) -> list[SystemFile]:
    """Return one file for each system of the bundles; equal descriptions are one system."""
    files: dict[bytes, SystemFile] = {}
    for bundle in bundles:
        fields = described(bundle)
        text = {key: "" if value is None else str(value) for key, value in fields.items()}
        content = json.dumps(text, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if content in files:
            continue
        names = (text["system_name"], bundle.begin.host.host_id, "system")
        stem = next(name for each in names if (name := _file_name(each)))
        taken = {file.name for file in files.values()}
        endings = chain([".json"], (f"-{number}.json" for number in count(2)))
        empty = [name for name in FIELDS if not text[name]]
        files[content] = SystemFile(
            next(stem + ending for ending in endings if stem + ending not in taken),
            content,
            tuple(name for name in empty if name not in MAY_BE_EMPTY),
            tuple(name for name in empty if name in MAY_BE_EMPTY),
        )
    return list(files.values())


def described(bundle: Bundle) -> dict[str, Any]:
    """Return MLPerf's fields of the bundle's system; see ``mlperf_system``.

    Raises:
        UserError: the host or system in its ``begin.json`` is damaged.
    """
    begin = bundle.begin
    versions = {name: probe.version for name, probe in begin.backends.items()}
    try:
        return mlperf_system(to_json(begin.host), begin.system, versions)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"{bundle.path / 'begin.json'}: damaged: its host or system: {error!r}",
            "Run the suite again.",
        ) from None


def _file_name(text: str) -> str:
    """Return a file name: ``two cores of a machine`` becomes ``two_cores_of_a_machine``."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_-")[:80]
