"""Bundles: damaged, edited, and written to do harm."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crafted import Crafted

from qbench.analysis.recompute import recompute
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.find import find_bundle, find_incomplete
from qbench.bundle.records.run import SCHEMA
from qbench.errors import UserError
from qbench.storage import write_file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle of two cases, two rounds and twelve labelled items."""
    crafted = Crafted(tmp_path_factory.mktemp("bundles"))
    crafted.labels = np.arange(12) % 3
    exact, quantized = crafted.case("fp32"), crafted.case("int8-static")
    scores = np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32)
    crafted.evaluation(exact, scores)
    crafted.evaluation(quantized, np.round(scores, 1), reference=exact)
    for number in range(2):
        crafted.trial(exact, number, 4.0 + number)
        crafted.trial(quantized, number, 2.0)
    return crafted.done().path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    """A copy of it to spoil."""
    return Bundle(Path(shutil.copytree(made, tmp_path / "results" / made.name)))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file, or the first line of a JSON-lines file."""
    first, rest = path.read_text(), ""
    if path.suffix == ".jsonl":
        first, _, rest = first.partition("\n")
        rest = "\n" + rest
    value = json.loads(first)
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed) + rest)


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


def one(bundle: Bundle, folder: str) -> Path:
    return sorted((bundle.path / folder).rglob("*.npy"))[0]


def edit_samples(bundle: Bundle, change: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    """Change the rows of the first trial in samples.parquet; returns the trial's name."""
    path = bundle.path / "samples.parquet"
    frame = pd.read_parquet(path)
    name = str(frame["trial"].iloc[0])
    first = frame["trial"] == name
    pd.concat([change(frame[first]), frame[~first]]).to_parquet(path, index=False)
    return name


# --------------------------------------------------------------------------- whole bundles


def test_a_bundle_gives_back_what_was_put_into_it(bundle: Bundle):
    assert bundle.complete and bundle.problems() == [] and recompute(bundle) == []
    assert [t.trial[:4] for t in bundle.trials] == ["r000", "r000", "r001", "r001"]
    assert bundle.samples(bundle.trials[2].trial).tolist() == [5_000_000] * 100
    assert bundle.outputs("ec00000000000")["scores"].shape == (12, 3)
    assert bundle.labels("net").tolist() == [0, 1, 2] * 4
    frame = bundle.trials_frame()
    assert frame["p50_ns"].tolist() == [4e6, 2e6, 5e6, 2e6]


def test_every_sample_is_in_one_table(bundle: Bundle):
    assert not (bundle.path / "samples").exists()
    frame = pd.read_parquet(bundle.path / "samples.parquet")
    assert frame["latency_ns"].sum() == 100 * (4 + 2 + 5 + 2) * 1_000_000
    assert frame.groupby("trial", observed=True).size().tolist() == [100] * 4


def test_a_bundle_without_trials_is_complete_too(tmp_path):
    crafted = Crafted(tmp_path)
    crafted.case("fp32", skip="not here")
    bundle = crafted.done()
    assert bundle.problems() == [] and recompute(bundle) == []


def test_a_temporary_file_that_a_kill_left_is_no_problem(tmp_path):
    crafted = Crafted(tmp_path)
    crafted.case("fp32", skip="not here")
    bundle = crafted.open()
    (bundle.path / "samples" / ".r000.npy-x1y2").write_bytes(b"half")
    bundle.finish({})
    assert bundle.problems() == []


def test_predictions_need_not_fit_into_memory(tmp_path, monkeypatch: pytest.MonkeyPatch):
    crafted = Crafted(tmp_path)
    case = crafted.case("fp32")
    crafted.evaluation(case, np.eye(3))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read at once"))
    bundle = crafted.open()
    monkeypatch.undo()
    found = bundle.outputs(f"e{case}")["scores"]
    assert isinstance(found.base, np.memmap) and not found.flags.writeable
    assert found.tolist() == np.eye(3).tolist()


# --------------------------------------------------------------------------- damage


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    assert "has no begin.json" in refused(lambda: Bundle(tmp_path))


@pytest.mark.parametrize("schema", [SCHEMA + 1, SCHEMA - 1, -1, None, "4", 4.0, True, [4]])
def test_a_bundle_of_another_schema_is_refused_with_both_numbers(bundle: Bundle, schema: Any):
    edit(bundle.path / "begin.json", lambda begin: begin.update(schema=schema))
    message = refused(lambda: Bundle(bundle.path))
    assert f"schema {schema!r}, this version reads {SCHEMA}" in message
    assert "Run the suite again" in message and "software" in message


