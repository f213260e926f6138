"""qbench.present.exports.collection: bundles of several machines in one folder."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from crafted import Crafted
from filelock import FileLock

from qbench.bundle.bundle import Bundle
from qbench.bundle.copies import pack_bundle
from qbench.bundle.find import find_bundles
from qbench.errors import MachineryError, UserError
from qbench.present.exports import collection
from qbench.storage import digest_file

ONE, TWO, THREE = (f"2026010{n}-000000-crafted-000{n}" for n in (1, 2, 3))


def merge_bundles(paths: list[Path], folder: Path, figures: bool = False) -> dict[str, Any]:
    """Merge bundles and collections, as on the command line."""
    return collection.merge_bundles(find_bundles([*map(str, paths)], Path()), folder, figures)


def host(host_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "host_id": host_id,
        "hostname": f"host-{host_id}",
        "cpu_model": "a processor",
        "cpu_flags": [],
        "governor": None,
        "power_mode": None,
        "caches": None,
        **fields,
    }


def made(folder: Path, run_id: str, latency_ms: float = 2.0, **begin: Any) -> Bundle:
    """A complete bundle of two cases that did the same work each time."""
    crafted = Crafted(folder, run_id, **begin)
    exact, quantized = crafted.case("fp32"), crafted.case("int8-static")
    for entry in crafted.cases:
        entry["dataset_digest"] = "e" * 64
    for key in crafted.prepared:
        crafted.prepared[key]["digest"] = key.ljust(64, "0")
    for number in range(2):
        crafted.trial(exact, number, latency_ms)
        crafted.trial(quantized, number, latency_ms / 2)
    return crafted.done()


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The same suite on two machines."""
    price = {"amount": 99.0, "currency": "EUR", "date": "2026-01-01", "source": "a shop"}
    small = {"host": host("bb", architecture="aarch64"), "system": {"price": price}}
    return [
        made(tmp_path / "a", ONE, host=host("aa", architecture="x86_64")).path,
        made(tmp_path / "b", TWO, 8.0, **small).path,
    ]


def refused(action: Any) -> str:
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


def digests(folder: Path) -> dict[str, str]:
    found = [p for p in folder.rglob("*") if p.is_file() and p.name != ".qbench.lock"]
    return {str(p.relative_to(folder)): digest_file(p) for p in found}


# --------------------------------------------------------------------------- what is there


def test_a_collection_holds_the_bundles_byte_for_byte(two: list[Path], tmp_path: Path):
    fleet = tmp_path / "fleet"
    merge_bundles(two, fleet)
    for path in two:
        assert digests(fleet / path.name) == digests(path)
        assert Bundle(fleet / path.name).problems() == []
    names = {path.name for path in fleet.iterdir()}
    assert names == {ONE, TWO, "cases.csv", "cases.parquet", "collection.json"}


def test_one_table_has_the_machine_of_every_case(two: list[Path], tmp_path: Path):
    merge_bundles(two, tmp_path / "fleet")
    for cases in (
        pd.read_csv(tmp_path / "fleet" / "cases.csv"),
        pd.read_parquet(tmp_path / "fleet" / "cases.parquet"),
    ):
        assert cases["hostname"].tolist() == ["host-aa", "host-aa", "host-bb", "host-bb"]
        assert cases["architecture"].tolist() == ["x86_64"] * 2 + ["aarch64"] * 2
        assert cases["latency_p50_ms"].tolist() == pytest.approx([2, 1, 8, 4])
        assert cases["price"].tolist()[2:] == [99, 99] and cases["price"].isna().tolist()[0]
        assert cases["run_id"].tolist() == [ONE, ONE, TWO, TWO]


def test_pairs_say_what_may_be_compared_and_what_differs(two: list[Path], tmp_path: Path):
    again = made(
        tmp_path / "c", THREE, host=host("aa", architecture="x86_64", governor="powersave")
    )
    same = made(tmp_path / "d", THREE[:-1] + "4", host=host("aa", architecture="x86_64"))
    found = merge_bundles([*two, again.path, same.path], tmp_path / "fleet")
    pairs = {(pair["a"], pair["b"]): pair for pair in found["pairs"]}
    assert len(pairs) == 6
    apart = pairs[ONE, TWO]
    assert apart["level"] == "different machine"
    assert {"host.architecture", "system.price.amount"} <= set(apart["differs"])
    assert (apart["common_cases"], apart["choice"], apart["regression"]) == (2, 2, 0)
    assert "different machines" in apart["against"]["regression"][0]
    alike = pairs[ONE, same.run_id]
    assert alike["level"] == "same machine and software" and alike["differs"] == []
    assert (alike["choice"], alike["regression"]) == (2, 2)
    assert alike["against"] == {"choice": [], "regression": []}
    set_up = pairs[ONE, THREE]
    assert set_up["differs"] == ["host.governor"] and set_up["regression"] == 0


