"""Accepted changes that do not fail the gate, each with a reason and an end date.

``accepted.yaml``, in the results folder or under version control::

    accepted:
    - case: 3f2a91c04b7d          # its id, as `qbench gate` shows it
      label: resnet8 onnxruntime fp32
      kinds: [slower]             # default: all kinds
      most: 0.05                  # at most so much worse; default: any amount
      until: 2026-12-31           # the last day on which it counts
      reason: the new release checks its inputs
"""

# ruamel's classes have no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Annotated

from pydantic import Field

from qbench.spec.gate import Kind
from qbench.spec.yamlfile import Strict, load
from qbench.storage import write_file

NAME = "accepted.yaml"


class Acceptance(Strict):
    """One accepted change.

    Attributes:
        case: the case's id.
        label: of the case, for readers of the file.
        kinds: of findings; empty: all.
        most: ``Figure.value`` up to which it is accepted; None: any.
        until: the last day on which it counts.
    """

    case: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    label: str = ""
    kinds: list[Kind] = []
    most: float | None = None
    until: date
    reason: Annotated[str, Field(min_length=1)]


class _File(Strict):
    accepted: list[Acceptance] = []


@dataclass(frozen=True)
class Accepted:
    """The accepted changes as of a day."""

    current: tuple[Acceptance, ...] = ()
    expired: tuple[Acceptance, ...] = ()

    @classmethod
    def of(cls, entries: Sequence[Acceptance], today: date) -> Accepted:
        return cls(
            tuple(entry for entry in entries if entry.until >= today),
            tuple(entry for entry in entries if entry.until < today),
        )


def read_accepted(path: Path) -> list[Acceptance]:
    """The entries of a file; none if there is no file.

    Raises:
        UserError: the file has another content; with its line.
    """
    return load(path, _File)[0].accepted if path.exists() else []


def accept(path: Path, entry: Acceptance) -> None:
    """Add an entry to a file, which is created if needed; its comments stay.

    Raises:
        UserError: the file is already invalid.
    """
    from ruamel.yaml import YAML

    read_accepted(path)
    yaml = YAML(typ="rt")
    content = yaml.load(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = entry.model_dump(exclude_defaults=True)
    content["accepted"] = [*(content.get("accepted") or []), kept]
    text = StringIO()
    yaml.dump(content, text)
    write_file(path, text.getvalue())
