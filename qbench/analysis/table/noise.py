"""Judge whether a trial, and a case, was disturbed: from the conditions that the worker sampled
around the timed window (``qbench.kit.readings.conditions``) and from the order of its calls.

A doubtful trial stays in every figure: it is marked, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from qbench.bundle.records.energy import Window
from qbench.bundle.records.gpu import Gpu
from qbench.bundle.records.run import Trial
from qbench.kit.readings.conditions import TICK_NS
from qbench.machine.gpu.state import POWER_CAP
from qbench.spec.case import Case
from qbench.text import count, percent

# Values with figures ("alone: up to ...") were found by experiment: 1 ms networks on a virtual
# machine with two processors, with one and two threads and two streams, alone and next to one or
# two busy processes. Quotas, memory, clock and heat could not be tested: judgement.

WAITED = 0.05
"""Its threads waited for a processor for more than this share of the time. Alone: up to 0.04 (two
streams that wake each other); with other processes: 0.1 to 0.6, or 0 on a separate processor."""
CPU_SHARE = 0.9
"""A single thread that works without pause had the processor for less than this share of the time:
its latencies include the wait (for a processor, the hypervisor, a disk)."""
PRESSURE = 0.1
"""Where a process's own waiting is not known: some process of the machine waited for a processor
for more than this share of the time. Two threads or streams alone: up to 0.09; with other
processes: from 0.48."""
STOLEN = 0.01
"""The hypervisor took more than this share of a processor, one clock tick excluded."""
OTHERS_SHARE, OTHERS_CORES = 0.1, 0.5
"""Other processes used more than this share of the processors, or this number, apart from ticks of
the clock: each processor's time may be off by a tick in either direction, so the error of their sum
grows with the square root of their number. Next to a busy core another one is slower although
nothing waits: they share caches, memory, power, and hyperthreads share the core. Alone: up to 0.06
of two processors; with one other process: from 0.8."""
THROTTLED = 0.01
"""A quota stopped it for more than this share of the time: 10 to 100 ms at once, which makes a call
many times longer than the others."""
SHORT_OF_MEMORY = 0.01
"""Some process waited for memory for more than this share of the time: pages were fetched."""
CLOCK_FELL = 0.05
"""The clock fell by more than this: a boost ended, or heat or a power limit set in."""
CLOCK_LEAST = 0.5
"""At work, the clock was below this share of its maximum: more than the boost that one core loses
when all work, so a power mode, or a machine that was already hot."""
CLEAN = 0.9
"""A single thread's time was clean for less than this share, so that p90 may be the machine's and
not the program's. Alone: from 0.97."""
MORE_THAN_ASKED = 1.1
"""The process used more than this many processors for each requested thread."""
DRIFT = 0.1
"""The first fifth of the calls and the rest differ by more than this, and nothing else explains it.
Alone: up to 0.06."""
WORST_WORK = 4.0
"""A call of a single thread did this many times the work of the median one. Alone: up to 1.7; with
other processes, which empty the caches, 1.9; a compiler takes more."""
MAJOR_FAULTS = 3
"""At least this many pages were read from storage within the window. An occasional single one is
code that runs for the first time."""

GPU_CLOCK_MOVED = 0.02
"""The GPU's clock fell below its maximum in the window by more than this share. Its steps are 0.4
to 0.8 %."""

DOUBTFUL_SHARE = 0.25
"""A case is doubtful if this share of its trials is: a mean over trials then rests on them."""

PAUSING = ("paced", "mlperf-server")
"""Scenarios that wait for the next query: an idle processor and a lower clock are normal there."""


class _Sign(NamedTuple):
    """A disturbance of a trial.

    Attributes:
        kind: a trial has at most one sign of each kind.
        size: the severity, comparable within the kind.
        text: the reason with its figure.
    """

    kind: str
    size: float
    text: str