def test_an_interrupted_run_of_another_schema_is_not_continued(tmp_path: Path):
    bundle = Crafted(tmp_path, "a", run_key="k").open()
    assert find_incomplete(tmp_path, "k") is not None
    edit(bundle.path / "begin.json", lambda begin: begin.update(schema=SCHEMA - 1))
    assert find_incomplete(tmp_path, "k") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\xff", "{}"])
def test_a_damaged_beginning_is_refused(bundle: Bundle, content: str):
    (bundle.path / "begin.json").write_bytes(content.encode("latin-1"))
    assert str(bundle.path) in refused(lambda: Bundle(bundle.path))


def test_a_damaged_plan_is_refused(bundle: Bundle):
    (bundle.path / "plan.json").write_text("{")
    assert "plan.json is damaged" in refused(lambda: Bundle(bundle.path).plan)
    (bundle.path / "plan.json").unlink()
    assert "cannot read" in refused(lambda: Bundle(bundle.path).plan)


def test_a_damaged_line_is_refused_with_its_number_and_a_torn_last_one_is_not(bundle: Bundle):
    path = bundle.path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert len(bundle.trials) == 3
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:20], *lines[2:]]))
    assert "journal.jsonl:2: damaged line" in refused(lambda: bundle.trials)


def test_a_resumed_journal_goes_on_after_its_last_whole_line(tmp_path):
    crafted = Crafted(tmp_path)
    case = crafted.case("fp32")
    for number in range(3):
        crafted.trial(case, number, 1.0)
    bundle = crafted.open()
    path = bundle.path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    bundle.resume()
    np.save(tmp_path / "samples.npy", np.full(7, 9, np.int64))
    trial = {"trial": "r009-x", "case_id": case, "round": 9, "sitting": 2, "status": "ok"}
    told = {"reason": "", "calls": 7, "items": 7, "wall_ns": 63, "cpu_ns": 63, "window": [0, 63]}
    told |= {"seconds": 1.0, "conditions": {}, "figures": {}, "loop": {}, "warmup": {}}
    bundle.add_trial({**trial, **told}, tmp_path / "samples.npy", {})
    assert [t.trial[:4] for t in bundle.trials] == ["r000", "r001", "r009"]
    assert bundle.samples(bundle.trials[-1].trial).tolist() == [9] * 7


def test_a_resumed_bundle_is_rid_of_what_a_kill_left_half_written(tmp_path):
    crafted = Crafted(tmp_path)
    case = crafted.case("fp32")
    crafted.trial(case, 0, 1.0)
    bundle = crafted.open()
    whole = sorted(bundle.path.rglob("*"))
    for folder in ("", "samples", "predictions"):
        (bundle.path / folder / ".r000.npy-x1y2").write_bytes(b"half")
    bundle.resume()
    assert sorted(bundle.path.rglob("*")) == whole


@pytest.mark.parametrize("step", ["trials.parquet", "samples.parquet", "samples", "manifest.json"])
def test_a_run_killed_while_it_finishes_loses_nothing(tmp_path, monkeypatch, step: str):
    crafted = Crafted(tmp_path, run_key="k")
    case = crafted.case("fp32")
    for number in range(3):
        crafted.trial(case, number, 1.0 + number)
    bundle = crafted.open()

    def write(path: Path, content: bytes | str) -> None:
        if path.name == step:
            raise KeyboardInterrupt
        write_file(path, content)

    def remove(folder: Path) -> None:
        files = sorted(folder.iterdir())
        for file in files[:1] if folder.name == step else files:
            file.unlink()
        if folder.name == step:
            raise KeyboardInterrupt
        folder.rmdir()

    with monkeypatch.context() as patch:
        patch.setattr("qbench.bundle.bundle.write_file", write)
        patch.setattr("qbench.bundle.bundle.shutil.rmtree", remove)
        with pytest.raises(KeyboardInterrupt):
            bundle.finish({})
    resumed = find_incomplete(tmp_path, "k")
    assert resumed is not None and not resumed.complete
    assert [resumed.samples(t.trial)[0] for t in resumed.trials] == [
        1_000_000,
        2_000_000,
        3_000_000,
    ]
    resumed.finish({})
    assert resumed.problems() == [] and recompute(resumed) == []
    assert not (resumed.path / "samples").exists()


