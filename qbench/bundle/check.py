"""Check that a bundle is whole and unchanged since its run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import FILES
from qbench.errors import UserError


def find_problems(bundle: Bundle) -> list[str]:
    """Return the problems of a bundle's files and records, one line each with the file's name.
    Whether its figures follow from its data is checked by ``qbench.analysis.recompute``."""
    found = bundle.problems()
    if bundle.complete:
        found += _records(bundle)
    lines = (" ".join(line.replace(f"{bundle.path}/", "").split()) for line in found)
    return list(dict.fromkeys(lines))


def _records(bundle: Bundle) -> list[str]:
    """Find invalid records, torn lines, trials of unknown cases, and missing files that records
    name, independently of the manifest."""
    found: list[str] = []
    reads: list[Callable[[], Any]] = [lambda: bundle.begin, lambda: bundle.plan]
    reads += [partial(bundle.lines, name) for name in FILES if name.endswith(".jsonl")]
    reads += [lambda: bundle.bandwidth, bundle.trials_frame]
    for read in reads:
        try:
            read()
        except UserError as error:
            found.append(error.message)
    for name in FILES:
        path = bundle.path / name
        if name.endswith(".jsonl") and path.is_file() and not _ends_whole(path):
            found.append(f"{name}: its last line is torn")
    return found or _named(bundle)


def _named(bundle: Bundle) -> list[str]:
    """Find cases and files that records name and that do not exist."""
    found: list[str] = []
    planned = {entry.case_id for entry in [*bundle.plan.cases, *bundle.plan.yardsticks]}
    files = [("samples.parquet",)]
    for trial in bundle.trials:
        if trial.case_id not in planned:
            case = f"case {trial.case_id}, which is none of the plan's"
            found.append(f"journal.jsonl: trial {trial.trial} is of {case}")
        files += [("traces", trial.trial, name) for name in trial.traces]
    evaluated = bundle.evaluated if bundle.has_predictions else {}
    for key, record in evaluated.items():
        files += [("predictions", key, name) for name in record.outputs.values()]
    for parts in files:
        try:
            if not bundle.inside(*parts).is_file():
                found.append(f"{'/'.join(parts)} is missing")
        except UserError as error:
            found.append(error.message)
    return found


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")