@dataclass(frozen=True)
class _Timed:
    """A timed window with its conditions: of a good trial, or of the energy pass.

    Attributes:
        span_ns: duration that the conditions cover; longer than the timed loop for scenarios that
            make several runs and time the last. Without a recorded clock: the timed loop.
        others: as in the records of trials.
    """

    span_ns: int
    wall_ns: int
    cpu_ns: int
    conditions: Mapping[str, float | None]
    loop: Mapping[str, float | None]
    warmup: Mapping[str, Any]
    gpu: Gpu | None

    @classmethod
    def of(cls, trial: Trial) -> _Timed:
        assert trial.wall_ns is not None and trial.cpu_ns is not None  # it is successful
        begin, end = trial.window or (0, trial.wall_ns)
        return cls(
            end - begin,
            trial.wall_ns,
            trial.cpu_ns,
            trial.conditions,
            trial.loop,
            trial.warmup,
            trial.gpu,
        )

    def condition(self, name: str, divisor: float) -> float | None:
        value = self.conditions.get(name)
        return None if value is None else value / divisor


def trial_noise(trial: Trial, case: Case) -> list[str]:
    """Return the reasons to doubt a successful trial, each with its figure."""
    return [sign.text for sign in _signs(_Timed.of(trial), case)]


def disturbed(trial: Trial, case: Case) -> bool:
    """Whether the machine, and not the program, disturbed a successful trial, so that a repetition
    may be better."""
    return any(_disturbances(_Timed.of(trial), case))


def windows_noise(windows: Iterable[Window], case: Case) -> str | None:
    """Return why the windows of a case's energy pass are doubtful, in one sentence with the worst
    figure of each kind; None if they are not. Failed windows and windows without conditions do not
    count."""
    found: list[list[_Sign]] = []
    for window in windows:
        met = window.met
        if window.status == "ok" and met is not None:
            assert window.begin_ns is not None and window.end_ns is not None
            span_ns = window.end_ns - window.begin_ns
            timed = _Timed(
                span_ns, met.wall_ns, met.cpu_ns, met.conditions, met.loop, met.warmup, met.gpu
            )
            found.append(list(_signs(timed, case)))
    return _reason(found, "windows")


def noise_columns(trials: Sequence[Trial], case: Case) -> dict[str, float | int | str | None]:
    """Return the noise columns of the case table from a case's successful trials. Conditions are
    medians over the trials that have them."""
    asked = case.threads * case.streams
    good = [_Timed.of(trial) for trial in trials]
    found = [list(_signs(timed, case)) for timed in good]
    reason = _reason(found, "trials")
    conditions: list[dict[str, float | None]] = [
        {
            "clean_share": timed.loop.get("clean_share"),
            "run_delay_share": timed.condition("run_delay_ns", timed.span_ns * asked),
            "others_cores": timed.condition("others_cpu_ns", timed.span_ns),
            "clock_ghz": timed.condition("frequency_khz_end", 1e6),
            "temperature_c": timed.condition("temperature_c", 1),
        }
        for timed in good
    ]
    columns: dict[str, float | int | str | None] = {
        "noisy": reason is not None,
        "noise_reason": reason,
        "doubtful_trials": sum(map(bool, found)),
    }
    for name in conditions[0]:
        known = [value for values in conditions if (value := values[name]) is not None]
        columns[name] = median(known) if known else None
    return columns


def _reason(found: Sequence[Sequence[_Sign]], called: str) -> str | None:
    """Return why a case is doubtful, in one sentence with the worst figure of each kind; None if it
    is not.

    Args:
        found: the signs of each successful trial or window.
        called: the word for them.
    """
    doubtful = sum(map(bool, found))
    if not doubtful or doubtful < DOUBTFUL_SHARE * len(found):
        return None
    kinds: dict[str, list[_Sign]] = {}
    for sign in (sign for signs in found for sign in signs):
        kinds.setdefault(sign.kind, []).append(sign)
    worst = [
        f"{max(signs, key=lambda sign: sign.size).text} ({len(signs)})"
        for signs in sorted(kinds.values(), key=len, reverse=True)
    ]
    return f"{doubtful} of {len(found)} {called} are doubtful; at worst: {', '.join(worst)}"


def _signs(timed: _Timed, case: Case) -> Iterator[_Sign]:
    outside = list(_disturbances(timed, case))
    yield from outside
    yield from _gpu_limits(timed)
    yield from _program(timed, case)
    yield from _drift(timed, case, calm=not outside)


