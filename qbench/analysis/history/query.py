"""Queries to the indexes of results folders."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qbench.analysis.history.cuts import KnownCuts
from qbench.analysis.history.index import TABLES, Progress, update
from qbench.analysis.history.point import Point
from qbench.analysis.history.sources import CASE_FACTS, NUMBERS, SHORT, microseconds, time_of
from qbench.errors import UserError, find_by_words

if TYPE_CHECKING:
    import duckdb


class Known(NamedTuple):
    """A case in the indexes: its newest label, and the number of its runs."""

    case_id: str
    label: str
    runs: int


class History:
    """The nights of all cases of several results folders. A run that is in two of them counts once.
    Runs that the gate found invalid, and runs that confirm others, are left out.

    Attributes:
        problems: sources that could not be read, in sentences.
        cuts: ``trend.change_points`` with a cache; ``cuts.save()`` writes it.

    Raises:
        UserError: a folder is missing, or DuckDB is not installed.
    """

    def __init__(self, folders: Sequence[Path], progress: Progress | None = None) -> None:
        try:
            import duckdb
        except ImportError:
            raise UserError(
                "the history needs the package duckdb", "Install it: pip install duckdb ruptures"
            ) from None
        indexes = [update(folder, progress) for folder in dict.fromkeys(folders)]
        self.problems = tuple(problem for index in indexes for problem in index.problems)
        self.cuts = KnownCuts(indexes[0].files["cases"].with_name("cuts.json"))
        self._database = duckdb.connect(
            ":memory:", config={"autoinstall_known_extensions": "false", "threads": "2"}
        )
        for table in TABLES:
            parts = [
                f"SELECT *, {number} AS folder FROM {_file(index.files[table])}"
                for number, index in enumerate(indexes)
            ]
            self._database.execute(f"CREATE VIEW all_{table} AS {' UNION ALL '.join(parts)}")
        self._database.execute(_NIGHTS)

    def cases(self) -> list[Known]:
        """Every case, by its label."""
        rows = self._rows(
            "SELECT case_id, arg_max(label, started_us), count(*) FROM nights GROUP BY case_id "
            "ORDER BY 2, 1"
        )
        return [Known(*row) for row in rows]

    def find(self, words: Sequence[str]) -> Known:
        """The case that ``words`` mean; see ``find_by_words``."""
        known = {case.case_id: case for case in self.cases()}
        return known[find_by_words(words, {key: case.label for key, case in known.items()})]

    def points(self, case_id: str, since: datetime | None = None) -> list[Point]:
        """The nights of a case, the oldest first."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM nights WHERE case_id = ? AND started_us >= ? "
            "ORDER BY started_us, key",
            [case_id, _begin(since)],
        )
        return list(self._points(rows))

    def newest(self, nights: int, since: datetime | None = None) -> dict[str, list[Point]]:
        """The last nights of every case on each kind of processor, by case id."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM nights WHERE started_us >= ? QUALIFY row_number() OVER "
            "(PARTITION BY case_id, cpu_model, if(cpu_model IS NULL, host_id, '') "
            "ORDER BY started_us DESC, key) <= ? ORDER BY label, case_id, started_us, key",
            [_begin(since), nights],
        )
        found: dict[str, list[Point]] = {}
        for point in self._points(rows):
            found.setdefault(point.case_id, []).append(point)
        return found

    def left_out(self) -> dict[str, int]:
        """Number of runs in the folders that are not among the nights, by reason."""
        rows = self._rows(
            "SELECT if(valid, 'confirms another', 'broken as a whole') AS why, "
            "count(DISTINCT key) FROM all_runs WHERE NOT valid OR confirms IS NOT NULL "
            "GROUP BY why ORDER BY why"
        )
        return dict(rows)

    def _rows(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.execute(question, list(values)).fetchall()

    def _points(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[Point]:
        own: dict[tuple[str | None, ...], dict[str, str]] = {}  # most nights share theirs
        for case_id, label, run_id, started_us, host_id, cpu_model, status, facts, *rest in rows:
            metrics = dict(zip(NUMBERS, rest, strict=False))
            told = tuple(rest[len(NUMBERS) :])
            if told not in own:
                own[told] = _own_facts(told)
            yield Point(
                case_id=case_id,
                label=label,
                run_id=run_id,
                started=time_of(started_us),
                host_id=host_id,
                cpu_model=cpu_model,
                metrics={name: value for name, value in metrics.items() if value is not None},
                facts=ChainMap(own[told], self._facts[facts]),
                status=status or "open",
            )

    @cached_property
    def _facts(self) -> Mapping[str, dict[str, str]]:
        """By digest."""
        return _Facts(self._database)


class _Facts(dict[str, dict[str, str]]):
    """Facts by their digest, parsed on first use: most runs share them."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        super().__init__()
        self._text = dict(database.execute("SELECT facts_digest, facts FROM all_facts").fetchall())

    def __missing__(self, digest: str) -> dict[str, str]:
        self[digest] = json.loads(self._text[digest])
        return self[digest]


def _own_facts(values: Sequence[str | None]) -> dict[str, str]:
    """Facts of one case and night: ``values`` of the columns ``CASE_FACTS``."""
    return {
        name: value[:SHORT] if column.endswith("_digest") else value
        for (column, name), value in zip(CASE_FACTS.items(), values, strict=True)
        if value is not None
    }


_COLUMNS = ", ".join(
    [
        *("case_id", "label", "run_id", "started_us", "host_id", "cpu_model", "status"),
        *("facts_digest", *NUMBERS, *CASE_FACTS),
    ]
)
_NIGHTS = """
CREATE TABLE nightly AS
SELECT folder, source, run, key, run_id, host_id, cpu_model, facts_digest
FROM all_runs WHERE valid AND confirms IS NULL
QUALIFY row_number() OVER (PARTITION BY key ORDER BY folder, source) = 1;
CREATE VIEW nights AS SELECT * FROM all_cases JOIN nightly USING (folder, source, run)
"""


def _file(path: Path) -> str:
    """A Parquet file in SQL. Names are neither patterns nor partitions."""
    name = escape(str(path)).replace("'", "''")
    return f"read_parquet('{name}', hive_partitioning = false)"


def _begin(since: datetime | None) -> int:
    return microseconds(since) if since is not None else -(1 << 62)