def test_no_common_cases_is_no_fault(two: list[Path], tmp_path: Path):
    crafted = Crafted(tmp_path / "c", THREE)
    crafted.trial(crafted.case("fp32", model="other"), 0, 1.0)
    crafted.cases[0]["case_id"] = "other0000000"
    crafted.trials[0][0]["case_id"] = "other0000000"
    found = merge_bundles([two[0], crafted.done().path], tmp_path / "fleet")
    (pair,) = found["pairs"]
    assert pair["common_cases"] == pair["choice"] == pair["regression"] == 0


# --------------------------------------------------------------------------- adding


def test_merging_more_is_as_merging_all_at_once(two: list[Path], tmp_path: Path):
    three = made(tmp_path / "c", THREE, host=host("cc")).path
    merge_bundles([three, two[1]], tmp_path / "at-once")
    merge_bundles([three], tmp_path / "fleet")
    found = merge_bundles([two[1]], tmp_path / "fleet")
    assert found["added"] == [TWO]
    assert digests(tmp_path / "fleet") == digests(tmp_path / "at-once")
    assert merge_bundles([two[1], three], tmp_path / "fleet")["added"] == []
    merge_bundles([tmp_path / "fleet", two[0]], tmp_path / "all")
    assert {b["run_id"] for b in merge_bundles([], tmp_path / "all")["bundles"]} == {
        ONE,
        TWO,
        THREE,
    }


def test_leftovers_of_a_killed_merge_are_cleared_or_used(two: list[Path], tmp_path: Path):
    fleet = tmp_path / "fleet"
    merge_bundles([two[0]], fleet)
    shutil.copytree(two[1], fleet / TWO)  # moved into place, then killed
    shutil.copytree(two[1], fleet / ".99999999-x1y2")  # killed while it copied
    found = merge_bundles([two[0]], fleet)
    assert [b["run_id"] for b in found["bundles"]] == [ONE, TWO]
    assert {p.name for p in fleet.iterdir() if p.is_dir()} == {ONE, TWO}


def test_two_merges_at_a_time_are_refused(two: list[Path], tmp_path: Path):
    fleet = tmp_path / "fleet"
    merge_bundles([two[0]], fleet)
    with FileLock(fleet / ".qbench.lock"), pytest.raises(MachineryError, match="another command"):
        merge_bundles([two[1]], fleet)


# --------------------------------------------------------------------------- refusals


def refuses(paths: list[Path], fleet: Path) -> str:
    """Why; nothing of the collection may have changed."""
    before = digests(fleet) if fleet.exists() else None
    message = refused(lambda: merge_bundles(paths, fleet))
    assert before == (digests(fleet) if fleet.exists() else None)
    return message


