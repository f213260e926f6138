"""How a session is opened: what is known of the file, ONNX Runtime's options, and hints.

Imported while measuring: the standard library and onnxruntime only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import Unsupported
from qbench.kit.model import RunConfig

if TYPE_CHECKING:
    import onnxruntime as ort


GROUP_SIZES = (16, 32, 64, 128, 256)
"""How many weights along the input may share one scale in MatMulNBits."""


FACTS_FILE = "io.json"
CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class FileFacts:
    """What ``prepare`` read from the model file, so that ``open`` needs no onnx package.

    Attributes:
        batch_symbols: names of the free first axes of the inputs; they are fixed at open.
        quantized: by tensor name of the file, (scale, zero-point) of int8 or uint8 inputs and
            outputs.
    """

    batch_symbols: tuple[str, ...] = ()
    quantized: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=1, sort_keys=True))

    @classmethod
    def read(cls, folder: Path) -> FileFacts:
        data = json.loads((folder / FACTS_FILE).read_text())
        return cls(
            tuple(data["batch_symbols"]),
            {name: (scale, zero) for name, (scale, zero) in data["quantized"].items()},
        )


# --------------------------------------------------------------------------- options

_ENUM_HINTS = {
    "execution_mode": "ExecutionMode",
    "graph_optimization_level": "GraphOptimizationLevel",
}
_PLAIN_HINTS = (
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "inter_op_num_threads",
    "use_deterministic_compute",
)
# ONNX Runtime stores any session config entry without a word, so a misspelt one would be lost:
# hence this list, from onnxruntime_session_options_config_keys.h.
_CONFIG_HINTS = (
    "mlas.enable_gemm_fastmath_arm64_bfloat16",
    "mlas.use_lut_gemm",
    "optimization.disable_specified_optimizers",
    "optimization.enable_gelu_approximation",
    "session.disable_aot_function_inlining",
    "session.disable_double_qdq_remover",
    "session.disable_prepacking",
    "session.disable_qdq_constant_folding",
    "session.disable_quant_qdq",
    "session.dynamic_block_base",
    "session.enable_quant_qdq_cleanup",
    "session.force_spinning_stop",
    "session.graph_optimizations_loop_level",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.qdqisint8allowed",
    "session.set_denormal_as_zero",
    "session.use_device_allocator_for_initializers",
    "session.x64quantprecision",
)
KNOWN_HINTS = (*sorted((*_ENUM_HINTS, *_PLAIN_HINTS)), *_CONFIG_HINTS)
CUDA_HINTS = {
    # ours: replay a graph of kernels, captured once; leave inputs and outputs on the device
    "cuda_graph": bool,
    "transfers": bool,
    # the provider's, from cuda_execution_provider_info.cc. The device, TF32 and the graph are not
    # among them: the case says which.
    "arena_extend_strategy": str,
    "cudnn_conv1d_pad_to_nc1d": bool,
    "cudnn_conv_algo_search": str,
    "cudnn_conv_use_max_workspace": bool,
    "do_copy_in_default_stream": bool,
    "enable_skip_layer_norm_strict_mode": bool,
    "fuse_conv_bias": bool,
    "gpu_mem_limit": int,
    "prefer_nhwc": bool,
    "sdpa_kernel": int,
    "tunable_op_enable": bool,
    "tunable_op_tuning_enable": bool,
    "use_ep_level_unified_stream": bool,
}
"""Hints of the device ``cuda`` beside the others, and what they take."""


def device_index(device: str) -> int | None:
    """Which CUDA device is meant; None for the processor.

    Raises:
        Unsupported: another kind of device.
    """
    kind, _, index = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or not index.isdecimal():
        raise Unsupported(f"this adapter runs onnxruntime on cpu and cuda, not on {device}")
    return int(index)


def providers(config: RunConfig, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers and their options, the first first. What none of them has a kernel for
    goes to the processor.

    Convolutions take the fastest of cuDNN's algorithms, which the first inference searches for.

    Raises:
        Unsupported: another kind of device, or several streams in one CUDA graph.
        ValueError: a hint of CUDA's with a value that it does not take.
    """
    index = device_index(config.device)
    if index is None:
        return [(CPU_PROVIDER, {})]
    hints = {name: config.hints[name] for name in CUDA_HINTS if name in config.hints}
    for name, value in hints.items():
        if type(value) is not CUDA_HINTS[name]:
            raise ValueError(f"hint {name} takes {CUDA_HINTS[name].__name__}, not {value!r}")
    graph = hints.pop("cuda_graph", False)
    hints.pop("transfers", True)
    if graph and config.streams > 1:
        raise Unsupported("a CUDA graph has the addresses of one stream, so streams is 1")
    options = {
        "device_id": index,
        "use_tf32": precision == "tf32",
        "enable_cuda_graph": graph,
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        **hints,
    }
    cuda = {name: int(v) if isinstance(v, bool) else v for name, v in options.items()}
    return [(CUDA_PROVIDER, cuda), (CPU_PROVIDER, {})]


def session_options(config: RunConfig, facts: FileFacts) -> ort.SessionOptions:
    """Options with everything set that bears on speed or numbers; hints come last.

    Several streams run in one session, so its intra-op pool (``threads - 1`` helpers) is shared
    by them; with one thread each stream computes in its own caller.

    Raises:
        ValueError: an unknown hint, or a value that it does not take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for symbol in facts.batch_symbols:
        options.add_free_dimension_override_by_name(symbol, config.batch)
    entries = {
        # spinning helpers burn a core while idle and spoil processor time as a proxy of energy
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.set_denormal_as_zero": "0",
    }
    for name, value in config.hints.items():
        if name in _ENUM_HINTS:
            members = getattr(onnxruntime, _ENUM_HINTS[name]).__members__
            if value not in members:
                raise ValueError(f"hint {name} is one of {', '.join(members)}, not {value!r}")
            setattr(options, name, members[value])
        elif name in _PLAIN_HINTS:
            try:
                setattr(options, name, value)
            except TypeError as error:
                raise ValueError(f"hint {name} does not take {value!r}") from error
        elif name in _CONFIG_HINTS:
            entries[name] = str(int(value)) if isinstance(value, bool) else str(value)
        elif name not in CUDA_HINTS or config.device == "cpu":  # these go to ``providers``
            known = ", ".join((*KNOWN_HINTS, *(CUDA_HINTS if config.device != "cpu" else ())))
            raise ValueError(f"onnxruntime has no hint '{name}'. Known: {known}.")
    for name, text in entries.items():
        options.add_session_config_entry(name, text)
    return options
