"""Bundles of older schemas: read as today's, never changed, and written anew on request.

``data/bundle-schema-2`` was written by the qbench of its time, and ``data/bundle-schema-2.json`` is
what that qbench's ``export --format json`` showed of it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from crafted import Crafted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import FIXTURES

from qbench.analysis.recompute import recompute
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.copies import migrate_bundle
from qbench.bundle.find import find_incomplete
from qbench.bundle.upgrade import SCHEMA, STEPS, Upgrade
from qbench.errors import UserError
from qbench.present.page import write_report
from qbench.spec.case import Case
from qbench.spec.precisions import complete_options
from qbench.storage import digest_file

DATA = FIXTURES
OLD = DATA / "bundle-schema-2"
SHOWN = json.loads((DATA / "bundle-schema-2.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    """A copy to spoil."""
    run_id = json.loads((OLD / "begin.json").read_text())["run_id"]
    return Bundle(Path(shutil.copytree(OLD, tmp_path / "results" / run_id)))


def refused(action: Any) -> str:
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest_file(p) for p in folder.rglob("*") if p.is_file()}


def rows(cases: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(cases.to_json(orient="records", double_precision=15))


# --------------------------------------------------------------------------- reading


def test_the_old_bundle_is_of_schema_2():
    assert json.loads((OLD / "begin.json").read_text())["schema"] == 2
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 200_000


def test_an_old_bundle_shows_what_it_showed_then():
    """All columns that there were, but for the ids, which digest more of the request today, and the
    wording of what speaks against a case."""
    now = rows(case_table(Bundle(OLD)))
    assert len(now) == len(SHOWN) > 2
    for then, today in zip(SHOWN, now, strict=True):
        for name, value in then.items():
            if isinstance(value, float):
                assert today[name] == pytest.approx(value, rel=1e-9), name
            elif name not in ("case_id", "noise_reason"):
                assert today[name] == value, name


def test_what_was_not_measured_then_is_none():
    good = [row for row in rows(case_table(Bundle(OLD))) if row["status"] == "ok"]
    assert good
    for row in good:
        for name in (
            "memory_load_anonymous_mb", "memory_file_mb", "clean_share", "run_delay_share",
            "others_cores", "clock_ghz", "temperature_c", "instructions_per_inference",
            "roofline_share", "floor_us", "idle_w", "fps", "sustained_ratio", "loadgen_valid",
            "inconclusive",
        ):  # fmt: skip
            assert row[name] is None, name
    assert Bundle(OLD).bandwidth is None and Bundle(OLD).energy == []
    assert all(trial["window"] is None for trial in Bundle(OLD).trials)
    assert Bundle(OLD).begin["host"]["power_mode"] is None
    assert Bundle(OLD).begin["environments"] == {}


def test_an_old_case_has_the_id_that_the_same_request_has_today():
    request = {"model": "digits_cnn", "backend": "onnxruntime", "batch_size": 4}
    wanted = Case(**request, precision="fp32", options=complete_options("fp32", {})).case_id
    found = {row["case_id"]: row for row in rows(case_table(Bundle(OLD)))}
    assert found[wanted]["precision"] == "fp32" and found[wanted]["batch_size"] == 4
    assert {trial["case_id"] for trial in Bundle(OLD).trials} <= found.keys()


def test_items_are_calls_times_the_batch():
    bundle = Bundle(OLD)
    batch = {e["case_id"]: e["case"]["batch_size"] for e in bundle.plan["cases"]}
    assert set(batch.values()) == {1, 4}
    for trial in bundle.trials:
        assert trial["items"] == len(bundle.samples(trial)) * batch[trial["case_id"]]


def test_reading_changes_nothing(old: Bundle, tmp_path: Path):
    before = digests(old.path)
    assert find_problems(old) == [] and recompute(old) == []
    write_report([old, Bundle(OLD)], tmp_path / "page.html")
    case_table(old)
    assert digests(old.path) == before


def test_an_edited_figure_of_an_old_table_is_found(old: Bundle):
    path = old.path / "trials.parquet"
    frame = pd.read_parquet(path)
    frame["p50_ns"] = frame["p50_ns"].where(frame.index != 1, 1.0)
    frame.to_parquet(path)
    (found,) = recompute(old)
    assert found == f"trials.parquet: p50_ns of {frame.loc[1, 'trial']} differs"


def test_a_run_does_not_go_on_with_a_bundle_of_an_older_schema(tmp_path: Path):
    bundle = Crafted(tmp_path, "a", run_key="k").open()
    assert find_incomplete(tmp_path, "k") is not None
    path = bundle.path / "begin.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA - 1}))
    assert find_incomplete(tmp_path, "k") is None


def test_schema_3_lacks_what_runs_came_to_tell(tmp_path: Path):
    crafted = Crafted(tmp_path)
    crafted.trial(crafted.case("fp32"), 0, 2.0)
    bundle = crafted.done()
    table = rows(case_table(bundle))
    path = bundle.path / "begin.json"
    begin = {k: v for k, v in json.loads(path.read_text()).items() if k != "environments"}
    path.write_text(json.dumps({**begin, "schema": 3}))
    older = Bundle(bundle.path)
    assert older.begin["confirms"] is None and older.begin["environments"] == {}
    assert older.begin["filters"]["cases"] == [] and older.begin["settings"]["gate"] is None
    assert rows(case_table(older)) == table


@pytest.mark.parametrize("schema", [SCHEMA + 1, 10**9])
def test_a_newer_schema_is_refused_with_its_number_and_the_way_out(old: Bundle, schema: int):
    path = old.path / "begin.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    message = refused(lambda: Bundle(old.path))
    assert f"schema {schema}" in message and "Update qbench" in message


@pytest.mark.parametrize("schema", [1, 0, -1, None, "2", 2.0, True, [2]])
def test_a_schema_that_is_none_is_refused(old: Bundle, schema: Any):
    path = old.path / "begin.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    assert f"schema {schema!r}, this version reads 2 to {SCHEMA}" in refused(
        lambda: Bundle(old.path)
    )


# --------------------------------------------------------------------------- the steps


def test_there_is_a_step_from_every_schema_that_is_read():
    assert sorted(STEPS) == list(range(2, SCHEMA))


def test_steps_leave_what_they_are_given():
    begin = json.loads((OLD / "begin.json").read_text())
    plan = json.loads((OLD / "plan.json").read_text())
    upgrade = Upgrade(2)
    given = [begin, plan]
    kept = copy.deepcopy(given)
    upgrade.begin(begin)
    upgrade.plan(plan)
    for name in ("prepare.jsonl", "evaluate.jsonl", "journal.jsonl"):
        for line in (OLD / name).read_text().splitlines():
            record = json.loads(line)
            given.append(record)
            kept.append(copy.deepcopy(record))
            upgrade.line(name, record)
    assert given == kept


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 62), 1 << 62),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_an_old_bundle_with_anything_anywhere_is_damaged_or_read(tmp_path: Path, data):
    """A record of which a part was removed or replaced: an answer or a UserError, never a fault."""
    path = tmp_path / "bundle"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(OLD, path)
    name = data.draw(
        st.sampled_from(["begin.json", "plan.json", "evaluate.jsonl", "journal.jsonl"])
    )
    first, _, rest = (path / name).read_text().partition("\n")
    whole = name.endswith(".json")
    record = json.loads(first + rest if whole else first)
    place: Any = record
    for _ in range(data.draw(st.integers(0, 4))):
        key = data.draw(st.sampled_from(_keys(place)))
        if not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    key = data.draw(st.sampled_from(_keys(place)))
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(JUNK)
    text = json.dumps(record)
    (path / name).write_text(text if whole else f"{text}\n{rest}")
    with contextlib.suppress(UserError):
        case_table(Bundle(path))


def _keys(place: dict[str, Any] | list[Any]) -> list[Any]:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


# --------------------------------------------------------------------------- writing


def test_a_migrated_bundle_says_the_same_and_names_the_old_one(old: Bundle, tmp_path: Path):
    before = digests(old.path)
    new = migrate_bundle(old, tmp_path / "new")
    assert digests(old.path) == before
    assert new.path == tmp_path / "new" / old.run_id and new.complete and new.schema == SCHEMA
    assert json.loads((new.path / "begin.json").read_text())["schema"] == SCHEMA
    assert new.begin["migrated"] == {
        "schema": 2,
        "manifest_sha256": digest_file(OLD / "manifest.json"),
    }
    assert find_problems(new) == [] and recompute(new) == []
    assert rows(case_table(new)) == rows(case_table(old))
    assert new.manifest["finished"] == old.manifest["finished"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == [old.run_id], "nothing beside it"


def test_what_cannot_be_migrated(old: Bundle, tmp_path: Path):
    new = migrate_bundle(old, tmp_path / "new")
    assert "already" in refused(lambda: migrate_bundle(old, tmp_path / "new"))
    assert "already" in refused(lambda: migrate_bundle(new, tmp_path / "newer"))
    samples = sorted((old.path / "samples").iterdir())[0]
    samples.write_bytes(samples.read_bytes()[:-8])
    assert f"{samples.name} was changed" in refused(lambda: migrate_bundle(old, tmp_path / "x"))
    (old.path / "manifest.json").unlink()
    assert "incomplete" in refused(lambda: migrate_bundle(old, tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_migration_that_fails_leaves_nothing(old: Bundle, tmp_path: Path, monkeypatch):
    def full(self: Bundle, facts: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Bundle, "finish", full)
    with pytest.raises(OSError, match="No space"):
        migrate_bundle(old, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_commands_read_an_old_bundle_and_write_a_new_one(project, old: Bundle):
    for command in (
        ("export", old.path),
        ("compare", old.path, old.path),
        ("history", "--results", old.path.parent),
    ):
        done = project.qbench(*command)
        assert done.returncode == 0, (command, done.stderr)
    done = project.qbench("migrate", old.path, "-o", "results", "--json")
    (written,) = json.loads(done.stdout)
    assert written["schema"] == 2 and project.cases(written["to"]) == project.cases(str(old.path))
    again = project.qbench("migrate", old.path, "-o", "results")
    assert again.returncode == 2 and "already" in again.stderr