@pytest.fixture(params=["new", "existing"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A collection to be, or one that is there."""
    if request.param == "existing":
        merge_bundles([made(tmp_path / "c", THREE).path], tmp_path / "fleet")
    return tmp_path / "fleet"


def test_an_incomplete_bundle_is_refused(two: list[Path], fleet: Path):
    (two[1] / "manifest.json").unlink()
    message = refuses(two, fleet)
    assert TWO in message and "incomplete" in message and "Run the same suite again" in message


def test_a_changed_bundle_is_refused_with_the_file(two: list[Path], fleet: Path):
    path = two[1] / "samples.parquet"
    path.write_bytes(path.read_bytes()[:-8])
    assert "samples.parquet was changed" in refuses(two, fleet)


def test_a_figure_that_does_not_follow_is_found_on_request(two: list[Path], tmp_path: Path):
    table = two[1] / "trials.parquet"
    frame = pd.read_parquet(table)
    frame["p50_ns"] /= 2
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    table.write_bytes(buffer.getvalue())
    manifest = json.loads((two[1] / "manifest.json").read_text())
    manifest["files"]["trials.parquet"] = digest_file(table)
    (two[1] / "manifest.json").write_text(json.dumps(manifest))
    assert "p50_ns" in refused(lambda: merge_bundles(two, tmp_path / "fleet", figures=True))
    assert not (tmp_path / "fleet").exists()


def test_two_bundles_of_one_name_are_refused(two: list[Path], fleet: Path, tmp_path: Path):
    other = made(tmp_path / "c2", ONE, 3.0).path
    message = refuses([*two, other], fleet)
    assert f"both are the run {ONE}, and differ" in message
    merge_bundles([two[0], Path(shutil.copytree(two[0], tmp_path / "copy"))], tmp_path / "once")


@pytest.mark.parametrize("run_id", ["collection.json", "cases.csv"])
def test_a_run_named_as_a_file_of_the_collection_is_refused(tmp_path: Path, run_id: str):
    bundle = made(tmp_path / "c", run_id)
    assert "no collection can hold" in refused(lambda: merge_bundles([bundle.path], tmp_path / "f"))


@pytest.mark.parametrize("run_id", ["../../outside", "/tmp/x", "..", ".hidden", "a/b", "a\n"])
def test_a_run_id_never_leads_outside(two: list[Path], tmp_path: Path, run_id: str):
    for name in ("begin.json", "manifest.json"):
        path = two[1] / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "run_id": run_id}))
    before = set(tmp_path.rglob("*"))
    refused(lambda: merge_bundles(two, tmp_path / "deep" / "fleet"))
    assert set(tmp_path.rglob("*")) <= {*before, tmp_path / "deep"}


def test_a_folder_that_is_no_collection_is_left_alone(two: list[Path], tmp_path: Path):
    assert "no collection" in refuses(two, two[0].parent)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        merge_bundles(two, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("inside", ["", "fleet", "samples/fleet"])
def test_no_bundle_is_written_into(two: list[Path], inside: str):
    assert "is a bundle, and not changed" in refuses(two, two[0] / inside)
    assert "is a bundle, and not changed" in refused(
        lambda: pack_bundle(Bundle(two[1]), two[0] / inside)
    )
    assert Bundle(two[0]).problems() == []


@pytest.mark.parametrize("text", ["{", "[]", '{"collection": 2, "bundles": []}', '{"bundles": 3}'])
def test_a_collection_of_another_kind_is_refused(two: list[Path], tmp_path: Path, text: str):
    merge_bundles([two[0]], tmp_path / "fleet")
    (tmp_path / "fleet" / "collection.json").write_text(text)
    message = refuses([two[1]], tmp_path / "fleet")
    assert "merge its bundles into a new folder" in message.lower()


def test_a_bundle_changed_within_the_collection_stops_merging(two: list[Path], tmp_path: Path):
    merge_bundles([two[0]], tmp_path / "fleet")
    path = tmp_path / "fleet" / ONE / "manifest.json"
    path.write_text(path.read_text() + " ")
    assert "its manifest was changed" in refuses([two[1]], tmp_path / "fleet")


def test_a_full_disk_leaves_the_collection_as_it_was(two: list[Path], fleet: Path, monkeypatch):
    before = digests(fleet) if fleet.exists() else None
    copied, copy = [], shutil.copyfile

    def full(source: Path, path: Path) -> None:
        copied.append(path)
        if len(copied) > 12:
            raise OSError(28, "No space left on device")
        copy(source, path)

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        merge_bundles(two, fleet)
    assert len(copied) == 13
    assert before == (digests(fleet) if fleet.exists() else None)


# --------------------------------------------------------------------------- the command


def test_the_command_and_those_that_read_its_collection(project, two: list[Path]):
    done = project.qbench("merge", *two, "-o", "fleet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == [ONE, TWO]
    shown = project.qbench("merge", two[0], "-o", "fleet")
    assert "host-aa" in shown.stdout and "different machine" in shown.stdout
    done = project.qbench("report", f"fleet/{ONE}", f"fleet/{TWO}", "-o", "fleet.html")
    assert done.returncode == 0, done.stderr
    done = project.qbench("export", TWO, "--results", "fleet")
    assert done.stdout.count("\n") == 3
    done = project.qbench("merge", "nowhere", "-o", "fleet")
    assert done.returncode == 2 and "no bundle 'nowhere'" in done.stderr
