"""Sources of a history: bundles, and series of other tools.

In a results folder a *source* is a complete bundle, or a file ``series/<name>.json`` of points that
``add_series`` wrote. Both give runs and rows of cases. Nothing in them is trusted: values of a
wrong type become None.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qbench.analysis.history.point import METRICS, Point
from qbench.bundle.verdict import SUFFIX, is_valid
from qbench.errors import UserError
from qbench.storage import digest_json, leaves, parse_json, write_file

if TYPE_CHECKING:
    from qbench.bundle.records.run import Begin
    from qbench.spec.columns import CaseRow

SERIES = "series"
"""The folder of series, next to the bundles."""
TEXT = (
    "label", "model", "backend", "environment", "precision", "variant", "recipe", "device",
    "scenario", "scenario_options", "backend_version", "status", "energy_method", "energy_scope",
    "accuracy_metric", "accuracy_data", "artifact_digest", "outputs_digest",
)  # fmt: skip
COUNTS = ("batch_size", "threads", "streams", "rounds")
NUMBERS = tuple(metric.column for metric in METRICS.values())
CASE_FACTS = {
    "backend_version": "backend",
    "artifact_digest": "artifact",
    "outputs_digest": "outputs",
    "energy_method": "energy_method",
    "accuracy_data": "accuracy_data",
}
"""Columns of a case that are facts of its night, by the names under which they are shown."""
SHORT = 12
"""Number of characters of a digest that are shown."""
_NOT_FACTS = {
    "hostname", "host_id", "cpu_model", "cpu_flags", "packages_digest", "caches",
    "max_frequency_mhz", "environment_variables.PYTHONHASHSEED",
}  # fmt: skip
_MOST_FACTS, _LONGEST = 5000, 200
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


@dataclass(frozen=True)
class RunRow:
    """One run of a source. ``key`` is the same for every copy of the run."""

    key: str
    run_id: str
    kind: Literal["bundle", "series"]
    started_us: int
    suite: str
    host_id: str
    cpu_model: str | None
    confirms: str | None
    valid: bool
    facts: str


@dataclass(frozen=True)
class Read:
    """The content of a source: its runs, and its rows of cases, each with ``run``, an index into
    ``runs``, ``case_id``, and the columns of ``TEXT``, ``COUNTS`` and ``NUMBERS``."""

    runs: tuple[RunRow, ...]
    cases: tuple[dict[str, Any], ...]


def find_sources(results: Path) -> dict[str, str]:
    """A stamp for each source below ``results``, by path, that changes when the source does.

    Links are not followed. The stamp of a bundle is that of its manifest, which is written last and
    has the digests of all other files, and of its verdict.
    """
    found: dict[str, str] = {}
    gates = {
        e.name: _stamp(e) for e in _entries(results) if e.name.endswith(SUFFIX) and e.is_file()
    }
    for entry in _entries(results):
        if entry.is_dir(follow_symlinks=False):
            manifest = Path(entry.path) / "manifest.json"
            if manifest.is_file():
                gate = gates.get(f"{entry.name}{SUFFIX}", "")
                found[entry.name] = f"{_stamp(manifest)} {gate}".rstrip()
    for entry in _entries(results / SERIES):
        if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
            found[f"{SERIES}/{entry.name}"] = _stamp(entry)
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not hidden; none if there is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _stamp(path: Path | os.DirEntry[str]) -> str:
    facts = path.stat()
    return f"{facts.st_mtime_ns}-{facts.st_size}"


def read_source(results: Path, source: str) -> Read:
    """
    Raises:
        UserError: it is damaged, or of another version.
    """
    if source.startswith(f"{SERIES}/"):
        return _read_series(results / source, source)
    return _read_bundle(results / source)


# --------------------------------------------------------------------------- bundles


def _read_bundle(path: Path) -> Read:
    from qbench.analysis.table.table import case_rows
    from qbench.bundle.bundle import Bundle
    from qbench.spec.columns import as_dict

    bundle = Bundle(path)
    begin = bundle.begin
    host = begin.host
    run = RunRow(
        key=bundle.run_id,
        run_id=bundle.run_id,
        kind="bundle",
        started_us=_microseconds(begin.started, path),
        suite=str(_word(begin.suite)),
        host_id=str(_word(host.host_id)),
        cpu_model=_word(host.cpu_model),
        confirms=begin.confirms,
        valid=is_valid(path),
        facts=_as_text(run_facts(begin)),
    )
    rows = case_rows(bundle, bundle.trials_frame(), journal=False)
    cases = tuple(
        _case_row(0, row.case_id, {**as_dict(row), "label": case_label(row)}) for row in rows
    )
    return Read((run,), cases)


def case_label(row: CaseRow) -> str:
    """As ``Case.label``, with the environment if it is not the default one."""
    parts = [row.model, row.backend]
    parts += [row.environment] if row.environment != "default" else []
    parts += [row.precision, row.variant]
    parts += [row.recipe] if row.recipe != "best" else []
    parts += [row.scenario] if row.scenario != "single-stream" else []
    parts += [row.scenario_options]
    parts += [f"b{row.batch_size}"] if row.batch_size != 1 else []
    parts += [f"t{row.threads}"] if row.threads != 1 else []
    parts += [f"s{row.streams}"] if row.streams != 1 else []
    return " ".join(str(part) for part in parts if part)


def run_facts(begin: Begin) -> dict[str, str]:
    """Facts that may explain a change, from a bundle's ``begin.json``: ``kernel``,
    ``packages.numpy``, ``gpus.0.driver``, ``environments.ort-previous.onnxruntime`` and the
    like."""
    from qbench.bundle.records.run import to_json

    packages = begin.host.packages or {}
    software = {  # packages of other environments, or in another version
        name: version for name, version in begin.software.items() if version != packages.get(name)
    }
    resolved = {name: built.resolved for name, built in begin.environments.items()}
    facts = {
        **_texts(to_json(begin.host)),
        **_texts(resolved, "environments"),
        **_texts(software, "software"),
        "suite": begin.suite,
    }
    if begin.suite_digest:
        facts["suite_digest"] = begin.suite_digest[:SHORT]
    kept = {name: value for name, value in facts.items() if not _left_out(name)}
    return dict(list(kept.items())[:_MOST_FACTS])


def _left_out(name: str) -> bool:
    return name in _NOT_FACTS or name.partition(".")[0] in _NOT_FACTS


def _texts(value: Any, name: str = "") -> dict[str, str]:
    """Leaves by their path, as text."""
    return {path[:_LONGEST]: str(leaf)[:_LONGEST] for path, leaf in leaves(value, name)}


# --------------------------------------------------------------------------- series


def add_series(results: Path, name: str, points: Sequence[Point]) -> Path:
    """Write a series of another tool, such as a project's pytest-benchmark files, next to the
    bundles; ``qbench history`` shows its cases too. A series of the same name is replaced.

    Returns:
        The file, ``<results>/series/<name>.json``.

    Raises:
        UserError: ``name`` is not a file name.
    """
    if not _NAME.match(name):
        raise UserError(
            f"'{name}' is not a name for a series", "Take letters, digits, dots, hyphens."
        )
    folder = results / SERIES
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    records = [
        {**asdict(point), "started": point.started.isoformat(), "facts": dict(point.facts)}
        for point in points
    ]
    write_file(path, json.dumps({"version": 1, "points": records}, indent=1, sort_keys=True))
    return path


def _read_series(path: Path, source: str) -> Read:
    try:
        content = parse_json(path.read_bytes())
        if content["version"] != 1:
            raise ValueError(f"it is of version {content['version']}")
        runs: dict[str, int] = {}
        rows: list[RunRow] = []
        cases: list[dict[str, Any]] = []
        for record in content["points"]:
            run = _series_run(record, path, source)
            if run.key not in runs:
                runs[run.key] = len(rows)
                rows.append(run)
            row = {**record["metrics"], "label": record["label"], "status": record["status"]}
            cases.append(_case_row(runs[run.key], record["case_id"], row))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or none of qbench's series: {error!r}", "Import it again."
        ) from None
    return Read(tuple(rows), tuple(cases))


def _series_run(record: Mapping[str, Any], path: Path, source: str) -> RunRow:
    facts = _as_text(_texts(record["facts"]))
    same = [record[name] for name in ("run_id", "started", "host_id", "cpu_model")]
    return RunRow(
        key=digest_json([source, *same, facts]),
        run_id=str(_word(record["run_id"])),
        kind="series",
        started_us=_microseconds(record["started"], path),
        suite=path.stem,
        host_id=str(_word(record["host_id"])),
        cpu_model=_word(record["cpu_model"]),
        confirms=None,
        valid=True,
        facts=facts,
    )


# --------------------------------------------------------------------------- values


def _case_row(run: int, case_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "case_id": str(_word(case_id)),
        **{name: _word(row.get(name)) for name in TEXT},
        **{name: _count(row.get(name)) for name in COUNTS},
        **{name: _number(row.get(name)) for name in NUMBERS},
    }


def _as_text(facts: Mapping[str, str]) -> str:
    return json.dumps(facts, sort_keys=True)


def _word(value: Any) -> str | None:
    """A value as text that can be encoded as UTF-8."""
    return None if value is None else str(value).encode(errors="replace").decode()


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if abs(int(value)) < 1 << 63 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(value) else None


def _microseconds(started: Any, path: Path) -> int:
    """Microseconds since 1970 of an ISO 8601 time; without a zone it is UTC."""
    try:
        return microseconds(datetime.fromisoformat(started))
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged: '{started}' is not a time") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(when: datetime) -> int:
    """Microseconds since 1970; a time without a zone is UTC."""
    return ((when if when.tzinfo else when.replace(tzinfo=timezone.utc)) - _EPOCH) // _MICROSECOND


def time_of(started_us: int) -> datetime:
    return _EPOCH + started_us * _MICROSECOND
