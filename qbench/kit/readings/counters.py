"""Hardware counters of retired instructions and cycles, through Linux's ``perf_event_open``: of
this process, outside the kernel.

Without counters, ``Counters.reason`` has the reason and the remedy. A reading costs one system call
(microseconds) per event, so counters are read around a window, not around a call.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SYSCALL = {"x86_64": 298, "aarch64": 241}
"""System call number of perf_event_open, by machine (asm/unistd.h)."""
EVENTS = {"instructions": (0, 1), "cycles": (0, 0)}
"""Type and config: PERF_TYPE_HARDWARE with PERF_COUNT_HW_INSTRUCTIONS, _CPU_CYCLES."""

_ATTRIBUTE = "IIQQQQQIIQ"
"""``struct perf_event_attr`` in its first version, which every kernel accepts: type, size, config,
sample_period, sample_type, read_format, flags, wakeup_events, bp_type, config1."""
_TIMES = 1 | 2
"""read_format: PERF_FORMAT_TOTAL_TIME_ENABLED and _RUNNING, so that a count is three numbers."""
_FLAGS = 1 << 1 | 1 << 5 | 1 << 6
"""inherit: include threads started from now on; exclude_kernel and exclude_hv: counts that repeat
well, and that every user may read up to perf_event_paranoid 2."""
_CLOSE_ON_EXEC = 8
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


class Counters:
    """Count from now on, in the calling thread and in threads that it starts: create this before
    the runtime starts its threads.

    Args:
        events: type and config for ``perf_event_open``, by name.

    Attributes:
        reason: why nothing is counted, with the remedy; None if all events were counted at the
            last reading.
    """

    def __init__(self, events: Mapping[str, tuple[int, int]] = EVENTS) -> None:
        self.reason: str | None = None
        self._files: dict[str, int] = {}
        try:
            for name, (kind, config) in events.items():
                self._files[name] = _open(kind, config)
        except OSError as error:
            self.close()
            self.reason = _reason(error)

    def read(self) -> dict[str, int] | None:
        """Return counts since creation by event, and ``counting_ns`` and ``enabled_ns`` (time on a
        processor, summed over threads). The difference of two readings holds for the time between
        them. None if nothing is counted or an event was never scheduled; then ``reason`` is set.

        The kernel multiplexes events if there are fewer counters. Then counts are scaled by enabled
        over counting time, and ``counting_ns`` is less than ``enabled_ns`` (both of the event that
        counted for the shortest time).
        """
        if not self._files:
            return None
        counts: dict[str, int] = {}
        times = []
        for name, file in self._files.items():
            count, enabled, counting = struct.unpack("QQQ", os.read(file, 24))
            if not counting:
                self.reason = (
                    f"{name} can be opened, but were never counted: another program or the "
                    "kernel's watchdog (kernel.nmi_watchdog) holds the counter, or the virtual "
                    "machine's host does not provide it"
                )
                return None
            counts[name] = count * enabled // counting
            times.append((counting, enabled))
        counting, enabled = min(times, key=lambda pair: pair[0] / pair[1])
        return {**counts, "counting_ns": counting, "enabled_ns": enabled}

    def close(self) -> None:
        """Stop counting."""
        for file in self._files.values():
            with suppress(OSError):
                os.close(file)
        self._files = {}


def _open(kind: int, config: int) -> int:
    """Return the file descriptor of a counter of one event.

    Raises:
        OSError: the kernel refuses it.
    """
    if sys.platform != "linux" or (machine := os.uname().machine) not in SYSCALL:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes

    size = struct.calcsize(_ATTRIBUTE)
    attribute = struct.pack(_ATTRIBUTE, kind, size, config, 0, 0, _TIMES, _FLAGS, 0, 0, 0)
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    this_thread, any_cpu, no_group = 0, -1, -1
    long = ctypes.c_long
    file = system_call(
        long(SYSCALL[machine]), ctypes.create_string_buffer(attribute, size),
        long(this_thread), long(any_cpu), long(no_group), long(_CLOSE_ON_EXEC),
    )  # fmt: skip
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        with suppress(OSError, ValueError):
            if (level := int(_PARANOID.read_text())) > 2:
                return (
                    f"not permitted: kernel.perf_event_paranoid is {level}; "
                    "sudo sysctl kernel.perf_event_paranoid=2"
                )
        return "not permitted; in a container: docker run --cap-add PERFMON"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
        return (
            "this machine has no such counters; a virtual machine has them only if its host "
            "provides them"
        )
    if error.errno == errno.ENOSYS:
        return "this system has no perf_event_open, or its number on this processor is unknown"
    return f"perf_event_open: {error.strerror}"
