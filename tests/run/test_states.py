"""Models whose outputs are fed back into inputs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cells import FEATURES, STATE, UNITS, WEIGHTS, onnx_cell, recurrence, step, tflite_cell

from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.spec.models import ModelCard
from qbench.spec.yamlfile import load

onnx = pytest.importorskip("onnx", reason="needs onnx")

ITEMS = np.random.default_rng(0).normal(0, 2, (40, FEATURES)).astype(np.float32)
STATES = {
    "anew": {"state": "state_out"},
    "carried": {"state": {"from": "state_out", "carried": True}},
}
SAME = 1e-5
"""Largest error of float32, whose outputs are of the order of 1."""


def card(name: str, **changes: Any) -> dict[str, Any]:
    def state() -> dict[str, Any]:
        return {"dtype": "float32", "shape": list(STATE)}  # YAML refers back to what is the same

    return {
        "name": name,
        "task": "other",
        "licence": "CC0-1.0",
        "inputs": {"x": {"dtype": "float32", "shape": ["N", FEATURES]}, "state": state()},
        "outputs": {"y": {"dtype": "float32", "shape": ["N", 3]}, "state_out": state()},
        "sources": {"onnx": {"path": "cell.onnx"}},
        "states": STATES.get(name, STATES["carried"]),
        "evaluation": {"dataset": "steps", "items": "0:20"},
        "calibration": {"dataset": "steps", "items": "20:40"},
        **changes,
    }


def write(project: Any, content: dict[str, Any], **arrays: np.ndarray) -> Path:
    """The card with its model and its data set of ``x`` and other arrays."""
    onnx_cell(project.root / "cell.onnx")
    np.savez(project.root / "steps.npz", x=ITEMS, **arrays)
    data = {
        "name": "steps",
        "licence": "CC0-1.0",
        "format": "npz",
        "files": {"data": {"path": "steps.npz"}},
        "arrays": {name: name for name in ("x", *arrays)},
        "items": len(ITEMS),
    }
    project.write("datasets/steps.yaml", data)
    return project.write(f"models/{content['name']}.yaml", content)


def outputs(project: Any, answer: dict[str, Any]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Outputs of all evaluation items by model and backend."""
    bundle = Bundle(project.root / answer["bundle"])
    return {
        (planned.case.model, planned.case.backend): dict(bundle.outputs(planned.evaluation_id))
        for planned in bundle.plan.cases
    }


@pytest.mark.slow
def test_states_start_anew_or_go_from_item_to_item(project: Any):
    """On each runtime, against the recurrence in NumPy."""
    for module in ("onnxruntime", "openvino", "ai_edge_litert", "tensorflow"):
        pytest.importorskip(module)
    tflite_cell(project.root / "cell.tflite")
    names = {
        "inputs": {n: {"name": f"serving_default_{n}:0"} for n in ("x", "state")},
        "outputs": {"y": {"name": "PartitionedCall:1"}, "state_out": {"name": "PartitionedCall:0"}},
    }
    sources = {"onnx": {"path": "cell.onnx"}, "tflite": {"path": "cell.tflite", **names}}
    cards = [write(project, card(name, sources=sources)) for name in STATES]
    backends = ("onnxruntime", "openvino", "tflite")
    words = [word for path in cards for word in ("-m", path)]
    words += [word for name in backends for word in ("-b", name)]
    answer = project.run_json(*words, "-p", "fp32", "--rounds", "1")
    assert answer["counts"] == {"ok": 6}
    found = outputs(project, answer)
    for name in STATES:
        wanted, left = recurrence(ITEMS[:20], carried=name == "carried")
        for backend in backends:
            got = found[name, backend]
            np.testing.assert_allclose(got["y"], wanted, atol=SAME, err_msg=f"{name} {backend}")
            np.testing.assert_allclose(got["state_out"], left, atol=SAME)
    bundle = Bundle(project.root / answer["bundle"])
    notes = {
        (p.case.model, p.case.backend): " ".join(bundle.evaluated[p.evaluation_id].effective.notes)
        for p in bundle.plan.cases
    }
    assert "fed back into 'state', from one item to the next" in notes["carried", "onnxruntime"]
    assert "each item starts from the initial state" in notes["anew", "openvino"]
    assert f"by copying {2 * UNITS * 4} bytes" in notes["carried", "tflite"]


