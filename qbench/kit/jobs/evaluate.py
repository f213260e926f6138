"""Job: run every evaluation item through an artifact; outputs are returned as ``.npy`` files. On
request, also profile its operators: here, never in a timed worker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, Program, Unsupported
from qbench.kit.feeds import clipped, load_items, stacked
from qbench.kit.main import Emit
from qbench.kit.model import Artifact, Feed, Model, RunConfig, gathered, scattered
from qbench.kit.operators import EFFECTIVE, EffectivePrecision
from qbench.kit.reasons import explain


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``artifact`` (folder), ``config``, ``feeds`` (``.npy`` files of ``[items, ...]``, by
    input name), ``profile_runs`` (number of inferences to profile; optional). Writes
    ``output-<index>.npy`` for each output."""
    artifact = load_artifact(Path(request["artifact"]))
    config = RunConfig(**request["config"])
    emit("import")
    version = backend.import_runtime()
    feeds = load_items(request["feeds"], artifact.model.inputs)
    emit("inspect")
    first = next(batches(feeds, artifact.model, config.batch, config.batch))
    with backend.open(artifact, config, inspect=True) as program:
        program.example = first
        effective = program.effective()
        mismatch = program.mismatch()
        saturated = {
            name: found._asdict()
            for name, spec in program.inputs.items()
            if name in feeds and (found := clipped(feeds[name], spec))
        }
        scales = {
            name: (spec.scale, spec.zero_point or 0)
            for name, spec in program.outputs.items()
            if spec.scale is not None
        }
        _compare(artifact.target.precision, effective)
        profile, refusal = None, ""
        if request.get("profile_runs"):
            emit("profile")
            try:
                profile = profiled(program, first, request["profile_runs"])
            except Exception as error:  # the outputs are still of use
                refusal = explain(error, backend.messages).text
    emit("evaluate")
    with backend.open(artifact, config) as program:
        outputs = predict(program, feeds, artifact.model, config.batch)
    return {
        "outputs": save_outputs(outputs),
        "effective": asdict(_with_states(effective, artifact.model)),
        "mismatch": mismatch,
        "clipped": saturated,
        "scales": scales,
        "runtime_version": version,
        "profile": profile,
        "profile_refusal": refusal,
    }


PROFILES = 5
"""Number of profiles whose median counts: in a single one, an operator that was interrupted once
for longer than the network takes would seem to take nearly all of the time."""


def profiled(program: Program, feed: Feed, runs: int) -> dict[str, Any]:
    """Profile an inspected program. Times are medians over ``PROFILES`` profiles, which share
    ``runs`` inferences.

    Returns:
        A ``backend.Profile`` as JSON.

    Raises:
        Unsupported, RuntimeError: see ``Program.profile``.
    """
    each = max(1, runs // PROFILES)
    first = program.profile(feed, each)
    if first is None:
        raise Unsupported("this adapter reports nothing about operators")
    if any(operator.ns is None for operator in first.operators):
        return asdict(first)
    others = (program.profile(feed, each) for _ in range(PROFILES - 1))
    every = [first, *(profile for profile in others if profile is not None)]
    names = [operator.name for operator in first.operators]
    alike = [one.operators for one in every if [op.name for op in one.operators] == names]
    times = np.array([[operator.ns for operator in one] for one in alike], dtype=np.float64)
    medians = np.median(times, axis=0).tolist()
    operators = [replace(op, ns=ns) for op, ns in zip(first.operators, medians, strict=True)]
    return asdict(replace(first, operators=tuple(operators)))


def batches(feeds: Feed, model: Model, batch: int, items: int) -> Iterator[Feed]:
    """Yield the first ``items`` items in whole batches, at least one."""
    count = len(next(iter(feeds.values())))
    for start in range(0, max(items, batch), batch):
        rows = [row % count for row in range(start, start + batch)]
        yield gathered(feeds, model.inputs, rows)


COMPUTED_IN = {
    "fp32": ("fp32", "fp64"),  # fp64: a file in float64, which no adapter converts
    "tf32": ("tf32",),
    "bf16": ("bf16",),
    "fp16": ("fp16", "fp32"),  # fp32: half precision is only how the weights are stored
    "fp8": ("fp8",),
}
"""Effective precisions that are accepted, by precision of the case. All others accept any: networks
may be quantized in part, and are flagged if they hardly are."""


def _compare(asked: str, effective: EffectivePrecision) -> None:
    """Reject a program that runs at another precision than its case. An unknown one is none."""
    if effective.precision is None:
        return
    if effective.precision not in EFFECTIVE:
        raise ValueError(
            f"the adapter reports the effective precision '{effective.precision}'; known are "
            f"{', '.join(EFFECTIVE)}"
        )
    if effective.precision not in COMPUTED_IN.get(asked, EFFECTIVE):
        counts = ", ".join(f"{n} in {word}" for word, n in effective.operators.items())
        raise Unsupported(
            f"{asked} was requested, but most of the work runs in {effective.precision} ({counts})"
        )


def _with_states(effective: EffectivePrecision, model: Model) -> EffectivePrecision:
    """The same with a note on the states that each inference feeds back."""
    notes = [
        f"'{state.output}' is fed back into '{name}'"
        + (
            ", from one item to the next"
            if state.carried
            else "; each item starts from the initial state"
        )
        for name, state in model.states.items()
    ]
    return replace(effective, notes=(*effective.notes, *notes))


def save_outputs(outputs: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, str]:
    """Write each output to ``<prefix>output-<index>.npy``; return the file names by output."""
    files = {name: f"{prefix}output-{index}.npy" for index, name in enumerate(outputs)}
    for name, file in files.items():
        np.save(file, outputs[name])
    return files


def load_artifact(path: Path) -> Artifact:
    """Load the artifact in the folder ``path``."""
    return Artifact.from_json(path, json.loads((path / "artifact.json").read_text()))


def predict(program: Program, feeds: Feed, model: Model, batch: int) -> dict[str, np.ndarray]:
    """Infer all items in batches; the last batch is padded with its first item. Carried states go
    from each item to the next.

    Returns:
        ``[items, *item]`` by canonical output; where items differ in shape, padded at the end.

    Raises:
        Unsupported: an output without a batch axis differs between batches of several items.
    """
    stream = program.stream()
    items = len(next(iter(feeds.values())))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in model.outputs}
    for start in range(0, items, batch):
        rows = [row if row < items else start for row in range(start, start + batch)]
        feed = gathered(feeds, model.inputs, rows)
        stream.bind(model.going_on(feed) if start else feed)
        stream.infer()
        for name, array in scattered(stream.read(), model.outputs, batch).items():
            if len(array) != batch:
                raise RuntimeError(f"output '{name}' should hold {batch} items, got {len(array)}")
            parts[name].append(np.array(array[: items - start]))
    if batch > 1:
        _check_constant(parts, model)
    return {name: stacked(arrays) for name, arrays in parts.items()}


def _check_constant(parts: Mapping[str, list[np.ndarray]], model: Model) -> None:
    """Refuse outputs that cannot be split by item."""
    for name, spec in model.outputs.items():
        first = parts[name][0][0]
        if spec.batch is None and any(
            first.tobytes() != part[0].tobytes() for part in parts[name][1:]
        ):
            raise Unsupported(
                f"output '{name}' has no batch axis, so it cannot be split by item: run at batch 1"
            )
