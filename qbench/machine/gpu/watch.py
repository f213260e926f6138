"""Watching a card from a thread of the parent while a worker runs on it. The worker does nothing
for it, and is not asked anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Protocol

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
"""Readings a second. The GPU's own figures are no newer: NVML renews power every 20 to 100 ms, by
the model (Yang, Adamek and Armour, arXiv:2312.02741)."""
FIGURES = (
    "sm_clock_mhz", "memory_clock_mhz", "power_w", "temperature_c", "memory_used_bytes",
    "throttled", "pcie_generation", "pcie_width",
)  # fmt: skip
"""What is read again and again."""


class Summing(Protocol):
    """What sums up a window; None where there is no card to be watched."""

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class _Sample:
    at_ns: int
    state: Mapping[str, Any]
    processes: Mapping[int, int | None] | None


class Watcher:
    """Samples a card while the block runs::

        with Watcher(nvml, card) as watcher:
            ...
        watcher.summary(begin_ns, end_ns)

    It is entered before the worker is started: what is on the card by then is not the worker's.

    Args:
        ours: whether a process id is that of the worker.
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
        self._before = read_state(self._nvml, self._card)
        self._processes_before, _ = compute_processes(self._nvml, self._card)
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
        counts, _ = ecc_counts(self._nvml, self._card)
        self._ecc = {
            name: None if before is None or (now := counts[name]) is None else now - before
            for name, before in self._ecc.items()
        }

    def _sample(self) -> None:
        at_ns = self._clock.now_ns()
        state = read_state(self._nvml, self._card)
        processes, reason = compute_processes(self._nvml, self._card)
        if reason is not None:
            self._missing.setdefault("others", reason)
        for pid in processes or ():
            if pid not in self._known:  # by now it lives; later it may not
                self._known[pid] = self._ours(pid)
        for name, why in state["missing"].items():
            self._missing.setdefault(name, why)
        self._samples.append(_Sample((at_ns + self._clock.now_ns()) // 2, state, processes))
        self._cpu_ns.append(time.thread_time_ns())

    # ------------------------------------------------------------------ what it came to

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any]:
        """What the card told from ``begin_ns`` to ``end_ns`` of the monotonic clock, for a trial's
        record (``gpu``). Each value is None where it was not told; ``missing`` says why.

        - ``samples``: readings within the window.
        - ``sm_clock_mhz`` with ``sm_clock_low_mhz`` and ``sm_clock_high_mhz``, and
          ``memory_clock_mhz``: medians, and the least and the most; ``power_w``: the mean;
          ``temperature_c``: the most.
        - ``throttled``: by reason, the share of the readings.
        - ``memory_used_bytes``: the most that was taken of the card's memory: by all processes
          together, and by the driver for itself;
          ``memory_process_bytes``: the most that the worker held, by ``memory_process_by``:
          ``process``, its own figure, or ``difference``, what the card held more than before the
          worker was started.
        - ``others``: other processes that computed on the card.
        - ``ecc_corrected``, ``ecc_uncorrected``: memory errors that came while the worker ran.
        - ``pcie_generation``, ``pcie_width``: the fastest that the link was.
        - the settings of ``qbench.machine.gpu.card.settings``; ``mig``: whether it is a part of a
        GPU.
        - ``watch_cpu_share``: what all of this cost the parent, as a share of one core.
        """
        inside = [sample for sample in self._samples if begin_ns <= sample.at_ns <= end_ns]
        missing = dict(self._missing)
        if not inside:
            why = f"no reading fell into the window of {(end_ns - begin_ns) * 1e-9:.3f} s"
            missing |= dict.fromkeys((*FIGURES, "memory_process_bytes", "others"), why)
        of = {name: _told(inside, name) for name in FIGURES}
        memory, by, others = self._by_process(inside)
        if memory is None:
            missing.setdefault(
                "memory_process_bytes",
                "neither the worker's own figure nor, beside others, a difference to before",
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
            "memory_process_bytes": memory,
            "memory_process_by": by,
            "others": others,
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

    def _by_process(self, inside: Sequence[_Sample]) -> tuple[int | None, str | None, int | None]:
        """The worker's memory, how that is known, and how many others computed on the card.

        In a container the worker may be listed under an id that is not its own here, or not at
        all. Then one process that was not there before is taken to be the worker.
        """
        lists = [sample.processes for sample in inside if sample.processes is not None]
        if not lists:
            return None, None, None
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
            return max(held), "process", others
        used = _told(inside, "memory_used_bytes")
        before = self._before["memory_used_bytes"]
        if others or not used or before is None:
            return None, None, others
        return max(0, max(used) - before), "difference", others


@contextmanager
def watching(facts: Mapping[str, Any] | None) -> Iterator[Summing]:
    """A watcher of the card that a CUDA device is, while the block runs; where the device is none
    or NVML does not show it, what stands in for one.

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
    """No card: nothing to tell, or the reason why nothing is told."""

    reason: str | None

    def summary(self, begin_ns: int, end_ns: int) -> dict[str, Any] | None:
        return None if self.reason is None else {"samples": 0, "missing": {"all": self.reason}}


def _held(lists: Sequence[Mapping[int, int | None]], pid: int) -> int:
    return max(processes.get(pid) or 0 for processes in lists)


def _told(samples: Sequence[_Sample], name: str) -> list[Any]:
    return [value for sample in samples if (value := sample.state[name]) is not None]


def _or_none(function: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> Any:
    return function(values) if values else None


def _shares(throttled: Sequence[Sequence[str]]) -> dict[str, float]:
    """By reason, the share of readings that named it."""
    reasons = dict.fromkeys(reason for reasons in throttled for reason in reasons)
    return {r: sum(r in reasons for reasons in throttled) / len(throttled) for r in reasons}
