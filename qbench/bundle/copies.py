"""Rewrite a finished bundle: packed or redacted. The original is never modified."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.find import check_outside
from qbench.bundle.records.run import to_json
from qbench.errors import UserError
from qbench.storage import digest_file, new_folder, write_file

DERIVED = ("trials.parquet", "manifest.json")
"""Files that ``Bundle.finish`` makes from the others."""
OWN_FACTS = ("files", "schema", "run_id")
"""Fields of a manifest that are not copied."""


def write_copy(
    bundle: Bundle,
    folder: Path,
    how: str,
    facts: Mapping[str, Any],
    leaves_out: Callable[[str], bool] = lambda name: False,
) -> Bundle:
    """Write a copy of ``bundle`` as ``folder/<run id>``, with records as this version reads them.

    Args:
        how, facts: added to ``begin.json``: under the key ``how``, the ``facts`` and the digest of
            the original's manifest.
        leaves_out: whether to skip a file, given by its path in the bundle.

    Raises:
        UserError: the bundle is incomplete, modified or damaged, or ``folder`` already has one of
            its name.
    """
    check_outside(folder)
    if problems := find_problems(bundle):
        raise UserError(
            f"{bundle.path} cannot be copied: {problems[0]}",
            "`qbench verify` lists all problems; another copy or another run has to replace it.",
        )
    target = folder / bundle.run_id
    if target.exists():
        raise UserError(f"there is a {target} already", "Give another folder with -o.")
    begin = {
        **to_json(bundle.begin),
        how: {**facts, "manifest_sha256": digest_file(bundle.path / "manifest.json")},
    }
    with new_folder(target) as staged:
        _write(bundle, staged, begin, leaves_out)
    return Bundle(target)


def pack_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Copy a finished bundle to ``folder/<run id>`` without its predictions. Accuracy and fidelity
    of the copy cannot be recomputed, nor compared item by item with another run's.

    Raises:
        UserError: as for ``write_copy``; or the bundle has no predictions.
    """
    if not bundle.has_predictions:
        raise UserError(f"{bundle.path} is packed already", "Give the one that it was made from.")
    return write_copy(bundle, folder, "packed", {"predictions": False}, _is_prediction)


def _is_prediction(name: str) -> bool:
    """Whether it is an output file; labels and item indices in the same folder are kept."""
    return name.startswith("predictions/") and name.count("/") > 1


def _write(
    bundle: Bundle, staged: Path, begin: Mapping[str, Any], leaves_out: Callable[[str], bool]
) -> None:
    copied = Bundle.create_in(staged, begin, to_json(bundle.plan), bundle.suite_text)
    for name in bundle.manifest.files:
        path = staged / name
        if path.exists() or name in DERIVED or leaves_out(name):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jsonl"):
            write_file(
                path, "".join(f"{json.dumps(to_json(record))}\n" for record in bundle.lines(name))
            )
        else:
            bundle.copy_file(name, path)  # synced with the folder
    facts = {name: fact for name, fact in to_json(bundle.manifest).items() if name not in OWN_FACTS}
    copied.finish(facts)