def test_a_pickled_array_is_never_opened(bundle: Bundle, tmp_path):
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    folder = "predictions/ec00000000000"
    np.save(one(bundle, folder), np.array([Harm()], dtype=object), allow_pickle=True)
    assert "damaged" in refused(lambda: bundle.outputs("ec00000000000"))
    assert not (tmp_path / "harmed").exists()


# --------------------------------------------------------------------------- edits


def test_edited_samples_are_found_even_when_the_manifest_is_edited_too(bundle: Bundle):
    trial = edit_samples(bundle, lambda rows: rows.assign(latency_ns=rows["latency_ns"] // 2))
    assert bundle.problems() == ["samples.parquet was changed"]
    found = recompute(bundle)
    assert f"trial {trial}: its samples are not those of the journal" in found
    assert f"trials.parquet: p50_ns of {trial} differs" in found


def test_a_call_less_is_found(bundle: Bundle):
    trial = edit_samples(bundle, lambda rows: rows[:-1])
    assert f"trial {trial}: the journal says 100 calls" in recompute(bundle)


def test_calls_of_no_trial_are_found(bundle: Bundle):
    edit_samples(bundle, lambda rows: pd.concat([rows.assign(trial="r009-x"), rows]))
    assert recompute(bundle) == ["samples.parquet has 500 calls, the good trials have 400"]


@pytest.mark.parametrize("damage", ["torn", "missing", "no column", "a trial less", "words"])
def test_damaged_samples_are_an_error_with_the_file(bundle: Bundle, damage: str):
    path = bundle.path / "samples.parquet"
    frame = pd.read_parquet(path)
    first = bundle.trials[0]
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    elif damage == "no column":
        frame[["trial"]].to_parquet(path)
    elif damage == "a trial less":
        frame[frame["trial"] != first.trial].to_parquet(path)
    else:
        frame.assign(latency_ns="fast").to_parquet(path)
    with pytest.raises(UserError, match=r"samples\.parquet"):
        bundle.samples(first.trial)


def test_an_edited_figure_is_found(bundle: Bundle):
    def better(record: dict[str, Any]) -> None:
        record["quality"]["accuracy"] = 1.0

    edit(bundle.path / "evaluate.jsonl", better)
    assert bundle.problems() == ["evaluate.jsonl was changed"]
    (found,) = recompute(bundle)
    assert "net, evaluation ec00000000000: accuracy is" in found and "recorded 1.0" in found


def test_edited_predictions_and_labels_are_found(bundle: Bundle):
    path = bundle.path / "predictions" / "ec00000000001" / "0.npy"
    np.save(path, np.load(path) + 1)
    assert bundle.problems() == ["predictions/ec00000000001/0.npy was changed"]
    assert {"sqnr_db", "outputs_digest"} <= {
        line.partition(": ")[2].split()[0] for line in recompute(bundle)
    }
    labels = bundle.path / "predictions" / "labels-net.npy"
    np.save(labels, np.zeros(12, np.int64))
    assert any("accuracy is" in line for line in recompute(bundle))


def test_a_file_too_many_is_reported(bundle: Bundle):
    (bundle.path / "predictions" / "extra.npy").write_bytes(b"x")
    assert bundle.problems() == ["predictions/extra.npy was added"]


# --------------------------------------------------------------------------- harm

HOSTILE = ["../../etc/passwd", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "a\0b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_a_record_never_leads_outside(bundle: Bundle, name: str):
    edit(bundle.path / "evaluate.jsonl", lambda r: r["outputs"].update(scores=name))
    assert "is not a file name" in refused(lambda: bundle.outputs("ec00000000000"))
    trial = f"{name}/x" if name in ("", ".hidden", "..") else name
    assert "is not a file name" in refused(lambda: bundle.samples(trial))
    assert "is not a file name" in refused(lambda: bundle.labels(f"{name}/x"))


def first_case(plan: dict[str, Any]) -> dict[str, Any]:
    return plan["cases"][0]["case"]


def lacking(*keys: str | int):
    """An edit that takes the value under ``keys`` away."""

    def change(record: Any) -> None:
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("file", "change", "place"),
    [
        ("begin.json", lacking("settings"), "begin.json: damaged: settings"),
        ("begin.json", lacking("host", "host_id"), "begin.json: damaged: host.host_id"),
        ("plan.json", lacking("cases"), "plan.json: damaged: cases"),
        ("evaluate.jsonl", lacking("outputs"), "evaluate.jsonl:1: damaged: outputs"),
        ("journal.jsonl", lacking("round"), "journal.jsonl:1: damaged: round"),
        ("journal.jsonl", lambda r: r.update(status="fine"), "journal.jsonl:1: damaged: status"),
        ("journal.jsonl", lambda r: r.update(trial="../x"), "journal.jsonl:1: damaged: trial"),
        ("journal.jsonl", lambda r: r.update(phases="x"), "journal.jsonl:1: damaged: phases"),
        ("begin.json", lambda r: r.update(run_id="../x"), "begin.json: damaged: run_id"),
        ("begin.json", lambda r: r["settings"].update(cpu_power=3), "damaged: settings.cpu_power"),
        ("plan.json", lacking("data", "net"), "plan.json: damaged: 'data' has no entry"),
        ("plan.json", lacking("models", "net"), "'models' has no entry for the model 'net'"),
        ("plan.json", lambda r: r["models"]["net"].update(task="art"), "damaged: models.net.task"),
        ("plan.json", lambda r: first_case(r).update(precision="int3"), "no precision 'int3'"),
        ("plan.json", lambda r: first_case(r).update(batch_size="1"), "case.batch_size"),
        ("plan.json", lacking("cases", 0, "variant"), "damaged: cases.0.variant"),
        ("evaluate.jsonl", lambda r: r.update(quality=None), "no outputs or no quality"),
        ("evaluate.jsonl", lambda r: r.update(outputs={}), "no outputs or no quality"),
        ("evaluate.jsonl", lacking("effective", "operators"), "damaged: effective.operators"),
        ("evaluate.jsonl", lambda r: r["effective"].update(macs={"int8": "x"}), "effective.macs"),
        ("prepare.jsonl", lambda r: r.update(bytes="many"), "prepare.jsonl:1: damaged: bytes"),
    ],
)
def test_a_record_that_lacks_something_is_damaged(bundle: Bundle, file, change, place: str):
    edit(bundle.path / file, change)
    fresh = Bundle(bundle.path)
    records = "begin plan prepared evaluated trials"
    assert place in refused(lambda: [getattr(fresh, name) for name in records.split()])


@pytest.mark.parametrize(
    "change",
    [
        {"loop": None},
        {"window": [5, 5]},
        {"wall_ns": 10**400},
        {"figures": {"case_id": 1.0}},
        {"figures": {"loadgen_valid": 5.0}},
        {"figures": {"fps": True}},
        {"figures": {"fps": float("inf")}},
    ],
)
def test_a_trial_that_would_upset_the_table_is_damaged(bundle: Bundle, change: dict[str, Any]):
    path = bundle.path / "journal.jsonl"
    first, *rest = path.read_text().splitlines()
    record = {**json.loads(first), **change}
    if change == {"loop": None}:
        del record["loop"]
    text = json.dumps(record).replace(json.dumps(10**400), "1" + "0" * 400)
    path.write_text("\n".join([text, *rest, ""]))
    with pytest.raises(UserError, match=r"journal\.jsonl:1"):
        case_table(bundle)


@pytest.mark.parametrize("size", [0, -1])
def test_a_case_of_no_threads_is_damaged(bundle: Bundle, size: int):
    path = bundle.path / "plan.json"
    plan = json.loads(path.read_text())
    plan["cases"][0]["case"]["threads"] = size
    path.write_text(json.dumps(plan))
    with pytest.raises(UserError, match=r"plan\.json"):
        case_table(bundle)


def test_an_evaluation_that_is_none_of_the_plans_is_found(bundle: Bundle):
    path = bundle.path / "evaluate.jsonl"
    path.write_text(path.read_text().replace("ec00000000001", "ec00000000009"))
    folder = bundle.path / "predictions"
    shutil.copytree(folder / "ec00000000001", folder / "ec00000000009")
    assert any("ec00000000009 is none of the plan's" in line for line in recompute(bundle))


@pytest.mark.parametrize(
    "how",
    [
        {"scores": "other"},
        {"scores": None},
        {"metric": "mIoU"},
        {"task": "semantic-segmentation", "output": "scores", "class_axis": 9},
        {"task": "anomaly-detection", "output": "x"},
    ],
    ids=str,
)
def test_a_plan_that_judges_what_is_not_there_is_found(bundle: Bundle, how: dict[str, Any]):
    edit(bundle.path / "plan.json", lambda plan: plan["models"]["net"].update(how))
    found = recompute(bundle)
    assert [line.split(":")[0] for line in found] == [
        "evaluation ec00000000000 of net", "evaluation ec00000000001 of net",
    ]  # fmt: skip
    assert all("damaged" in line for line in found)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (500000000000,)}\n",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (9223372036854775807, 9)}\n",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999999,)}\n",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-4,)}\n",
        "{'descr': '<U2', 'fortran_order': False, 'shape': (0,)}\n",
        "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (1,)}\n",
        "((((\n",
        '"""\n',
    ],
)
def test_a_header_that_promises_what_is_not_there_is_refused(bundle: Bundle, header: str):
    one(bundle, "predictions/ec00000000000").write_bytes(npy(header) + b"12345678")
    assert "damaged" in refused(lambda: bundle.outputs("ec00000000000"))
    assert any("damaged" in line for line in recompute(bundle))