@pytest.mark.slow
def test_every_scenario_feeds_back(project: Any):
    """A trial fails whose outputs for the first item are not the evaluation's."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("mlperf_loadgen")
    steps = {"x": [{"normalize": {"mean": 0, "std": 1}}]}
    cards = [write(project, card(name, preprocess=steps)) for name in STATES]
    short = {"min_duration_s": 0.1, "max_duration_s": 5, "min_queries": 16}
    suite = {
        "name": "all",
        "models": [path.stem for path in cards],
        "precisions": ["fp32"],
        "backends": ["onnxruntime"],
        "rounds": 1,
        "warmup_s": 0.02,
        "timed_s": 0.05,
        "roofline": False,
        "scenarios": [
            "single-stream",
            "pipeline",
            {"paced": {"rate_hz": 200, "duration_s": 0.2}},
            {"sustained": {"duration_s": 5, "step_s": 1}},
            {"mlperf-single-stream": short},
        ],
    }
    project.run_json(project.write("all.yaml", suite))
    cases = project.cases()
    assert len(cases) == 10
    assert {case["status"] for case in cases} == {"ok"}, [case["reason"] for case in cases]


@pytest.mark.slow
def test_the_data_set_may_give_the_initial_state(project: Any):
    pytest.importorskip("onnxruntime")
    states = np.random.default_rng(1).normal(size=(len(ITEMS), 2, UNITS)).astype(np.float32)
    paths = [write(project, card(name), state=states) for name in STATES]
    words = [word for path in paths for word in ("-m", path)]
    answer = project.run_json(*words, "-b", "onnxruntime", "-p", "fp32", "--rounds", "1")
    assert answer["counts"] == {"ok": 2}
    found = outputs(project, answer)
    state = states[:20].transpose(1, 0, 2).astype(np.float64)
    each, _ = step(ITEMS[:20], state)
    np.testing.assert_allclose(found["anew", "onnxruntime"]["y"], each, atol=SAME)
    first, _ = recurrence(ITEMS[:20], carried=True, initial=state[:, :1])
    np.testing.assert_allclose(found["carried", "onnxruntime"]["y"], first, atol=SAME)


@pytest.mark.slow
def test_a_quantizer_sees_the_states_of_the_calibration_items(project: Any):
    """Of zeros alone, the range of the state would be empty, and the int8 network without a
    memory: -1 dB."""
    pytest.importorskip("onnxruntime")
    path = write(project, card("carried"))
    words = ("-m", path, "-b", "onnxruntime", "-p", "fp32", "-p", "int8-static", "--rounds", "1")
    project.run_json(*words)
    exact, quantized = project.cases()
    assert (exact["status"], quantized["status"]) == ("ok", "ok"), quantized["reason"]
    assert quantized["sqnr_db"] > 12


@pytest.mark.slow
def test_a_state_that_grows_without_bound_fails_the_trial(project: Any):
    """Calls on infinities would have a time, but compute nothing. Inputs are made up here."""
    pytest.importorskip("onnxruntime")
    path = write(project, card("anew", evaluation=None, calibration=None))
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]>
        grows (float[N, 4] x, float[2, N, 8] state) => (float[N, 3] y, float[2, N, 8] state_out)
        {
            ten = Constant <value: tensor = float[1] {10.0}> ()
            one = Constant <value: tensor = float[1] {1.0}> ()
            larger = Mul (state, ten)
            state_out = Add (larger, one)
            y = MatMul (x, v)
        }
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS["v"][:4], "v"))
    onnx.save(model, project.root / "cell.onnx")
    done = project.qbench("run", "-m", path, "-b", "onnxruntime", "-p", "fp32", "--rounds", "1")
    assert done.returncode == 1, done.stderr
    (case,) = project.cases()
    assert case["status"] == "error"
    assert case["reason"].startswith("the state 'state' grew to NaN or infinity")


def test_what_cannot_feed_back_is_skipped_with_a_reason(project: Any):
    pytest.importorskip("onnxruntime")
    path = write(project, card("carried", sources={"onnx": {"path": "cell.onnx"}}))
    project.adapter("plain", PLAIN)
    suite = {
        "name": "b2",
        "models": [path.stem],
        "precisions": ["fp32"],
        "backends": ["onnxruntime", "plain"],
        "batch_sizes": [1, 2],
        "rounds": 1,
    }
    done = project.qbench("plan", project.write("b2.yaml", suite), "--json")
    assert done.returncode == 0, done.stderr
    reasons = {
        (case["case"]["backend"], case["case"]["batch_size"]): case["skip"]
        for case in json.loads(done.stdout)["cases"]
    }
    assert reasons["onnxruntime", 1] is None
    assert "runs at batch 1 only" in reasons["onnxruntime", 2]
    assert reasons["plain", 1] == "plain does not feed the model's states back ('state_out')"


PLAIN = """
from qbench_onnxruntime import Backend as Whole

class Backend(Whole):
    name = "plain"
    feeds_back = False
"""


def test_items_drawn_at_random_are_no_sequence(project: Any):
    path = write(project, card("carried"))
    done = project.qbench("run", "--model", path, "--data", project.root / "steps.npz")
    assert done.returncode == 2
    assert "carries the state 'state' from one item to the next" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("changes", "told"),
    {
        "no such input": ({"states": {"stat": "state_out"}}, "'stat' is no input of the card. Did"),
        "no such output": ({"states": {"state": "state_oot"}}, "'state_oot' is no output"),
        "another shape": (
            {"states": {"state": "y"}},
            "'state' is float32 [2, N, 8] with batch axis 1, and its source 'y' float32 [N, 3]",
        ),
        "another batch axis": (
            {
                "outputs": {
                    "y": {"dtype": "float32", "shape": ["N", 3]},
                    "state_out": {"dtype": "float32", "shape": [2, 1, UNITS], "batch": 0},
                }
            },
            "with batch axis 0",
        ),
        "nothing else": (
            {"inputs": {"state": {"dtype": "float32", "shape": list(STATE)}}},
            "all inputs are states",
        ),
        "another key": ({"states": {"state": {"from": "state_out", "carry": True}}}, "carry"),
    }.values(),
)
def test_states_that_do_not_fit_are_refused_with_their_line(
    tmp_path: Path, changes: dict[str, Any], told: str
):
    path = tmp_path / "carried.yaml"
    path.write_text(yaml.safe_dump({**card("carried"), **changes}, sort_keys=False))
    with pytest.raises(UserError) as error:
        load(path, ModelCard)
    lines = path.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("states:"))
    text = f"{error.value} {error.value.fix}"
    assert told in text
    assert any(f"carried.yaml:{line + more}:" in text for more in (0, 1, 2, 3))
