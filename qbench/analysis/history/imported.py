"""Read files of pytest-benchmark as points for ``qbench history``.

The files are not trusted: their size is bounded, NaN and infinity are refused, and only a few
figures and names are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qbench.analysis.history.point import METRICS, Point
from qbench.bundle.trials import PERCENTILES, percentile
from qbench.errors import UserError
from qbench.storage import digest_json, parse_json
from qbench.text import printable

MAX_BYTES = 256 << 20
"""Maximum size of a file: raw timings of hundreds of benchmarks fit, and memory holds it."""
MAX_BENCHMARKS = 10_000
MS = 1e3
"""Milliseconds in a second."""

Text = Annotated[str, Field(max_length=1000)]
Seconds = Annotated[float, Field(ge=0)]
MoreThanNone = Annotated[float, Field(gt=0)]


class _Record(BaseModel):
    """Required fields; NaN and infinity are refused."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class _Stats(_Record):
    """Seconds of one iteration. ``data``: the raw timings, if they were saved."""

    median: MoreThanNone
    mean: MoreThanNone
    rounds: Annotated[int, Field(ge=1)]
    ops: MoreThanNone | None = None
    data: list[Seconds] | None = None


class _Benchmark(_Record):
    fullname: Annotated[str, Field(min_length=1, max_length=1000)]
    stats: _Stats


class _Cpu(_Record):
    brand_raw: Text | None = None
    brand: Text | None = None


class _Machine(_Record):
    node: Text = ""
    machine: Text | None = None
    system: Text | None = None
    release: Text | None = None
    python_version: Text | None = None
    python_implementation: Text | None = None
    python_compiler: Text | None = None
    cpu: _Cpu = _Cpu()


class _Commit(_Record):
    id: Text | None = None
    branch: Text | None = None
    dirty: bool | None = None
    project: Text | None = None


class _File(_Record):
    datetime: Text
    version: Text
    machine_info: _Machine
    commit_info: _Commit | None = None
    benchmarks: Annotated[list[_Benchmark], Field(min_length=1, max_length=MAX_BENCHMARKS)]


def read_benchmarks(path: Path, project: str | None = None) -> list[Point]:
    """The points of a file that pytest-benchmark wrote (``--benchmark-json``,
    ``--benchmark-save``), one for each benchmark.

    A series is identified by the project and the full name of the test. All points have one run id,
    made of the time and a digest of the file, so that a file that is read twice is the same run.

    Args:
        project: the project's name; None: the one in the file.

    Raises:
        UserError: it cannot be read, is too large, or is not such a file; with the place.
    """
    content = _read(path)
    file = _validated(path, content)
    _check_names(file, path)
    machine, commit = file.machine_info, file.commit_info or _Commit()
    started = _started(file, path)
    if project is None:
        project = commit.project or ""
    digest = hashlib.sha256(content + project.encode()).hexdigest()
    cpu = machine.cpu.brand_raw or machine.cpu.brand
    return [
        Point(
            case_id=digest_json(["pytest-benchmark", project, one.fullname])[:12],
            label=printable(one.fullname),
            run_id=f"pytest-benchmark-{started:%Y%m%d-%H%M%S}-{digest[:8]}",
            started=started,
            host_id=digest_json([machine.node, machine.machine, cpu])[:12],
            cpu_model=cpu,
            metrics=_metrics(one.stats),
            facts=_facts(file, project),
        )
        for one in file.benchmarks
    ]


def _facts(file: _File, project: str) -> dict[str, str]:
    """Facts that may explain a change, by their names in bundles."""
    machine, commit = file.machine_info, file.commit_info or _Commit()
    told = {
        "kernel": machine.release,
        "system": machine.system,
        "architecture": machine.machine,
        "python": machine.python_version,
        "python_implementation": machine.python_implementation,
        "python_compiler": machine.python_compiler,
        "packages.pytest-benchmark": file.version,
        "project": project,
        "commit": commit.id,
        "branch": commit.branch,
        "uncommitted changes": None if commit.dirty is None else str(commit.dirty).lower(),
    }
    return {name: value for name, value in told.items() if value}


def _check_names(file: _File, path: Path) -> None:
    seen: dict[str, int] = {}
    for index, one in enumerate(file.benchmarks):
        first = seen.setdefault(one.fullname, index)
        if first != index:
            raise UserError(
                f"{path}: benchmarks[{index}]: '{printable(one.fullname)}' is there twice, first "
                f"as benchmarks[{first}]",
                "Two files were joined; import them one by one.",
            )


def _started(file: _File, path: Path) -> datetime:
    """A time in UTC; one without a zone is UTC, as pytest-benchmark wrote it before version 5."""
    try:
        told = datetime.fromisoformat(file.datetime)
        return told.replace(tzinfo=told.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: datetime: {error}", _WHAT_TO_DO) from None


def _metrics(stats: _Stats) -> dict[str, float | None]:
    """Figures by column of ``METRICS``. Percentiles other than the median need the raw timings, as
    many as in a trial."""
    data = np.array(stats.data or [], dtype=np.float64)
    percentiles = {
        METRICS[f"p{point:g}"].column: percentile(data, point)
        for point in (10, 99)
        if len(data) >= PERCENTILES[point]
    }
    return {
        METRICS["p50"].column: stats.median * MS,
        METRICS["throughput"].column: stats.ops or 1 / stats.mean,
        **{column: value * MS for column, value in percentiles.items() if value},
    }


# --------------------------------------------------------------------------- reading

_WHAT_TO_DO = "Give a file that `pytest --benchmark-json=FILE` or `--benchmark-save` wrote."


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{path} has {size / 1e6:.0f} MB, more than the {MAX_BYTES / 1e6:.0f} MB that are "
                "read",
                "Save it without the raw timings: --benchmark-save instead of --benchmark-json.",
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", _WHAT_TO_DO) from None


def _validated(path: Path, content: bytes) -> _File:
    try:
        value = parse_json(content)
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}", _WHAT_TO_DO) from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object", _WHAT_TO_DO)
    try:
        return _File.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        says = first["msg"]
        if first["type"] == "missing":
            says = "is missing: a file of pytest-benchmark has it"
        place = _place(first["loc"], cast("dict[str, Any]", value))
        raise UserError(f"{path}: {place}: {says}", _WHAT_TO_DO) from None


def _place(keys: tuple[str | int, ...], value: Mapping[str, Any]) -> str:
    """``benchmarks[3].stats.median``, with the name of the benchmark if it has one."""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    try:
        name = value[str(keys[0])][keys[1]]["fullname"]
    except (KeyError, IndexError, TypeError):
        return place
    return f"{place} (of {printable(json.dumps(name)[:100])})"
