"""Sample a card from a thread of the parent while a worker runs on it. The worker takes no part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple, Protocol

from qbench.machine.clock import Clock
from qbench.machine.gpu.card import (
    Card,
    NoCard,
    compute_processes,
    ecc_counts,
    find_card,
    is_ours,
    settings,
)
from qbench.machine.gpu.nvml import NoNvml, nvml
from qbench.machine.gpu.state import read_state

HZ = 10.0
"""Readings per second. More would add nothing: NVML updates power every 20 to 100 ms, depending on
the model (Yang, Adamek and Armour, arXiv:2312.02741)."""
FIGURES = (
    "sm_clock_mhz", "memory_clock_mhz", "power_w", "temperature_c", "memory_used_bytes",
    "throttled", "pcie_generation", "pcie_width",
)  # fmt: skip
"""Values of each sample."""


class Summing(Protocol):
    """Summarizes a window; None if there is no card to sample."""

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class _Sample:
    at_ns: int
    state: Mapping[str, Any]
    processes: Mapping[int, int | None] | None


class _ProcessMemory(NamedTuple):
    """The worker's memory on the card.

    Attributes:
        bytes: maximum; None if unknown.
        by: how it is known: ``process`` or ``difference``; None if unknown.
        others: number of other processes on the card; None if unknown.
    """

    bytes: int | None
    by: str | None
    others: int | None


class Watcher:
    """Sample a card while the block runs::

        with Watcher(nvml, card) as watcher:
            ...
        watcher.summary(begin_ns, end_ns)

    Enter it before the worker starts: processes on the card by then are not the worker.

    Args:
        ours: returns whether a process id belongs to the worker.
    """

    def __init__(
        self,
        nvml: Any,
        card: Card,
        clock: Clock | None = None,
        hz: float = HZ,
        ours: Callable[[int], bool] = is_ours,
    ) -> None:
        self._nvml, self._card, self._ours = nvml, card, ours
        self._clock = clock or Clock()
        self._ticking = self._clock.every(1 / hz, self._sample)
        self._samples: list[_Sample] = []
        self._known: dict[int, bool] = {}  # process ids, and whether each is the worker's
        self._missing: dict[str, str] = {}
        self._cpu_ns: list[int] = []
        self._begin_ns = self._end_ns = 0

    def __enter__(self) -> Watcher:
        self._before = read_state(self._nvml, self._card).values
        self._processes_before = compute_processes(self._nvml, self._card).value
        self._settings, missing = settings(self._nvml, self._card)
        self._missing |= missing
        self._ecc, missing = ecc_counts(self._nvml, self._card)
        self._missing |= missing
        self._begin_ns = self._clock.now_ns()
        self._ticking.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._ticking.__exit__(*exc)
        self._end_ns = self._clock.now_ns()
        counts = ecc_counts(self._nvml, self._card).values
        self._ecc = {
            name: None if before is None or (now := counts[name]) is None else now - before
            for name, before in self._ecc.items()
        }

    def _sample(self) -> None:
        at_ns = self._clock.now_ns()
        state, missing = read_state(self._nvml, self._card)
        processes, reason = compute_processes(self._nvml, self._card)
        if reason is not None:
            self._missing.setdefault("others", reason)
        for pid in processes or ():
            if pid not in self._known:  # ask while it lives
                self._known[pid] = self._ours(pid)
        for name, why in missing.items():
            self._missing.setdefault(name, why)
        self._samples.append(_Sample((at_ns + self._clock.now_ns()) // 2, state, processes))
        self._cpu_ns.append(time.thread_time_ns())

    # ------------------------------------------------------------------ summary

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any]:
        """Summarize the samples from ``begin_ns`` to ``end_ns`` of the monotonic clock, for a
        trial's record (``gpu``). A value that the card did not report is None; ``missing`` has the
        reason.

        - ``samples``: number of samples within the window.
        - ``sm_clock_mhz`` and ``memory_clock_mhz``: medians; ``sm_clock_low_mhz``: minimum;
          ``sm_clock_high_mhz``: maximum; ``power_w``: mean; ``temperature_c``: maximum.
        - ``throttled``: share of the samples, by reason.
        - ``memory_used_bytes``: maximum of the card's used memory, of all processes and the driver.
        - ``memory_process_bytes``: maximum of the worker's memory, as ``memory_process_by`` says:
          ``process``: reported for its process; ``difference``: increase of the card's used memory
          since before the worker started.
        - ``others``: number of other processes that computed on the card.
        - ``ecc_corrected``, ``ecc_uncorrected``: memory errors while the worker ran.
        - ``pcie_generation``, ``pcie_width``: maxima.
        - the settings of ``qbench.machine.gpu.card.settings``; ``mig``: whether it is a MIG
        instance.
        - ``watch_cpu_share``: the parent's processor time for sampling, as a share of one core.
        """
        inside = [sample for sample in self._samples if begin_ns <= sample.at_ns <= end_ns]
        missing = dict(self._missing)
        if not inside:
            why = f"no sample within the window of {(end_ns - begin_ns) * 1e-9:.3f} s"
            missing |= dict.fromkeys((*FIGURES, "memory_process_bytes", "others"), why)
        of = {name: _reported(inside, name) for name in FIGURES}
        memory = self._process_memory(inside)
        if memory.bytes is None:
            missing.setdefault(
                "memory_process_bytes",
                "not reported for the worker, and not the only change of the card's used memory",
            )
        clocks = of["sm_clock_mhz"]
        found: dict[str, Any] = {
            "samples": len(inside),
            "sm_clock_mhz": _or_none(median, clocks),
            "sm_clock_low_mhz": _or_none(min, clocks),
            "sm_clock_high_mhz": _or_none(max, clocks),
            "memory_clock_mhz": _or_none(median, of["memory_clock_mhz"]),
            "power_w": _or_none(fmean, of["power_w"]),
            "temperature_c": _or_none(max, of["temperature_c"]),
            "throttled": _shares(of["throttled"]) if of["throttled"] else None,
            "memory_used_bytes": _or_none(max, of["memory_used_bytes"]),
            "memory_process_bytes": memory.bytes,
            "memory_process_by": memory.by,
            "others": memory.others,
            **self._ecc,
            "pcie_generation": _or_none(max, of["pcie_generation"]),
            "pcie_width": _or_none(max, of["pcie_width"]),
            **self._settings,
            "mig": self._card.mig,
            "watch_cpu_share": self._cpu_share(),
        }
        known = {name for name, value in found.items() if value is not None}
        return {**found, "missing": {n: why for n, why in missing.items() if n not in known}}

    def _cpu_share(self) -> float | None:
        wall_ns = self._end_ns - self._begin_ns
        return (self._cpu_ns[-1] - self._cpu_ns[0]) / wall_ns if wall_ns > 0 else None

    def _process_memory(self, inside: Sequence[_Sample]) -> _ProcessMemory:
        """Find the worker among the card's processes.

        In a container the worker may be listed under another process id, or not at all. Then one
        process that was not on the card before is taken to be the worker.
        """
        lists = [sample.processes for sample in inside if sample.processes is not None]
        if not lists:
            return _ProcessMemory(None, None, None)
        seen = {pid for processes in lists for pid in processes}
        own = {pid for pid in seen if self._known[pid]}
        strangers = seen - own
        if not own:
            came = strangers - set(self._processes_before or ())
            own = {max(came, key=lambda pid: _held(lists, pid))} if came else set()
        held = [
            sum(size for size in sizes if size is not None)
            for processes in lists
            if (sizes := [processes[pid] for pid in own if pid in processes]) and None not in sizes
        ]
        others = len(seen - own)
        if held:
            return _ProcessMemory(max(held), "process", others)
        used = _reported(inside, "memory_used_bytes")
        before = self._before["memory_used_bytes"]
        if others or not used or before is None:
            return _ProcessMemory(None, None, others)
        return _ProcessMemory(max(0, max(used) - before), "difference", others)


@contextmanager
def watching(facts: Mapping[str, Any] | None) -> Iterator[Summing]:
    """Watch the card of a CUDA device while the block runs. For the processor, or a device that
    NVML does not show, yield a stand-in.

    Args:
        facts: of the device (``Ready.devices``); None for the processor.
    """
    if facts is None:
        yield _Unwatched(None)
        return
    with ExitStack() as stack:
        try:
            library = stack.enter_context(nvml())
            watcher: Summing = stack.enter_context(Watcher(library, find_card(library, facts)))
        except (NoNvml, NoCard) as error:
            watcher = _Unwatched(str(error))
        yield watcher


@dataclass(frozen=True)
class _Unwatched:
    """Stands in for a watcher: no card (``reason`` is None), or one that NVML does not show."""

    reason: str | None

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any] | None:
        return None if self.reason is None else {"samples": 0, "missing": {"all": self.reason}}


def _held(lists: Sequence[Mapping[int, int | None]], pid: int) -> int:
    return max(processes.get(pid) or 0 for processes in lists)


def _reported(samples: Sequence[_Sample], name: str) -> list[Any]:
    return [value for sample in samples if (value := sample.state[name]) is not None]


def _or_none(function: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> Any:
    return function(values) if values else None


def _shares(throttled: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the share of the samples that list each reason."""
    reasons = dict.fromkeys(reason for reasons in throttled for reason in reasons)
    return {r: sum(r in reasons for reasons in throttled) / len(throttled) for r in reasons}
