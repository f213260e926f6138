"""Build an engine for one kind of device and one batch from a prepared ONNX file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorrt as trt  # pyright: ignore[reportMissingImports]

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.model import Artifact, Provenance, RunConfig
from qbench_tensorrt.inspect import LAYERS_FILE
from qbench_tensorrt.io import IO_FILE, Io
from qbench_tensorrt.log import Log
from qbench_tensorrt.memory import use_device
from qbench_tensorrt.options import Hints, device_index, hints_of
from qbench_tensorrt.source import write_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ENGINE_FILE = "model.engine"
TIMINGS_FILE = "timing.cache"

_plugins_log: list[Log] = []

_READING = (  # signs of builder warnings that concern speed or accuracy
    *("performance", "fallback", "fall back", "not enough", "insufficient", "precision"),
    *("subnormal", "overflow", "out of range", "clamp", "skipping tactic", "hardware"),
)


def compile_engine(artifact: Artifact, config: RunConfig, kept: Path, out: Path) -> Provenance:
    """Compile an artifact. Writes into ``out``::

        model.engine   the engine: one profile with equal minimum, optimum and maximum batch
        io.json        inputs and outputs of the prepared ONNX file
        layers.json    the engine inspector's description of every layer
        nodes.json     kinds and work of the ONNX nodes that the layers name

    and into ``kept`` the ``timing.cache`` that the next build starts from. The ONNX file decides
    precisions, since the network is strongly typed, except TF32: a flag of the builder decides
    whether float32 products may round their factors to it.

    Raises:
        PrepareError: the parser or the builder refuses the file; names the operator if known.
        Unsupported: the file is fixed at another batch.
        ValueError: a wrong hint.
    """
    hints = hints_of(config)
    use_device(device_index(config.device), spin=False)
    log = Log()
    _register_plugins(log)
    builder = trt.Builder(log)
    network = _parse(builder, artifact.file, log)
    build = builder.create_builder_config()
    settings = _settings(build, artifact.target.precision, hints)
    shapes = Io.read(artifact.path).input_shapes(artifact.model, config.batch)
    settings["profile"] = _profile(builder, build, network, shapes)
    timings, note = _take_timings(build, kept / TIMINGS_FILE)
    log.errors.clear()  # messages about a refused cache
    plan = builder.build_serialized_network(network, build)
    if plan is None:
        raise _failure("TensorRT builds no engine", log.errors)
    (out / ENGINE_FILE).write_bytes(plan)
    _keep_timings(build, kept / TIMINGS_FILE)
    shutil.copyfile(artifact.path / IO_FILE, out / IO_FILE)
    engine = load_engine(out / ENGINE_FILE, log)
    (out / LAYERS_FILE).write_text(layer_information(engine, shapes, log))
    write_nodes(artifact.file, shapes, out)
    settings |= {
        "tensorrt": trt.__version__,
        "strongly_typed": True,
        "timing_cache": timings,
        "engine_bytes": (out / ENGINE_FILE).stat().st_size,
        "device_memory_bytes": engine.device_memory_size_v2,
    }
    notes = [*([note] if note else ()), *_worth_reading(log.warnings)]
    return Provenance(ENGINE_FILE, settings=settings, notes=tuple(notes))


def load_engine(file: Path, log: Log) -> Any:
    """The engine in ``file``.

    Raises:
        RuntimeError: it is made for another device or TensorRT, or damaged.
    """
    _register_plugins(log)
    engine = trt.Runtime(log).deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        raise log.failure(
            f"TensorRT {trt.__version__} cannot load the engine (an engine runs only with the "
            "version of TensorRT and on the kind of GPU that it was built for: compile it again)"
        )
    return engine


def _register_plugins(log: Log) -> None:
    """Register TensorRT's own plugins, which the parser uses for some operators and an engine then
    needs. Their library keeps the bare address of the last logger, so that logger is kept alive."""
    if not trt.init_libnvinfer_plugins(log, ""):
        raise log.failure("registering TensorRT's plugins")
    _plugins_log[:] = [log]


def layer_information(engine: Any, shapes: Mapping[str, Sequence[int]], log: Log) -> str:
    """The inspector's JSON of every layer: detailed, like the builder's verbosity, and with sizes.

    Args:
        shapes: of the inputs, by name. Without them an engine with a profile reports no sizes that
            depend on them.
    """
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED  # nothing runs: no memory
    context = engine.create_execution_context(strategy)
    if context is None:
        raise log.failure("creating an execution context")
    for name, shape in shapes.items():
        if not context.set_input_shape(name, tuple(shape)):
            raise log.failure(f"setting the shape of '{name}' to {list(shape)}")
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return inspector.get_engine_information(trt.LayerInformationFormat.JSON)


# --------------------------------------------------------------------------- the network


def _parse(builder: Any, file: Path, log: Log) -> Any:
    """The network in an ONNX file, strongly typed (in TensorRT 11 every network is)."""
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(file)):
        return network
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise _failure("TensorRT cannot read the ONNX file", log.errors)
    raise PrepareError(
        f"TensorRT cannot take the ONNX file: {_joined(map(_described, errors))}",
        next((place for place in map(_place, errors) if place), None),
    )


def _described(error: Any) -> str:
    """One error of the parser: text, code and place."""
    place = _place(error)
    where = f" at {place}" if place else ""
    return f"{_short(error.desc())} [{error.code().name}{where}]"


def _place(error: Any) -> str:
    """Operator and name of the node that an error concerns; "" if none."""
    kind, name = error.node_operator(), error.node_name()
    return f"{kind} '{name}'" if kind and name else kind or name


def _failure(doing: str, errors: list[str]) -> PrepareError:
    """An exception with the builder's last errors."""
    text = _joined(map(_short, errors[-3:])) or "it gives no reason"
    return PrepareError(f"{doing}: {text}")


