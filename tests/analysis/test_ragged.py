"""Outputs with a number of rows that the values decide, as NonMaxSuppression's."""

from __future__ import annotations

import numpy as np
import pytest

from qbench.analysis.quality.judge import score_outputs
from qbench.spec.judging import Judging

HOW = Judging(task="other", ragged=["kept"])


def test_missing_rows_count_as_zeros():
    exact = {"kept": np.float32([[[3, 4], [0, 12]], [[3, 4], [0, 0]]])}  # two items, two rows
    ours = {"kept": exact["kept"][:, :1]}  # the second row is missing: 144 of 194 is noise
    quality = score_outputs(ours, exact, None, HOW)
    assert quality.sqnr_db == pytest.approx(10 * np.log10(194 / 144))
    assert score_outputs(exact, ours, None, HOW).fidelity["kept"].max_abs_difference == 12


def test_other_outputs_must_have_the_references_shape():
    exact = {"scores": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"shape \[2, 2\], the reference's \[2, 3\]"):
        score_outputs({"scores": exact["scores"][:, :2]}, exact, None, HOW)
