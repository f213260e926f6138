"""A collection: bundles of several machines in one folder, and what may be compared in it.

Layout::

    <run id>/         a copy of each bundle, byte for byte
    cases.csv         the case tables of all of them, each row with its run and machine
    cases.parquet     the same
    collection.json   the bundles with their manifests' digests and machines, and of every two of
                      them on which fields they differ; written last

Everything but the copies is derived from them, and made anew by every merge. A collection is a
folder of bundles like any other: ``--results`` takes it, and each bundle in it by its path.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from qbench.analysis.compare.comparable import Claim, compare_bundles, same_artifact, same_work
from qbench.analysis.recompute import recompute
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.find import INDEX, bundles, check_outside
from qbench.errors import MachineryError, UserError
from qbench.machine.lock import alone_in
from qbench.present.exports.tables import export_table
from qbench.storage import (
    digest_file,
    new_folder,
    parse_json,
    remove_half_made,
    write_file,
)

VERSION = 1
TABLES = {"cases.csv": "csv", "cases.parquet": "parquet"}
_HOST = ("hostname", "cpu_model", "architecture", "cores_usable", "memory_bytes", "os", "kernel")


def merge_bundles(given: Sequence[Bundle], folder: Path, figures: bool = False) -> dict[str, Any]:
    """Bring bundles together in a collection, a new one or one that is there.

    Nothing is left half done: all bundles are checked before the first is copied, copies are
    checked and then moved into place as wholes, and a new collection appears when it is complete.

    Args:
        folder: of the collection.
        figures: recompute every figure of each bundle from its raw data, too.

    Returns:
        What ``collection.json`` says, and ``added``: the run ids that are new in it.

    Raises:
        UserError: a bundle is incomplete, damaged or changed, two different ones have one run id,
            or the folder is none to write a collection to.
        MachineryError: another command writes to it.
    """
    check_outside(folder)
    for bundle in given:
        _check(bundle, figures)
    if folder.is_dir() and any(folder.iterdir()):
        listed = _listed(folder)
        with alone_in(folder):
            remove_half_made(folder)
            held = [Bundle(path) for path in bundles(folder)]
            for bundle in held:
                _check_held(bundle, listed)
            return _add(_new_ones(given, held), held, folder)
    with new_folder(folder) as staged:
        collection = _add(_new_ones(given, []), [], staged)
    if _listed(folder) != {b["run_id"]: b["manifest_sha256"] for b in collection["bundles"]}:
        raise MachineryError(f"another command has made {folder} meanwhile", "Merge again.")
    return collection


def _check(bundle: Bundle, figures: bool) -> None:
    if not bundle.complete:
        raise UserError(
            f"{bundle.path} is incomplete: it has no manifest.json",
            "Run the same suite again to bring it to its end, or leave it out.",
        )
    problems = find_problems(bundle) or (recompute(bundle) if figures else [])
    if problems:
        count = f" (1 of {len(problems)} problems)" if len(problems) > 1 else ""
        raise UserError(
            f"{bundle.path}: {problems[0]}{count}",
            "`qbench verify` says all; get a sound copy, or leave the bundle out.",
        )
    if bundle.run_id in (INDEX, *TABLES):
        raise UserError(f"{bundle.path}: no collection can hold a run named {bundle.run_id}")


def _check_held(bundle: Bundle, listed: Mapping[str, str]) -> None:
    """What the collection holds already: checked when it came, unless it came otherwise."""
    if bundle.run_id not in listed:
        _check(bundle, figures=False)
    elif _digest(bundle) != listed[bundle.run_id]:
        raise UserError(
            f"{bundle.path} is not the bundle that {INDEX} lists: its manifest was changed",
            "Remove its folder, and merge a sound copy of it again.",
        )


def _listed(folder: Path) -> dict[str, str]:
    """The manifests' digests of a collection, by run id.

    Raises:
        UserError: the folder is no collection, or one of another version.
    """
    path = folder / INDEX
    if not path.is_file():
        raise UserError(
            f"{folder} holds something, and no collection: it has no {INDEX}",
            "Give a new folder, or one that `qbench merge` made, with -o.",
        )
    try:
        collection = parse_json(path.read_text(encoding="utf-8"))
        version = collection["collection"]
        listed = {one["run_id"]: one["manifest_sha256"] for one in collection["bundles"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: {error!r:.80}", "Merge its bundles into a new folder."
        ) from None
    if version != VERSION:
        raise UserError(
            f"{folder} is a collection of version {version!r:.20}, this qbench writes {VERSION}",
            "Update qbench, or merge its bundles into a new folder.",
        )
    return listed


def _new_ones(given: Sequence[Bundle], held: Iterable[Bundle]) -> list[Bundle]:
    """Those of ``given`` that are not held yet, each once.

    Raises:
        UserError: two that differ have the same run id.
    """
    known = {bundle.run_id: bundle for bundle in held}
    new = []
    for bundle in given:
        other = known.setdefault(bundle.run_id, bundle)
        if other is bundle:
            new.append(bundle)
        elif _digest(other) != _digest(bundle):
            raise UserError(
                f"{other.path} and {bundle.path} both are the run {bundle.run_id}, and differ",
                _why_two(other, bundle),
            )
    return new


def _why_two(a: Bundle, b: Bundle) -> str:
    for old, new in ((a, b), (b, a)):
        for how in ("packed", "redacted"):
            made = new.begin.get(how)
            if made and made["manifest_sha256"] == _digest(old):
                return f"{new.path} was {how} from the other: leave one of them out."
    return "One of them was changed and given a new manifest: find out which, and leave it out."


def _digest(bundle: Bundle) -> str:
    return digest_file(bundle.path / "manifest.json")


# --------------------------------------------------------------------------- writing


def _add(new: Sequence[Bundle], held: Sequence[Bundle], folder: Path) -> dict[str, Any]:
    """Copy bundles into the collection, and make what is derived from all in it. Whatever can go
    wrong with their content does so before the first copy is moved into place."""
    with ExitStack() as staged:  # moves all into place when it ends well, and else none
        copies = [
            _copy(bundle, staged.enter_context(new_folder(folder / bundle.run_id)))
            for bundle in new
        ]
        every = sorted([*held, *copies], key=lambda bundle: bundle.run_id)
        tables = {bundle.run_id: case_table(bundle) for bundle in every}
        cases = pd.concat(
            [_with_machine(tables[bundle.run_id], bundle) for bundle in every], ignore_index=True
        )
        content = {name: export_table(cases, form) for name, form in TABLES.items()}
        collection = {
            "collection": VERSION,
            "bundles": [_described(bundle, tables[bundle.run_id]) for bundle in every],
            "pairs": [_compared(a, b, tables) for a, b in combinations(every, 2)],
        }
    for name, table in content.items():
        write_file(folder / name, table)
    write_file(folder / INDEX, json.dumps(collection, indent=1))
    return {**collection, "added": [bundle.run_id for bundle in new]}


def _copy(bundle: Bundle, staged: Path) -> Bundle:
    for name in [*bundle.manifest["files"], "manifest.json"]:
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, path)  # synced with the folder
    copied = Bundle(staged)
    if problems := copied.problems():
        raise UserError(f"{bundle.path} changed meanwhile: {problems[0]}", "Merge again.")
    return copied


def _with_machine(cases: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """The case table with what tells its run and machine in front."""
    begin = bundle.begin
    system = begin.get("system") or {}
    price = system.get("price") or {}
    told = {
        "suite": begin["suite"],
        "started": begin["started"],
        **{name: begin["host"].get(name) for name in _HOST},
        "system_name": system.get("system_name"),
        "price": price.get("amount"),
        "price_currency": price.get("currency"),
    }
    machine = pd.DataFrame([told] * len(cases), index=cases.index, dtype=object)
    return pd.concat([machine, cases], axis=1)


def _described(bundle: Bundle, cases: pd.DataFrame) -> dict[str, Any]:
    begin = bundle.begin
    return {
        "run_id": bundle.run_id,
        "manifest_sha256": _digest(bundle),
        "qbench": begin["software"].get("qbench"),
        "suite": begin["suite"],
        "started": begin["started"],
        "confirms": begin.get("confirms"),
        "host": {name: begin["host"].get(name) for name in ("host_id", *_HOST)},
        "cases": len(cases),
        "ok": int((cases["status"] == "ok").sum()),
    }


def _compared(a: Bundle, b: Bundle, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What two bundles have in common.

    ``choice`` and ``regression`` count the cases of the same request that bear such a claim (see
    ``qbench.analysis.compare.comparable``); ``against`` says why the runs bear none, by claim.
    """
    comparability = compare_bundles(a, b)
    first, last = (_good_cases(tables[bundle.run_id]) for bundle in (a, b))
    common = [(row, last[case_id]) for case_id, row in first.items() if case_id in last]
    claims: dict[Claim, Callable[..., list[str]]] = {
        "choice": same_work,
        "regression": same_artifact,
    }
    against = {claim: comparability.reasons_against(claim) for claim in claims}
    return {
        "a": a.run_id,
        "b": b.run_id,
        "level": comparability.level,
        "differs": [difference.field for difference in comparability.differences],
        "common_cases": len(common),
        **{
            claim: 0 if against[claim] else sum(not differing(*rows) for rows in common)
            for claim, differing in claims.items()
        },
        "against": against,
    }


def _good_cases(cases: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Rows that are ok, by their case's id."""
    rows: list[dict[str, Any]] = cases.to_dict("records")  # type: ignore[assignment]
    return {row["case_id"]: row for row in rows if row["status"] == "ok"}
