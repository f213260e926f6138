"""Redacted bundles: private names are gone, and every figure is the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qbench.analysis.compare.comparable import compare_bundles
from qbench.analysis.compare.compare import compare_runs
from qbench.analysis.recompute import recompute
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.copies import pack_bundle
from qbench.bundle.records.run import to_json
from qbench.bundle.redact import Redactor, redact_bundle, redacted
from qbench.errors import UserError
from qbench.present.exports.collection import merge_bundles
from qbench.present.page import Options, write_report
from qbench.storage import digest_file

HOST, USER, FOLDER = "vienna-lab-3.acme.example", "mfischer", "/lustre/acme-secret/nets"


def planted(bundle: Bundle, path: Path, host: str, user: str, folder: str) -> Bundle:
    """A valid copy of a bundle with private names in every record."""
    shutil.copytree(bundle.path, path)
    begin = json.loads((path / "begin.json").read_text())
    begin["host"] |= {
        "hostname": host,
        "environment_variables": {"OMP_PLACES": f"{folder}/floorplan.txt"},
        "container": {"engine": "docker", "image": f"registry.{host}:5000/team/image:1.2"},
    }
    begin["command"] = ["run", f"/home/{user}/my suites/small.yaml", f"--results={folder}/x y"]
    begin["system"] = {"submitter": f"{user} at {host}"}
    begin["backends"]["other"] = {
        "ready": False,
        "reason": f"{folder}/lib/libother.so: cannot open: Permission denied for {user}",
        "fix": "serial number: C02XK1ABCDEF, 00:1b:44:11:3a:b7, 192.168.17.4, fe80::1ff:fe23:4567",
    }
    (path / "begin.json").write_text(json.dumps(begin))
    text = (path / "suite.yaml").read_text()
    (path / "suite.yaml").write_text(f"# {user}'s, kept in {folder}/suites on {host}\n{text}")
    told = f'File "{folder}/a b/net.py", line 3, in {user}: {host} <{user}@mail.example> ~{user}/x'
    for name in ("prepare.jsonl", "evaluate.jsonl", "journal.jsonl"):
        records = [json.loads(line) for line in (path / name).read_text().splitlines()]
        for record in records:
            record |= {"log": told, "note": {"deep": [told, f"C:\\Users\\{user}\\nets\\a.onnx"]}}
        failed = {**records[-1], "status": "error", "reason": told}
        if name == "journal.jsonl":
            records.append({**failed, "trial": "r009-failed"})
        (path / name).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    trial = next(t for t in Bundle(path).trials if t.status == "ok").trial
    (path / "traces" / trial).mkdir(parents=True)
    (path / "traces" / trial / "summary.txt").write_text(told)
    for name in ("manifest.json", "trials.parquet"):
        (path / name).unlink()
    fresh = Bundle(path)
    fresh.resume()
    fresh.finish({"finished": "2026-11-24T12:00:00+0000"})
    return fresh


def everything(folder: Path) -> str:
    """The content of all files of a bundle, tables unpacked, and their names."""
    found = []
    for path in folder.rglob("*"):
        found.append(str(path.relative_to(folder)))
        if path.is_file():
            found.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            found.append(pd.read_parquet(path).to_csv())
    return "\n".join(found)


def rows(bundle: Bundle) -> list[dict]:
    """The case table without the reasons, which are text."""
    return case_table(bundle).drop(columns="reason").to_dict("records")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """Where the bundle lies that is measured once for all tests."""
    return tmp_path_factory.mktemp("measured")


@pytest.fixture
def measured(project, shelf: Path) -> Bundle:
    if not any(shelf.iterdir()):
        made = project.root / project.run_json(project.suite(rounds=1))["bundle"]
        shutil.copytree(made, shelf / made.name)
    return Bundle(next(shelf.iterdir()))


@pytest.fixture
def original(measured: Bundle, tmp_path: Path) -> Bundle:
    return planted(measured, tmp_path / "bundles" / measured.run_id, HOST, USER, FOLDER)


def test_nothing_planted_is_left_and_every_figure_is(original: Bundle, tmp_path: Path):
    before = {p: digest_file(p) for p in original.path.rglob("*") if p.is_file()}
    new = redact_bundle(original, tmp_path / "out")
    assert new.path == tmp_path / "out" / original.run_id
    assert {p: digest_file(p) for p in before} == before, "a finished bundle is never changed"
    text = everything(new.path)
    for private in (
        HOST, "vienna-lab-3", "acme.example", USER, FOLDER, "acme-secret", "a b", "my suites",
        "C02XK1ABCDEF", "00:1b:44:11:3a:b7", "192.168.17.4", "fe80", "mail.example", "/home/",
        "C:\\",
    ):  # fmt: skip
        assert private in everything(original.path)
        assert private not in text, private
    assert "net.py" in text and "libother.so" in text and "small.yaml" in text
    assert rows(new) == rows(original)
    assert find_problems(new) == [] == recompute(new)
    assert new.begin.redacted.manifest_sha256 == digest_file(original.path / "manifest.json")
    assert new.begin.host.host_id == original.begin.host.host_id
    assert new.begin.host.hostname is None


def test_a_view_says_the_same_as_the_written_bundle(original: Bundle, tmp_path: Path):
    view, new = redacted(original), redact_bundle(original, tmp_path / "out")
    both = [to_json(bundle.begin) for bundle in (view, new)]
    for record in both:
        record.pop("redacted", None)
    assert both[0] == both[1]
    assert view.plan == new.plan and view.suite_text == new.suite_text
    for name in ("prepare.jsonl", "evaluate.jsonl", "journal.jsonl"):
        assert view.lines(name) == new.lines(name)
    pd.testing.assert_frame_equal(view.trials_frame(), new.trials_frame())
    assert rows(view) == rows(original)


def test_the_page_of_a_redacted_bundle_has_no_private_words(original: Bundle, tmp_path: Path):
    pages = [tmp_path / name for name in ("plain.html", "redacted.html", "copy.html")]
    write_report([original], pages[0])
    write_report([original], pages[1], Options(redact=True))
    write_report([redact_bundle(original, tmp_path / "out")], pages[2])
    plain, *others = (path.read_text() for path in pages)
    for private in (HOST, "vienna-lab-3", USER, FOLDER, "acme-secret"):
        assert private in plain
        for page in others:
            assert private not in page, private


def test_a_redacted_bundle_is_one_like_any_other(original: Bundle, project, tmp_path: Path):
    new = redact_bundle(original, tmp_path / "out")
    assert compare_bundles(original, new).reasons_against("choice") == []
    assert {d.field for d in compare_bundles(original, new).differences} == {
        "host.container.image", "host.environment_variables.OMP_PLACES", "system.submitter"
    }  # fmt: skip
    assert compare_runs(original, new).pairs
    packed = pack_bundle(new, tmp_path / "packed")
    assert packed.begin.redacted and recompute(packed) == []
    again = redact_bundle(pack_bundle(original, tmp_path / "packed-first"), tmp_path / "again")
    assert recompute(again) == [] and rows(again) == rows(original)
    with pytest.raises(UserError, match="redacted from the other"):
        merge_bundles([original, new], tmp_path / "fleet")


def test_the_command(original: Bundle, project, tmp_path: Path):
    done = project.qbench("redact", original.path, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    (written,) = json.loads(done.stdout)
    assert written["to"] == str(tmp_path / "out" / original.run_id)
    assert project.qbench("verify", written["to"], "--recompute").returncode == 0
    with pytest.raises(UserError, match="already"):
        redact_bundle(original, tmp_path / "out")
    more = redact_bundle(original, tmp_path / "two", words=["floorplan"])
    assert "floorplan" in everything(Path(written["to"]))
    assert "floorplan" not in everything(more.path)


@pytest.mark.parametrize("what", ["small", "net", "blobs"])
def test_a_name_that_holds_a_private_word_is_refused_and_may_be_kept(measured, tmp_path, what):
    """The names of the suite, the model and the data set."""
    bundle = planted(measured, tmp_path / "b" / measured.run_id, HOST, what, FOLDER)
    with pytest.raises(UserError, match=what) as error:
        redact_bundle(bundle, tmp_path / "out")
    assert "--keep" in error.value.fix and not (tmp_path / "out" / bundle.run_id).exists()
    kept = redact_bundle(bundle, tmp_path / "out", keep=[what])
    text = everything(kept.path)
    assert HOST not in text and FOLDER not in text and what in text


def test_words_of_the_field_and_everyones_names_are_not_private(measured, tmp_path):
    """A machine called `cpu` and a user called `root` tell nothing, and both words are needed."""
    bundle = planted(measured, tmp_path / "b" / measured.run_id, "cpu", "root", FOLDER)
    new = redact_bundle(bundle, tmp_path / "out")
    assert rows(new) == rows(bundle) and {c["device"] for c in rows(new)} == {"cpu"}
    assert FOLDER not in everything(new.path)


def test_an_incomplete_bundle_can_be_shown_but_not_written(original: Bundle, tmp_path: Path):
    (original.path / "manifest.json").unlink()
    write_report([redacted(Bundle(original.path))], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Incomplete" in page and HOST not in page and USER not in page
    with pytest.raises(UserError, match="incomplete"):
        redact_bundle(original, tmp_path / "out")


# --------------------------------------------------------------------------- text

NAMES = st.from_regex(r"[a-z]{2}[a-z0-9]{1,8}(-[a-z0-9]{1,6})?", fullmatch=True)
PARTS = st.from_regex(r"[A-Za-z0-9_-]{1,12}(\.[a-z]{1,4})?", fullmatch=True)


@settings(deadline=None)
@given(NAMES, NAMES, st.lists(PARTS, min_size=1, max_size=4), PARTS, st.sampled_from("'\"`"))
@example("pi", "al", ["a"], "b", "'")
def test_host_user_and_folders_are_taken_out_of_any_sentence(host, user, folders, file, quote):
    redactor = Redactor([host, user], [])
    path = "/" + "/".join([*folders, "some folder", file])
    bare = "/" + "/".join([*folders, "q7x9", file])
    text = redactor.text(
        f"{host}: {user}@{host} {quote}{path}{quote}, (at {bare}:12) -I{bare} "
        f"x={bare} file://{bare} {host.upper()}_{user}.log D:\\{folders[0]}\\q7x9\\{file}"
    )
    assert "some folder" not in text and "q7x9" not in text
    left = text.lower().replace(file.lower(), "").replace("redacted", "")
    words = set("".join(c if c.isalnum() or c == "-" else " " for c in left).split())
    assert not {host, user} & words
    assert "/" not in text.replace(file, "")


MACS = st.from_regex(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", fullmatch=True)


@given(st.ip_addresses(), MACS, st.uuids())
def test_addresses_are_taken_out(address, mac, uuid):
    text = Redactor([], []).text(f"from {address}, by [{mac}]; GPU-{uuid} ({uuid})")
    if len(str(address)) > 5:
        assert str(address) not in text
    assert mac not in text and str(uuid) not in text


@pytest.mark.parametrize(
    "text",
    [
        "see https://github.com/microsoft/onnxruntime/issues/1234 and docs/energy.md",
        "1,000 items/s at 12:30:45, 3/4 of them and/or int8; std::vector<a::b> N/A",
        "the CPU provider has no kernel for Conv; try int8-static (opset 18..21)",
        "r000-88b31b2af0c8 20261124-181903-quick-e194 5bdf787e5c29c241c3fafe836c58e500",
        "versions 2026.4.1-22982-e213a147257-releases/2026/4 and 1.31.1, image/png",
        "2026-11-24T18:19:35+0000",
    ],
)
def test_text_without_private_words_stays(text):
    assert Redactor(["vienna-lab-3", "mfischer"], []).text(text) == text


def test_version_numbers_are_no_addresses():
    redactor = Redactor([], ["12.4.5.8"])
    assert (
        redactor.text("nvidia-cublas 12.4.5.8 at 12.4.5.9") == "nvidia-cublas 12.4.5.8 at redacted"
    )
    record = {"packages": {"nvidia-cudnn": "9.1.0.70"}, "runtime_version": "10.3.0.26"}
    assert redactor.record(record) == record


def test_names_of_a_networks_nodes_are_no_paths():
    redactor = Redactor(["mfischer"], [])
    record = {
        "options": {"excluded_operators": ["/layers.0/attn/MatMul", "/conv1/Conv"]},
        "profile": {"operators": [{"name": "/conv1/Conv"}, {"name": "/home/mfischer/x.cc"}]},
    }
    found = redactor.record(record)
    assert found["options"] == record["options"]
    assert [one["name"] for one in found["profile"]["operators"]] == ["/conv1/Conv", "x.cc"]


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(NAMES, NAMES, st.lists(NAMES, min_size=2, max_size=4))
def test_whatever_is_planted_is_gone(measured, tmp_path_factory, host, user, folders):
    host, user = f"{host}-q7h", f"{user}-q7u"  # no words of the field
    folder = "/" + "/".join([*folders, "q7f"])
    path = tmp_path_factory.mktemp("planted")
    bundle = planted(measured, path / measured.run_id, host, user, folder)
    new = redact_bundle(bundle, path / "out")
    text = everything(new.path)
    for private in (host, user, folder, "q7f"):
        assert private not in text, private
    assert rows(new) == rows(bundle) and recompute(new) == []


def test_a_word_of_the_field_cannot_be_taken_out(original: Bundle, tmp_path: Path):
    with pytest.raises(UserError, match="'fp32' is a word of the field"):
        redact_bundle(original, tmp_path / "out", words=["acme", "fp32"])
