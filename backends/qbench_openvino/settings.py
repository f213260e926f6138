"""Compile settings: qbench's own, and a suite's hints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qbench.kit.model import RunConfig
from qbench_openvino.runtime import DEVICE

PRECISION_HINTS = {
    "fp32": "f32",
    "fp16": "f16",
    "bf16": "bf16",
    # floating-point operators around int8 ones run in float32, not in the plugin's default (bf16
    # if the CPU has it)
    "int8-static": "f32",
    "int8-dynamic": "f32",
    "w8": "f32",
    "w4": "f32",
    "as-shipped": "f32",
}
GROUP_SIZE = "dynamic_quantization_group_size"
"""Key of ``Provenance.settings``: activations of a row that share a scale."""

_OWNED = {
    "INFERENCE_PRECISION_HINT": "the precision",
    "INFERENCE_NUM_THREADS": "threads",
    "NUM_STREAMS": "streams",
}


def compile_settings(
    precision: str, config: RunConfig, prepared: Mapping[str, Any], inspect: bool = False
) -> dict[str, Any]:
    """All settings that affect numerics or threads; none keeps a default.

    Args:
        precision: the artifact's precision.
        prepared: ``Provenance.settings`` of the artifact.
        inspect: whether the plugin measures the time of each operator.
    """
    return {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY" if config.streams == 1 else "THROUGHPUT",
        # OpenVINO counts the threads of all streams together
        "INFERENCE_NUM_THREADS": config.threads * config.streams,
        "NUM_STREAMS": config.streams,
        # the caller decides where threads run; pinning by the plugin would undo an affinity mask
        "ENABLE_CPU_PINNING": False,
        "ENABLE_CPU_RESERVATION": False,
        "ENABLE_HYPER_THREADING": True,
        "SCHEDULING_CORE_TYPE": "ANY_CORE",
        "CPU_DENORMALS_OPTIMIZATION": False,
        "PERF_COUNT": inspect,
        # the default (32) would quantize activations wherever weights are compressed
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": (
            prepared[GROUP_SIZE] if precision == "int8-dynamic" else 0
        ),
        "KV_CACHE_PRECISION": "f32",
    }


def known_settings(core: Any) -> dict[str, bool]:
    """The CPU plugin's settings, and whether a suite may set each."""
    access = core.get_property(DEVICE, "SUPPORTED_PROPERTIES")
    return {name: access[name] == "RW" and name not in _OWNED for name in access}


def with_hints(core: Any, settings: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` that this version's plugin has, overridden by ``hints``.

    Hints are settings of the installed plugin, so it defines their names and values, not a table.

    Raises:
        ValueError: a hint that the plugin does not have, or that qbench sets itself.
    """
    known = known_settings(core)
    for name in hints:
        if name in _OWNED:
            raise ValueError(f"hint {name} is set by qbench from {_OWNED[name]}")
        if not known.get(name):
            names = ", ".join(sorted(n for n, free in known.items() if free))
            raise ValueError(f"OpenVINO's CPU plugin has no setting '{name}'. Known: {names}.")
    # plugins for other architectures lack some of the settings, which affect nothing there
    return {**{n: v for n, v in settings.items() if n in known}, **hints}
