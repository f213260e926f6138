"""TFLite and Keras files of strangers, against what Keras computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow")
litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")

from visits import Models, Visit  # noqa: E402

pytestmark = pytest.mark.slow

BOTH = ("-b", "tflite", "-b", "openvino")


def interpreter(path: Path) -> Any:
    """LiteRT's reference kernels: no delegate, nothing optimized."""
    kind = litert.OpResolverType.BUILTIN_REF
    return litert.Interpreter(str(path), experimental_op_resolver_type=kind)


def items_of(visit: Visit, name: str, items: np.ndarray) -> Path:
    path = visit.folder / "inputs.npz"
    np.savez(path, **{name: items})
    return path


def near(got: np.ndarray, right: np.ndarray) -> bool:
    return np.allclose(got, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tflite_free_size", "tflite_free_batch", "tflite_lstm"])
def test_runtimes_compute_what_keras_does(name: str, models: Models, visit: Visit):
    path = models(name)
    right = np.load(path.with_name("right.npz"))
    (tensor,) = interpreter(path).get_input_details()
    inputs = items_of(visit, tensor["name"], right["x"])
    answer = visit.runs(path, "--inputs", inputs, *BOTH, "-p", "fp32")
    for backend in ("tflite", "openvino"):
        (output,) = answer.outputs(backend).values()
        assert near(output, right["y"][2:])


def test_free_sizes_of_a_tflite_file_are_named(models: Models, visit: Visit):
    said = visit.refused(models("tflite_free_size"), "-b", "tflite")
    assert "--size" in said and "--shape" in said


@pytest.mark.parametrize("name", ["tflite_int8", "tflite_uint8", "tflite_int8_inside"])
def test_quantized_files_run_as_shipped_and_never_as_float(name: str, models: Models, visit: Visit):
    """To a step of the output: XNNPACK rounds some sums otherwise than the reference kernels."""
    path = models(name)
    net = interpreter(path)
    net.allocate_tensors()
    (tensor,), (result,) = net.get_input_details(), net.get_output_details()
    rng = np.random.RandomState(2)
    if tensor["dtype"] == np.float32:
        items = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)
        step = 0.05
    else:
        limits = np.iinfo(tensor["dtype"])
        items = rng.randint(limits.min, limits.max + 1, (4, 16, 16, 3)).astype(tensor["dtype"])
        step = 1
    rights = []
    for item in items[2:]:
        net.set_tensor(tensor["index"], item[None])
        net.invoke()
        rights.append(net.get_tensor(result["index"])[0])
    inputs = items_of(visit, tensor["name"], items)
    answer = visit.runs(path, "--inputs", inputs, "-b", "tflite", "-p", "fp32", "-p", "as-shipped")
    assert answer.case("tflite")["status"] == "skipped"
    (output,) = answer.outputs("tflite", "as-shipped").values()
    differences = output.astype(np.float64) - np.asarray(rights, np.float64)
    assert output.dtype == rights[0].dtype and np.abs(differences).max() <= step


def test_one_of_several_signatures_is_chosen(models: Models, visit: Visit):
    path = models("tflite_signatures")
    said = visit.refused(path, "-b", "tflite")
    assert "encode" in said and "decode" in said and "--signature" in said
    answer = visit.runs(path, "--signature", "encode", "-b", "tflite", "-p", "fp32")
    (output,) = answer.outputs("tflite").values()
    assert output.shape == (64, 4)


def test_a_keras_lstm_of_a_free_batch_is_converted(models: Models, visit: Visit):
    path = models("keras_lstm")
    right = np.load(path.with_name("right.npz"))
    answer = visit.runs(path, "--inputs", items_of(visit, "x", right["x"]), *BOTH, "-p", "fp32")
    for backend in ("tflite", "openvino"):
        (output,) = answer.outputs(backend).values()
        assert near(output, right["y"][2:])


def test_a_dictionary_of_inputs_keeps_its_names(models: Models, visit: Visit):
    answer = visit.runs(models("keras_dictionary"), *BOTH, "-p", "fp32")
    assert {case["status"] for case in answer.cases} == {"ok"}
