"""Inputs that qbench makes up: models survive them, or the message says that they were made up."""

from __future__ import annotations

import numpy as np
import pytest
from visits import Models, Visit

pytestmark = pytest.mark.slow

BOTH = ("-b", "onnxruntime", "-b", "openvino", "-p", "fp32")

SURVIVE = {
    "encoder_mask": ["--size", "L=12"],
    "encoder_positions": ["--size", "L=12"],
    "bool_mask": ["--size", "L=12"],
    "gather_5": [],
    "dlrm": [],
}


@pytest.mark.parametrize(("name", "options"), SURVIVE.items())
def test_models_survive_them(name: str, options: list[str], models: Models, visit: Visit):
    answer = visit.runs(models(name), *options, *BOTH)
    assert {case["status"] for case in answer.cases} == {"ok"}


def test_nan_from_made_up_inputs_says_that_they_were_made_up(models: Models, visit: Visit):
    said = visit.refused(models("log"), *BOTH)
    assert "NaN" in said and "made-up" in said and "--inputs" in said


def test_nan_from_given_inputs_does_not(models: Models, visit: Visit):
    np.savez(visit.folder / "inputs.npz", x=-np.ones((4, 8), np.float32))
    said = visit.refused(models("log"), "--inputs", visit.folder / "inputs.npz", *BOTH)
    assert "NaN" in said and "made-up" not in said


def test_nan_in_the_weights_is_told_as_the_files_fault(models: Models, visit: Visit):
    said = visit.refused(models("nan_weight"), *BOTH)
    assert "the weights of 'y' hold NaN" in said and "made-up" not in said
