"""The index of results folders, and ``qbench history``: with runs of the fake backend, with bundles
written by hand, and with what other tools and other people leave in such a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from crafted import Crafted
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pages import Page

from qbench.analysis.history.point import METRICS, Point
from qbench.analysis.history.query import History
from qbench.analysis.history.sources import add_series
from qbench.analysis.history.trend import trends
from qbench.errors import UserError

FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)
HOST = {
    "host_id": "h" * 12,
    "cpu_model": "a processor",
    "cpu_flags": ["avx2"],
    "governor": "performance",
    "power_mode": None,
    "caches": None,
    "kernel": "6.1",
    "microcode": "0x1",
    "packages": {"numpy": "2.1", "onnxruntime": "1.22"},
    "gpus": [{"name": "a gpu", "driver": "550"}],
}


def night(results: Path, number: int, ms: float = 1.0, run_id: str = "", **begin) -> Path:
    """A complete run of ``fp32`` at ``ms`` and ``int8-static`` at half of it."""
    results.mkdir(parents=True, exist_ok=True)
    begin = {"host": HOST, "started": (FIRST + timedelta(days=number)).isoformat(), **begin}
    made = Crafted(results, run_id or f"night-{number:03d}", **begin)
    for precision, latency in (("fp32", ms), ("int8-static", ms / 2)):
        case = made.case(precision)
        made.trial(case, 0, latency)
    return made.done().path


FP32, INT8 = "c00000000000", "c00000000001"


def p50s(*folders: Path, case: str = FP32) -> list[tuple[str, float | None]]:
    points = History(folders).points(case)
    return [(p.run_id, p.metrics.get("latency_p50_ms")) for p in points]


def tables(results: Path) -> dict[str, Path]:
    return {p.name.partition("-")[0]: p for p in (results / ".index").glob("*.parquet")}


# --------------------------------------------------------------------------- what it holds


def test_a_night_has_its_figures_and_facts(tmp_path):
    night(tmp_path, 0, ms=1.25)
    (point,) = History([tmp_path]).points(INT8)
    assert point.label == "net fake int8-static"
    assert point.run_id == "night-000"
    assert point.started == FIRST
    assert (point.host_id, point.cpu_model, point.status) == ("h" * 12, "a processor", "ok")
    # 100 calls that all take 0.625 ms, of one item each; the rest is crafted.py's
    assert point.metrics["latency_p10_ms"] == pytest.approx(0.625)
    assert point.metrics["latency_p50_ms"] == pytest.approx(0.625)
    assert point.metrics["latency_p99_ms"] == pytest.approx(0.625)
    assert point.metrics["throughput_ips"] == pytest.approx(1600)
    assert point.metrics["memory_peak_mb"] == pytest.approx(6.0)
    assert point.metrics["artifact_size_mb"] == pytest.approx(0.5)
    assert point.metrics["load_ms"] == pytest.approx(5.0)
    assert point.metrics["cold_start_ms"] == pytest.approx(70.0)
    assert "accuracy" not in point.metrics, "it was not evaluated"
    facts = {"kernel": "6.1", "microcode": "0x1", "governor": "performance"}
    facts |= {"packages.onnxruntime": "1.22", "gpus.0.driver": "550", "suite": "crafted"}
    assert facts.items() <= dict(point.facts).items()
    assert "host_id" not in point.facts


def test_only_what_is_new_is_read(tmp_path):
    """An old bundle whose plan is gone would be an error if it were read again."""
    for number in range(3):
        night(tmp_path, number, ms=1 + number)
    assert p50s(tmp_path) == [(f"night-{n:03d}", pytest.approx(1 + n)) for n in range(3)]
    (tmp_path / "night-001" / "plan.json").write_text("{")
    night(tmp_path, 3, ms=4)
    assert [run for run, _ in p50s(tmp_path)] == [f"night-{n:03d}" for n in range(4)]
    shutil.rmtree(tmp_path / "night-000")
    assert [run for run, _ in p50s(tmp_path)] == ["night-001", "night-002", "night-003"]


def test_a_bundle_that_changed_is_read_again(tmp_path):
    night(tmp_path, 0, ms=1)
    assert p50s(tmp_path) == [("night-000", pytest.approx(1))]
    shutil.rmtree(tmp_path / "night-000")
    night(tmp_path, 0, ms=2)
    assert p50s(tmp_path) == [("night-000", pytest.approx(2))]


def test_unreadable_sources_are_reported_and_left_out(tmp_path):
    for number in range(4):
        night(tmp_path, number)
    (tmp_path / "night-001" / "plan.json").write_text("{")
    begin = tmp_path / "night-002" / "begin.json"
    begin.write_text(begin.read_text().replace('"schema": ', '"schema": 9'))
    (tmp_path / "night-003" / "manifest.json").unlink()  # not complete
    foreign = tmp_path / "another-tool"
    foreign.mkdir()
    (foreign / "manifest.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "mine.json").write_text("[1, 2]")
    history = History([tmp_path])
    assert [p.run_id for p in history.points(FP32)] == ["night-000"]
    for name in ("night-001", "night-002", "another-tool", "mine.json"):
        assert any(name in problem for problem in history.problems), name
    assert len(history.problems) == 4
    assert History([tmp_path]).problems == history.problems, "said each time"


def test_a_bundle_that_lacks_a_time_is_damaged(tmp_path):
    night(tmp_path, 0, started="yesterday")
    history = History([tmp_path])
    assert history.cases() == []
    assert "yesterday" in history.problems[0]


def test_links_are_not_followed(tmp_path):
    elsewhere = night(tmp_path / "elsewhere", 0)
    night(tmp_path / "results", 1)
    (tmp_path / "results" / "link").symlink_to(elsewhere, target_is_directory=True)
    assert [run for run, _ in p50s(tmp_path / "results")] == ["night-001"]


def test_runs_that_the_gate_found_broken_are_kept_out(tmp_path):
    for number in range(3):
        night(tmp_path, number)
    (tmp_path / "night-000.gate.json").write_text('{"valid": true}')
    broken = tmp_path / "night-001.gate.json"
    broken.write_text('{"valid": false}')
    assert [run for run, _ in p50s(tmp_path)] == ["night-000", "night-002"]
    assert History([tmp_path]).left_out() == {"broken as a whole": 1}
    broken.unlink()
    assert len(p50s(tmp_path)) == 3
    broken.write_text("{")
    assert "damaged" in History([tmp_path]).problems[0]


def test_confirming_runs_are_no_nights(tmp_path):
    night(tmp_path, 0)
    night(tmp_path, 1, run_id="again", confirms="night-000")
    assert [run for run, _ in p50s(tmp_path)] == ["night-000"]
    assert History([tmp_path]).left_out() == {"confirms another": 1}


def test_several_folders_and_a_run_that_lies_in_two(tmp_path):
    night(tmp_path / "a", 0, ms=1)
    night(tmp_path / "b", 1, ms=2)
    shutil.copytree(tmp_path / "a" / "night-000", tmp_path / "b" / "a-copy")
    assert p50s(tmp_path / "b", tmp_path / "a") == [
        ("night-000", pytest.approx(1)),
        ("night-001", pytest.approx(2)),
    ]


@pytest.mark.parametrize("name", ["year=2026", "a*b[1]?", "it's", "emoji-🦆 and space"])
def test_names_of_folders_are_only_names(tmp_path, name):
    night(tmp_path / name, 0)
    night(tmp_path / "other", 1)
    assert [run for run, _ in p50s(tmp_path / name)] == ["night-000"]


def test_since(tmp_path):
    for number in range(3):
        night(tmp_path, number)
    points = History([tmp_path]).points(FP32, FIRST + timedelta(days=1))
    assert [p.run_id for p in points] == ["night-001", "night-002"]


def test_the_newest_nights_of_every_case_on_each_processor(tmp_path):
    for number in range(6):
        night(tmp_path, number, host={**HOST, "cpu_model": f"cpu {number % 2}"})
    newest = History([tmp_path]).newest(2)
    assert set(newest) == {FP32, INT8}
    assert [p.run_id for p in newest[FP32]] == ["night-002", "night-003", "night-004", "night-005"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    night(tmp_path, 0)
    (tmp_path / ".index").write_text("in the way")
    assert len(p50s(tmp_path)) == 1
    assert list((Path(os.environ["QBENCH_CACHE"]) / "history").glob("*/index.json"))


# --------------------------------------------------------------------------- damage


def cut(results: Path) -> None:
    path = tables(results)["cases"]
    path.write_bytes(path.read_bytes()[:-100])


def changed(results: Path) -> None:
    path = tables(results)["runs"]
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(bytes(content))


def no_json(results: Path) -> None:
    (results / ".index" / "index.json").write_text('{"version": 1, "files": {"runs"')


def older(results: Path) -> None:
    path = results / ".index" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))


def hostile(results: Path) -> None:
    path = results / ".index" / "index.json"
    content = json.loads(path.read_text())
    content["files"]["cases"] = "../../etc/passwd"
    path.write_text(json.dumps(content))


def gone(results: Path) -> None:
    tables(results)["facts"].unlink()


@pytest.mark.parametrize("damage", [cut, changed, no_json, older, hostile, gone])
def test_a_damaged_index_is_made_again(tmp_path, damage):
    for number in range(3):
        night(tmp_path, number, ms=1 + number)
    before = p50s(tmp_path)
    damage(tmp_path)
    assert p50s(tmp_path) == before
    assert len(before) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
import qbench.storage as storage
left = int(sys.argv[2])
whole = os.fsync
def fsync(handle):
    global left
    whole(handle)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
from qbench.analysis.history.query import History
History([Path(sys.argv[1])])
"""


