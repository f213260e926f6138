"""Options of a session: facts of its file, hints, execution providers.

Imported while measuring: the standard library and onnxruntime only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qbench.kit.adapter import Unsupported
from qbench.kit.hints import hint, hint_names, read_hints
from qbench.kit.model import RunConfig

if TYPE_CHECKING:
    import onnxruntime as ort

FACTS_FILE = "io.json"
CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
GROUP_SIZES = (16, 32, 64, 128, 256)
"""Numbers of weights along the input that may share one scale in MatMulNBits."""
DISABLED = "optimization.disable_specified_optimizers"
REQUANTIZES = "WeightBiasQuantization"
"""ONNX Runtime's level-1 optimizer that quantizes float weights between DequantizeLinear and
QuantizeLinear again, with one scale per tensor: mobilenet_v1_025_224 fell from 61.5 % to 18.5 %
when two layers were excluded. It also makes integers of float biases, so files without such weights
keep it."""


@dataclass(frozen=True)
class FileFacts:
    """Facts of the model file that ``prepare`` records, so that ``open`` needs no onnx package.

    Attributes:
        symbols: input and axis of the inputs' free sizes, by the file's name for the size;
            ``open`` fixes them.
        quantized: (scale, zero-point) of int8 and uint8 inputs and outputs, by the file's names.
        float_between_quantized: whether a convolution or Gemm with float weights reads quantized
            activations: an operator that was excluded from quantization.
    """

    symbols: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    quantized: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    float_between_quantized: bool = False

    def write(self, folder: Path) -> None:
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=1, sort_keys=True))

    @classmethod
    def read(cls, folder: Path) -> FileFacts:
        data = json.loads((folder / FACTS_FILE).read_text())
        return cls(
            {name: [(n, axis) for n, axis in places] for name, places in data["symbols"].items()},
            {name: (scale, zero) for name, (scale, zero) in data["quantized"].items()},
            data["float_between_quantized"],
        )


# --------------------------------------------------------------------------- hints

_Entry = bool | int | str | None


@dataclass(frozen=True)
class Hints:
    """Attributes and configuration entries of ``onnxruntime.SessionOptions``; None keeps the
    default.

    The entries are those of onnxruntime_session_options_config_keys.h: ONNX Runtime stores any
    entry silently, so a misspelt one would be lost. A bool is passed as "0" or "1".
    """

    execution_mode: Literal["ORT_SEQUENTIAL", "ORT_PARALLEL"] | None = None
    graph_optimization_level: (
        Literal[
            "ORT_DISABLE_ALL",
            "ORT_ENABLE_BASIC",
            "ORT_ENABLE_EXTENDED",
            "ORT_ENABLE_LAYOUT",
            "ORT_ENABLE_ALL",
        ]
        | None
    ) = None
    enable_cpu_mem_arena: bool | None = None
    enable_mem_pattern: bool | None = None
    enable_mem_reuse: bool | None = None
    inter_op_num_threads: int | None = hint(None, minimum=0)
    use_deterministic_compute: bool | None = None

    fastmath_bfloat16: _Entry = hint(None, name="mlas.enable_gemm_fastmath_arm64_bfloat16")
    use_lut_gemm: _Entry = hint(None, name="mlas.use_lut_gemm")
    disable_optimizers: _Entry = hint(None, name=DISABLED)
    gelu_approximation: _Entry = hint(None, name="optimization.enable_gelu_approximation")
    disable_inlining: _Entry = hint(None, name="session.disable_aot_function_inlining")
    disable_qdq_remover: _Entry = hint(None, name="session.disable_double_qdq_remover")
    disable_prepacking: _Entry = hint(None, name="session.disable_prepacking")
    disable_qdq_folding: _Entry = hint(None, name="session.disable_qdq_constant_folding")
    disable_quant_qdq: _Entry = hint(None, name="session.disable_quant_qdq")
    dynamic_block_base: _Entry = hint(None, name="session.dynamic_block_base")
    quant_qdq_cleanup: _Entry = hint(None, name="session.enable_quant_qdq_cleanup")
    force_spinning_stop: _Entry = hint(None, name="session.force_spinning_stop")
    optimizations_loop: _Entry = hint(None, name="session.graph_optimizations_loop_level")
    inter_op_spinning: _Entry = hint(None, name="session.inter_op.allow_spinning")
    intra_op_spinning: _Entry = hint(None, name="session.intra_op.allow_spinning")
    thread_affinities: _Entry = hint(None, name="session.intra_op_thread_affinities")
    qdq_is_int8_allowed: _Entry = hint(None, name="session.qdqisint8allowed")
    denormal_as_zero: _Entry = hint(None, name="session.set_denormal_as_zero")
    device_allocator: _Entry = hint(None, name="session.use_device_allocator_for_initializers")
    x64_quant_precision: _Entry = hint(None, name="session.x64quantprecision")


@dataclass(frozen=True)
class CudaHints(Hints):
    """Additional hints of CUDA devices.

    ``cuda_graph`` captures the kernels once and replays them as a graph; ``transfers: false``
    leaves inputs and outputs on the device. The others are the provider's own options, from
    cuda_execution_provider_info.cc, without those that the case decides: device, TF32, graph.
    """

    cuda_graph: bool = False
    transfers: bool = True
    arena_extend_strategy: str | None = None
    cudnn_conv1d_pad_to_nc1d: bool | None = None
    cudnn_conv_algo_search: str | None = None
    cudnn_conv_use_max_workspace: bool | None = None
    do_copy_in_default_stream: bool | None = None
    enable_skip_layer_norm_strict_mode: bool | None = None
    fuse_conv_bias: bool | None = None
    gpu_mem_limit: int | None = None
    prefer_nhwc: bool | None = None
    sdpa_kernel: int | None = None
    tunable_op_enable: bool | None = None
    tunable_op_tuning_enable: bool | None = None
    use_ep_level_unified_stream: bool | None = None


_OURS = {"cuda_graph", "transfers", *(f.name for f in fields(Hints))}
_PROVIDER_HINTS = tuple(f.name for f in fields(CudaHints) if f.name not in _OURS)


def hints_of(config: RunConfig) -> Hints:
    """The configuration's hints for its kind of device.

    Raises:
        Unsupported: another kind of device.
        ValueError: an unknown hint, or a value that it does not take.
    """
    kind = Hints if device_index(config.device) is None else CudaHints
    return read_hints(kind, config.hints, "onnxruntime")


# --------------------------------------------------------------------------- options


def device_index(device: str) -> int | None:
    """Index of the CUDA device; None for the processor.

    Raises:
        Unsupported: another kind of device.
    """
    kind, _, index = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or not index.isdecimal():
        raise Unsupported(f"this adapter runs onnxruntime on cpu and cuda, not on {device}")
    return int(index)


def providers(config: RunConfig, hints: Hints, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers and their options, in order of preference. Operators without a kernel in
    the first run on the processor.

    Convolutions use the fastest of cuDNN's algorithms, which the first inference searches for.

    Raises:
        Unsupported: another kind of device, or several streams in one CUDA graph.
    """
    index = device_index(config.device)
    if index is None or not isinstance(hints, CudaHints):
        return [(CPU_PROVIDER, {})]
    if hints.cuda_graph and config.streams > 1:
        raise Unsupported("a CUDA graph holds the addresses of one stream: set streams to 1")
    given = {name: getattr(hints, name) for name in _PROVIDER_HINTS}
    options: dict[str, Any] = {
        "device_id": index,
        "use_tf32": precision == "tf32",
        "enable_cuda_graph": hints.cuda_graph,
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        **{name: value for name, value in given.items() if value is not None},
    }
    cuda = {name: int(v) if isinstance(v, bool) else v for name, v in options.items()}
    return [(CUDA_PROVIDER, cuda), (CPU_PROVIDER, {})]


