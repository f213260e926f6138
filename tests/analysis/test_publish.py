"""The publishing check: findings, waivers, the page and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st

from qbench.analysis.publish.checks import CHECKS, IDS, UNEQUAL, Finding, Publishing, check
from qbench.analysis.publish.waivers import load_waivers, parse_waiver
from qbench.bundle.bundle import Bundle
from qbench.bundle.copies import pack_bundle
from qbench.errors import UserError
from qbench.present.page import Options, write_report
from qbench.spec.system import FIELDS

NOT_THERE = (
    "system_name", "host_processor_frequency", "host_processor_interconnect",
    "host_memory_configuration", "host_storage_type", "host_storage_capacity", "host_networking",
    "host_network_card_count", "host_networking_topology", "accelerator_model_name",
    "accelerator_frequency", "accelerator_memory_capacity", "accelerator_memory_configuration",
    "accelerator_on_chip_memories", "accelerator_host_interconnect", "accelerator_interconnect",
    "accelerator_interconnect_topology", "cooling",
)  # fmt: skip
SYSTEM = {
    "submitter": "a test",
    "division": "open",
    "status": "available",
    "system_type": "edge",
    "accelerators_per_node": 0,
    **dict.fromkeys(NOT_THERE, "N/A"),
}
HOST = {
    "host_id": "h" * 12,
    "cpu_model": "a processor",
    "cpu_flags": ["avx2"],
    "governor": None,
    "power_mode": None,
    "caches": None,
    "sockets": 1,
    "cores_physical": 4,
    "memory_bytes": 1 << 33,
    "os": "an operating system",
    "python": "3.11",
}
ORIGIN = {"licence": "CC0-1.0", "source": "https://example.org"}
OFFICIAL = {"name": "all blobs", "items": 60}


class Sound(Crafted):
    """A bundle in the making of which nothing is missing, unless it is taken away."""

    def __init__(self, folder: Path, run_id: str = "20260101-000000-sound-0001", **begin) -> None:
        told = {"system": SYSTEM, "host": HOST, "software": {"qbench": "1.0.0"}, **begin}
        super().__init__(folder, run_id, **told)
        self.labels = np.arange(60) % 10

    def measured(self, precision: str, rounds: int = 6, **fields) -> str:
        """A case that is prepared, evaluated on labelled items, and timed."""
        case = self.case(precision, **fields)
        outputs = 2 * np.eye(10, dtype=np.float32)[np.arange(60) % 10]
        first = self.cases[0]["case_id"]
        self.evaluation(case, outputs, None if case == first else first)
        for number in range(rounds):
            self.trial(case, number, 2.0)
        return case

    def finished(
        self,
        origins: dict | None = None,
        part_of: dict | None = OFFICIAL,
    ) -> Bundle:
        """Complete, with licences and an official data set in its plan."""
        folder = self.open().path
        plan = json.loads((folder / "plan.json").read_text())
        for model, data in plan["data"].items():
            data["part_of"] = part_of
            plan.setdefault("origins", {})[model] = origins or {"model": ORIGIN, "data": ORIGIN}
        (folder / "plan.json").write_text(json.dumps(plan))
        bundle = Bundle(folder)
        bundle.finish({"finished": "2026-01-01T00:00:01+0000"})
        return bundle


def sound(folder: Path, **begin) -> Bundle:
    crafted = Sound(folder, **begin)
    crafted.measured("fp32")
    crafted.measured("int8-static")
    return crafted.finished()


def ids(*bundles: Bundle, **waivers: str) -> list[str]:
    return [finding.id for finding in check(bundles, waivers)]


def found(bundle: Bundle, name: str) -> Finding:
    (finding,) = (one for one in check([bundle], {}) if one.id == name)
    assert finding.missing and finding.fix and finding.run == bundle.run_id
    return finding


def test_of_a_sound_bundle_nothing_is_missing(tmp_path):
    assert ids(sound(tmp_path)) == []


def test_every_check_says_what_holds():
    assert all((check.__doc__ or "").strip().endswith(".") for check in CHECKS.values())
    assert set(IDS) == {*CHECKS, UNEQUAL}


# --------------------------------------------------------------------------- one thing at a time


def test_an_interrupted_run(tmp_path):
    bundle = sound(tmp_path)
    (bundle.path / "manifest.json").unlink()
    assert ids(Bundle(bundle.path)) == ["incomplete"]


def test_a_changed_file(tmp_path):
    bundle = sound(tmp_path)
    with (bundle.path / "suite.yaml").open("a") as file:
        file.write("# one more line\n")
    assert "suite.yaml was changed" in found(bundle, "modified").missing


def test_predictions_that_were_left_out(tmp_path):
    packed = pack_bundle(sound(tmp_path), tmp_path / "packed")
    assert ids(packed) == ["recomputable"]


@pytest.mark.parametrize(
    ("version", "told"),
    [("1.0.0", False), ("1.1.0.dev3", True), ("1.0.0+g1a2b3c.dirty", True), ("?", True)],
)
def test_a_version_that_nobody_can_install(tmp_path, version, told):
    bundle = sound(tmp_path, software={"qbench": version})
    assert ("development-version" in ids(bundle)) == told


def test_system_fields_that_only_a_person_knows(tmp_path):
    finding = found(sound(tmp_path, system=None), "system-fields")
    assert "submitter" in finding.missing and "cooling" in finding.missing
    told = finding.missing.partition(": ")[2].split(", ")
    assert set(told) <= set(FIELDS)
    assert "hw_notes" not in told  # MLPerf's checker lets it be empty
    assert "host_processor_model_name" not in told  # the machine tells it


def test_too_few_rounds(tmp_path):
    crafted = Sound(tmp_path)
    crafted.measured("fp32", rounds=6)
    crafted.measured("int8-static", rounds=5)
    assert found(crafted.finished(), "rounds").cases == ("net fake int8-static",)


def test_a_disturbed_case(tmp_path):
    crafted = Sound(tmp_path)
    case = crafted.measured("fp32", rounds=0)
    for number in range(6):
        waited = {"run_delay_ns": 100_000_000, "others_cpu_ns": 0, "cpus": 1}
        crafted.trial(case, number, 2.0, conditions=waited)
    assert found(crafted.finished(), "noisy").cases == ("net fake fp32",)


def test_a_case_that_is_not_settled(tmp_path):
    settings = {"cpu_power": None, "rounds": {"least": 6, "most": 8, "target": 0.01}}
    crafted = Sound(tmp_path, settings=settings)
    case = crafted.measured("fp32", rounds=0)
    for number in range(6):
        crafted.trial(case, number, 2.0 * (1 + number % 2))
    assert "inconclusive" in ids(crafted.finished())


def test_a_failure_without_a_reason(tmp_path):
    crafted = Sound(tmp_path)
    crafted.measured("fp32")
    silent, told = crafted.case("int8-static"), crafted.case("int8-dynamic")
    crafted.trial(silent, 0, 1.0, status="crashed", reason="")
    crafted.trial(told, 0, 1.0, status="crashed")
    assert found(crafted.finished(), "reasons").cases == ("net fake int8-static",)


def test_energy_that_is_estimated_only(tmp_path):
    power = {"watts_per_core": 3.5, "source": "a test"}
    bundle = sound(tmp_path, settings={"cpu_power": power, "rounds": 6})
    assert len(found(bundle, "energy-proxy").cases) == 2


def test_made_up_data(tmp_path):
    crafted = Sound(tmp_path)
    crafted.labels = None
    case = crafted.measured("fp32")
    crafted.evaluated[f"e{case}"][0]["data_is_random"] = True
    assert ids(crafted.finished()) == ["made-up-data"]


def test_no_labels(tmp_path):
    crafted = Sound(tmp_path)
    crafted.labels = None
    crafted.measured("fp32")
    assert ids(crafted.finished()) == ["unlabelled"]


def test_a_data_set_that_says_nothing_of_an_official_one(tmp_path):
    crafted = Sound(tmp_path)
    crafted.measured("fp32")
    assert ids(crafted.finished(part_of=None)) == ["official-set"]


@pytest.mark.parametrize("what", ["model", "data"])
@pytest.mark.parametrize("key", ["licence", "source"])
def test_no_licence_and_no_source(tmp_path, what, key):
    crafted = Sound(tmp_path)
    crafted.measured("fp32")
    origins = {"model": ORIGIN, "data": ORIGIN}
    bundle = crafted.finished({**origins, what: {**ORIGIN, key: None}})
    finding = found(bundle, "licences")
    assert key in finding.missing and finding.cases == ("net",)


def test_a_bundle_without_licences(tmp_path):
    crafted = Sound(tmp_path)
    crafted.measured("fp32")
    bundle = crafted.done()
    assert "older" in found(bundle, "licences").missing


def test_cases_of_one_name_that_ran_other_things(tmp_path):
    first, other = Sound(tmp_path / "a"), Sound(tmp_path / "b", "20260102-000000-sound-0002")
    for crafted in (first, other):
        crafted.measured("fp32")
        crafted.measured("int8-static")
    other.cases[1]["model_digest"] = "e" * 64
    bundles = first.finished(), other.finished()
    (finding,) = check(bundles, {})
    assert finding.id == UNEQUAL and finding.cases == ("net fake int8-static",)
    assert "the model's file" in finding.missing
    assert finding.run == f"{bundles[0].run_id}, {bundles[1].run_id}"


def test_an_environment_that_prepared_for_itself(tmp_path):
    resolved = {"requirements": [], "resolved": {}, "python": "3.11", "digest": "d"}
    crafted = Sound(tmp_path, environments={"new": resolved})
    default = crafted.measured("fp32")
    new = crafted.measured("fp32", environment="new")
    crafted.prepared[f"a{default}"]["digest"] = "1" * 64
    crafted.prepared[f"a{new}"]["digest"] = "2" * 64
    assert UNEQUAL in ids(crafted.finished())


# --------------------------------------------------------------------------- waivers


def test_a_waiver_holds_for_what_its_check_finds(tmp_path):
    bundle = sound(tmp_path, system=None, software={"qbench": "1.0.dev1"})
    assert set(ids(bundle)) == {"system-fields", "development-version"}
    given = {"system-fields": "it is borrowed", "noisy": "never needed"}
    publishing = Publishing.of(check([bundle], given), given)
    assert [one.id for one in publishing.open] == ["development-version"]
    assert [one.waived for one in publishing.waived] == ["it is borrowed"]
    assert publishing.unused == ("noisy",)


def test_a_file_of_waivers(tmp_path):
    path = tmp_path / "waivers.yaml"
    path.write_text(
        "waive:\n  energy-proxy: no meter\n  noisy: >\n    it is a\n    shared machine\n"
    )
    assert load_waivers(path) == {"energy-proxy": "no meter", "noisy": "it is a shared machine"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("waive:\n  noisy: loud\n  energy-prox: none\n", 3, "energy-proxy"),
        ("waive:\n  noisy: ''\n", 2, "reason"),
        ("waive:\n  noisy:\n", 2, "noisy"),
        ("waive: [noisy]\n", 1, "waive"),
        ("waives:\n  noisy: loud\n", 1, "waive"),
        ("waive: {}\nnoisy: loud\n", 2, "waive"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, line, says):
    path = tmp_path / "waivers.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_waivers(path)
    assert f"{path}:{line}" in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("text", ["noisy", "noisy=", "noisy=   ", "noise=loud", "=loud", ""])
def test_a_waiver_of_the_command_line_has_a_check_and_a_reason(text):
    with pytest.raises(UserError, match="--waive"):
        parse_waiver(text)


@given(st.sampled_from(IDS), st.text(min_size=1).filter(str.strip))
def test_a_reason_may_hold_anything(name, reason):
    assert parse_waiver(f"{name}={reason}") == (name, " ".join(reason.split()))


# --------------------------------------------------------------------------- page and command


def page(bundle: Bundle, folder: Path, **waivers: str) -> str:
    findings = check([bundle], waivers)
    write_report([bundle], folder / "page.html", Options(publish=Publishing.of(findings, waivers)))
    return (folder / "page.html").read_text(encoding="utf-8")


def test_a_draft_says_so_at_its_top_until_all_is_mended_or_waived(tmp_path):
    bundle = sound(tmp_path, system=None)
    draft = page(bundle, tmp_path)
    assert "<title>DRAFT: " in draft
    assert draft.index("<strong>DRAFT</strong>") < draft.index("<h1>")
    assert "submitter" in draft[: draft.index("<h1>")]
    reason = "it is <b>borrowed</b>"
    waived = page(bundle, tmp_path, **{"system-fields": reason})
    assert "DRAFT</strong>" not in waived and "<title>DRAFT" not in waived
    assert "it is &lt;b&gt;borrowed&lt;/b&gt;" in waived and reason not in waived


def test_without_it_nothing_changes(tmp_path):
    bundle = sound(tmp_path, system=None)
    write_report([bundle], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'id="publish"' not in text and "DRAFT</strong>" not in text


def test_the_command_ends_with_1_while_it_is_a_draft(project, tmp_path):
    bundle = sound(tmp_path / "results", system=None, software={"qbench": "1.0.dev1"})
    command = ["report", bundle.path, "-o", tmp_path / "page.html", "--publish"]
    done = project.qbench(*command, "--waive", "system-fields=it is borrowed")
    assert done.returncode == 1, done.stderr
    assert "missing  development-version" in done.stdout
    assert "waived   system-fields" in done.stdout and "it is borrowed" in done.stdout
    assert "a draft: 1 missing, 1 waived" in done.stdout
    (tmp_path / "waivers.yaml").write_text(
        "waive: {system-fields: borrowed, development-version: a test, noisy: never}\n"
    )
    done = project.qbench(*command, "--waivers", tmp_path / "waivers.yaml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["draft"] is False and told["unused_waivers"] == ["noisy"]
    assert {one["id"] for one in told["findings"]} == {"system-fields", "development-version"}


def test_the_command_refuses_waivers_that_nobody_asked_for(project, tmp_path):
    bundle = sound(tmp_path / "results")
    shutil.copytree(bundle.path, project.root / "results" / bundle.run_id)
    done = project.qbench("report", bundle.run_id, "--waive", "noisy=loud")
    assert done.returncode == 2 and "--publish" in done.stderr
