"""Files of pytest-benchmark: what qbench writes is read by it, and what it writes by qbench."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st
from sessions import Pytest

from qbench.analysis.history import imported
from qbench.analysis.history.imported import read_benchmarks
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.exports.pytest_benchmark import stats
from qbench.present.exports.tables import export_bundles

# --------------------------------------------------------------------------- export


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_the_statistics_are_those_of_pytest_benchmark(nanoseconds: list[int]):
    theirs = pytest.importorskip("pytest_benchmark.stats").Stats()
    seconds = np.array(nanoseconds) / 1e9
    for value in seconds.tolist():
        theirs.update(value)
    ours, wanted = stats(seconds), theirs.as_dict()
    assert list(ours) == list(wanted)
    for name, value in wanted.items():
        if name in ("outliers", "stddev_outliers", "iqr_outliers"):
            continue  # a value on the fence itself: rounding decides, checked below
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-15), name


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 100, 101, 1000])
def test_outliers_are_those_of_pytest_benchmark(count: int):
    theirs = pytest.importorskip("pytest_benchmark.stats").Stats()
    seconds = np.random.default_rng(count).lognormal(-8, 0.5, count)
    for value in seconds.tolist():
        theirs.update(value)
    assert stats(seconds)["outliers"] == theirs.outliers


def crafted(folder: Path, run: int, latency_ms: float) -> Bundle:
    """Two cases that were measured in two rounds, and one that was not."""
    made = Crafted(folder, f"20260101-00000{run}-crafted-0001")
    exact, quantized = made.case("fp32"), made.case("int8-static")
    made.case("fp16", skip="not here")
    scores = np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32)
    made.labels = np.arange(12) % 3
    made.evaluation(exact, scores)
    made.evaluation(quantized, np.round(scores, 1), reference=exact)
    for number in range(2):
        made.trial(exact, number, latency_ms)
        made.trial(quantized, number, 2.0 + number)
    return made.done()


def test_an_export_has_the_samples_of_all_trials_in_seconds(tmp_path: Path):
    (file,) = export_bundles([crafted(tmp_path, 0, 4.0)], "pytest-benchmark")
    content = json.loads(file.content)
    exact, quantized = content["benchmarks"]
    assert exact["fullname"] == "crafted.qbench.yaml::net fake fp32"
    assert quantized["stats"]["data"] == [0.002] * 100 + [0.003] * 100
    assert quantized["stats"]["rounds"] == 200 and quantized["stats"]["iterations"] == 1
    assert quantized["stats"]["median"] == quantized["stats"]["mean"] == pytest.approx(0.0025)
    assert exact["stats"]["ops"] == pytest.approx(250)
    assert quantized["extra_info"]["precision"] == "int8-static"
    assert quantized["extra_info"]["rounds"] == 2, "ours: fresh processes"
    assert content["machine_info"]["cpu"]["brand_raw"] == "a processor"
    assert content["datetime"] == "2026-01-01T00:00:00+00:00"


def test_a_run_without_figures_has_nothing_to_export(tmp_path: Path):
    made = Crafted(tmp_path)
    made.case("fp32", skip="not here")
    with pytest.raises(UserError, match="nothing to export"):
        export_bundles([made.done()], "pytest-benchmark")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A folder with pytest-benchmark's storage: two exports, the second 25 % slower in fp32."""
    pytest.importorskip("pytest_benchmark")
    kept = tmp_path / ".benchmarks" / "machine"
    kept.mkdir(parents=True)
    for number, latency_ms in ((1, 4.0), (2, 5.0)):
        bundle = crafted(tmp_path / "results", number, latency_ms)
        ((_, content, _),) = export_bundles([bundle], "pytest-benchmark")
        (kept / f"000{number}_night.json").write_bytes(content)
    return tmp_path


def test_pytest_benchmark_lists_and_compares_exports(storage: Path):
    listed = run(storage, "pytest_benchmark", "list")
    assert "0001_night.json" in listed and "0002_night.json" in listed
    columns = "--columns=median,rounds"
    table = run(storage, "pytest_benchmark", "compare", "0001", "0002", "--sort=name", columns)
    lines = [line.split() for line in table.splitlines() if "fp32" in line]
    assert [line[3:] for line in lines] == [
        ["(0001_night)", "4.0000", "(1.60)", "200"],
        ["(0002_night)", "5.0000", "(2.00)", "200"],
    ], table
    for name in ("0001", "0002"):
        table = run(storage, "pytest_benchmark", "compare", name)
        assert "2 tests" in table and "Failed to load" not in table


