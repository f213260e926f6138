"""NNCF, and calibration items in its form. Never imported while measuring."""

from __future__ import annotations

import logging
from typing import Any

from qbench.kit.adapter import PrepareError
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Calibration, Feed, Model
from qbench.kit.reasons import sentence
from qbench_openvino.tensors import find_ports, port_spec


def import_nncf() -> Any:
    """The ``nncf`` package, with warnings only.

    Raises:
        PrepareError: it cannot be imported.
    """
    try:
        import nncf
    except ImportError as error:
        raise PrepareError(
            f"NNCF cannot be imported, {sentence(error)}: pip install nncf"
        ) from error
    nncf.set_log_level(logging.WARNING)
    return nncf


class Items:
    """Calibration items for NNCF.

    Attributes:
        batch: items in one feed: the file's fixed batch, else 1.
        feeds: canonical feeds of ``batch`` items, without a smaller last one.
    """

    def __init__(self, converted: Any, model: Model, calibration: Calibration) -> None:
        inputs = find_ports(converted.inputs, model.source_inputs)
        self._model = model
        self._names = {
            model.source_inputs[n].name: port.get_any_name() for n, port in inputs.items()
        }
        specs = [port_spec(p, batch=model.inputs[n].batch) for n, p in inputs.items()]
        self.batch = next(filter(None, map(fixed_batch, specs)), 1)
        if len(calibration) < self.batch:
            raise PrepareError(
                f"the file is fixed at batch {self.batch}, but there are only {len(calibration)} "
                "calibration items"
            )
        self.feeds = list(calibration.batches(model.inputs, self.batch))

    def to_inputs(self, feed: Feed) -> Feed:
        """A canonical feed by the names of OpenVINO's ports."""
        return {self._names[n]: array for n, array in self._model.to_source(feed).items()}
