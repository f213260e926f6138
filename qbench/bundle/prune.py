"""Retention: choose the bundles of a results folder that may be removed, and remove them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

from qbench.bundle.bundle import Bundle
from qbench.bundle.verdict import ANCHORS, read_verdict
from qbench.errors import UserError, nearest
from qbench.storage import folder_bytes

YOUNG = timedelta(days=1)
"""An incomplete run that changed within this time may still be running, or be resumed."""


@dataclass(frozen=True)
class Retention:
    """The runs to keep; a run stays if any rule keeps it.

    Attributes:
        days: runs started within this number of days; None: no such rule.
        runs: this number of newest complete runs of each suite on each machine; None: no such rule.
        keep: runs that always stay, by id or path.
    """

    days: int | None = None
    runs: int | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """A bundle to remove."""

    path: Path
    bytes: int
    why: str


@dataclass(frozen=True)
class Pruning:
    """Bundles to remove, the oldest first; and names of bundles that stay although no rule keeps
    them, each with the reason."""

    going: tuple[Item, ...]
    staying: tuple[tuple[str, str], ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.going)


@dataclass(frozen=True)
class _Run:
    bundle: Bundle
    started: datetime
    """Start of a complete run; last change of an incomplete one."""

    @property
    def name(self) -> str:
        return self.bundle.path.name

    @property
    def series(self) -> tuple[str, str]:
        begin = self.bundle.begin
        return begin.suite, begin.host.host_id


def plan_pruning(results: Path, retention: Retention, now: datetime | None = None) -> Pruning:
    """Choose the bundles to remove. Only folders directly in ``results`` are considered, not links.

    Args:
        now: reference for ages; None: the current time.

    Raises:
        UserError: the folder or a run to keep does not exist, or a verdict is damaged.
    """
    if not results.is_dir():
        raise UserError(f"there is no folder {results}", "--results names another one.")
    now = now or datetime.now(timezone.utc)
    runs, staying = _runs(results)
    names = [run.name for run in runs]
    _check_names(retention.keep, names)
    anchors = set(retention.keep) | {name for run in runs for name in _anchors(run.bundle, names)}
    ranks = _ranks(runs)
    by_id = {run.bundle.run_id: run for run in runs}
    going: list[Item] = []
    for run in sorted(runs, key=lambda run: run.started):
        # A confirming run stays as long as the run that it confirms.
        leading = by_id.get(run.bundle.begin.confirms or "", run)
        if _is_kept(leading, ranks[leading.name], retention, now):
            continue
        reason = _why_it_stays(leading, results, anchors, now)
        if reason is not None:
            staying.append((run.name, reason))
        else:
            why = _why(leading, ranks[leading.name], retention)
            going.append(Item(run.bundle.path, folder_bytes(run.bundle.path), why))
    return Pruning(tuple(going), tuple(staying))


def _runs(results: Path) -> tuple[list[_Run], list[tuple[str, str]]]:
    """Return the readable bundles, and the names of the others with the reason."""
    runs: list[_Run] = []
    unread: list[tuple[str, str]] = []
    with os.scandir(results) as entries:
        folders = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
    for path in map(Path, folders):
        if not (path / "begin.json").is_file():
            continue
        try:
            bundle = Bundle(path)
            runs.append(_Run(bundle, _started(bundle)))
        except UserError as error:
            unread.append((path.name, f"it cannot be read: {error.message}"))
    return runs, unread


def _started(bundle: Bundle) -> datetime:
    if not bundle.complete:
        last = max(path.stat(follow_symlinks=False).st_mtime for path in bundle.path.iterdir())
        return datetime.fromtimestamp(last, tz=timezone.utc)
    try:
        started = datetime.fromisoformat(bundle.begin.started)
    except ValueError:
        raise UserError(f"{bundle.path}: damaged: its start time is missing or wrong") from None
    return started if started.tzinfo else started.replace(tzinfo=timezone.utc)


def _check_names(keep: Sequence[str], known: Sequence[str]) -> None:
    """Check that all names to keep exist: a misspelt one would be removed."""
    for name in keep:
        if Path(name).name not in known:
            raise UserError(f"there is no run '{name}' to keep", nearest(name, known))


def _anchors(bundle: Bundle, known: Sequence[str]) -> Iterator[str]:
    """Yield the runs that this run's gate uses as anchors, from the suite or its verdict."""
    for baseline in _items((bundle.begin.settings.gate or {}).get("baselines")):
        anchor = (
            cast("Mapping[Any, Any]", baseline).get("anchor")
            if isinstance(baseline, Mapping)
            else None
        )
        if isinstance(anchor, str):
            yield anchor
    for words in _items((read_verdict(bundle.path) or {}).get("baselines")):
        if isinstance(words, str) and words.startswith("anchor:"):
            yield from (name for name in known if name in words)


def _items(value: object) -> list[object]:
    """Return the items of a JSON list; an empty list for any other value."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _ranks(runs: Sequence[_Run]) -> dict[str, int | None]:
    """Return, by name, the number of newer complete runs of the same suite and machine; None for
    incomplete and confirming runs, which do not count."""
    counts: dict[tuple[str, str], int] = {}
    ranks: dict[str, int | None] = {}
    for run in sorted(runs, key=lambda run: run.started, reverse=True):
        if not run.bundle.complete or run.bundle.begin.confirms:
            ranks[run.name] = None
            continue
        ranks[run.name] = counts.get(run.series, 0)
        counts[run.series] = counts.get(run.series, 0) + 1
    return ranks


def _is_kept(run: _Run, rank: int | None, retention: Retention, now: datetime) -> bool:
    by_age = retention.days is not None and now - run.started <= timedelta(days=retention.days)
    by_rank = retention.runs is not None and rank is not None and rank < retention.runs
    return by_age or by_rank


def _why_it_stays(run: _Run, results: Path, anchors: set[str], now: datetime) -> str | None:
    if set(ANCHORS) & set(results.resolve().parts[-2:]):
        return "it is a reference run, or an anchor"
    if run.name in {Path(anchor).name for anchor in anchors}:
        return "a gate is anchored to it, or --keep names it"
    if not run.bundle.complete and now - run.started < YOUNG:
        return "it is incomplete, and younger than a day"
    return None


def _why(run: _Run, rank: int | None, retention: Retention) -> str:
    if not run.bundle.complete:
        return "incomplete"
    words: list[str] = []
    if retention.days is not None:
        words.append(f"older than {retention.days} days")
    if retention.runs is not None and rank is not None:
        words.append(f"{rank} newer runs of {run.series[0]}")
    return ", ".join(words) or "confirms a run that is gone"


def remove(results: Path, item: Item) -> None:
    """Delete a bundle; links are never followed.

    The manifest goes first and ``begin.json`` last, so that a kill leaves an incomplete run.

    Raises:
        UserError: it is no longer a bundle in ``results``.
    """
    path = item.path
    if path.is_symlink() or path.parent != results or not (path / "begin.json").is_file():
        raise UserError(f"{path} is no longer a bundle", "Nothing of it was removed; look again.")
    (path / "manifest.json").unlink(missing_ok=True)
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != "begin.json":
            child.unlink()
    (path / "begin.json").unlink()
    path.rmdir()