@pytest.mark.parametrize("writes", [1, 4, 6, 7, 8])
def test_a_kill_while_the_index_is_written(tmp_path, writes):
    """Three tables, then the index: each file is synced, renamed, and its folder synced."""
    night(tmp_path, 0, ms=1)
    assert len(p50s(tmp_path)) == 1
    night(tmp_path, 1, ms=2)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(writes)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert p50s(tmp_path) == [("night-000", pytest.approx(1)), ("night-001", pytest.approx(2))]
    night(tmp_path, 2)
    assert len(p50s(tmp_path)) == 3
    left = [p.name for p in (tmp_path / ".index").iterdir() if p.name.startswith(".")]
    assert not left


def test_two_at_a_time(tmp_path):
    for number in range(4):
        night(tmp_path, number)
    code = (
        "from pathlib import Path; import sys; from qbench.analysis.history.query import History\n"
        "print(len(History([Path(sys.argv[1])]).points('c00000000000')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["4", "4"]
    assert [process.returncode for process in both] == [0, 0]


def test_cases_are_sorted_for_one_case_questions(tmp_path):
    for number in (2, 0, 1):
        night(tmp_path, number)
    History([tmp_path])
    table = pq.read_table(tables(tmp_path)["cases"]).to_pylist()
    keys = [(row["case_id"], row["started_us"]) for row in table]
    assert len(keys) == 6
    assert keys == sorted(keys)


# --------------------------------------------------------------------------- series of others

TEXT = st.text(max_size=8)
POINTS = st.builds(
    Point,
    case_id=TEXT,
    label=TEXT,
    run_id=TEXT,
    started=st.datetimes(
        datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)
    ),
    host_id=TEXT,
    cpu_model=st.none() | TEXT,
    metrics=st.dictionaries(
        st.sampled_from([metric.column for metric in METRICS.values()]),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    facts=st.dictionaries(st.text(min_size=1, max_size=8), TEXT, max_size=3),
    status=st.sampled_from(["ok", "error"]),
)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(POINTS, max_size=12))
def test_points_come_out_as_they_went_in(points):
    with tempfile.TemporaryDirectory() as folder:
        add_series(Path(folder), "mine", points)
        history = History([Path(folder)])
        assert history.problems == ()
        found = [p for known in history.cases() for p in history.points(known.case_id)]
        plain = [{**vars(p), "facts": dict(p.facts)} for p in found]
        wanted = [{**vars(p), "facts": dict(p.facts)} for p in points]
        for point in wanted:
            assert point in plain
        assert len(plain) == len(wanted)


