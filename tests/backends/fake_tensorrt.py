"""A fake of ``tensorrt`` in two versions: the names of the real ones, engines that are ONNX files.

A plan holds the model as it was parsed; ``execute_async_v3`` queues a run of it by ONNX Runtime's
CPU provider on the addresses that were set, through ``fake_cuda.enqueue``. Names, values of
enumerations and what a version lacks come from ``tests/files/tensorrt-api``, which was read off the
real bindings. What the real one refuses, this one refuses with the same call: a dynamic input
without a profile, Q/DQ in a weakly typed network of 10, a plan of another version.

``make("11")`` returns a module; ``module._fake`` is a :class:`Behaviour` for tests to change.
"""

from __future__ import annotations

import enum
import inspect
import json
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import fake_layers
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from paths import FIXTURES

API = FIXTURES / "tensorrt-api"
VERSIONS = {"10": "10.16.1.11", "11": "11.4.0.106"}
_MAGIC = b"plan of the fake TensorRT\n"
_CACHE = b"timings of the fake TensorRT "
_FOREIGN = ("QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")
_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.FLOAT8E4M3FN: "FP8",
    TensorProto.INT4: "INT4",
}


@dataclass
class Behaviour:
    """What a test may want otherwise."""

    device: str = "fake H100"
    unsupported: set[str] = field(default_factory=set)
    """Types of operators that the parser does not know."""
    build_error: str | None = None
    """The builder logs this as an error and returns None."""
    warnings: list[str] = field(default_factory=list)
    """The builder logs these."""
    layer_ms: float = 0.25
    """What the profiler is told for each layer."""
    built: list[dict[str, Any]] = field(default_factory=list)
    """What each plan was built with."""
    plugins: bool = False
    """Whether TensorRT's own plugins have been registered."""


def install(patch: pytest.MonkeyPatch, version: str) -> Any:
    """Be ``tensorrt`` for a test, with ``fake_cuda`` as CUDA; answers the module. The adapter's
    modules are imported anew."""
    import fake_cuda

    fake_cuda.install(patch)
    trt = make(version)
    patch.setitem(sys.modules, "tensorrt", trt)
    return trt


def api(version: str) -> dict[str, Any]:
    """What was read off the real bindings of ``10`` or ``11``."""
    return json.loads((API / f"{VERSIONS[version]}.json").read_text())


def make(version: str) -> types.ModuleType:
    """The fake as TensorRT ``10`` or ``11`` has it."""
    real = api(version)
    trt: Any = types.ModuleType("tensorrt")
    trt.__version__ = VERSIONS[version]
    trt._fake = Behaviour()
    for name, members in real["classes"].items():
        values = _values(members)
        if values and "." not in name:
            setattr(trt, name, _enumeration(name, values))
    for base in CLASSES:
        allowed = real["classes"][base.__name__]
        kept = {k: v for k, v in vars(base).items() if k.startswith("_") or k in allowed}
        kept = {k: v for k, v in kept.items() if k not in ("__dict__", "__weakref__")}
        kept |= {"_trt": trt, "_members": set(allowed)}
        setattr(trt, base.__name__, type(base.__name__, base.__bases__, kept))
    severity = _enumeration("Severity", _values(real["classes"]["ILogger.Severity"]))
    for logger in (trt.ILogger, trt.Logger):
        logger.Severity = severity
        for member in severity:
            setattr(logger, member.name, member)
    trt.init_libnvinfer_plugins = partial(_init_plugins, trt._fake)
    return trt


def _init_plugins(fake: Behaviour, logger: Any, namespace: str) -> bool:
    _made(logger)
    fake.plugins = namespace == ""
    return fake.plugins


def _values(members: dict[str, Any]) -> dict[str, int]:
    return {key: value for key, value in members.items() if isinstance(value, int)}


def _enumeration(name: str, values: dict[str, int]) -> Any:
    class Counted(enum.Enum):
        def __int__(self) -> int:
            return self.value

        __index__ = __int__

    return Counted(name, dict(sorted(values.items(), key=lambda item: item[1])))


class _Strict:
    """As pybind11 has it: no attribute can be set that the class does not have."""

    _trt: Any
    _members: set[str]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        declared = name.startswith("_") or name in self._members
        if not declared and type(self).__module__ == __name__:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