@pytest.mark.parametrize(
    ("column", "value"),
    [("calls", "many"), ("calls", 0), ("wall_ns", None), ("status", "fine"), ("p50_ns", "x")],
)
def test_a_derived_table_of_impossible_trials_is_refused(bundle: Bundle, column: str, value: Any):
    path = bundle.path / "trials.parquet"
    pd.read_parquet(path).assign(**{column: value}).to_parquet(path)
    assert "trials.parquet is missing or damaged" in refused(lambda: case_table(bundle))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "samples/../../x", "samples//x"])
def test_a_file_outside_that_a_manifest_names_is_a_problem(bundle: Bundle, name: str):
    (bundle.path.parent / "outside").write_text("secret")
    edit(bundle.path / "manifest.json", lambda m: m["files"].update({name: "0" * 64}))
    assert bundle.problems() == [f"{name} is not a file of a bundle"]


def test_a_link_that_leads_outside_is_refused(bundle: Bundle):
    outside = bundle.path.parent / "outside.npy"
    np.save(outside, np.arange(100))
    path = one(bundle, "predictions/ec00000000000")
    path.unlink()
    path.symlink_to(outside)
    assert "leads out of the bundle" in refused(lambda: bundle.outputs("ec00000000000"))
    found = ["predictions/ec00000000000/0.npy is a link that leads out of the bundle"]
    assert bundle.problems() == found


