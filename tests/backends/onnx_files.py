"""Small ONNX files of all kinds, and one way to run them by any adapter that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qbench.kit.model import (
    Artifact,
    Calibration,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    SourceTensor,
)
from qbench.kit.onnxfile.external import external_files
from qbench.kit.operators import EffectivePrecision
from qbench.spec.precisions import complete_options

Node, Float = helper.make_node, TensorProto.FLOAT
BACKENDS = ("onnxruntime", "openvino")


def random(*shape: int, seed: int = 0, scale: float = 0.2, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(dtype)


def value(name: str, shape: Sequence[int | str], kind: int = Float) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(w), n) for n, w in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    onnx.save(model, path)
    return path


def backend(name: str) -> Any:
    return import_module(f"qbench_{name}").Backend()


class Ran(NamedTuple):
    """What an adapter made of a file.

    Attributes:
        outputs: of each feed, by the file's names.
    """

    provenance: Provenance
    effective: EffectivePrecision
    outputs: list[Feed]


def run(
    name: str,
    path: Path,
    feeds: Sequence[Feed],
    precision: str = "fp32",
    batch: int = 1,
    **options: Any,
) -> Ran:
    """Prepare ``path`` by the adapter ``name``, with the feeds for calibration, and run the feeds.

    Args:
        feeds: each of ``batch`` items, by the file's names.
    """
    adapter = backend(name)
    adapter.import_tools()
    described = adapter.describe(path)
    inputs, outputs = described.inputs, described.outputs
    model = Model(
        *(path.stem, "onnx", path, "0" * 64, "other", inputs, outputs),
        {n: SourceTensor(n) for n in inputs},
        {n: SourceTensor(n) for n in outputs},
        companions={other: path.parent / other for other in external_files(path)},
    )
    target = PrepareTarget(precision, complete_options(precision, options))
    items = Calibration({n: np.concatenate([feed[n] for feed in feeds]) for n in inputs})
    calibration = items if precision == "int8-static" else None
    out = path.parent / f"{path.stem}-{name}-{precision}"
    out.mkdir()
    artifact = Artifact(out, model, target, adapter.prepare(model, target, calibration, out))
    config = RunConfig(batch=batch)
    with adapter.open(artifact, config, inspect=True) as program:
        effective = program.effective()
    made = []
    with adapter.open(artifact, config) as program:
        stream = program.stream()
        for feed in feeds:
            stream.bind(feed)
            stream.infer()
            made.append({n: np.array(array) for n, array in stream.read().items()})
    return Ran(artifact.provenance, effective, made)


def bare(path: Path, feeds: Sequence[Feed]) -> list[Feed]:
    """What ONNX Runtime itself makes of the feeds."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def sqnr_db(exact: Sequence[Feed], made: Sequence[Feed]) -> float:
    """Of the worst output."""
    worst = np.inf
    for name in exact[0]:
        signal = np.concatenate([np.ravel(feed[name]) for feed in exact]).astype(np.float64)
        noise = signal - np.concatenate([np.ravel(feed[name]) for feed in made])
        worst = min(worst, 10 * np.log10(np.sum(signal**2) / max(np.sum(noise**2), 1e-30)))
    return float(worst)