def _new(kind: Any, **state: Any) -> Any:
    one = kind.__new__(kind)
    for name, value in state.items():
        setattr(one, name, value)
    return one


def _made(one: Any) -> Any:
    if not one.__dict__.get("_made"):
        raise TypeError("__init__() must be called when overriding __init__")
    return one


# --------------------------------------------------------------------------- what users inherit


class ILogger(_Strict):
    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, msg: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger(_Strict):
    def __init__(self, min_severity: Any = None) -> None:
        self._made, self.min_severity = True, min_severity or self._trt.Logger.WARNING

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] [{severity.name}] {msg}")


class IProfiler(_Strict):
    def __init__(self) -> None:
        self._made = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise RuntimeError('Tried to call pure virtual function "IProfiler::reportLayerTime"')


class Dims(_Strict):
    def __init__(self, shape: Sequence[int] = ()) -> None:
        self._shape = tuple(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, index: Any) -> Any:
        return self._shape[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._shape)


class IHostMemory(bytes, _Strict):
    """pybind11's has the buffer protocol, which before Python 3.12 only ``bytes`` can offer."""

    @property
    def nbytes(self) -> int:
        return len(self)


# --------------------------------------------------------------------------- building


class Builder(_Strict):
    def __init__(self, logger: Any) -> None:
        self._logger = _made(logger)

    @property
    def platform_has_fast_fp16(self) -> bool:
        return True

    def create_network(self, flags: int = 0) -> Any:
        return _new(self._trt.INetworkDefinition, _flags=int(flags), _model=None)

    def create_builder_config(self) -> Any:
        trt = self._trt
        return _new(
            trt.IBuilderConfig,
            _set={trt.BuilderFlag.TF32},
            _pools={},
            _profiles=[],
            _cache=None,
            builder_optimization_level=3,
            hardware_compatibility_level=trt.HardwareCompatibilityLevel.NONE,
            profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        )

    def create_optimization_profile(self) -> Any:
        return _new(self._trt.IOptimizationProfile, _shapes={})

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        trt, fake = self._trt, self._trt._fake
        for text in fake.warnings:
            self._logger.log(trt.ILogger.WARNING, text)
        error = fake.build_error or _refused(trt, network, config)
        if error:
            self._logger.log(trt.ILogger.ERROR, error)
            return None
        config._cache = config._cache or _new(trt.ITimingCache, _data=_stamp(trt))
        config._cache._data += b"+1"
        head = {
            "version": trt.__version__,
            "device": fake.device,
            "profile": config._profiles[0]._shapes if config._profiles else {},
            "flags": sorted(flag.name for flag in config._set),
            "typed": network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            "workspace": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE),
            "level": config.builder_optimization_level,
            "compatible": config.hardware_compatibility_level.name,
            "verbosity": config.profiling_verbosity.name,
        }
        fake.built.append(head)
        model = network._model.SerializeToString()
        return trt.IHostMemory(_MAGIC + json.dumps(head).encode() + b"\n" + model)


def _stamp(trt: Any) -> bytes:
    return _CACHE + f"{trt.__version__} {trt._fake.device}\n".encode()