def test_a_manifest_without_files_is_a_problem(bundle: Bundle):
    edit(bundle.path / "manifest.json", lambda m: m.update(files=["a"]))
    (found,) = bundle.problems()
    assert "manifest.json: damaged: files: " in found


# --------------------------------------------------------------------------- finding


def test_a_bundle_is_found_by_latest_id_and_path(tmp_path):
    ids = [f"2026010{day}-120000-s-{tag}" for day, tag in ((2, "ffff"), (3, "0000"), (1, "9999"))]
    for run_id in ids[:2]:
        Crafted(tmp_path, run_id).done()
    Crafted(tmp_path, "20260104-120000-s-aaaa", run_key="k").open()  # newer, but incomplete
    (tmp_path / "not-a-bundle").mkdir()
    assert find_bundle("latest", tmp_path).run_id == ids[1]
    assert find_bundle(ids[0], tmp_path).run_id == ids[0]
    assert find_bundle(str(tmp_path / ids[0]), tmp_path / "elsewhere").run_id == ids[0]
    message = refused(lambda: find_bundle(ids[0][:-1] + "e", tmp_path))
    assert f"Did you mean '{ids[0]}'?" in message and "not-a-bundle" not in message
    assert "no begin.json" in refused(lambda: find_bundle(str(tmp_path), tmp_path))
    assert find_incomplete(tmp_path, "k").run_id == "20260104-120000-s-aaaa"
    assert find_incomplete(tmp_path, "other") is None


@pytest.mark.parametrize("missing", [True, False])
def test_without_a_complete_bundle_there_is_no_latest(tmp_path, missing: bool):
    if not missing:
        Crafted(tmp_path).open()
    message = refused(lambda: find_bundle("latest", tmp_path / "none" if missing else tmp_path))
    assert "no complete bundle" in message and "qbench run quick" in message


def test_an_unreadable_neighbour_does_not_stop_a_run_from_going_on(tmp_path):
    Crafted(tmp_path, "a", run_key="k").open()
    newer = Crafted(tmp_path, "b", run_key="k").open()
    (newer.path / "begin.json").write_text("{")
    found = find_incomplete(tmp_path, "k")
    assert found is not None and found.run_id == "a"
