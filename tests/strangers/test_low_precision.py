"""Files that arrive quantized, and float files with operators that quantizers meet."""

from __future__ import annotations

import numpy as np
import pytest
from right import right_outputs
from test_values import close, drawn_items, of_item, options
from visits import Answer, Models, Visit

pytestmark = pytest.mark.slow

BOTH = ("-b", "onnxruntime", "-b", "openvino")
ITEMS = 64  # half of them for calibration
STEP = 0.05  # the widest step of the quantized outputs in these files


def given(name: str, models: Models, visit: Visit, *words: str) -> tuple[Answer, list]:
    """A run on given inputs, and the right outputs of the items that it evaluates."""
    path = models(name)
    arrays, inputs = drawn_items(name, visit.folder, ITEMS)
    answer = visit.runs(path, "--inputs", inputs, *options(name), *words)
    items = range(ITEMS // 2, ITEMS)
    return answer, [right_outputs(path, of_item(path, arrays, item)) for item in items]


@pytest.mark.parametrize("name", ["qdq", "qlinear", "matmul_integer", "nbits"])
def test_a_quantized_file_runs_as_shipped_and_never_as_float(
    name: str, models: Models, visit: Visit
):
    answer, rights = given(name, models, visit, *BOTH, "-p", "fp32", "-p", "as-shipped")
    for backend in ("onnxruntime", "openvino"):
        assert answer.case(backend)["status"] == "skipped"
        assert "as-shipped" in answer.case(backend)["reason"]
        outputs = answer.outputs(backend, "as-shipped")
        for row, right in enumerate(rights):
            for tensor, array in right.items():
                got = outputs[tensor][row].reshape(array.shape)
                assert np.abs(got - array).max() <= STEP * 1.01, backend


@pytest.mark.parametrize("name", ["one_pair", "if_relu", "matmul_rank_3", "lstm_cell"])
def test_int8_is_near_float32_or_says_that_it_is_not(name: str, models: Models, visit: Visit):
    answer, _ = given(name, models, visit, *BOTH, "-p", "fp32", "-p", "int8-static")
    for backend in ("onnxruntime", "openvino"):
        assert answer.case(backend)["status"] == "ok"
        case = answer.case(backend, "int8-static")
        if case["status"] == "ok":
            assert case["sqnr_db"] > 20 or "int8 in name only" in str(case["flags"]), case
        else:
            assert case["status"] in ("skipped", "prepare_failed"), case["reason"]


def test_a_float_network_with_one_pair_is_a_float_file(models: Models, visit: Visit):
    answer, rights = given("one_pair", models, visit, *BOTH, "-p", "fp32")
    for backend in ("onnxruntime", "openvino"):
        outputs = answer.outputs(backend)
        for row, right in enumerate(rights):
            assert close(outputs["scores"][row].reshape(1, 4), right["scores"])