def _refused(trt: Any, network: Any, config: Any) -> str | None:
    """The real builder's own words for what cannot be built."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 not in tuple(tensor.shape):
            continue
        if not config._profiles:
            return (
                "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has "
                "dynamic or shape inputs, but no optimization profile has been defined.)"
            )
        if tensor.name not in config._profiles[0]._shapes:
            return f"Error Code 4: {tensor.name}: optimization profile is missing dimensions"
    typed = network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if trt.__version__.startswith("10") and not typed:
        kinds = {node.op_type for node in network._model.graph.node}
        if "QuantizeLinear" in kinds and trt.BuilderFlag.INT8 not in config._set:
            return "Error Code 4: int8 is not configured in the builder"
    return None


class INetworkDefinition(_Strict):
    def get_flag(self, flag: Any) -> bool:
        return self._trt.__version__.startswith("11") or bool(self._flags >> int(flag) & 1)

    @property
    def num_inputs(self) -> int:
        return len(_inputs(self._model))

    @property
    def num_outputs(self) -> int:
        return len(self._model.graph.output)

    def get_input(self, index: int) -> Any:
        return _tensor(self._trt, _inputs(self._model)[index])

    def get_output(self, index: int) -> Any:
        return _tensor(self._trt, self._model.graph.output[index])


class ITensor(_Strict):
    """Its attributes are set when it is made."""


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _tensor(trt: Any, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    dtype = getattr(trt.DataType, _TYPES[kind.elem_type])
    state = {"name": value.name, "shape": trt.Dims(shape), "dtype": dtype}
    return _new(trt.ITensor, is_shape_tensor=False, **state)


class IBuilderConfig(_Strict):
    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._set

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, 80 << 30)  # all of the card's memory

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        data = bytes(serialized_timing_cache)
        if data and not data.startswith(_CACHE):
            return None
        return _new(self._trt.ITimingCache, _data=data or _stamp(self._trt))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and not cache._data.startswith(_stamp(self._trt)):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class ITimingCache(_Strict):
    def serialize(self) -> Any:
        return self._trt.IHostMemory(self._data)


class IOptimizationProfile(_Strict):
    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]

    def get_shape(self, input: str) -> list[Any]:
        return [self._trt.Dims(shape) for shape in self._shapes[input]]


# --------------------------------------------------------------------------- parsing


class OnnxParser(_Strict):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._logger, self._errors = network, _made(logger), []

    def parse_from_file(self, model: str) -> bool:
        if not isinstance(model, str):
            raise TypeError("parse_from_file(): incompatible function arguments")
        try:
            loaded = onnx.load(model)
        except Exception as error:
            self._note("MODEL_DESERIALIZE_FAILED", f"Failed to parse {model}: {error}", -1, None)
            return False
        for index, node in enumerate(loaded.graph.node):
            if node.op_type in {*_FOREIGN, *self._trt._fake.unsupported} or node.domain not in (
                "",
                "ai.onnx",
            ):
                text = "Plugin not found, are the plugin name, version, and namespace correct?"
                self._note("UNSUPPORTED_NODE", text, index, node)
            elif _shifted(node, loaded):
                text = "Non-zero zero point is not supported."
                self._note("INVALID_NODE", f"Assertion failed: {text}", index, node)
        self._network._model = loaded
        return not self._errors

    def _note(self, code: str, desc: str, index: int, node: onnx.NodeProto | None) -> None:
        error = _new(
            self._trt.ParserError,
            _code=getattr(self._trt.ErrorCode, code),
            _desc=desc,
            _index=index,
            _node=node or onnx.NodeProto(),
        )
        self._errors.append(error)
        self._logger.log(self._trt.ILogger.ERROR, f"In node {index}: {desc}")

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]


def _shifted(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
        return False
    points = {tensor.name: tensor for tensor in model.graph.initializer}
    point = points.get(node.input[2])
    return point is not None and bool(np.any(numpy_helper.to_array(point).astype(np.float32)))


class ParserError(_Strict):
    def code(self) -> Any:
        return self._code

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name

    def node_operator(self) -> str:
        return self._node.op_type


# --------------------------------------------------------------------------- running


class Runtime(_Strict):
    def __init__(self, logger: Any) -> None:
        self._logger = _made(logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        trt, data = self._trt, bytes(serialized_engine)
        if not trt._fake.plugins:  # as of an engine that has one
            error = "Cannot deserialize plugin since corresponding IPluginCreator not found"
            self._logger.log(trt.ILogger.ERROR, error)
            return None
        if not data.startswith(_MAGIC):
            error = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag)"
            self._logger.log(trt.ILogger.ERROR, error)
            return None
        head, _, rest = data.removeprefix(_MAGIC).partition(b"\n")
        built = json.loads(head)
        if (built["version"], built["device"]) != (trt.__version__, trt._fake.device):
            error = (
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                "assertion stdVersionRead == kSERIALIZATION_VERSION failed. Version tag does not "
                "match.)"
            )
            self._logger.log(trt.ILogger.ERROR, error)
            return None
        model = onnx.ModelProto.FromString(rest)
        return _new(trt.ICudaEngine, _model=model, _built=built, _logger=self._logger)


class ICudaEngine(_Strict):
    @property
    def num_io_tensors(self) -> int:
        return len(self._values())

    @property
    def num_layers(self) -> int:
        return len(fake_layers.layers(self._model, self._built))

    @property
    def num_optimization_profiles(self) -> int:
        return 1

    @property
    def num_aux_streams(self) -> int:
        return 0

    @property
    def device_memory_size(self) -> int:
        return self.device_memory_size_v2

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 20

    @property
    def streamable_weights_size(self) -> int:
        return sum(numpy_helper.to_array(t).nbytes for t in self._model.graph.initializer)

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._trt.HardwareCompatibilityLevel[self._built["compatible"]]

    @property
    def profiling_verbosity(self) -> Any:
        return self._trt.ProfilingVerbosity[self._built["verbosity"]]

    def _values(self) -> list[onnx.ValueInfoProto]:
        return [*_inputs(self._model), *self._model.graph.output]

    def _value(self, name: str) -> onnx.ValueInfoProto:
        return next(value for value in self._values() if value.name == name)

    def get_engine_stat(self, stat: Any) -> int:
        return self.streamable_weights_size

    def get_tensor_name(self, index: int) -> str:
        return self._values()[index].name

    def get_tensor_mode(self, name: str) -> Any:
        inputs = [value.name for value in _inputs(self._model)]
        modes = self._trt.TensorIOMode
        known = [value.name for value in self._values()]
        return modes.INPUT if name in inputs else modes.OUTPUT if name in known else modes.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        return _tensor(self._trt, self._value(name)).dtype

    def get_tensor_shape(self, name: str) -> Any:
        return _tensor(self._trt, self._value(name)).shape

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        fixed = list(self.get_tensor_shape(name))
        shapes = self._built["profile"].get(name, [fixed] * 3)
        return [self._trt.Dims(shape) for shape in shapes]

    def create_engine_inspector(self) -> Any:
        return _new(self._trt.EngineInspector, _engine=self, execution_context=None)

    def create_execution_context(self, strategy: Any = None) -> Any:
        return _new(
            self._trt.IExecutionContext,
            engine=self,
            profiler=None,
            enqueue_emits_profile=True,
            _shapes={},
            _addresses={},
            _runner=fake_layers.Runner(self._model),
        )


class EngineInspector(_Strict):
    def get_engine_information(self, format: Any) -> str:
        assert format is self._trt.LayerInformationFormat.JSON
        shapes = {} if self.execution_context is None else self.execution_context._shapes
        told = fake_layers.information(self._engine._model, self._engine._built, shapes)
        return json.dumps(told)


class IExecutionContext(_Strict):
    @property
    def active_optimization_profile(self) -> int:
        return 0

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        fits = len(shape) == len(low) and all(
            least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
        )
        if fits:
            self._shapes[name] = list(shape)
        return fits

    def get_tensor_shape(self, name: str) -> Any:
        return self._trt.Dims(self._all_shapes().get(name, [-1]))

    def _all_shapes(self) -> dict[str, list[int]]:
        given = {}
        for value in _inputs(self.engine._model):
            fixed = list(self.engine.get_tensor_shape(value.name))
            given[value.name] = self._shapes.get(value.name, fixed)
        return self._runner.shapes(given)

    def infer_shapes(self) -> list[str]:
        return [
            value.name
            for value in _inputs(self.engine._model)
            if -1 in self._all_shapes()[value.name]
        ]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        import fake_cuda  # the one that stands in for cuda.bindings.runtime

        names = {value.name for value in self.engine._values()}
        if self.infer_shapes() or any(not self._addresses.get(name) for name in names):
            return False
        addresses, profiler = dict(self._addresses), self.profiler
        shapes = self._all_shapes()

        def run() -> None:
            self._runner.run(shapes, addresses)
            if profiler is not None and self.enqueue_emits_profile:
                for layer in fake_layers.layers(self.engine._model, self.engine._built):
                    profiler.report_layer_time(layer["Name"], self._trt._fake.layer_ms)

        try:
            fake_cuda.enqueue(int(stream_handle), run)
        except RuntimeError as error:
            self.engine._logger.log(self._trt.ILogger.ERROR, f"Error Code 1: Cuda ({error})")
            return False
        return True


CLASSES: tuple[Any, ...] = tuple(
    found
    for found in list(globals().values())
    if inspect.isclass(found)
    and found.__module__ == __name__
    and not found.__name__.startswith("_")
    and found is not Behaviour
)
