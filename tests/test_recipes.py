"""``recipe: shared`` and precisions in name only, with the fake backend."""

from __future__ import annotations

import json

OTHER = """
import json
import numpy as np
from qbench.kit.model import Provenance
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name, shareable = "other", ()
    def prepare(self, model, target, calibration, out):
        done = super().prepare(model, target, calibration, out)
        if target.precision != "fp32" and target.recipe == "best":  # its own way is coarser
            content = json.loads((out / done.file).read_text())
            weights = np.asarray(content["weights"])
            step = np.abs(weights).max() / 7
            content["weights"] = (np.round(weights / step) * step).tolist()
            (out / done.file).write_text(json.dumps(content))
        return done
"""
BLIND = """
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name, shareable = "blind", ()
    def supports(self, model, target):
        return "it reads no Q/DQ" if target.recipe == "shared" else None
"""


def by_label(project) -> dict[tuple[str, str, str], dict]:
    return {(c["backend"], c["precision"], c["recipe"]): c for c in project.cases()}


def test_a_shared_model_is_quantized_once_and_given_to_all(project):
    project.adapter("other", OTHER)
    project.adapter("blind", BLIND)
    suite = project.suite(backends=["other", "fake", "blind"], recipes=["best", "shared"])
    answer = project.run_json(suite)
    cases = by_label(project)
    assert len(cases) == 9, "float32 has only one recipe"
    own, same = cases["other", "int8-static", "best"], cases["other", "int8-static", "shared"]
    made = cases["fake", "int8-static", "best"]
    assert own["sqnr_db"] < made["sqnr_db"] - 6, "its own path is another"
    assert same["sqnr_db"] == made["sqnr_db"], "it computes what was made for all"
    assert same["outputs_digest"] == cases["fake", "int8-static", "shared"]["outputs_digest"]
    assert same["calibration_items"] == made["calibration_items"] == 20
    assert same["speedup"] is not None, "against the float32 of its own backend"
    assert cases["blind", "int8-static", "shared"]["reason"] == "it reads no Q/DQ"
    prepared = (project.root / answer["bundle"] / "prepare.jsonl").read_text().splitlines()
    tools = [json.loads(line)["provenance"]["quantizer"] for line in prepared]
    assert tools.count("fake.round") == 3, "other's, fake's and blind's own; nothing twice"


def test_a_shared_model_is_made_even_if_its_maker_is_not_in_the_suite(project):
    project.adapter("other", OTHER)
    project.run_json(project.suite(backends=["other"], recipes=["shared"]))
    (case,) = project.cases()
    assert (case["status"], case["backend"], case["recipe"]) == ("ok", "other", "shared")


def test_a_shared_model_that_cannot_be_made_fails_all_that_would_get_it(project):
    project.adapter("other", OTHER)
    project.model(fail={"int8-static:prepare": "error"})
    suite = project.suite(backends=["other", "fake"], recipes=["shared"])
    done = project.qbench("run", suite, "--no-report")
    assert done.returncode == 1, done.stderr
    assert {c["status"] for c in project.cases()} == {"prepare_failed"}
    assert all("planted failure in prepare" in c["reason"] for c in project.cases())


def test_an_override_of_one_backend_does_not_change_what_is_shared(project):
    project.adapter("other", OTHER)
    own = {"other": {"options": {"int8-static": {"calibration_items": 3}}}}
    suite = project.suite(backends=["fake", "other"], recipes=["best", "shared"], overrides=own)
    project.run_json(suite)
    items = {key: c["calibration_items"] for key, c in by_label(project).items()}
    assert items["other", "int8-static", "best"] == 3
    assert items["other", "int8-static", "shared"] == items["fake", "int8-static", "shared"] == 20


def test_nobody_makes_a_shared_model(project):
    project.adapter("other", OTHER)
    packages = project.root.parent / "packages"
    (packages / "fake-1.0.dist-info" / "entry_points.txt").write_text("")
    suite = project.suite(backends=["other"], recipes=["shared", "best"], rounds=1)
    project.run_json(suite, "--backend", "other")
    reasons = {c["recipe"]: c["reason"] for c in project.cases() if c["precision"] != "fp32"}
    assert reasons["best"] is None
    # onnxruntime makes such models too, but the fake one has no ONNX source
    assert "shared" in reasons["shared"] or "no adapter here makes" in reasons["shared"]


def test_int8_that_hardly_computes_in_int8_is_flagged_in_every_table(project):
    project.model(int8_macs=319)
    answer = project.run_json(project.suite())
    cases = {c["precision"]: c for c in project.cases()}
    assert cases["fp32"]["flags"] is None
    case = cases["int8-static"]
    assert case["status"] == "ok"
    assert case["int8_mac_share"] == 319 / 640
    assert case["effective_precision"] == "fp32"
    assert case["flags"] == "int8 in name only"
    assert "int8 in name only" in project.qbench("show", "latest").stdout
    assert "int8 in name only" in project.qbench("export", "latest").stdout
    assert "int8 in name only" in project.qbench("run", "small.yaml", "--no-report").stdout
    page = project.root / "page.html"
    assert project.qbench("report", answer["bundle"], "-o", page).returncode == 0
    assert "int8 in name only" in page.read_text()


def test_half_of_the_multiply_accumulates_is_enough(project):
    project.model(int8_macs=320)
    project.run_json(project.suite())
    case = next(c for c in project.cases() if c["precision"] == "int8-static")
    assert (case["int8_mac_share"], case["flags"]) == (0.5, None)


def test_strict_makes_a_failure_of_it_and_is_another_run(project):
    project.model(int8_macs=1)
    suite = project.suite()
    assert project.qbench("run", suite, "--no-report").returncode == 0
    done = project.qbench("run", suite, "--no-report", "--strict")
    assert done.returncode == 1, done.stderr
    case = next(c for c in project.cases() if c["precision"] == "int8-static")
    assert case["status"] == "error"
    assert "int8 in name only" in case["reason"] and "639 fp32" in case["reason"]
    assert case["latency_p50_ms"] is None, "it is not measured"