def session_options(
    config: RunConfig, hints: Hints, facts: FileFacts, shapes: Mapping[str, tuple[int, ...]]
) -> ort.SessionOptions:
    """Session options with every setting that affects speed or numbers; hints override them.

    Streams run in one session and share its intra-op pool (``threads - 1`` helpers); with one
    thread each stream computes in its caller's thread.

    Args:
        shapes: of the inputs, by the file's names.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for symbol, places in facts.symbols.items():
        sizes = {shapes[name][axis] for name, axis in places}
        if len(sizes) == 1:  # else the file calls different sizes the same
            options.add_free_dimension_override_by_name(symbol, sizes.pop())
    entries = {
        # spinning helpers keep a core busy while idle, and processor time then says nothing of
        # energy
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.set_denormal_as_zero": "0",
    }
    for field_name, name in hint_names(Hints).items():
        value = getattr(hints, field_name)
        if value is None:
            continue
        if name == "execution_mode":
            options.execution_mode = onnxruntime.ExecutionMode.__members__[value]
        elif name == "graph_optimization_level":
            levels = onnxruntime.GraphOptimizationLevel.__members__
            options.graph_optimization_level = levels[value]
        elif "." in name:
            entries[name] = str(int(value)) if isinstance(value, bool) else str(value)
        else:
            setattr(options, name, value)
    if facts.float_between_quantized:
        given = entries.get(DISABLED)
        entries[DISABLED] = ";".join(filter(None, (given, REQUANTIZES)))
    for name, text in entries.items():
        options.add_session_config_entry(name, text)
    return options