@pytest.mark.slow
def test_a_session_of_pytest_compares_its_cases_with_an_export(project):
    """The suite's cases are benchmarks to pytest-benchmark, and may fail by its rules, too."""
    pytest.importorskip("pytest_benchmark")
    name = project.suite("small.qbench", roofline=False, rounds=1).name
    project.run_json(name)
    done = project.qbench("export", "latest", "--format", "pytest-benchmark", "-o", "base.json")
    assert done.returncode == 0, done.stderr
    base = json.loads((project.root / "base.json").read_text())
    for one in base["benchmarks"]:
        one["stats"]["median"] /= 100
    project.write("base.json", json.dumps(base))
    compare = ["--benchmark-compare=base.json", "--benchmark-compare-fail=median:50%"]
    done = Pytest(project, name, "-p", "benchmark", *compare, "--benchmark-json=now.json")
    assert set(done.outcomes.values()) == {"passed"}, done.out
    assert "Comparing against benchmarks from: base.json" in done.out
    assert "net fake fp32 (base)" in done.out and "net fake fp32 (NOW)" in done.out
    assert done.code != 0 and "Performance has regressed" in done.out
    now = json.loads((project.root / "now.json").read_text())
    names = [one["fullname"] for one in now["benchmarks"]]
    assert names == [one["fullname"] for one in base["benchmarks"]]


# --------------------------------------------------------------------------- import

BENCHMARKED = """
import pytest

@pytest.mark.parametrize("size", [10, 20])
def test_sum(benchmark, size):
    assert benchmark(sum, range(size)) >= 0
"""


def test_files_of_pytest_benchmark_are_read(tmp_path: Path):
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "test_speed.py").write_text(BENCHMARKED)
    file = tmp_path / "night.json"
    options = ["--benchmark-json", str(file), "--benchmark-max-time=0.02", "-p", "no:cacheprovider"]
    run(tmp_path, "pytest", "-q", "test_speed.py", *options)
    content = json.loads(file.read_text())
    points = read_benchmarks(file)
    assert [p.label for p in points] == [
        "test_speed.py::test_sum[10]",
        "test_speed.py::test_sum[20]",
    ]
    for point, theirs in zip(points, content["benchmarks"], strict=True):
        assert point.metrics["latency_p50_ms"] == pytest.approx(theirs["stats"]["median"] * 1000)
        p10 = float(np.percentile(theirs["stats"]["data"], 10)) * 1000
        assert point.metrics["latency_p10_ms"] == pytest.approx(p10)
        assert point.metrics["throughput_ips"] == pytest.approx(1 / theirs["stats"]["mean"])
        assert point.started == datetime.fromisoformat(content["datetime"])
        assert point.facts["python"] == content["machine_info"]["python_version"]
        assert point.facts["commit"] == content["commit_info"]["id"]
    assert len({p.case_id for p in points}) == 2
    assert len({(p.run_id, p.host_id, p.cpu_model) for p in points}) == 1


def night(**changes: Any) -> dict[str, Any]:
    """A file as pytest-benchmark writes it, without raw timings."""
    made = {
        "machine_info": {"node": "ci", "machine": "x86_64", "cpu": {"brand_raw": "a processor"}},
        "commit_info": {"id": "c0ffee", "project": "lib", "dirty": False, "branch": "main"},
        "benchmarks": [
            {
                "fullname": "test_speed.py::test_it",
                "stats": {"median": 0.002, "mean": 0.0025, "rounds": 5, "ops": 400.0},
            }
        ],
        "datetime": "2026-01-02T03:04:05.678+00:00",
        "version": "5.3.1",
    }
    return made | changes


def one(**stats: Any) -> list[dict[str, Any]]:
    figures = {"median": 0.002, "mean": 0.0025, "rounds": 5} | stats
    return [{"fullname": "test_speed.py::test_it", "stats": figures}]


def write(folder: Path, content: Any) -> Path:
    path = folder / "night.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_unsaved_figures_are_none(tmp_path: Path):
    (point,) = read_benchmarks(write(tmp_path, night()))
    assert point.metrics == {"latency_p50_ms": 2.0, "throughput_ips": 400.0}
    few = night(benchmarks=one(data=[0.002] * 9))
    assert "latency_p10_ms" not in read_benchmarks(write(tmp_path, few))[0].metrics
    enough = night(benchmarks=one(data=[0.001] * 5 + [0.002] * 95))
    metrics = read_benchmarks(write(tmp_path, enough))[0].metrics
    assert metrics["latency_p10_ms"] == pytest.approx(2.0)
    assert metrics["latency_p99_ms"] == pytest.approx(2.0)