def _disturbances(timed: _Timed, case: Case) -> Iterator[_Sign]:
    yield from _scheduling(timed, case)
    yield from _machine(timed, case)
    yield from _clock(timed, case)
    yield from _gpu(timed, case)


def _works_alone(case: Case) -> bool:
    """Whether the calling thread does all the work, without pause, so that its processor time is
    that of the calls: not with several threads, nor on a device."""
    asked = case.threads * case.streams
    return asked == 1 and case.device == "cpu" and case.scenario not in PAUSING


def _scheduling(timed: _Timed, case: Case) -> Iterator[_Sign]:
    """Find waiting for processors."""
    conditions, wall = timed.conditions, timed.span_ns
    delay, pressure = conditions.get("run_delay_ns"), conditions.get("cpu_pressure_ns")
    asked = case.threads * case.streams
    # helper threads of the runtime wait, too, in addition to the requested threads
    waited = 0.0 if delay is None else min(1, delay / (wall * asked))
    if waited > WAITED:
        text = f"waited {percent(waited)} of the time for a processor"
        yield _Sign("waited", waited, text)
    if delay is None and pressure is not None and (share := pressure / wall) > PRESSURE:
        text = f"processes of this machine waited {percent(share)} of the time for a processor"
        yield _Sign("pressure", share, text)
    had, clean = timed.cpu_ns / timed.wall_ns, timed.loop.get("clean_share")
    if _works_alone(case):
        if had + waited < CPU_SHARE:  # not explained by waiting
            text = f"had the processor for {percent(had)} of the time only"
            yield _Sign("off the processor", 1 - had, text)
        if clean is not None and clean < CLEAN:
            yield _Sign("clean", 1 - clean, f"only {percent(clean)} of the time was clean")


def _machine(timed: _Timed, case: Case) -> Iterator[_Sign]:
    """Find other work on the machine."""
    conditions, wall = timed.conditions, timed.span_ns
    asked, cpus = case.threads * case.streams, conditions.get("cpus") or 1
    if (others := conditions.get("others_cpu_ns")) is not None:
        limit = min(OTHERS_SHARE * cpus, OTHERS_CORES)
        if (others - TICK_NS * cpus**0.5) / wall > limit:
            yield _Sign("others", others / wall, f"others used {others / wall:.1f} cores")
    if (stolen := conditions.get("steal_ns")) is not None and (stolen - TICK_NS) / wall > STOLEN:
        text = f"the hypervisor gave away {percent(stolen / wall)} of a core"
        yield _Sign("stolen", stolen / wall, text)
    throttled = (conditions.get("throttled_ns") or 0) / (wall * asked)
    if throttled > THROTTLED:
        text = f"throttled {percent(min(1, throttled))} of the time by a quota"
        yield _Sign("throttled", throttled, text)
    short = (conditions.get("memory_pressure_ns") or 0) / wall
    if short > SHORT_OF_MEMORY:
        text = f"processes of this machine waited {percent(short)} of the time for memory"
        yield _Sign("memory", short, text)


def _clock(timed: _Timed, case: Case) -> Iterator[_Sign]:
    """Find a clock that was low, or fell."""
    conditions = timed.conditions
    if heat := conditions.get("thermal_throttles"):
        degrees = conditions.get("temperature_c")
        at = "" if degrees is None else f" (at {degrees:.0f} °C)"
        yield _Sign("heat", heat, f"heat lowered the clock {heat}x{at}")
    begin, end = conditions.get("frequency_khz_begin"), conditions.get("frequency_khz_end")
    most = conditions.get("frequency_max_khz")
    if case.device != "cpu" or case.scenario in PAUSING or not begin or not end:
        return
    if end < (1 - CLOCK_FELL) * begin:
        yield _Sign("clock", 1 - end / begin, f"clock fell from {_ghz(begin)} to {_ghz(end)} GHz")
    elif most and end < CLOCK_LEAST * most:
        text = f"clock was at {_ghz(end)} of {_ghz(most)} GHz"
        yield _Sign("low clock", 1 - end / most, text)


