"""Importing NNCF, and feeding it calibration items."""

from __future__ import annotations

import logging
from typing import Any

from qbench.kit.adapter import PrepareError
from qbench.kit.model import Calibration, Feed, Model
from qbench_openvino.tensors import batch_of, find_ports


def import_nncf() -> Any:
    """NNCF, told to keep quiet.

    Raises:
        PrepareError: it cannot be imported.
    """
    try:
        import nncf
    except ImportError as error:
        raise PrepareError(
            f"NNCF, which quantizes, cannot be imported ({error}): pip install nncf"
        ) from error
    nncf.set_log_level(logging.WARNING)
    return nncf


class Items:
    """Calibration items as NNCF takes them.

    Attributes:
        batch: items in one feed.
        feeds: canonical feeds of ``batch`` items; a last, smaller one is left out.
    """

    def __init__(self, converted: Any, model: Model, calibration: Calibration) -> None:
        inputs = find_ports(converted.inputs, model.source_inputs)
        self._model = model
        self._names = {
            model.source_inputs[n].name: port.get_any_name() for n, port in inputs.items()
        }
        self.batch = batch_of(next(iter(inputs.values()))) or 1
        if len(calibration) < self.batch:
            raise PrepareError(
                f"the file is fixed at batch {self.batch} and only {len(calibration)} calibration "
                "items are given"
            )
        self.feeds = list(calibration.batches(self.batch))

    def to_inputs(self, feed: Feed) -> Feed:
        """A canonical feed under the names of OpenVINO's ports."""
        return {self._names[n]: array for n, array in self._model.to_source(feed).items()}
