"""Whether a saved model computes what it computed in memory. Never imported while measuring.

OpenVINO 2026.4.1 saves some models so that they cannot be read back (GroupQueryAttention with fewer
heads of keys than of queries), or so that they compute something else (an LSTM cell in int8: 39 dB
of float32 in memory, -4.6 dB once it is saved and read).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Calibration, Feed, Model
from qbench_openvino.runtime import DEVICE, import_openvino
from qbench_openvino.tensors import find_ports, port_spec, reshape

LEAST_DB = 40.0
"""Outputs of one model, before and after it is saved, are nearer to each other than this."""


def departure(
    converted: Any, file: Path, model: Model, calibration: Calibration | None, half: bool
) -> str | None:
    """How the model saved in ``file`` departs from ``converted``, on one feed; None if it does not,
    or if the model fails on this feed or computes something else each time.

    Args:
        calibration: gives the feed; None: made-up numbers.
        half: whether it is saved with float16 weights; then only reading it is tried, since
            rounding alone changes indices and the order of rows.
    """
    core = import_openvino().Core()
    try:
        saved = core.read_model(file)
    except RuntimeError:
        return "cannot read this model again once it has saved it"
    if half:
        return None
    feed = _feed(converted, model, calibration)
    try:
        exact = _outputs(core, converted.clone(), model, feed)
        made = _outputs(core, saved, model, feed)
    except (RuntimeError, Unsupported):  # opening it tells why
        return None
    worst = _sqnr_db(exact, made)
    if worst >= LEAST_DB or _sqnr_db(exact, _outputs(core, converted.clone(), model, feed)) < worst:
        return None
    return (
        f"computes something else once it has saved this model ({worst:.0f} dB of its own outputs)"
    )


def _feed(converted: Any, model: Model, calibration: Calibration | None) -> Feed:
    ports = find_ports(converted.inputs, model.source_inputs)
    specs = [port_spec(port, batch=model.inputs[name].batch) for name, port in ports.items()]
    batch = next(filter(None, map(fixed_batch, specs)), 1)
    if calibration is not None:
        return next(calibration.batches(model.inputs, batch))
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.standard_normal(spec.at(batch))
            if np.dtype(spec.dtype).kind == "f"
            else np.ones(spec.at(batch))
        ).astype(spec.dtype)
        for name, spec in model.inputs.items()
    }


def _outputs(core: Any, compared: Any, model: Model, feed: Feed) -> dict[str, np.ndarray]:
    inputs = find_ports(compared.inputs, model.source_inputs)
    batch = next(
        (feed[n].shape[spec.batch] for n, spec in model.inputs.items() if spec.batch is not None), 1
    )
    outputs = find_ports(compared.outputs, model.source_outputs)
    reshape(compared, inputs, outputs, model, batch)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
    compiled = core.compile_model(compared, DEVICE, settings)
    arrays = model.to_source(feed)
    ports = find_ports(compiled.inputs, model.source_inputs)
    request = compiled.create_infer_request()
    request.infer({port: arrays[model.source_inputs[n].name] for n, port in ports.items()})
    found = find_ports(compiled.outputs, model.source_outputs)
    return {name: np.array(request.get_tensor(port).data) for name, port in found.items()}


def _sqnr_db(exact: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> float:
    """Of the worst output. Numbers that are not finite in ``exact`` do not count."""
    worst = np.inf
    for name, array in exact.items():
        if array.shape != made[name].shape:
            return -np.inf
        counts = np.isfinite(array)
        if not np.isfinite(made[name][counts]).all():
            return -np.inf
        signal = array[counts].astype(np.float64)
        noise = float(np.sum((signal - made[name][counts]) ** 2))
        if noise:
            worst = min(worst, 10 * np.log10(max(float(np.sum(signal**2)), 1e-300) / noise))
    return worst
