"""Settle whether an evaluation's outputs are wrong, and find the layer that departs first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qbench.analysis.explain import Layer, layer_errors, short_name
from qbench.analysis.quality.fidelity import judged_outputs, of_equal_rows, sqnr_db
from qbench.analysis.quality.plausible import UNRELATED_DB, why_wrong
from qbench.kit.model import RunConfig
from qbench.run.artifacts import feed_files, model_files
from qbench.run.plan import Planned
from qbench.run.stages.sitting import Sitting
from qbench.run.workers.isolate import run_job, scratch_folder, stop_if_disk_full
from qbench.spec.judging import Quality
from qbench.spec.precisions import REFERENCE

ITEMS = 16
"""Number of items that layers and rounded weights are compared on."""
ROUNDING_DB = 25.0
"""8-bit weights below this SQNR are compared with rounding in NumPy."""
BELOW_ROUNDING_DB = 10.0
"""8-bit weights are wrong this far below their own rounding: ten times its noise."""


def why_outputs_are_wrong(
    sitting: Sitting, planned: Planned, quality: Quality, mismatch: str | None
) -> str | None:
    """Why an evaluation's status is ``wrong_output``, in a sentence; None if it is not.

    Args:
        mismatch: where the program that ran is not the one that was asked for; None if nowhere.
    """
    if mismatch is not None:
        return mismatch
    reason = why_wrong(quality) or _below_rounding(sitting, planned, quality)
    if reason is None or quality.sqnr_db is None:  # float32 itself, or nothing to compare with
        return reason
    layer = first_departing(_layers(sitting, planned))
    if layer is None:
        return reason
    name = short_name(layer.name, 40)
    return f"{reason}; first layer that departs: {name}, {layer.sqnr_db:.1f} dB"


def first_departing(layers: Sequence[Layer]) -> Layer | None:
    """The first layer, in order of execution, whose output has nothing to do with float32's; if
    there is none, the one that loses most. None without layers."""
    unrelated = (layer for layer in layers if layer.sqnr_db < UNRELATED_DB)
    return next(unrelated, max(layers, key=lambda layer: layer.drop_db, default=None))


def _layers(sitting: Sitting, planned: Planned) -> list[Layer]:
    """The layers of an artifact compared with its float32 twin's; empty if they cannot be."""
    twin = _twin(sitting, planned)
    if twin is None:
        return []
    files = {"prepared": _readable(sitting, planned), "prepared_twin": _readable(sitting, twin)}
    with _job(sitting, planned, "layers", {name: name for name in files}, files) as (result, _):
        return layer_errors(result.get("layers", ()))


def _below_rounding(sitting: Sitting, planned: Planned, quality: Quality) -> str | None:
    """Why 8-bit weights lose more than by their rounding, which NumPy simulates on ONNX sources;
    None if they do not, or if it cannot be simulated."""
    twin, ours = _twin(sitting, planned), quality.sqnr_db
    if planned.case.precision != "w8" or twin is None or ours is None or ours >= ROUNDING_DB:
        return None
    assert twin.preparation
    model = twin.preparation.model
    if model.format != "onnx":
        return None
    with sitting.writing:
        reference = sitting.bundle.reference(planned.case.model)
        assert reference  # there is an SQNR
        exact = judged_outputs(sitting.bundle, reference)
    described, files = model_files(model)
    files["twin"] = sitting.artifact(twin).folder
    request = {
        "twin": "twin",
        "source": described["path"],
        "companions": [*described["companions"].values()],
    }
    with _job(sitting, planned, "rounded", request, files) as (result, folder):
        outputs = {n: np.load(folder / file) for n, file in result.get("outputs", {}).items()}
    ratios = [
        sqnr_db(*of_equal_rows(exact[n][: len(o)], o))
        for n, o in outputs.items()
        if o.dtype.kind == "f" and o.ndim == exact[n].ndim
    ]
    simulated = min(ratios, default=None)
    if simulated is None or ours > simulated - BELOW_ROUNDING_DB:
        return None
    return (
        f"outputs are {ours:.1f} dB from float32's, where rounding the weights to 8 bits in NumPy "
        f"keeps {simulated:.1f} dB: a defect of the tool or the runtime"
    )


def _twin(sitting: Sitting, planned: Planned) -> Planned | None:
    """The float32 case of the same model, backend, device and environment, if it is prepared; None
    for float32 itself, and for files that arrive quantized."""
    case = planned.case
    if case.precision in (REFERENCE, "as-shipped"):
        return None
    same = {"model", "backend", "device", "environment"}
    wanted = case.model_dump(include=same)
    for other in [*sitting.plan.cases, *sitting.plan.references.get(case.model, ())]:
        if (
            other.case.precision == REFERENCE
            and other.preparation is not None
            and other.case.model_dump(include=same) == wanted
            and sitting.is_prepared(other)
        ):
            return other
    return None


def _readable(sitting: Sitting, planned: Planned) -> Path:
    """The artifact whose layers can be read: a compiled artifact's base, else the artifact."""
    preparation = planned.preparation
    assert preparation
    if preparation.compilation and preparation.base:
        preparation = preparation.base
    stored = sitting.store.find(preparation)
    assert stored  # bases are made first
    return stored.folder


@contextmanager
def _job(
    sitting: Sitting,
    planned: Planned,
    job: str,
    request: Mapping[str, Any],
    files: Mapping[str, Path],
) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Run a job on the first evaluation items, in the worker of the case.

    Yields:
        Its result, empty if it failed (then there is nothing to add to the reason), and its
        folder.
    """
    case, items = planned.case, planned.evaluation
    assert items is not None
    feeds, feed_paths = feed_files(items, "feed")
    config = RunConfig(device=case.device, batch=case.batch_size, hints=case.hints)
    with scratch_folder(sitting.store.work_folder) as folder:
        outcome = run_job(
            job,
            sitting.registry.targets[case.backend],
            {**request, "config": asdict(config), "feeds": feeds, "items": ITEMS},
            folder,
            {**files, **feed_paths},
            sitting.limits.evaluate_timeout_s,
            sitting.limits.memory_bytes,
            sitting.plan.interpreter(case),
        )
        stop_if_disk_full(outcome, folder)
        yield outcome.result, folder
