"""Runs whose outputs cannot be right: the status, its reason, and who knows it."""

from __future__ import annotations

import json

import numpy as np

from qbench.analysis.recompute import recompute
from qbench.bundle.find import find_bundle

COARSE = """
import json
import numpy as np
from qbench.testing.fake import FakeBackend
class Backend(FakeBackend):
    name = "coarse"
    def prepare(self, model, target, calibration, out):
        done = super().prepare(model, target, calibration, out)
        if target.precision != "fp32":
            content = json.loads((out / done.file).read_text())
            content["weights"] = (np.asarray(content["weights"]) * 0).tolist()
            (out / done.file).write_text(json.dumps(content))
        return done
"""


def test_outputs_at_chance_are_a_failure_that_every_view_knows(project):
    project.adapter("coarse", COARSE)  # int8 answers the same class for every item
    suite = project.suite(backends=["coarse"], gate={"broken_share": 1.0})
    done = project.qbench("run", suite, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["counts"] == {
        "ok": 1,
        "wrong_output": 1,
    }
    (case,) = [c for c in project.cases() if c["precision"] != "fp32"]
    assert case["status"] == "wrong_output" and case["latency_p50_ms"] is None
    assert case["sqnr_db"] == 0 and case["flags"].endswith("far from float32")
    assert "no better than chance among 10 classes, where float32 reaches 100.0 %" in case["reason"]
    assert "wrong_output" in project.qbench("show").stdout
    bundle = find_bundle("latest", project.root / "results")
    assert recompute(bundle) == []
    page = next((project.root / "results").glob("*.html")).read_text()
    assert "no better than chance" in page
    assert project.qbench("gate", "latest", "--junit", "gate.xml").returncode == 1
    assert "no better than chance" in (project.root / "gate.xml").read_text()


def test_labels_in_another_order_are_told_of_float32_itself(project):
    data = dict(np.load(project.root / "blobs.npz"))
    np.savez(project.root / "blobs.npz", **{**data, "labels": (data["labels"] + 1) % 10})
    project.run_json(project.suite())
    cases = project.cases()
    assert {c["status"] for c in cases} == {"wrong_output"}
    assert all(c["reason"].endswith("check preprocess or class order") for c in cases)
    assert all(c["accuracy"] == 0 and c["sqnr_db"] is None for c in cases)
