"""Job: prepare an artifact, in the working folder's folder ``out``."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.adapter import Adapter, PrepareError, Unsupported
from qbench.kit.feeds import load_items
from qbench.kit.jobs.evaluate import predict
from qbench.kit.main import Emit
from qbench.kit.model import (
    UNKNOWN_RANK,
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    RunConfig,
    TensorSpec,
    relayout_shape,
)
from qbench.kit.readings.memory import Memory

QUANTIZED = ("int8-static", "int8-dynamic", "int8-qat", "int16x8", "w8", "w4", "fp8")
"""Precisions whose artifacts must report their number of quantized operators."""


def run(backend: Adapter, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Request: ``model, target, calibration`` (``.npy`` files by input name, or None),
    ``calibration_items, calibration_labels`` (``.npy`` or None), ``calibration_scores`` (the output
    with the class scores, and the number of its leading classes that labels leave out; or None)."""
    model = Model.from_json(request["model"])
    target = PrepareTarget(**request["target"])
    out = Path("out")
    out.mkdir()

    emit("import")
    memory = Memory()
    version = backend.import_tools()
    emit("describe")
    make_real(model.companions.values())
    model = chosen(backend, model)
    with suppress(Unsupported):  # the adapter checks the names itself
        found = backend.describe(model.path)
        model = _named(model, found.inputs, found.outputs)
        compare(model, found.inputs, found.outputs)
    emit("prepare")
    calibration = _calibration(request, backend, model)
    start = time.perf_counter_ns()
    provenance = backend.prepare(model, target, calibration, out)
    elapsed_ns = time.perf_counter_ns() - start

    if not (out / provenance.file).exists():
        raise PrepareError(f"the adapter named '{provenance.file}' but did not write it")
    if provenance.quantized_ops == 0:
        raise PrepareError("the quantizer finished but quantized no operator")
    if target.precision in QUANTIZED and not provenance.quantized_ops:
        raise PrepareError("the adapter does not report the number of quantized operators")
    write_record(Artifact(out, model, target, provenance), version, elapsed_ns, memory)
    return {"provenance": asdict(provenance), "prepare_ns": elapsed_ns}


def chosen(backend: Adapter, model: Model) -> Model:
    """The model of the chosen signature alone, of a file with several."""
    if model.signature is None or not model.path.is_file():
        return model
    return replace(model, path=extracted(backend, model.path, model.signature))


def extracted(backend: Adapter, path: Path, signature: str) -> Path:
    """A file with the signature's part of ``path``."""
    alone = Path(f"signature{path.suffix}")
    backend.extract(path, signature, alone)
    return alone


def write_record(artifact: Artifact, version: str, elapsed_ns: int, memory: Memory) -> None:
    """Write ``artifact.json``, without paths, to the artifact's folder."""
    described = artifact.to_json()
    record = {
        **described,
        "model": {**described["model"], "path": "", "companions": {}},
        "runtime_version": version,
        "prepare_ns": elapsed_ns,
        "memory_peak_bytes": memory.peak(),
    }
    (artifact.path / "artifact.json").write_text(json.dumps(record, indent=1))


def make_real(links: Iterable[Path]) -> None:
    """Replace links by copies: runtimes refuse to read external weights through links."""
    for path in links:
        target = path.resolve()
        path.unlink()
        shutil.copyfile(target, path)


def _named(
    model: Model, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Model:
    """Take the tensor's name from the file if the card names none and both have one tensor."""
    found = []
    for names, there in ((model.source_inputs, inputs), (model.source_outputs, outputs)):
        if len(names) == len(there) == 1:
            ((canonical, tensor),) = names.items()
            if tensor.name == canonical:
                names = {canonical: replace(tensor, name=next(iter(there)))}
        found.append(names)
    return replace(model, source_inputs=found[0], source_outputs=found[1])


def compare(
    model: Model, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Reject a file that does not match its card.

    Raises:
        PrepareError: with the tensor, what the card says and what the file has.
    """
    for what, card, names, found in (
        ("input", model.inputs, model.source_inputs, inputs),
        ("output", model.outputs, model.source_outputs, outputs),
    ):
        for canonical, tensor in names.items():
            if tensor.name not in found:
                raise PrepareError(
                    f"the card says that {what} '{canonical}' is called '{tensor.name}' in the "
                    f"{model.format} file, whose {what}s are {', '.join(found)}"
                )
            have, spec = found[tensor.name].shape, card[canonical]
            want = relayout_shape(spec.shape, spec.layout, tensor.layout)
            fits = UNKNOWN_RANK in (have, want) or (
                len(have) == len(want)
                and all(
                    a == b or isinstance(a, str) or isinstance(b, str) or axis == spec.batch
                    for axis, (a, b) in enumerate(zip(have, want, strict=True))
                )
            )
            if not fits:
                raise PrepareError(
                    f"the card says that {what} '{canonical}' has shape {list(want)} in the "
                    f"{model.format} file, where it has {list(have)}"
                )
    missing = set(inputs) - {tensor.name for tensor in model.source_inputs.values()}
    if missing:
        raise PrepareError(f"the card does not name the file's inputs {sorted(missing)}")


def _calibration(request: dict[str, Any], backend: Adapter, model: Model) -> Calibration | None:
    if not request.get("calibration"):
        return None
    items = request["calibration_items"]
    loaded = load_items(request["calibration"], model.inputs)
    feeds = {name: array[:items] for name, array in loaded.items()}
    if any(state.carried for state in model.states.values()):
        feeds |= _carried_states(backend, model, feeds)
    labels = request.get("calibration_labels")
    if not labels:
        return Calibration(feeds)
    scores, background = request["calibration_scores"]
    return Calibration(feeds, np.load(labels)[:items] + background, scores)


def _carried_states(backend: Adapter, model: Model, feeds: Feed) -> Feed:
    """The carried states that each item finds, ``[items, *item]``: those that the float32 model
    left after the item before it. A range of zeros would leave a quantized model no memory."""
    target, out = PrepareTarget("fp32"), Path("float32")
    out.mkdir()
    artifact = Artifact(out, model, target, backend.prepare(model, target, None, out))
    backend.import_runtime()
    with backend.open(artifact, RunConfig()) as program:
        left = predict(program, feeds, model, batch=1)
    return {
        name: np.concatenate([feeds[name][:1], left[state.output][:-1]])
        for name, state in model.states.items()
        if state.carried
    }
