"""Cards whose files were never at hand, on files of the same names and shapes, random weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import run_here
from mirror import Mirror, serving
from upstream import copied_suites

from qbench.run.sources.catalog import Catalog
from qbench.spec.preprocess import tokenize_options
from qbench.spec.suite import suites_dir

SHIPPED = Catalog([suites_dir()])
UNTRIED = {name for name in SHIPPED.names if SHIPPED.card(name).untried}
KERAS = ("keras_efficientnet_b0", "keras_mobilenet_v2", "keras_resnet50")
RNG = np.random.default_rng(0)


def test_these_are_the_untried_cards():
    assert {*KERAS, "distilbert_sst2", "yolov10n"} == UNTRIED


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with serving(tmp_path / "mirror") as made:
        yield made


def weights(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def network(
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, list[Any]],
    nodes: list[tuple[str, list[str], str, dict[str, Any]]],
    constants: dict[str, np.ndarray],
) -> bytes:
    """An ONNX file; nodes are operator, inputs, output, attributes."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node(kind, given, [out], **more) for kind, given, out, more in nodes],
        "net",
        [make.make_tensor_value_info(n, t, shape) for n, (t, shape) in inputs.items()],
        [make.make_tensor_value_info(n, 1, shape) for n, shape in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def distilbert() -> bytes:
    """One layer of attention with a mask, as Optimum exports it: both axes free."""
    free = ["batch_size", "sequence_length"]
    return network(
        {"input_ids": (7, free), "attention_mask": (7, free)},
        {"logits": ["batch_size", 2]},
        [
            ("Gather", ["words", "input_ids"], "x", {}),
            *(("MatMul", ["x", f"w_{n}"], n, {}) for n in "qkv"),
            ("Transpose", ["k"], "kt", {"perm": [0, 2, 1]}),
            ("MatMul", ["q", "kt"], "raw", {}),
            ("Equal", ["attention_mask", "zero"], "absent", {}),
            ("Unsqueeze", ["absent", "one"], "hidden", {}),
            ("Where", ["hidden", "least", "raw"], "scores", {}),
            ("Softmax", ["scores"], "share", {"axis": -1}),
            ("MatMul", ["share", "v"], "mixed", {}),
            ("Add", ["mixed", "x"], "y", {}),
            ("Gather", ["y", "first"], "cls", {"axis": 1}),
            ("MatMul", ["cls", "w_out"], "logits", {}),
        ],
        {
            "words": weights(30522, 32),
            **{f"w_{n}": weights(32, 32) for n in "qkv"},
            "w_out": weights(32, 2),
            "zero": np.array(0, np.int64),
            "one": np.array([1], np.int64),
            "least": np.array(-3.4e38, np.float32),
            "first": np.array(0, np.int64),
        },
    )


def yolov10n() -> bytes:
    """A convolution whose first 300 positions are the boxes."""
    return network(
        {"images": (1, ["batch", 3, 640, 640])},
        {"output0": ["batch", 300, 6]},
        [
            ("Conv", ["images", "kernel"], "map", {"strides": [16, 16]}),
            ("Relu", ["map"], "active", {}),
            ("Reshape", ["active", "flat"], "columns", {}),
            ("Transpose", ["columns"], "rows", {"perm": [0, 2, 1]}),
            ("Slice", ["rows", "begin", "end", "axis"], "output0", {}),
        ],
        {
            "kernel": weights(6, 3, 16, 16),
            "flat": np.array([0, 6, 1600], np.int64),
            "begin": np.array([0], np.int64),
            "end": np.array([300], np.int64),
            "axis": np.array([1], np.int64),
        },
    )


def vocabulary() -> bytes:
    """BERT's special tokens at their places, and letters."""
    words = [f"[unused{n}]" for n in range(30522)]
    words[0] = "[PAD]"
    words[100:104] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'`-"
    for n, letter in enumerate(letters):
        words[1000 + 2 * n : 1002 + 2 * n] = [letter, f"##{letter}"]
    return "".join(f"{word}\n" for word in words).encode()


@pytest.mark.parametrize(
    ("name", "made", "data"),
    [
        ("distilbert_sst2", distilbert, ["sst2_glue_dev"]),
        ("yolov10n", yolov10n, ["coco_val128", "imagenet_samples"]),
    ],
)
def test_a_card_of_the_hub_runs_from_an_empty_cache(
    name: str,
    made: Callable[[], bytes],
    data: list[str],
    assets: Path,
    mirror: Mirror,
    tmp_path: Path,
):
    """With its data set, its vocabulary and its names. What its weights are worth is not asked."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("tokenizers")
    suites = copied_suites(tmp_path / "suites", assets, mirror, data)
    card = SHIPPED.card(name)
    hub = card.sources["onnx"].hub
    assert hub is not None
    mirror.hub(hub, made())
    for steps in card.preprocess.values():
        if (options := tokenize_options(steps)) and options.vocab.hub:
            mirror.hub(options.vocab.hub, vocabulary())
    path = suites / "models" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text()) | {"metric": "none"}
    content["evaluation"] = {"dataset": data[0], "items": "0:8"}
    content["calibration"] = {"dataset": data[-1], "items": "8:16"}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    suite = {
        "name": "untried",
        "models": [name],
        "precisions": ["fp32", "int8-static"],
        "backends": ["onnxruntime"],
        "rounds": 2,
        "warmup_s": 0.01,
        "timed_s": 0.02,
        "roofline": False,
    }
    (suites / "untried.yaml").write_text(yaml.safe_dump(suite))
    env = {key: value for key, value in os.environ.items() if key != "QBENCH_ASSETS"}
    env |= {"QBENCH_MIRROR": mirror.url}
    run = ["run", str(suites / "untried.yaml"), "--no-report", "--json"]
    done = run_here(tmp_path, env, *run)
    assert done.returncode == 0, done.stderr
    assert f"{name} is untried: " in done.stderr
    assert json.loads(done.stdout)["counts"] == {"ok": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [*((name, "tflite") for name in KERAS), ("keras_mobilenet_v2", "onnx")]
)
def test_a_network_of_keras_is_converted(name: str, form: str, assets: Path, tmp_path: Path):
    """Without its weights, which only a network can give."""
    for module in ("tensorflow", "keras", "tf2onnx", "ai_edge_litert", "onnxruntime"):
        pytest.importorskip(module)
    shutil.copytree(suites_dir() / "datasets", tmp_path / "datasets")
    content = yaml.safe_load((suites_dir() / "models" / f"{name}.yaml").read_text())
    content["sources"]["keras-applications"]["options"] = {"weights": None}
    content["evaluation"]["items"] = "0:4"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    catalog = Catalog([tmp_path])
    model = catalog.model(catalog.card(name), form)
    assert model.conversion is not None
    assert min(model.conversion["sqnr_db"].values()) >= 80
    (shape,) = (spec.shape for spec in model.outputs.values())
    assert tuple(shape[1:]) == (1000,)