def _joined(texts: Iterable[str], most: int = 5) -> str:
    """Distinct texts: the first few, and the number of others."""
    every = list(dict.fromkeys(texts))
    more = f"; and {len(every) - most} more" if len(every) > most else ""
    return "; ".join(every[:most]) + more


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."


# --------------------------------------------------------------------------- the builder's settings


def _settings(build: Any, precision: str, hints: Hints) -> dict[str, Any]:
    """Configure everything that does not depend on the network; returns the settings."""
    build.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the inspector
    if precision == "tf32":
        build.set_flag(trt.BuilderFlag.TF32)
    else:  # it is on unless it is cleared
        build.clear_flag(trt.BuilderFlag.TF32)
    if hints.builder_optimization_level is not None:
        build.builder_optimization_level = hints.builder_optimization_level
    if hints.workspace_mb is not None:
        size = hints.workspace_mb << 20
        build.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    return {
        "tf32": build.get_flag(trt.BuilderFlag.TF32),
        "builder_optimization_level": build.builder_optimization_level,
        "workspace_mb": build.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) >> 20,
        "hardware_compatibility_level": build.hardware_compatibility_level.name,
        "profiling_verbosity": build.profiling_verbosity.name,
    }


def _profile(
    builder: Any, build: Any, network: Any, shapes: Mapping[str, Sequence[int]]
) -> dict[str, list[int]] | None:
    """Fix every free size, so that kernels are chosen for the measured sizes.

    Returns:
        The fixed shape by input; None if no size is free.
    """
    free = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        sizes = tuple(tensor.shape)
        if tensor.name not in shapes:
            raise PrepareError(f"the ONNX file has an input '{tensor.name}' that {IO_FILE} lacks")
        if -1 in sizes:
            if tensor.is_shape_tensor:
                raise Unsupported(f"input '{tensor.name}' decides the shapes of others")
            free[tensor.name] = list(shapes[tensor.name])
    if not free:
        return None
    profile = builder.create_optimization_profile()
    for name, shape in free.items():
        profile.set_shape(name, shape, shape, shape)
    if build.add_optimization_profile(profile) < 0:
        raise PrepareError(f"TensorRT takes no profile of {free}")
    return free


# --------------------------------------------------------------------------- timings of kernels


def _take_timings(build: Any, file: Path) -> tuple[str, str | None]:
    """Start from the timings in ``file``, if usable: ``reused`` or ``new``, and a note or None.

    TensorRT refuses timings of another kind of GPU or another version.
    """
    old = file.read_bytes() if file.exists() else b""
    cache = build.create_timing_cache(old)
    if cache is not None and build.set_timing_cache(cache, False):
        return ("reused" if old else "new"), None
    build.set_timing_cache(build.create_timing_cache(b""), False)
    return "new", "cached kernel timings were damaged or made for another GPU: timed again"


def _keep_timings(build: Any, file: Path) -> None:
    cache = build.get_timing_cache()
    if cache is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cache.serialize())


def _worth_reading(warnings: list[str]) -> list[str]:
    """Distinct warnings that concern speed or accuracy."""
    chosen = [w for w in warnings if any(sign in w.lower() for sign in _READING)]
    return [f"TensorRT warns: {text}" for text in dict.fromkeys(map(_short, chosen))][:10]
