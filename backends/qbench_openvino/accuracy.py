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
    """NNCF has no limit of its own, so the functions that it calls raise this."""


class _Judge:
    """Counts right items, and watches the clock.

    Attributes:
        shares: share of right items, one for each model that saw all of them: the float32 one
            first, then the quantized ones that NNCF tried.
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
        """The share of right items, and the share within each feed (a *validation function*)."""
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
    """Quantize, then let operators go back to floating point until no more than
    ``max_accuracy_drop`` of the items are lost.

    All items both calibrate and judge. So it starts from the very model that is made without
    accuracy control, and every item counts: with half of a hundred for each task one item would
    weigh two points.

    Args:
        settings: keyword arguments for ``nncf.quantize``.

    Returns:
        The model, and notes on what happened.

    Raises:
        Unsupported: items without labels, or a model without classes.
        PrepareError: the drop was not reached, or not in time.
    """
    if calibration.labels is None or calibration.scores is None:
        raise Unsupported(
            "max_accuracy_drop needs calibration items with labels and a model that classifies"
        )
    if len(items.feeds) < 2:
        raise Unsupported("max_accuracy_drop needs calibration items for two batches at least")
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
        # NNCF also returns a model when it has run out of operators.
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
            f"operators went back to floating point; {_best(judge)}"
        )
    return result, (
        f"accuracy control: {back} of {whole} convolutions and matrix products went back to "
        f"floating point; of {len(judge.pairs) * items.batch} calibration items {share:.4f} are "
        f"right (float32: {exact:.4f}, fully quantized: {start:.4f})",
        "the same items calibrated and judged, so the drop on others may be greater",
    )


def _best(judge: _Judge) -> str:
    """The sentence on how far it came."""
    exact, tried = judge.shares[:1], judge.shares[1:]
    if not tried:
        return "no quantized model was tried by then: give it more time or fewer items"
    return (
        f"the best of {len(tried)} models lost {exact[0] - max(tried):.4f} (from {exact[0]:.4f} of "
        "the items): allow a greater drop, more time, or leave the operators out by "
        "excluded_operators"
    )