def test_a_series_is_stored_next_to_the_bundles(tmp_path):
    night(tmp_path, 0)
    points = [
        Point(
            "a1", "tests/a.py::test[1]", f"{n:04d}", FIRST, "h", "cpu", {"latency_p50_ms": 1.0 + n}
        )
        for n in range(2)
    ]
    add_series(tmp_path, "mine", points)
    history = History([tmp_path])
    labels = [known.label for known in history.cases()]
    assert labels == ["net fake fp32", "net fake int8-static", "tests/a.py::test[1]"]
    assert history.find(["tests/a.py::test[1]"]).runs == 2
    add_series(tmp_path, "mine", points[:1])
    assert len(History([tmp_path]).points("a1")) == 1


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_a_series_needs_a_file_name(tmp_path, name):
    with pytest.raises(UserError):
        add_series(tmp_path, name, [])


# --------------------------------------------------------------------------- finding a case


def test_words_find_a_case(tmp_path):
    night(tmp_path, 0)
    history = History([tmp_path])
    assert history.find(["net", "fake", "fp32"]).case_id == FP32
    assert history.find(["net/fake/int8-static"]).case_id == INT8
    assert history.find([INT8]).label == "net fake int8-static"
    with pytest.raises(UserError, match="several cases fit 'net'"):
        history.find(["net"])
    with pytest.raises(UserError, match="no case fits 'nat'") as error:
        history.find(["nat"])
    assert FP32 in error.value.fix


