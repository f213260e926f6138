"""Quantization with accuracy control. Never imported while measuring."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Calibration, Feed, Model
from qbench_openvino.graph import quantized
from qbench_openvino.nncf import Items, import_nncf
from qbench_openvino.runtime import DEVICE, import_openvino
from qbench_openvino.tensors import find_ports


class _TimeIsUpError(Exception):
    """Raised by the functions that NNCF calls, since NNCF has no time limit."""


class _Judge:
    """Counts correct items, and limits the time.

    Attributes:
        shares: share of correct items of each model that ran all items: the float32 model first,
            then the quantized ones that NNCF tried.
    """

    def __init__(self, model: Model, calibration: Calibration, items: Items, end: float) -> None:
        assert calibration.labels is not None and calibration.scores is not None
        scores = calibration.scores
        self._tensor = {scores: model.source_outputs[scores]}
        self._items, self._end = items, end
        labels = np.asarray(calibration.labels)
        size = items.batch
        self.pairs = [
            (feed, labels[i * size : (i + 1) * size]) for i, feed in enumerate(items.feeds)
        ]
        self.shares: list[float] = []

    def check_time(self) -> None:
        if time.monotonic() > self._end:
            raise _TimeIsUpError

    def to_inputs(self, feed: Feed) -> Feed:
        self.check_time()
        return self._items.to_inputs(feed)

    def pair_to_inputs(self, pair: tuple[Feed, np.ndarray]) -> Feed:
        return self.to_inputs(pair[0])

    def __call__(
        self, compiled: Any, pairs: Iterable[tuple[Feed, np.ndarray]]
    ) -> tuple[float, list[float]]:
        """Share of correct items, overall and in each feed (NNCF's *validation function*)."""
        (port,) = find_ports(compiled.outputs, self._tensor).values()
        request = compiled.create_infer_request()
        rights = []
        for feed, labels in pairs:
            request.infer(self.to_inputs(feed))
            scores = request.get_tensor(port).data.reshape(len(labels), -1)
            rights.append(float(np.mean(scores.argmax(1) == labels)))
        share = float(np.mean(rights))
        if len(rights) == len(self.pairs):
            self.shares.append(share)
        return share, rights


def quantize_within(
    converted: Any,
    model: Model,
    options: Mapping[str, Any],
    calibration: Calibration,
    items: Items,
    settings: Mapping[str, Any],
) -> tuple[Any, tuple[str, ...]]:
    """Quantize, then return operators to floating point until accuracy on the items falls by no
    more than ``max_accuracy_drop``.

    All items serve both for calibration and for validation: the search starts from the same model
    as without accuracy control, and of 50 validation items one would weigh two points.

    Args:
        settings: keyword arguments for ``nncf.quantize``.

    Returns:
        The model, and notes.

    Raises:
        Unsupported: items without labels, or a model without classes.
        PrepareError: the limit was not met, or not in time.
    """
    if calibration.labels is None or calibration.scores is None:
        raise Unsupported(
            "max_accuracy_drop needs calibration items with labels and a model that classifies"
        )
    if len(items.feeds) < 2:
        raise Unsupported("max_accuracy_drop needs calibration items for at least two batches")
    nncf, openvino = import_nncf(), import_openvino()
    limit, minutes = options["max_accuracy_drop"], options["accuracy_control_minutes"]
    judge = _Judge(model, calibration, items, time.monotonic() + 60 * minutes)
    arguments = dict(settings)
    advanced = arguments.pop("advanced_parameters")
    try:
        with tempfile.TemporaryDirectory() as folder:
            judge.check_time()
            result = nncf.quantize_with_accuracy_control(
                converted,
                nncf.Dataset(items.feeds, judge.to_inputs),
                nncf.Dataset(judge.pairs, judge.pair_to_inputs),
                judge,
                max_drop=limit,
                subset_size=len(items.feeds),
                advanced_quantization_parameters=advanced,
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    num_ranking_workers=1, intermediate_model_dir=folder
                ),
                **arguments,
            )
            full = openvino.Core().read_model(Path(folder) / "intermediate_model.xml")
            whole = len(quantized(full))
        # NNCF also returns a model that misses the limit, once it runs out of operators
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        share, _ = judge(openvino.compile_model(result, DEVICE, hint), judge.pairs)
    except _TimeIsUpError:
        raise PrepareError(
            f"accuracy control did not reach a drop of {limit:g} within {minutes:g} minutes; "
            f"{_best(judge)}"
        ) from None
    exact, start = judge.shares[:2]
    back = whole - len(quantized(result))
    if exact - share > limit + 1e-9:
        raise PrepareError(
            f"accuracy control did not reach a drop of {limit:g} though {back} of {whole} "
            f"operators returned to floating point; {_best(judge)}"
        )
    return result, (
        f"accuracy control: {back} of {whole} convolutions and matrix products returned to "
        f"floating point; share of {len(judge.pairs) * items.batch} calibration items that are "
        f"correct: {share:.4f} (float32: {exact:.4f}, fully quantized: {start:.4f})",
        "calibration and validation use the same items, so the drop on others may be greater",
    )


def _best(judge: _Judge) -> str:
    """A sentence on the best model so far."""
    exact, tried = judge.shares[:1], judge.shares[1:]
    if not tried:
        return "no quantized model was tried in time: allow more time or fewer items"
    return (
        f"the best of {len(tried)} models lost {exact[0] - max(tried):.4f} (from {exact[0]:.4f} of "
        "the items): allow a greater drop or more time, or exclude operators by excluded_operators"
    )
