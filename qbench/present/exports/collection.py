"""Merge bundles of several machines into a collection, with the comparisons that they support.

Layout::

    <run id>/         a copy of each bundle, byte by byte
    cases.csv         the case tables of all of them, each row with its run and machine
    cases.parquet     the same
    collection.json   the bundles with their manifests' digests and machines, and the fields on
                          which each two of them differ; written last

All other files are derived from the copies and written again by every merge. A collection is a
folder of bundles like any other: ``--results`` takes it.
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
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.find import INDEX, bundles, check_outside
from qbench.bundle.records.run import Host, to_json
from qbench.errors import MachineryError, UserError
from qbench.machine.lock import alone_in
from qbench.present.exports.tables import export_table
from qbench.spec.columns import CaseRow, as_dict
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
    """Merge bundles into a new or an existing collection.

    All or nothing: all bundles are checked before the first is copied, copies are checked before
    they are moved into place, and a new collection appears when it is complete.

    Args:
        folder: of the collection.
        figures: also recompute every figure of each bundle from its raw data.

    Returns:
        The content of ``collection.json``, and ``added``: the run ids that are new in it.

    Raises:
        UserError: a bundle is incomplete, damaged or changed, two different ones have one run id,
            or a collection cannot be written to the folder.
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
    """The bundles of the collection; those that a merge did not check are checked."""
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
        UserError: the folder is not a collection, or of another version.
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
    """The bundles of ``given`` that are not in the collection yet, each once.

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
            made = getattr(new.begin, how)
            if made and made.manifest_sha256 == _digest(old):
                return f"{new.path} was {how} from the other: leave one of them out."
    return "One of them was changed and given a new manifest: find out which, and leave it out."


def _digest(bundle: Bundle) -> str:
    return digest_file(bundle.path / "manifest.json")


# --------------------------------------------------------------------------- writing


def _add(new: Sequence[Bundle], held: Sequence[Bundle], folder: Path) -> dict[str, Any]:
    """Copy bundles into the collection and write the derived files. Content is read before the
    first copy is moved into place, so that damaged bundles leave no trace."""
    with ExitStack() as staged:  # moves all into place when it ends well, and else none
        copies = [
            _copy(bundle, staged.enter_context(new_folder(folder / bundle.run_id)))
            for bundle in new
        ]
        every = sorted([*held, *copies], key=lambda bundle: bundle.run_id)
        tables = {b.run_id: case_rows(b, b.trials_frame()) for b in every}
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
    for name in [*bundle.manifest.files, "manifest.json"]:
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, path)  # synced with the folder
    copied = Bundle(staged)
    if problems := copied.problems():
        raise UserError(f"{bundle.path} changed meanwhile: {problems[0]}", "Merge again.")
    return copied


def _with_machine(rows: Sequence[CaseRow], bundle: Bundle) -> pd.DataFrame:
    """The case table, with columns on its run and machine in front."""
    begin = bundle.begin
    price = begin.system and begin.system.price
    machine = {
        "suite": begin.suite,
        "started": begin.started,
        **_host(begin.host),
        "system_name": begin.system and begin.system.system_name,
        "price": price and price.amount,
        "price_currency": price and price.currency,
    }
    return pd.DataFrame([{**machine, **as_dict(row)} for row in rows], dtype=object)


def _host(host: Host) -> dict[str, Any]:
    facts = to_json(host)
    return {name: facts.get(name) for name in _HOST}


def _described(bundle: Bundle, rows: Sequence[CaseRow]) -> dict[str, Any]:
    begin = bundle.begin
    return {
        "run_id": bundle.run_id,
        "manifest_sha256": _digest(bundle),
        "qbench": begin.software.get("qbench"),
        "suite": begin.suite,
        "started": begin.started,
        "confirms": begin.confirms,
        "host": {"host_id": begin.host.host_id, **_host(begin.host)},
        "cases": len(rows),
        "ok": sum(row.status == "ok" for row in rows),
    }


def _compared(a: Bundle, b: Bundle, tables: Mapping[str, Sequence[CaseRow]]) -> dict[str, Any]:
    """How far two bundles can be compared.

    ``choice`` and ``regression`` count the cases of the same request that support such a claim (see
    ``qbench.analysis.compare.comparable``); ``against`` lists the reasons why the runs support
    none, by claim.
    """
    comparability = compare_bundles(a, b)
    first, last = (_good_cases(tables[bundle.run_id]) for bundle in (a, b))
    common = [(row, last[case_id]) for case_id, row in first.items() if case_id in last]
    claims: dict[Claim, Callable[[CaseRow, CaseRow], list[str]]] = {
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


def _good_cases(rows: Sequence[CaseRow]) -> dict[str, CaseRow]:
    """Rows that are ok, by case id."""
    return {row.case_id: row for row in rows if row.status == "ok"}