def test_a_benchmark_is_known_by_its_project_and_its_name(tmp_path: Path):
    def case(content: dict[str, Any], project: str | None = None) -> str:
        return read_benchmarks(write(tmp_path, content), project)[0].case_id

    same = case(night(datetime="2026-03-03T00:00:00", version="4.0.0"))
    assert same == case(night())
    assert same == case(night(commit_info=None), "lib")
    assert same != case(night(commit_info={"project": "other"}))


def test_a_time_without_a_zone_is_utc(tmp_path: Path):
    (point,) = read_benchmarks(write(tmp_path, night(datetime="2026-03-03T01:02:03")))
    assert point.started == datetime(2026, 3, 3, 1, 2, 3, tzinfo=timezone.utc)


def test_names_do_not_steer_the_terminal(tmp_path: Path):
    hostile = night(benchmarks=[{**one()[0], "fullname": "a\x1b[31m<script>\u202eb"}])
    assert read_benchmarks(write(tmp_path, hostile))[0].label == "a[31m<script>b"


NAMED = "benchmarks[0].stats"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "holds no JSON object"),
        ("{}", "is missing: a file of pytest-benchmark has it"),
        (night(benchmarks=[]), "benchmarks: "),
        (night(benchmarks=one() + one()), "benchmarks[1]: 'test_speed.py::test_it' is there twice"),
        (night(benchmarks=one(median=math.nan)), f'{NAMED}.median (of "test_speed.py::test_it")'),
        (night(benchmarks=one(median=math.inf)), f"{NAMED}.median"),
        (night(benchmarks=one(median=0)), f"{NAMED}.median"),
        (night(benchmarks=one(median="0.002")), f"{NAMED}.median"),
        (night(benchmarks=one(mean=-1)), f"{NAMED}.mean"),
        (night(benchmarks=one(rounds=10**30)), "exceeds 64 bits"),
        (night(benchmarks=one(data=[0.1, math.nan])), f"{NAMED}.data[1]"),
        (night(benchmarks=one(data={"a": 1})), f"{NAMED}.data"),
        (night(benchmarks=[{**one()[0], "fullname": "x" * 5000}]), "benchmarks[0].fullname"),
        (night(datetime="yesterday"), "datetime: "),
        (night(machine_info=[]), "machine_info: "),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, content: Any, where: str):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_benchmarks(path)
    assert str(path) in caught.value.message and where in caught.value.message
    assert caught.value.fix


def test_a_file_that_is_too_large_or_not_there_is_refused(tmp_path: Path, monkeypatch):
    path = write(tmp_path, night())
    monkeypatch.setattr(imported, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="more than"):
        read_benchmarks(path)
    with pytest.raises(UserError, match="cannot read"):
        read_benchmarks(tmp_path / "none.json")
    monkeypatch.undo()
    with pytest.raises(UserError, match="cannot read"):
        read_benchmarks(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(night())), value=JSON)
def test_whatever_stands_in_a_field_it_is_read_or_refused(tmp_path_factory, key: str, value: Any):
    path = write(tmp_path_factory.mktemp("night"), night(**{key: value}))
    try:
        points = read_benchmarks(path)
    except UserError:
        return
    assert all(math.isfinite(v) and v > 0 for p in points for v in p.metrics.values() if v)


def test_the_command_keeps_files_once_and_history_follows_them(project):
    for number in range(3):
        content = night(datetime=f"2026-01-0{number + 1}T00:00:00")
        project.write(f"night{number}.json", json.dumps(content))
    files = [f"night{number}.json" for number in range(3)]
    for _ in range(2):
        done = project.qbench("import", *files, "--json")
        assert done.returncode == 0, done.stderr
        kept = [project.root / one["kept"] for one in json.loads(done.stdout)]
        assert len(set(kept)) == 3 and all(path.is_file() for path in kept)
    assert len(list((project.root / "results").rglob("*.json"))) == 3
    shown = project.qbench("history", "test_speed.py::test_it", "--json")
    assert shown.returncode == 0, shown.stderr
    assert "2026-01-03" in shown.stdout


def test_no_file_is_kept_if_one_is_wrong(project):
    project.write("good.json", json.dumps(night()))
    project.write("bad.json", json.dumps(night(benchmarks=one(median=math.nan))))
    done = project.qbench("import", "good.json", "bad.json")
    assert done.returncode == 2 and "bad.json: benchmarks[0].stats.median" in done.stderr
    assert not (project.root / "results").exists()
