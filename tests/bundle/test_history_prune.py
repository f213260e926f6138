"""Retention: what goes, what never does, and that nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from crafted import Crafted

from qbench.bundle.bundle import Bundle
from qbench.bundle.prune import Item, Retention, plan_pruning, remove
from qbench.errors import UserError

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.utc)


def night(results: Path, days_ago: int, name: str = "", complete: bool = True, **begin) -> Path:
    started = NOW - timedelta(days=days_ago)
    run_id = name or f"night-{days_ago:03d}"
    made = Crafted(results, run_id, started=started.isoformat(), **begin)
    made.trial(made.case("fp32"), 0, 1.0)
    path = (made.done() if complete else made.open()).path
    for file in path.iterdir():
        os.utime(file, (started.timestamp(),) * 2)
    return path


def going(results: Path, *keep: str, days: int | None = None, runs: int | None = None) -> list[str]:
    planned = plan_pruning(results, Retention(days, runs, keep), NOW)
    return [item.path.name for item in planned.going]


def test_by_age(tmp_path):
    for days in (0, 5, 10, 11, 40):
        night(tmp_path, days)
    assert going(tmp_path, days=10) == ["night-040", "night-011"]


def test_by_number_for_each_suite_and_machine(tmp_path):
    for days in range(4):
        night(tmp_path, days)
        night(tmp_path, days, f"other-{days}", suite="other")
    assert going(tmp_path, runs=3) == ["night-003", "other-3"]


def test_a_run_that_either_rule_keeps_stays(tmp_path):
    for days in (1, 2, 30, 60):
        night(tmp_path, days)
    assert going(tmp_path, days=45, runs=1) == ["night-060"]
    assert going(tmp_path, days=1, runs=3) == ["night-060"]


def test_the_reported_size_is_what_it_frees(tmp_path):
    path = night(tmp_path, 50)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    planned = plan_pruning(tmp_path, Retention(days=10), NOW)
    assert planned.bytes == size
    assert path.is_dir(), "nothing was removed"
    (item,) = planned.going
    remove(tmp_path, item)
    assert not path.exists()


def test_anchors_stay(tmp_path):
    night(tmp_path, 300, "release-1")
    night(tmp_path, 200, "release-2")
    night(tmp_path, 100)
    settings = {"rounds": 10, "gate": {"baselines": [{"anchor": "results/release-2"}]}}
    night(tmp_path, 1, settings=settings)
    assert going(tmp_path, "release-1", days=30) == ["night-100"]
    planned = plan_pruning(tmp_path, Retention(days=30, keep=("release-1",)), NOW)
    assert [name for name, _ in planned.staying] == ["release-1", "release-2"]


def test_an_anchor_that_was_named_to_the_gate_stays(tmp_path):
    night(tmp_path, 300, "release-1")
    night(tmp_path, 200)
    night(tmp_path, 1, "last-night")
    verdict = {
        "valid": True,
        "baselines": ["anchor:release-1: the run release-1", "last: night-200"],
    }
    (tmp_path / "last-night.gate.json").write_text(json.dumps(verdict))
    assert going(tmp_path, days=30) == ["night-200"]
    (tmp_path / "last-night.gate.json").write_text("{")  # it may name an anchor
    with pytest.raises(UserError, match=r"last-night\.gate\.json is damaged"):
        going(tmp_path, days=30)


def test_a_wrong_name_to_keep_removes_nothing(tmp_path):
    night(tmp_path, 300, "release-1")
    with pytest.raises(UserError, match="Did you mean 'release-1'"):
        going(tmp_path, "relaese-1", days=30)


def test_incomplete_runs_go_after_a_day(tmp_path):
    night(tmp_path, 3, "given-up", complete=False)
    night(tmp_path, 0, "going-on", complete=False)
    begun_long_ago = night(tmp_path, 9, "long", complete=False)
    (begun_long_ago / "journal.jsonl").touch()  # and still at it
    os.utime(begun_long_ago / "journal.jsonl", (NOW.timestamp(),) * 2)
    assert going(tmp_path, runs=1) == ["given-up"]
    assert going(tmp_path, days=0) == ["given-up"]


def test_a_confirming_run_goes_with_the_one_that_it_confirms(tmp_path):
    night(tmp_path, 20, "old")
    night(tmp_path, 20, "old-again", confirms="old")
    night(tmp_path, 5, "new")
    night(tmp_path, 5, "new-again", confirms="new")
    assert sorted(going(tmp_path, runs=1)) == ["old", "old-again"]


@pytest.mark.parametrize("name", ["reference", "anchors"])
def test_reference_runs_and_anchors_stay(tmp_path, name):
    reference = tmp_path / "results" / name
    reference.mkdir(parents=True)
    night(reference, 900)
    assert going(tmp_path / "results", days=1) == []
    planned = plan_pruning(reference, Retention(days=1), NOW)
    assert not planned.going
    assert planned.staying == (("night-900", "it is a reference run, or an anchor"),)


def test_only_real_bundles_in_the_folder_are_looked_at(tmp_path):
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    results.mkdir()
    elsewhere.mkdir()
    kept = night(elsewhere, 500)
    (results / "link").symlink_to(kept, target_is_directory=True)
    (results / "notes").mkdir()
    (results / "notes" / "manifest.json").write_text("{}")
    (results / "night-500.html").write_text("a report")
    newer = night(results, 400, "newer")
    begin = json.loads((newer / "begin.json").read_text())
    (newer / "begin.json").write_text(json.dumps({**begin, "schema": 99}))
    damaged = night(results, 400, "damaged")
    (damaged / "begin.json").write_text("{")
    planned = plan_pruning(results, Retention(days=1), NOW)
    assert not planned.going
    assert [name for name, _ in planned.staying] == ["damaged", "newer"]


def test_removing_never_follows_a_link(tmp_path):
    results, precious = tmp_path / "results", tmp_path / "precious"
    results.mkdir()
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    path = night(results, 50)
    (path / "traces").symlink_to(precious, target_is_directory=True)
    (path / "predictions" / "more").symlink_to(precious / "thesis.txt")
    (item,) = plan_pruning(results, Retention(days=10), NOW).going
    assert item.bytes < 200_000
    remove(results, item)
    assert not path.exists()
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("swap", ["link", "nothing", "elsewhere"])
def test_a_folder_that_is_no_longer_a_bundle_is_not_removed(tmp_path, swap):
    results = tmp_path / "results"
    results.mkdir()
    path = night(results, 50)
    (item,) = plan_pruning(results, Retention(days=10), NOW).going
    moved = tmp_path / "moved"
    path.rename(moved)
    if swap == "link":
        path.symlink_to(moved, target_is_directory=True)
    elif swap == "elsewhere":
        item = Item(moved, item.bytes, item.why)
    with pytest.raises(UserError):
        remove(results, item)
    assert Bundle(moved).problems() == []


def test_leftovers_of_a_kill_are_removed_next_time(tmp_path, monkeypatch):
    path = night(tmp_path, 50)
    (item,) = plan_pruning(tmp_path, Retention(days=10), NOW).going

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(tmp_path, item)
    assert not Bundle(path).complete
    for file in path.iterdir():
        os.utime(file, ((NOW - timedelta(days=2)).timestamp(),) * 2)
    assert going(tmp_path, runs=1) == [path.name]


def test_the_command_removes_nothing_without_its_option(project):
    results = project.root / "results"
    results.mkdir()
    old, new = night(results, 900), night(results, 1)
    nothing = project.qbench("prune")
    assert nothing.returncode == 2
    assert "--keep-days" in nothing.stderr
    dry = project.qbench("prune", "--keep-runs", "1")
    assert dry.returncode == 0, dry.stderr
    assert "night-900" in dry.stdout
    assert "would remove 1 run" in dry.stdout
    assert old.is_dir()
    done = project.qbench("prune", "--keep-runs", "1", "--yes", "--json")
    told = json.loads(done.stdout)
    assert told["removed"]
    assert [item["run"] for item in told["going"]] == ["night-900"]
    assert not old.exists()
    assert Bundle(new).problems() == []