def _gpu(timed: _Timed, case: Case) -> Iterator[_Sign]:
    """Find disturbances on the GPU. Clock changes of a pausing scenario do not count, nor those at
    the power limit, which the load causes in every trial."""
    gpu = timed.gpu
    if gpu is None:
        return
    throttled = gpu.throttled or {}
    for reason, share in throttled.items():
        if reason != POWER_CAP:
            text = f"{reason} lowered the GPU's clock in {percent(share)} of the readings"
            yield _Sign(f"gpu {reason}", share, text)
    low, high = gpu.sm_clock_low_mhz, gpu.sm_clock_high_mhz
    moves = case.scenario in PAUSING or POWER_CAP in throttled
    if not moves and low is not None and high and 1 - low / high > GPU_CLOCK_MOVED:
        text = f"the GPU's clock moved between {low:.0f} and {high:.0f} MHz"
        yield _Sign("gpu clock", 1 - low / high, text)
    if others := gpu.others:
        processes = count(others, "other process", "other processes")
        yield _Sign("gpu others", others, f"{processes} computed on the GPU")
    for kind, errors, what in (
        ("ecc_corrected", gpu.ecc_corrected, "corrected"),
        ("ecc_uncorrected", gpu.ecc_uncorrected, "not corrected"),
    ):
        if errors is not None and errors > 0:
            text = f"the GPU's memory had {errors} errors that were {what}"
            yield _Sign(f"gpu {kind}", errors, text)


def _gpu_limits(timed: _Timed) -> Iterator[_Sign]:
    """Find limits that make this GPU slower than others of its model in every trial."""
    gpu = timed.gpu
    if gpu is None:
        return
    if share := (gpu.throttled or {}).get(POWER_CAP):
        text = f"the power limit lowered the GPU's clock in {percent(share)} of the readings"
        yield _Sign("gpu power cap", share, text)
    limit, usual = gpu.power_limit_w, gpu.power_limit_default_w
    if limit and usual and limit < usual:
        text = f"the GPU's power limit is {limit:.0f} W, below its default of {usual:.0f} W"
        yield _Sign("gpu power limit", usual / limit, text)


def _program(timed: _Timed, case: Case) -> Iterator[_Sign]:
    """Find signs of a program that was not warmed up."""
    asked, cores = case.threads * case.streams, timed.cpu_ns / timed.wall_ns
    if cores > asked * MORE_THAN_ASKED:
        threads = count(asked, "thread was", "threads were")
        text = f"{cores:.1f} cores were busy though {threads} asked for"
        yield _Sign("more than asked", cores, text)
    work = timed.loop.get("worst_work")
    if _works_alone(case) and work is not None and work > WORST_WORK:
        text = f"one call did {work:.0f}x the work of the median: something compiled"
        yield _Sign("worst work", work, text)
    faults = timed.conditions.get("major_faults") or 0
    if faults >= MAJOR_FAULTS:
        text = f"{faults} page faults in the timed loop were served from storage"
        yield _Sign("faults", faults, text)


def _drift(timed: _Timed, case: Case, calm: bool) -> Iterator[_Sign]:
    """Find an incomplete warm-up, and drift. Level latencies prove that the warm-up was complete;
    drift during another disturbance is not reported again."""
    if timed.warmup.get("clock_steady") is False and case.scenario not in PAUSING:
        yield _Sign("gpu warm-up", 1, "the GPU's clock was not steady after warm-up")
    head = timed.loop.get("head_over_rest")
    if head is None or not (1 / (1 + DRIFT) <= head <= 1 + DRIFT):
        if timed.warmup.get("stable") is False:  # None: too short to know
            yield _Sign("warm-up", 1, "not stable after warm-up")
        if head is None or not calm:
            return
        change = "still getting faster" if head > 1 else "getting slower"
        how = "slower" if head > 1 else "faster"
        text = f"{change}: the first fifth is {percent(abs(head - 1))} {how} than the rest"
        yield _Sign("drift", max(head, 1 / head), text)


def _ghz(khz: float) -> str:
    return f"{khz * 1e-6:.1f}"
