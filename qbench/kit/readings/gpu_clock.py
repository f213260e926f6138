"""A GPU's clock, read by the worker between windows of its warm-up: after idling, a GPU takes some
time to reach its steady clock. Uses only ctypes and the driver's NVML."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
"""NVIDIA's management library, part of the driver."""

_CLOCK_SM = 1
"""NVML_CLOCK_SM (nvml.h, nvmlClockType_t)."""


class GpuClock:
    """The clock of one GPU's multiprocessors.

    Args:
        facts: of the device (``qbench.kit.cuda.Device``), from the parent. Its ``pci_bus_id``
            identifies it, whatever its CUDA index. A MIG instance has the clock of its GPU.
    """

    def __init__(self, facts: Mapping[str, Any] | None) -> None:
        self._nvml: ctypes.CDLL | None = None
        self._handle = ctypes.c_void_p()
        if facts is None:
            return
        try:
            library = ctypes.CDLL(LIBRARY)
            place = str(facts["pci_bus_id"]).encode()
            flags = ctypes.c_uint(0)
            refused = library.nvmlInitWithFlags(flags) or library.nvmlDeviceGetHandleByPciBusId_v2(
                ctypes.c_char_p(place), ctypes.byref(self._handle)
            )
        except (OSError, AttributeError):  # the library is missing or too old
            return
        if not refused:
            self._nvml = library

    def mhz(self) -> int | None:
        """Return the current clock; None if it is unknown."""
        if self._nvml is None:
            return None
        clock = ctypes.c_uint()
        refused = self._nvml.nvmlDeviceGetClockInfo(
            self._handle, ctypes.c_int(_CLOCK_SM), ctypes.byref(clock)
        )
        return None if refused else clock.value