# --------------------------------------------------------------------------- the command


def test_runs_of_the_fake_backend(project):
    suite = project.suite()
    runs = [Path(project.run_json(suite, "--fresh")["bundle"]).name for _ in range(2)]
    shown = project.qbench("history")
    assert shown.returncode == 0, shown.stderr
    assert "net fake int8-static" in shown.stdout
    cases = {case["case_id"]: case for case in project.cases(runs[1])}
    done = project.qbench("history", "--json")
    told = json.loads(done.stdout)
    assert {case["case_id"] for case in told["cases"]} == set(cases)
    assert told["problems"] == []
    for case in told["cases"]:
        (series,) = case["series"]
        assert [n["run_id"] for n in series["nights"]] == sorted(runs)
        values = {n["run_id"]: n["value"] for n in series["nights"]}
        assert values[runs[1]] == pytest.approx(cases[case["case_id"]]["latency_p50_ms"])
    one = project.qbench("history", "net", "fake", "fp32", "--metric", "accuracy", "--json")
    (case,) = json.loads(one.stdout)["cases"]
    assert case["label"] == "net fake fp32"
    assert [n["value"] for n in case["series"][0]["nights"]] == [1.0, 1.0]


def test_a_regression_in_words(project):
    results = project.root / "results"
    for number in range(18):
        packages = {"onnxruntime": "1.22" if number < 12 else "1.23"}
        ms = (1.0 if number < 12 else 1.2) * (1 + 0.002 * (number % 3))
        night(results, number, ms, host={**HOST, "packages": packages})
    shown = project.qbench("history", "net", "fake", "fp32")
    assert shown.returncode == 0, shown.stderr
    assert "+20.0 % worse" in shown.stdout
    assert "packages.onnxruntime 1.22 → 1.23" in shown.stdout
    assert "2026-01-13" in shown.stdout
    assert "night-012" in shown.stdout
    assert "no verdict" in shown.stdout
    summary = project.qbench("history")
    assert summary.stdout.count("2026-01-13 +20.0 %") == 2, summary.stdout


