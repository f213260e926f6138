"""A GPU's clock, read by the worker between windows of its warm-up: a GPU that idled takes a while
to reach the clock that it then keeps. Nothing but ctypes and the driver's own NVML.

This module belongs to the worker kit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
"""NVIDIA's management library. It comes with the driver."""

_CLOCK_SM = 1
"""NVML_CLOCK_SM (nvml.h, nvmlClockType_t)."""


class GpuClock:
    """The clock of the multiprocessors of one GPU.

    Args:
        facts: of the device (``qbench.kit.cuda.Device``), from the parent: its ``pci_bus_id``
            finds it whatever numbers CUDA gives. A part of a GPU (MIG) has the clock of the whole.
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
        except (OSError, AttributeError):  # no such library, or one that is too old
            return
        if not refused:
            self._nvml = library

    def mhz(self) -> int | None:
        """The clock now; None where it is not told."""
        if self._nvml is None:
            return None
        clock = ctypes.c_uint()
        refused = self._nvml.nvmlDeviceGetClockInfo(
            self._handle, ctypes.c_int(_CLOCK_SM), ctypes.byref(clock)
        )
        return None if refused else clock.value
