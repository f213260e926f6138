"""Build a site: find the runs that have to be rendered, and write the files in a safe order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from qbench.bundle.bundle import Bundle
from qbench.bundle.find import bundles
from qbench.bundle.verdict import is_valid, verdict_path
from qbench.errors import UserError
from qbench.machine.host import usable_cores
from qbench.machine.lock import alone_in
from qbench.present.page.content import content_of
from qbench.present.page.history import CHART
from qbench.present.page.render import PARTS, Shared, fill, plotly_script, script, style
from qbench.present.site.folder import Folder
from qbench.present.site.pages import SUBJECTS, Site, data_file, run_page, subject_page
from qbench.present.site.progress import Progress, Written
from qbench.present.site.summary import packed, summarize, unpacked
from qbench.present.words.run import lettered
from qbench.storage import digest_file, digest_json

Parts = tuple[str, ...]
LIST: Parts = ("table", "scheme", "site/list")
SUBJECT: Parts = (*CHART, "scheme", "figure", "picture", "site/subject")
COMPARE: Parts = ("table", "scheme", "site/compare")
BATCH = 20
"""Number of runs that are announced together."""
LEAST_RUNS, MOST_PROCESSES = 10, 8
"""Runs for each process; and the maximum number of processes, since each takes 250 MB."""
_RECORDS = ("begin.json", "plan.json", "prepare.jsonl", "evaluate.jsonl", "journal.jsonl")
_RUN_ID = re.compile(r"\d{8}-\d{6}-")


def build(results: Sequence[Path], path: Path, redact: bool, progress: Progress | None) -> Written:
    """See ``qbench.present.site.write_site``."""
    found = [bundle for folder in results for bundle in _bundles(folder)]
    Folder(path)  # refuses what is no site, before anything is written there
    with alone_in(path):
        folder = Folder(path)
        assets = _Assets(folder)
        readings, problems = _read(found, folder, assets, redact, progress)
        shown = [_shown(path, reason, redact) for path, reason in problems]
        inputs = digest_json([page_version(), [r.digest for r in readings], shown])
        _write_pages(folder, assets, readings, shown, inputs)
        removed, left = folder.finish()
    names = [*folder.written, *folder.kept]
    return Written(
        pages=sum(name.endswith(".html") for name in names),
        written=tuple(folder.written),
        kept=tuple(folder.kept),
        removed=tuple(removed),
        left=tuple(left),
        runs=len(readings),
        problems=tuple(_shown(path, reason, redact=False) for path, reason in problems),
    )


def _bundles(results: Path) -> list[Path]:
    if not results.is_dir():
        raise UserError(f"there is no folder {results}", "Give a folder of bundles.")
    return bundles(results)


@cache
def page_version() -> str:
    """Digest of everything that determines a page: qbench's own files, and plotly's version."""
    digest = hashlib.sha256(version("plotly").encode())
    for name, content in sorted(_sources(files("qbench"), "")):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources(folder: Traversable, at: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = f"{at}/{entry.name}"
        if entry.is_dir():
            found += _sources(entry, name) if entry.name not in ("__pycache__", "suites") else []
        elif entry.name.endswith((".py", ".js", ".css", ".j2")):
            found.append((name, entry.read_bytes()))
    return found


class _Assets:
    """Files that pages share. They are written on construction, with their digest in the name."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._write_file(".nojekyll", "")
        look = style() + files("qbench.present").joinpath("assets/site/site.css").read_text("utf-8")
        self._style = self._write("style", "css", look)
        self._plotly = self._write("plotly", "js", plotly_script())
        self._scripts: dict[Parts, str] = {
            parts: self._write(name, "js", script(parts))
            for name, parts in (
                ("run", PARTS), ("list", LIST), ("subject", SUBJECT), ("compare", COMPARE),
            )
        }  # fmt: skip

    def _write(self, name: str, ending: str, text: str) -> str:
        file = f"assets/{name}-{_digest(text.encode())[:12]}.{ending}"
        self._write_file(file, text)
        return file

    def _write_file(self, name: str, text: str) -> None:
        key = _digest(text.encode())
        if not self._folder.is_current(name, key):
            self._folder.announce([name])
            self._folder.write(name, key, text)

    def for_page(self, page: str, parts: Parts) -> Shared:
        """Their addresses, relative to a page."""
        root = _root(page)
        charts = parts in (PARTS, SUBJECT)
        return Shared(
            style=root + self._style,
            script=root + self._scripts[parts],
            plotly=root + self._plotly if charts else None,
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _root(page: str) -> str:
    return "../" * page.count("/")


# --------------------------------------------------------------------------- runs


class _Reading(NamedTuple):
    """A run whose page and data file are on disk: digest and content of the data file."""

    run_id: str
    digest: str
    content: bytes


def _read(
    found: Sequence[Path],
    folder: Folder,
    assets: _Assets,
    redact: bool,
    progress: Progress | None,
) -> tuple[list[_Reading], list[tuple[Path, str]]]:
    """Write the pages of new and changed runs.

    Returns:
        All runs, and the folders that were left out, each with the reason.
    """
    readings: dict[str, _Reading] = {}
    problems: list[tuple[Path, str]] = []
    stale = []
    for path in found:
        try:
            run_id = Bundle(path).run_id
            key = _key(path, redact)
        except (UserError, OSError) as error:
            problems.append((path, _reason(error)))
            continue
        if run_id in readings or run_id in [known for _, known, _ in stale]:
            problems.append((path, f"another copy of {run_id}"))
            continue
        names = data_file(run_id), run_page(run_id)
        content = folder.read(names[0])
        if content is not None and all(folder.is_current(name, key) for name in names):
            readings[run_id] = _Reading(run_id, _digest(content), content)
        else:
            stale.append((path, run_id, key))
    tasks = [
        _Task(path, run_id, assets.for_page(run_page(run_id), PARTS), redact)
        for path, run_id, _ in stale
    ]
    results = _results(tasks)
    for done, (path, run_id, key) in enumerate(stale):
        if progress is not None:
            progress(done, len(stale))
        if done % BATCH == 0:
            batch = [known for _, known, _ in stale[done : done + BATCH]]
            folder.announce(name for run in batch for name in (run_page(run), data_file(run)))
        result = next(results)
        if isinstance(result, Exception):
            problems.append((path, _reason(result)))
            continue
        page, data = result
        folder.write(run_page(run_id), key, page)
        folder.write(data_file(run_id), key, data)
        content = data.encode()
        readings[run_id] = _Reading(run_id, _digest(content), content)
    return [readings[run_id] for run_id in sorted(readings)], sorted(problems)


def _key(path: Path, redact: bool) -> str:
    """Digest of the inputs of a run's page; a manifest has the digests of all files."""
    names = ("begin.json", "manifest.json")
    if not (path / "manifest.json").is_file():
        names = (*_RECORDS, "energy.jsonl", "bandwidth.json")
    inputs = [path / name for name in names] + [verdict_path(path)]
    digests = [digest_file(file) if file.is_file() else None for file in inputs]
    return digest_json([page_version(), redact, digests])


class _Task(NamedTuple):
    """A run to render."""

    path: Path
    run_id: str
    shared: Shared
    redact: bool


def _results(tasks: Sequence[_Task]) -> Iterator[tuple[str, str] | UserError | OSError]:
    """Pages and data of the tasks, or the error of each, in order. Starts processes if there are
    enough runs."""
    processes = min(len(tasks) // LEAST_RUNS, MOST_PROCESSES, usable_cores())
    if processes < 2:
        yield from map(_attempt, tasks)
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_attempt, tasks)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(task: _Task) -> tuple[str, str] | UserError | OSError:
    try:
        return _made(task)
    except (UserError, OSError) as error:
        return error


def _made(task: _Task) -> tuple[str, str]:
    """The page of a run, and its data file.

    Raises:
        UserError: the bundle is damaged, or cannot be redacted.
    """
    path = task.path
    bundle = Bundle(path)
    changed = bundle.problems() if bundle.complete else []
    if changed:
        raise UserError(f"{path} was changed: {'; '.join(changed[:3])}")
    valid = is_valid(path)
    if task.redact:
        from qbench.bundle.redact import redacted

        bundle = redacted(bundle)
    (run,) = lettered([bundle])
    content = content_of([run])
    summary = summarize(bundle, run.cases, content, valid)
    root = _root(run_page(task.run_id))
    site = {"root": root, "here": "run", "compare": f"#a={task.run_id}"}
    html = fill("page/page.html.j2", PARTS, {**content, "site": site}, task.shared)
    return html, packed(summary)


def _reason(error: UserError | OSError) -> str:
    return error.message if isinstance(error, UserError) else str(error.strerror)


def _shown(path: Path, reason: str, redact: bool) -> tuple[str, str]:
    """Name of a folder that was left out, and the reason. Redacted, both are replaced, since either
    may contain private words."""
    if redact:
        name = path.name[:15] if _RUN_ID.match(path.name) else "a folder"
        return name, "the reason is in the output of `qbench site`"
    for place in (path, path.resolve()):
        reason = reason.replace(str(place), path.name)
    return path.name, reason


# --------------------------------------------------------------------------- the other pages


def _write_pages(
    folder: Folder,
    assets: _Assets,
    readings: Sequence[_Reading],
    problems: Sequence[tuple[str, str]],
    inputs: str,
) -> None:
    """Write the pages about several runs, the index last; nothing is read if they are up to date.

    Args:
        inputs: digest of their inputs.
    """
    if "index.html" in folder.made_of(inputs) and all(
        folder.is_current(name, inputs) for name in folder.made_of(inputs)
    ):
        return
    site = Site([unpacked(reading.content) for reading in readings], problems)
    pages = {
        subject_page(kind, name): (kind, name) for kind in SUBJECTS for name in site.names(kind)
    }
    folder.announce([*pages, "trends.html", "compare.html", "index.html"])

    def write(page: str, template: str, parts: Parts, content: dict) -> None:
        here = page.removesuffix(".html")
        content = {**content, "site": {"root": _root(page), "here": here, "compare": ""}}
        html = fill(f"site/{template}.html.j2", parts, content, assets.for_page(page, parts))
        folder.write(page, inputs, html)

    for page, (kind, name) in pages.items():
        write(page, "subject", SUBJECT, site.subject(kind, name))
    write("trends.html", "trends", LIST, site.trends())
    write("compare.html", "compare", COMPARE, site.comparison())
    write("index.html", "index", LIST, site.index())
