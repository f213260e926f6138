"""Find bundles: by path, id or ``latest``, interrupted ones, and earlier runs of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from qbench.bundle.bundle import Bundle
from qbench.bundle.verdict import ANCHORS, is_valid
from qbench.errors import UserError, nearest
from qbench.storage import TEMPORARY


def find_run(run: str, results: Path) -> Bundle:
    """Find a run that can be judged: one that does not only confirm another.

    Raises:
        UserError: there is no such run, or it only confirms another one.
    """
    bundle = find_bundle(run, results)
    if bundle.begin.confirms:
        raise UserError(
            f"{bundle.run_id} only confirms {bundle.begin.confirms}", "Give the confirmed run."
        )
    return bundle


def earlier_runs(bundle: Bundle, results: Path, most: int) -> list[Bundle]:
    """Find earlier complete runs of the same suite, cases and machine, without confirming and
    invalid ones; the newest first, at most ``most``.

    Raises:
        UserError: the verdict on one of them is damaged, so it may be invalid.
    """
    begin = bundle.begin
    found: list[Bundle] = []
    key = attrgetter("suite", "filters", "host.host_id")
    for other in _newest_first(results):
        same = key(other.begin) == key(begin)
        before = _started(other) < _started(bundle)
        if same and before and not other.begin.confirms and is_valid(other.path):
            found.append(other)
        if len(found) == most:
            break
    return found


def _newest_first(results: Path) -> Iterator[Bundle]:
    """Yield the complete, readable bundles, the newest first."""
    for path in reversed(bundles(results)):
        try:
            bundle = Bundle(path)
            if bundle.complete and bundle.begin:
                yield bundle
        except UserError:
            continue  # of another version, or damaged: `qbench verify` reports it


def _started(bundle: Bundle) -> float:
    try:
        return datetime.fromisoformat(bundle.begin.started).timestamp()
    except ValueError:
        raise UserError(
            f"{bundle.path}: begin.json: the start time is missing or wrong",
            "The bundle is damaged; run the suite again.",
        ) from None


def find_anchor(name: str, results: Path) -> Bundle:
    """Find the baseline run ``name``: a path, an id, or a name in a folder of ``ANCHORS``."""
    for folder in ANCHORS:
        if (results / folder / name / "begin.json").is_file():
            return Bundle(results / folder / name)
    return find_bundle(name, results)


def find_confirmation(bundle: Bundle, results: Path, cases: Sequence[str]) -> Bundle | None:
    """Find the run that measured these cases of ``bundle`` again; None if there is none."""
    for other in _newest_first(results):
        if _started(other) < _started(bundle):
            break
        if other.begin.confirms == bundle.run_id:
            planned = {entry.case_id for entry in other.plan.cases}
            if set(cases) <= planned:
                return other
    return None


INDEX = "collection.json"


def find_bundles(runs: Sequence[str], results: Path) -> list[Bundle]:
    """Find the bundles of these runs, named as for ``find_bundle``; the folder of a collection
    stands for all bundles in it.

    Raises:
        UserError: there is no such bundle.
    """
    found: list[Bundle] = []
    for run in runs:
        if (Path(run) / INDEX).is_file():
            found += [Bundle(path) for path in bundles(Path(run))]
        else:
            found.append(find_bundle(run, results))
    return found


def bundles(results: Path) -> list[Path]:
    """List the folders of bundles in ``results``, the oldest first."""
    found = [p.parent for p in results.glob("*/begin.json")]
    whole = [path for path in found if not path.name.startswith(TEMPORARY)]
    return sorted(whole, key=lambda path: path.name)


def check_outside(folder: Path) -> None:
    """
    Raises:
        UserError: the folder is a bundle or inside one, and bundles are never modified.
    """
    for parent in (folder.absolute(), *folder.absolute().parents):
        if (parent / "begin.json").is_file():
            raise UserError(f"{parent} is a bundle, and not changed", "Give another folder.")


def find_bundle(run: str, results: Path) -> Bundle:
    """Find a bundle by its path, its id, or ``latest``: the newest complete one that does not only
    confirm another."""
    if run == "latest":
        for path in reversed(bundles(results)):
            if (path / "manifest.json").is_file():
                bundle = Bundle(path)
                if not bundle.begin.confirms:
                    return bundle
        raise UserError(
            f"there is no complete bundle in {results}/",
            "`qbench run quick` makes one; --results names another folder.",
        )
    path = Path(run)
    if path.is_dir():
        return Bundle(path)
    if (results / run / "begin.json").is_file():
        return Bundle(results / run)
    known = [p.name for p in bundles(results)]
    raise UserError(
        f"there is no bundle '{run}', neither as a path nor in {results}/", nearest(run, known)
    )


def find_incomplete(results: Path, run_key: str) -> Bundle | None:
    """Find the newest incomplete bundle of the same request, to resume it."""
    for path in reversed(bundles(results)):
        if (path / "manifest.json").exists():
            continue
        try:
            bundle = Bundle(path)
            bundle.resume()
            if bundle.begin.run_key == run_key:
                _ = bundle.plan, bundle.prepared
                bundle.compute_trials()
                for evaluation_id, record in bundle.evaluated.items():
                    if record.status == "ok":
                        bundle.outputs(evaluation_id)
                _ = bundle.energy, bundle.bandwidth
                return bundle
        except UserError:
            continue  # damaged: a new one is begun
    return None
