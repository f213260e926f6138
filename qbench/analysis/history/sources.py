"""What a history is made of, read once: bundles, and series of other tools.

In a results folder a *source* is a complete bundle, or a file ``series/<name>.json`` of points that
``add_series`` wrote. Both give runs, and rows of cases. Nothing in them is trusted: what is no
number or no text in its place becomes None.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from qbench.analysis.history.point import METRICS, Point
from qbench.errors import UserError
from qbench.storage import digest_json, parse_json, write_file

SERIES = "series"
"""The folder of series beside the bundles."""
GATE = ".gate.json"
"""``<run id>.gate.json`` beside a bundle is what ``qbench gate`` found."""
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
"""Columns of a case that are facts of its night, by the names that they are told by."""
SHORT = 12
"""Characters of a digest that are told."""
_NOT_FACTS = {
    "hostname", "host_id", "cpu_model", "cpu_flags", "packages_digest", "caches",
    "max_frequency_mhz", "environment_variables.PYTHONHASHSEED",
}  # fmt: skip
_MOST_FACTS, _LONGEST = 5000, 200
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


@dataclass(frozen=True)
class RunRow:
    """One run of a source. ``key`` is the same wherever a copy of the run lies."""

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
    """What a source holds: its runs, and as many rows of cases as it has, each with ``run``, an
    index into ``runs``, ``case_id``, and the columns of ``TEXT``, ``COUNTS`` and ``NUMBERS``."""

    runs: tuple[RunRow, ...]
    cases: tuple[dict[str, Any], ...]


def find_sources(results: Path) -> dict[str, str]:
    """By the path of each source below ``results``, a stamp that changes when the source does.

    Links are not followed. Of a bundle the manifest counts, since it is written last and names the
    digests of all else, and what its gate said.
    """
    found = {}
    gates = {e.name: _stamp(e) for e in _entries(results) if e.name.endswith(GATE) and e.is_file()}
    for entry in _entries(results):
        if entry.is_dir(follow_symlinks=False):
            manifest = Path(entry.path) / "manifest.json"
            if manifest.is_file():
                gate = gates.get(f"{entry.name}{GATE}", "")
                found[entry.name] = f"{_stamp(manifest)} {gate}".rstrip()
    for entry in _entries(results / SERIES):
        if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
            found[f"{SERIES}/{entry.name}"] = _stamp(entry)
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder and is not hidden; nothing if there is none."""
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
        UserError: it is damaged, or of a version that cannot be read here.
    """
    if source.startswith(f"{SERIES}/"):
        return _read_series(results / source, source)
    return _read_bundle(results / source)


# --------------------------------------------------------------------------- bundles


def _read_bundle(path: Path) -> Read:
    from qbench.analysis.table.table import case_rows
    from qbench.bundle.bundle import Bundle

    bundle = Bundle(path)
    begin = bundle.begin
    host = begin["host"]
    run = RunRow(
        key=bundle.run_id,
        run_id=bundle.run_id,
        kind="bundle",
        started_us=_microseconds(begin["started"], path),
        suite=str(_word(begin["suite"])),
        host_id=str(_word(host["host_id"])),
        cpu_model=_word(host["cpu_model"]),
        confirms=begin.get("confirms"),
        valid=is_valid(path.with_name(f"{path.name}{GATE}")),
        facts=_as_text(run_facts(begin)),
    )
    rows = case_rows(bundle, bundle.trials_frame(), journal=False)
    cases = tuple(_case_row(0, row["case_id"], {**row, "label": case_label(row)}) for row in rows)
    return Read((run,), cases)


def is_valid(gate: Path) -> bool:
    """Whether the gate did not find the whole run broken; a run that was not judged is valid.

    Raises:
        UserError: what the gate wrote is damaged, so that it is not known.
    """
    if not gate.is_file():
        return True
    try:
        found = parse_json(gate.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{gate} is damaged: {error}", "`qbench gate` writes it again.") from None
    return not (isinstance(found, dict) and found.get("valid") is False)


def case_label(row: Mapping[str, Any]) -> str:
    """As ``plan.Case.label``, with the environment where it is not the usual one."""
    parts = [row["model"], row["backend"]]
    parts += [row["environment"]] if row["environment"] != "default" else []
    parts += [row["precision"], row["variant"]]
    parts += [row["recipe"]] if row["recipe"] != "best" else []
    parts += [row["scenario"]] if row["scenario"] != "single-stream" else []
    parts += [row["scenario_options"]]
    parts += [f"b{row['batch_size']}"] if row["batch_size"] != 1 else []
    parts += [f"t{row['threads']}"] if row["threads"] != 1 else []
    parts += [f"s{row['streams']}"] if row["streams"] != 1 else []
    return " ".join(str(part) for part in parts if part)


def run_facts(begin: Mapping[str, Any]) -> dict[str, str]:
    """What may explain a change, from a bundle's ``begin.json``: ``kernel``, ``packages.numpy``,
    ``gpus.0.driver``, ``environments.ort-previous.onnxruntime`` and the like."""
    environments = begin.get("environments")
    resolved = {
        name: found.get("resolved")
        for name, found in (environments if isinstance(environments, dict) else {}).items()
        if isinstance(found, dict)
    }
    packages = begin["host"].get("packages")
    packages = packages if isinstance(packages, dict) else {}
    software = {  # what is no package of this environment, or not in that version
        name: version
        for name, version in begin["software"].items()
        if version != packages.get(name)
    }
    facts = {
        **dict(_flat(begin["host"], "")),
        **dict(_flat(resolved, "environments")),
        **dict(_flat(software, "software")),
        "suite": begin["suite"],
    }
    if begin.get("suite_digest"):
        facts["suite_digest"] = str(begin["suite_digest"])[:SHORT]
    kept = {name: value for name, value in facts.items() if not _left_out(name)}
    return dict(list(kept.items())[:_MOST_FACTS])


def _left_out(name: str) -> bool:
    return name in _NOT_FACTS or name.partition(".")[0] in _NOT_FACTS


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Leaves by their path, as text. What is not known is left out."""
    if isinstance(value, list):
        value = {str(index): part for index, part in enumerate(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name[:_LONGEST], str(value)[:_LONGEST]


# --------------------------------------------------------------------------- series


def add_series(results: Path, name: str, points: Sequence[Point]) -> Path:
    """Keep a series of another tool, such as a project's pytest-benchmark files, beside the
    bundles; ``qbench history`` shows its cases with theirs. One of the same name is replaced.

    Returns:
        The file, ``<results>/series/<name>.json``.

    Raises:
        UserError: ``name`` is no file name.
    """
    if not _NAME.match(name):
        raise UserError(f"'{name}' is no name for a series", "Take letters, digits, dots, hyphens.")
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
        cases = []
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
    facts = _as_text(dict(_flat(record["facts"], "")))
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
    """Text that can be written as UTF-8."""
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
    """Since 1970, of a time in ISO 8601; without a zone it is UTC."""
    try:
        return microseconds(datetime.fromisoformat(started))
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged: '{started}' is no time") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(when: datetime) -> int:
    """Since 1970; without a zone it is UTC."""
    return ((when if when.tzinfo else when.replace(tzinfo=timezone.utc)) - _EPOCH) // _MICROSECOND


def time_of(started_us: int) -> datetime:
    return _EPOCH + started_us * _MICROSECOND
