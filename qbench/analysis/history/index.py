"""The index of a results folder, for ``qbench history``: three tables.

Layout::

    results/.index/
      index.json                the version, the tables' files, and each source with its stamp;
                                written last: other files are ignored
      runs-<digest>.parquet     one row for each run
      cases-<digest>.parquet    one row for each case and run, sorted by case and time
      facts-<digest>.parquet    the machine and software of runs, as JSON, each once
      cuts.json                 cache of change points: see ``cuts``
      lock                      held while the index is updated

The index is derived from the bundles: a damaged one, or one of another version, is built again.
Only sources with a new stamp are read. DuckDB reads the Parquet files directly; a database file
would lock readers out.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingTypeStubs=false

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qbench import __version__
from qbench.analysis.history.sources import COUNTS, NUMBERS, TEXT, Read, find_sources, read_source
from qbench.errors import MachineryError, UserError
from qbench.storage import TEMPORARY, cache_dir, digest_file, parse_json, write_file

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
TABLES = ("runs", "cases", "facts")
GROUP_ROWS = 8192
"""Rows of a Parquet row group: a query for one case reads one or two of them."""
BATCH = 100
"""Number of sources that are read between two writes."""
LOCK_S = 600
"""Maximum time to wait for another process that updates the index."""

Progress = Callable[[int, int], None]
"""Called before each batch with the number of sources that have been read, and of all."""


@dataclass(frozen=True)
class Tables:
    """An updated index: its folder, the files of its tables by name, and the problems of sources
    that were left out, in sentences."""

    results: Path
    files: Mapping[str, Path]
    problems: tuple[str, ...]


def update(results: Path, progress: Progress | None = None) -> Tables:
    """Update the index of a results folder.

    The index of a read-only folder is in qbench's cache.

    Raises:
        UserError: there is no such folder.
        MachineryError: another process has been updating it for ``LOCK_S``.
    """
    if not results.is_dir():
        raise UserError(f"there is no folder {results}", "--results names another one.")
    folder = _folder(results)
    with _locked(folder):
        known = _read_index(folder) or _Index({}, {})
        present = find_sources(results)
        gone = known.sources.keys() - present.keys()
        new = [source for source, stamp in present.items() if known.stamp(source) != stamp]
        if not known.files or new or gone:
            for first in range(0, max(1, len(new)), BATCH):  # a kill loses one batch
                if progress is not None and new:
                    progress(first, len(new))
                batch = new[first : first + BATCH]
                known = _rebuilt(results, folder, known, present, batch)
    problems = sorted(f["problem"] for f in known.sources.values() if f["problem"] is not None)
    return Tables(results, {name: folder / known.files[name] for name in TABLES}, tuple(problems))


@dataclass(frozen=True)
class _Index:
    """``index.json``: files by table; by source, its ``stamp`` and its ``problem``, a sentence or
    None."""

    files: Mapping[str, str]
    sources: Mapping[str, Mapping[str, Any]]

    def stamp(self, source: str) -> str | None:
        return self.sources[source]["stamp"] if source in self.sources else None


def _folder(results: Path) -> Path:
    folder = results / ".index"
    try:
        folder.mkdir(exist_ok=True)
        (folder / "lock").touch()
    except OSError:
        name = hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:16]
        folder = cache_dir() / "history" / name
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    import filelock

    try:
        with filelock.FileLock(folder / "lock", timeout=LOCK_S, mode=0o666):
            yield
    except filelock.Timeout:
        raise MachineryError(
            f"another qbench has been at the index {folder} for {LOCK_S} s", "Wait for it to end."
        ) from None


def _read_index(folder: Path) -> _Index | None:
    """The index, if it is whole and of this version; else an empty one."""
    try:
        content = parse_json((folder / "index.json").read_bytes())
        index = _Index(content["files"], content["sources"])
        if content["version"] != VERSION or set(index.files) != set(TABLES):
            return None
        for table, name in index.files.items():
            if name != f"{table}-{digest_file(folder / name)[:16]}.parquet":
                return None
        for facts in index.sources.values():
            if not isinstance(facts["stamp"], str) or not isinstance(facts["problem"], str | None):
                return None
        if content["qbench"] != __version__:  # which may read what the other could not
            good = {n: facts for n, facts in index.sources.items() if not facts["problem"]}
            return _Index(index.files, good)
        return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# --------------------------------------------------------------------------- making it


def _rebuilt(
    results: Path, folder: Path, known: _Index, present: Mapping[str, str], batch: Sequence[str]
) -> _Index:
    """Read a batch of sources, drop removed and changed ones, and write the tables, then the
    index."""
    sources = {
        name: facts for name, facts in known.sources.items() if facts["stamp"] == present.get(name)
    }
    kept = [name for name, facts in sources.items() if not facts["problem"]]
    read: dict[str, Read] = {}
    for source in batch:
        problem = None
        try:
            read[source] = read_source(results, source)
        except UserError as error:
            problem = error.message
        except OSError as error:
            problem = f"{results / source} cannot be read: {error.strerror}"
        sources[source] = {"stamp": present[source], "problem": problem}
    old = {table: folder / name for table, name in known.files.items()}
    files = {
        table: _write_table(folder, table, content)
        for table, content in _tables(old, kept, read).items()
    }
    content = {"version": VERSION, "qbench": __version__, "files": files, "sources": sources}
    write_file(folder / "index.json", json.dumps(content, indent=0, sort_keys=True))
    _sweep(folder, {*files.values(), *known.files.values()})
    return _Index(files, sources)


def _write_table(folder: Path, name: str, table: pa.Table) -> str:
    import pyarrow.parquet as pq

    buffer = BytesIO()
    pq.write_table(table, buffer, row_group_size=GROUP_ROWS, compression="zstd")
    content = buffer.getvalue()
    file = f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    write_file(folder / file, content)
    return file


def _sweep(folder: Path, wanted: set[str]) -> None:
    """Remove older tables and leftovers of a kill, except tables that a reader may still use."""
    for path in folder.iterdir():
        left = path.name.startswith(TEMPORARY)
        if left or (path.suffix == ".parquet" and path.name not in wanted):
            path.unlink(missing_ok=True)


def _schemas() -> dict[str, pa.Schema]:
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    return {
        "runs": pa.schema(
            [
                *((n, text) for n in ("source", "key", "run_id", "kind", "suite", "host_id")),
                *((n, text) for n in ("cpu_model", "confirms", "facts_digest")),
                ("run", count),
                ("started_us", count),
                ("valid", pa.bool_()),
            ]
        ),
        "cases": pa.schema(
            [
                ("source", text),
                ("run", count),
                ("case_id", text),
                ("started_us", count),
                *((name, text) for name in TEXT),
                *((name, count) for name in COUNTS),
                *((name, number) for name in NUMBERS),
            ]
        ),
        "facts": pa.schema([("facts_digest", text), ("facts", text)]),
    }


def _tables(
    old: Mapping[str, Path], kept: Sequence[str], read: Mapping[str, Read]
) -> dict[str, pa.Table]:
    """The tables, of the sources that are kept and those just read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = _schemas()
    new = {name: pa.Table.from_pylist(rows, schemas[name]) for name, rows in _rows(read).items()}
    if kept and old:
        for name in ("runs", "cases"):
            filters = [("source", "in", set(kept))]
            table = pq.read_table(old[name], schema=schemas[name], filters=filters)
            new[name] = pa.concat_tables([table, new[name]])
        used = set(new["runs"]["facts_digest"].to_pylist())
        table = pq.read_table(old["facts"], filters=[("facts_digest", "in", used)])
        rows = {
            row["facts_digest"]: row for row in pa.concat_tables([table, new["facts"]]).to_pylist()
        }
        new["facts"] = pa.Table.from_pylist(list(rows.values()), schemas["facts"])
    new["cases"] = new["cases"].sort_by([("case_id", "ascending"), ("started_us", "ascending")])
    return new


def _rows(read: Mapping[str, Read]) -> dict[str, list[dict[str, Any]]]:
    runs: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    facts: dict[str, str] = {}
    for source, content in read.items():
        for number, run in enumerate(content.runs):
            digest = hashlib.sha256(run.facts.encode()).hexdigest()[:16]
            facts[digest] = run.facts
            runs.append({**asdict(run), "source": source, "run": number, "facts_digest": digest})
        cases += [
            {**case, "source": source, "started_us": content.runs[case["run"]].started_us}
            for case in content.cases
        ]
    rows = [{"facts_digest": digest, "facts": text} for digest, text in facts.items()]
    return {"runs": runs, "cases": cases, "facts": rows}
