"""Real failures of the runtimes and their tools: one status for one cause, in every job and with
every runtime, and a sentence with the operator's real name."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from readable import assert_readable

from qbench.kit.model import Model, SourceTensor, TensorSpec
from qbench.kit.reasons import Reason, explain
from qbench.spec.precisions import complete_options

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto as T  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

INSTALLED = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tflite": "ai_edge_litert",
}
FLOATS = ("N", 4)
DIGITS = (ROOT / "suites" / "zoo" / "digits_cnn.tflite").read_bytes()


def backend(name: str) -> Any:
    if importlib.util.find_spec(INSTALLED[name]) is None:
        pytest.skip(f"{INSTALLED[name]} is not installed")
    return importlib.import_module(f"qbench_{name}").Backend()


# --------------------------------------------------------------------------- models that fail


def value(name: str, shape: tuple[str | int, ...] = FLOATS, kind: int = T.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int, dtype: type = np.float32) -> Any:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def node(kind: str, inputs: list[str], domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, ["y"], f"my/{kind}", domain=domain, **attributes)


def model(
    *nodes: Any, x: Any = None, y: Any = None, weights: tuple[Any, ...] = (), **made: Any
) -> Callable[[Path], None]:
    """A function that writes the model to a file, with a matrix product for the quantizers."""

    def write(path: Path) -> None:
        ins, outs, constants = [x or value("x")], [y or value("y")], [*weights]
        every = [*nodes]
        if made.get("product", True):
            ins, outs = [*ins, value("a")], [*outs, value("b")]
            constants.append(weight("w0", 4, 4))
            every.append(helper.make_node("MatMul", ["a", "w0"], ["b"], "product"))
        graph = helper.make_graph(every, "g", ins, outs, constants)
        opsets = [
            helper.make_opsetid("", made.get("opset", 17)),
            helper.make_opsetid("com.acme", 1),
        ]
        proto = helper.make_model(graph, opset_imports=opsets)
        proto.ir_version = made.get("ir", 8)
        onnx.save(proto, path)

    return write


def of_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def cut(path: Path) -> None:
    MODELS["good"](path)
    path.write_bytes(path.read_bytes()[:100])


def without_weights(path: Path) -> None:
    MODELS["good"](path)
    made = onnx.load(path)
    onnx.save(made, path, save_as_external_data=True, location="weights.pb", size_threshold=0)
    (path.parent / "weights.pb").unlink()


PRODUCT = node("MatMul", ["x", "w"])
MODELS: dict[str, Callable[[Path], None]] = {
    "good": model(PRODUCT, weights=(weight("w", 4, 4),)),
    "custom operator": model(node("Fancy", ["x"], domain="com.acme")),
    "unknown operator": model(node("Fancy", ["x"])),
    "no kernel": model(
        node("MaxRoiPool", ["x", "r"], pooled_shape=[2, 2]),
        x=value("x", ("N", 1, 4, 4), T.DOUBLE),
        y=value("y", ("N", 1, 2, 2), T.DOUBLE),
        weights=(weight("r", 1, 5, dtype=np.float64),),
    ),
    "opset of the future": model(node("Relu", ["x"]), opset=99),
    "version of the future": model(node("Relu", ["x"]), ir=99),
    "two types": model(PRODUCT, weights=(weight("w", 4, 4, dtype=np.int64),)),
    "two sizes": model(PRODUCT, weights=(weight("w", 5, 4),)),
    "a tensor of nobody": model(node("Add", ["x", "nobody"])),
    "sizes of the inputs": model(
        node("Reshape", ["x", "s"]),
        y=value("y", ("N", 3)),
        weights=(numpy_helper.from_array(np.array([-1, 3]), "s"),),
    ),
    "an index too large": model(
        node("Gather", ["w", "x"]),
        x=value("x", kind=T.INT64),
        y=value("y", ("N", 4, 3)),
        weights=(weight("w", 5, 3),),
    ),
    "nothing to quantize": model(node("Relu", ["x"]), product=False),
    "cut": cut,
    "empty": of_bytes(b""),
    "a pointer": of_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"),
    "missing": lambda path: None,
    "weights missing": without_weights,
}


# --------------------------------------------------------------------------- jobs


def failure(adapter: Any, path: Path, precision: str, folder: Path) -> Reason | None:
    """The reason of the first job that fails, of describe, prepare and evaluate."""
    os.chdir(folder)
    for file in [path, *path.parent.iterdir()] if path.exists() else []:
        if not Path(file.name).exists():
            Path(file.name).symlink_to(file)

    def run(job: str, request: dict[str, Any]) -> Any:
        return importlib.import_module(f"qbench.kit.jobs.{job}").run(
            adapter, request, lambda _: None
        )

    try:
        described = run("describe", {"path": path.name})
        specs = {
            side: {n: TensorSpec.from_json(t) for n, t in described[side].items()}
            for side in ("inputs", "outputs")
        }
        names = {side: {n: SourceTensor(n) for n in found} for side, found in specs.items()}
        whole = Model(
            "m", path.suffix[1:], Path(path.name), "0" * 64, "other", specs["inputs"],
            specs["outputs"], names["inputs"], names["outputs"],
        )  # fmt: skip
        feeds = {}
        for number, (name, spec) in enumerate(specs["inputs"].items()):
            sizes = [8 if isinstance(size, str) else size for size in spec.shape]
            np.save(f"feed-{number}.npy", np.full(sizes, 7, spec.dtype))
            feeds[name] = f"feed-{number}.npy"
        calibrated = precision == "int8-static"
        run(
            "prepare",
            {
                "model": {**whole.to_json(), "path": path.name},
                "target": {"precision": precision, "options": complete_options(precision, {})},
                "calibration": feeds if calibrated else None,
                "calibration_items": 8,
            },
        )
        run("evaluate", {"artifact": "out", "config": {"batch": 2}, "feeds": feeds})
    except Exception as error:
        return explain(error, adapter.messages)
    return None


def assert_told(found: Reason | None, status: str, words: str) -> None:
    assert found is not None, "it did not fail"
    assert found.status == status and words in found.text, found
    assert_readable(found.text)


ANY = ("onnxruntime", "openvino")
FAILURES: list[tuple[str, tuple[str, ...], str, str]] = [
    ("custom operator", ANY, "skipped", "Fancy"),
    ("unknown operator", ANY, "skipped", "Fancy"),
    ("no kernel", ("onnxruntime",), "skipped", "MaxRoiPool 'my/MaxRoiPool'"),
    ("opset of the future", ("onnxruntime",), "skipped", "opset 99"),
    ("version of the future", ("onnxruntime",), "skipped", "IR version 99"),
    ("two types", ANY, "prepare_failed", "not a valid model: MatMul"),
    ("two sizes", ANY, "prepare_failed", "not a valid model: MatMul"),
    ("a tensor of nobody", ANY, "prepare_failed", "nothing gives the tensor 'nobody'"),
    ("sizes of the inputs", ANY, "error", "Reshape"),
    ("an index too large", ("onnxruntime",), "error", "--inputs"),
    ("cut", ANY, "prepare_failed", "not a valid"),
    ("empty", ANY, "prepare_failed", "not a valid"),
    ("a pointer", ANY, "prepare_failed", "not a valid"),
    ("missing", ANY, "prepare_failed", "No such file or directory: model.onnx"),
    ("weights missing", ANY, "prepare_failed", "weights.pb"),
]


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
@pytest.mark.parametrize(
    ("what", "name", "status", "words"),
    [(what, name, status, words) for what, names, status, words in FAILURES for name in names],
)
def test_a_cause_is_told_the_same_way_by_every_job(
    what: str, name: str, status: str, words: str, precision: str, tmp_path: Path, monkeypatch
):
    adapter = backend(name)
    (source := tmp_path / "source").mkdir()
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    path = source / "model.onnx"
    MODELS[what](path)
    assert_told(failure(adapter, path, precision, work), status, words)


# --------------------------------------------------------------------------- TFLite files


def altered(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """A function that writes a small network whose first operator code is changed."""

    def write(path: Path) -> None:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        made: Any = schema.ModelT.InitFromPackedBuf(DIGITS, 0)
        change(next(c for c in made.operatorCodes if c.builtinCode == 3))  # CONV_2D
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(made.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))

    return write


def custom(code: Any) -> None:
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = b"Fancy"


def of_the_future(code: Any) -> None:
    code.builtinCode, code.deprecatedBuiltinCode = 3000, 127


def newer(code: Any) -> None:
    code.version = 99


TFLITE: list[tuple[str, Callable[[Path], None], tuple[str, ...], str, str]] = [
    ("custom operator", altered(custom), ("tflite", "openvino"), "skipped", "no operator Fancy"),
    ("operator of the future", altered(of_the_future), ("tflite", "openvino"), "skipped", "3000"),
    (
        "newer operator",
        altered(newer),
        ("tflite",),
        "skipped",
        "version 99 of the operator CONV_2D",
    ),
    ("cut", of_bytes(DIGITS[:300]), ("tflite",), "prepare_failed", "not a valid"),
    ("no header", of_bytes(b"\x18\0\0\0TFL3" + bytes(99)), ("tflite",), "prepare_failed", "valid"),
    ("empty", of_bytes(b""), ("tflite", "openvino"), "prepare_failed", "not a valid TFLite"),
    ("missing", lambda path: None, ("tflite", "openvino"), "prepare_failed", "No such file"),
]


@pytest.mark.parametrize("precision", ["fp32", "int8-static"])
@pytest.mark.parametrize(
    ("write", "name", "status", "words"),
    [
        pytest.param(write, name, status, words, id=f"{what}-{name}")
        for what, write, names, status, words in TFLITE
        for name in names
    ],
)
def test_a_cause_in_a_tflite_file_is_told_the_same_way_by_every_job(
    write: Callable[[Path], None], name: str, status: str, words: str, precision: str,
    tmp_path: Path, monkeypatch,
):  # fmt: skip
    adapter = backend(name)
    (source := tmp_path / "source").mkdir()
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    path = source / "model.tflite"
    write(path)
    assert_told(failure(adapter, path, precision, work), status, words)


# --------------------------------------------------------------------------- precisions


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "w8"])
@pytest.mark.parametrize("name", ANY)
def test_a_model_without_products_is_skipped_and_no_failure(
    name: str, precision: str, tmp_path: Path, monkeypatch
):
    adapter = backend(name)
    (source := tmp_path / "source").mkdir()
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    MODELS["nothing to quantize"](source / "model.onnx")
    found = failure(adapter, source / "model.onnx", precision, work)
    assert_told(found, "skipped", "matrix product")