@pytest.mark.parametrize("content", [None, "{", "[]", "wrong"])
def test_where_series_were_cut_is_remembered(tmp_path, monkeypatch, content):
    """A damaged memory of change points is recomputed."""
    for number in range(12):
        night(tmp_path, number, 1.0 if number < 6 else 1.5)
    first = History([tmp_path])
    (trend,) = trends(first.points(FP32), "p50", first.cuts)
    assert [change.at for change in trend.changes] == [6]
    first.cuts.save()
    memory = tmp_path / ".index" / "cuts.json"
    if content == "wrong":
        content = memory.read_text().replace("[6]", "[600]")
    if content is not None:
        memory.write_text(content)
    else:
        monkeypatch.setitem(sys.modules, "ruptures", None)  # not to be imported
    again = History([tmp_path])
    (trend,) = trends(again.points(FP32), "p50", again.cuts)
    assert [change.at for change in trend.changes] == [6]


def test_hostile_names_stay_text(project):
    evil = "<script>alert(1)</script>\x1b[31m\u202eevil"
    results = project.root / "results"
    for number in range(12):
        host = {**HOST, "cpu_model": evil, "packages": {evil: f"{number // 6}"}}
        night(results, number, 1.0 + number // 6, host=host)
    shown = project.qbench("history", "net", "fake", "fp32")
    assert shown.returncode == 0, shown.stderr
    assert "<script>alert(1)</script>[31mevil" in shown.stdout
    assert "\x1b" not in shown.stdout
    done = project.qbench("history", "net", "fake", "fp32", "-o", "page.html")
    assert done.returncode == 0, done.stderr
    html = (project.root / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert html.count("<script") == len(page.scripts) == 3, "the data, plotly and the page's own"
    assert "<script>alert(1)</script>[U+001B][31m[U+202E]evil" in page.text
    assert json.loads(page.scripts[0])["cases"][0]["label"] == "net fake fp32"
    assert page.cases == [FP32]
    assert set(page.addresses) == {"data:,"}, "it loads nothing"
    assert "night-006" in page.text


def test_a_page_of_all_cases_has_every_night_as_text(project):
    for number in range(3):
        night(project.root / "results", number, 1.5 + number)
    done = project.qbench("history", "--metric", "p10", "-o", "all.html")
    assert done.stdout.strip() == "all.html", done.stderr
    page = Page((project.root / "all.html").read_text(encoding="utf-8"))
    assert page.cases == [FP32, INT8]
    for number in range(3):
        assert f"night-{number:03d}" in page.text
        assert f"{1.5 + number:.2f}" in page.text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--metric", "p51"], "Did you mean 'p50'"),
        (["no", "such", "case"], "no case fits"),
        (["net", "fake", "fp32", "--since", "2030-01-01"], "no runs of this case since"),
        (["net", "fake", "fp32", "--metric", "energy"], "no run has the figure 'energy'"),
        (["--results", "elsewhere"], "there is no folder elsewhere"),
        (["-o", "nowhere/page.html"], "there is no folder nowhere"),
    ],
)
def test_mistakes(project, arguments, words):
    night(project.root / "results", 0)
    done = project.qbench("history", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_no_runs_yet(project):
    (project.root / "results").mkdir()
    done = project.qbench("history")
    assert done.returncode == 0, done.stderr
    assert "there are no complete runs yet" in done.stdout
    assert json.loads(project.qbench("history", "--json").stdout)["cases"] == []


@pytest.mark.parametrize("package", ["duckdb", "ruptures"])
def test_a_package_that_is_missing(project, package):
    for number in range(12):
        night(project.root / "results", number)
    lacking = Path(project.env["PYTHONPATH"]) / f"{package}.py"
    lacking.write_text(f"raise ModuleNotFoundError('no {package}')\n")
    done = project.qbench("history")
    assert done.returncode == 2
    assert f"the package {package}" in done.stderr
    assert "pip install duckdb ruptures" in done.stderr
