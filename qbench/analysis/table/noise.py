"""Whether a trial, and a case, can be believed: the verdict on what the worker read around the
timed window (``qbench.kit.readings.conditions``) and on the order of its calls.

A doubtful trial stays in every figure: it is marked, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from qbench.kit.readings.conditions import TICK_NS
from qbench.machine.gpu.state import POWER_CAP

# Where a value was found by trial: 1 ms networks on a virtual machine of two processors, with one
# and two threads and two streams, alone and beside one or two processes that never pause. Quotas,
# memory, clock and heat gave nothing to try there: their values are by judgement.

WAITED = 0.05
"""Its threads waited for a processor for more than this share of the time. Alone: up to 0.04 (two
streams that wake each other); beside others: 0.1 to 0.6, or 0 on a processor of their own."""
CPU_SHARE = 0.9
"""A single thread that works without pause had the processor for less than this share of the time:
whatever it waited for (a processor, the hypervisor, a disk), its latencies hold that."""
PRESSURE = 0.1
"""Where a process's own waiting is not told: some process of the machine waited for a processor for
more than this share of the time. Two threads or streams alone: up to 0.09; beside others: from
0.48."""
STOLEN = 0.01
"""The hypervisor gave away more than this share of a processor, one tick of the clock aside."""
OTHERS_SHARE, OTHERS_CORES = 0.1, 0.5
"""Others used more than this share of the processors, or so many, ticks of the clock aside: of each
processor's time a tick may be lost or gained, as often the one as the other, so that the error of
their sum grows with the square root of their number. Beside
a busy neighbour a core is slower though nothing ever waits: they share caches, memory, power, and
hyperthreads the core itself. Alone: up to 0.06 of two processors; beside one process: from 0.8."""
THROTTLED = 0.01
"""A quota stopped it for more than this share of the time: 10 to 100 ms at once, which makes a call
many times as long as the others."""
SHORT_OF_MEMORY = 0.01
"""Some process waited for memory for more than this share of the time: pages are being fetched."""
CLOCK_FELL = 0.05
"""The clock fell by more than this: a boost ended, or heat or a power limit set in."""
CLOCK_LEAST = 0.5
"""At work, the clock was below this share of what it can be: more than all cores at work take from
one core's boost, so a power mode, or a machine that was hot before."""
CLEAN = 0.9
"""A single thread's time was clean for less than this share, so that p90 may be the machine's and
not the program's. Alone: from 0.97."""
MORE_THAN_ASKED = 1.1
"""More processor time than this times the threads asked for: the runtime did not keep to them."""
DRIFT = 0.1
"""The first fifth of the calls and the rest differ by more than this, and nothing else explains it.
Alone: up to 0.06."""
WORST_WORK = 4.0
"""A call of a single thread did so many times the work of the median one. Alone: up to 1.7, beside
others, with cold caches, 1.9; a compiler takes more than that."""
MAJOR_FAULTS = 3
"""So many pages or more came from storage within the window. One, seen now and then, is code that
runs for the first time."""

GPU_CLOCK_MOVED = 0.02
"""The GPU's clock was lower than its highest by more than this share at some time in the window.
Steps of the clock are 0.4 to 0.8 % of it."""

DOUBTFUL_SHARE = 0.25
"""A case is doubtful if this share of its trials is: a mean over trials then rests on them."""

PAUSING = ("paced", "mlperf-server")
"""Scenarios that wait for the next query: an idle processor and a slower clock are right there."""


class _Sign(NamedTuple):
    """One thing that speaks against a trial.

    Attributes:
        kind: what it is; of one kind there is one sign in a trial.
        size: how bad, comparable within the kind.
        text: the reason with the figure.
    """

    kind: str
    size: float
    text: str


def trial_noise(trial: Mapping[str, Any], case: Mapping[str, Any]) -> list[str]:
    """What speaks against the figures of a trial, each with how much; [] if nothing does.

    Args:
        trial: a good trial's record in the journal.
        case: its case: ``threads``, ``streams``, ``scenario``, ``device``.
    """
    return [sign.text for sign in _signs(trial, case)]


def noise_columns(
    trials: Sequence[Mapping[str, Any]], case: Mapping[str, Any]
) -> dict[str, float | int | str | None]:
    """The case's columns on whether its good trials can be believed, and on what they met: medians
    over those where it is told."""
    asked = case["threads"] * case["streams"]
    found = [list(_signs(trial, case)) for trial in trials]
    reason = _told(found)
    met: list[dict[str, float | None]] = [
        {
            "clean_share": trial["loop"].get("clean_share"),
            "run_delay_share": _over(trial, "run_delay_ns", _window_ns(trial) * asked),
            "others_cores": _over(trial, "others_cpu_ns", _window_ns(trial)),
            "clock_ghz": _over(trial, "frequency_khz_end", 1e6),
            "temperature_c": _over(trial, "temperature_c", 1),
        }
        for trial in trials
    ]
    columns: dict[str, float | int | str | None] = {
        "noisy": reason is not None,
        "noise_reason": reason,
        "doubtful_trials": sum(map(bool, found)),
    }
    for name in met[0]:
        known = [value for values in met if (value := values[name]) is not None]
        columns[name] = median(known) if known else None
    return columns


def _window_ns(trial: Mapping[str, Any]) -> int:
    """What the conditions span: a scenario may make several runs, and time the last. Of a bundle
    that keeps no clock, in which there were no such scenarios: the timed loop."""
    if trial["window"] is None:
        return trial["wall_ns"]
    begin, end = trial["window"]
    return end - begin


def _over(trial: Mapping[str, Any], name: str, divisor: float) -> float | None:
    value = trial["conditions"].get(name)
    return None if value is None else value / divisor


def disturbed(trial: Mapping[str, Any], case: Mapping[str, Any]) -> bool:
    """Whether the machine, and not the program, speaks against a good trial: another one may be
    better."""
    return any(_disturbances(trial, case))


def case_noise(
    trials: Sequence[Mapping[str, Any]], case: Mapping[str, Any], called: str = "trials"
) -> str | None:
    """Why a case's figures are doubtful, in one sentence with the worst figure of each kind; None
    if they are not.

    Args:
        trials: records in the journal; those that failed don't count.
        called: what the sentence calls them.
    """
    found = [list(_signs(trial, case)) for trial in trials if trial["status"] == "ok"]
    return _told(found, called)


def _told(found: Sequence[Sequence[_Sign]], called: str = "trials") -> str | None:
    """``case_noise`` of the signs of each good trial."""
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


def _signs(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    outside = list(_disturbances(trial, case))
    yield from outside
    yield from _gpu_limits(trial)
    yield from _program(trial, case)
    yield from _drift(trial, case, calm=not outside)


def _disturbances(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    yield from _scheduling(trial, case)
    yield from _machine(trial, case)
    yield from _clock(trial, case)
    yield from _gpu(trial, case)


def _works_alone(case: Mapping[str, Any]) -> bool:
    """Whether the calling thread does all the work itself, without pause, so that its processor
    time tells what a call took. Several threads share the work; a device does it elsewhere."""
    asked = case["threads"] * case["streams"]
    return asked == 1 and case["device"] == "cpu" and case["scenario"] not in PAUSING


def _scheduling(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    """Whether the process got the processors that it wanted."""
    met, wall = trial["conditions"], _window_ns(trial)
    delay, pressure = met.get("run_delay_ns"), met.get("cpu_pressure_ns")
    asked = case["threads"] * case["streams"]
    # a runtime's helpers wait too, beyond the threads that were asked for
    waited = 0.0 if delay is None else min(1, delay / (wall * asked))
    if waited > WAITED:
        text = f"waited {_percent(waited)} of the time for a processor"
        yield _Sign("waited", waited, text)
    if delay is None and pressure is not None and (share := pressure / wall) > PRESSURE:
        text = f"processes of this machine waited {_percent(share)} of the time for a processor"
        yield _Sign("pressure", share, text)
    had, clean = trial["cpu_ns"] / trial["wall_ns"], trial["loop"].get("clean_share")
    if _works_alone(case):
        if had + waited < CPU_SHARE:  # what is not explained yet
            text = f"had the processor for {_percent(had)} of the time only"
            yield _Sign("off the processor", 1 - had, text)
        if clean is not None and clean < CLEAN:
            yield _Sign("clean", 1 - clean, f"only {_percent(clean)} of the time was clean")


def _machine(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    """What went on beside the process."""
    met, wall = trial["conditions"], _window_ns(trial)
    asked, cpus = case["threads"] * case["streams"], met.get("cpus") or 1
    if (others := met.get("others_cpu_ns")) is not None:
        limit = min(OTHERS_SHARE * cpus, OTHERS_CORES)
        if (others - TICK_NS * cpus**0.5) / wall > limit:
            yield _Sign("others", others / wall, f"others used {others / wall:.1f} cores")
    if (stolen := met.get("steal_ns")) is not None and (stolen - TICK_NS) / wall > STOLEN:
        text = f"the hypervisor gave away {_percent(stolen / wall)} of a core"
        yield _Sign("stolen", stolen / wall, text)
    throttled = (met.get("throttled_ns") or 0) / (wall * asked)
    if throttled > THROTTLED:
        text = f"throttled {_percent(min(1, throttled))} of the time by a quota"
        yield _Sign("throttled", throttled, text)
    short = (met.get("memory_pressure_ns") or 0) / wall
    if short > SHORT_OF_MEMORY:
        text = f"processes of this machine waited {_percent(short)} of the time for memory"
        yield _Sign("memory", short, text)


def _clock(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    """Whether the processor was as fast as it can be, and stayed so."""
    met = trial["conditions"]
    if heat := met.get("thermal_throttles"):
        degrees = met.get("temperature_c")
        at = "" if degrees is None else f" (at {degrees:.0f} °C)"
        yield _Sign("heat", heat, f"heat lowered the clock {heat}x{at}")
    begin, end = met.get("frequency_khz_begin"), met.get("frequency_khz_end")
    most = met.get("frequency_max_khz")
    if case["device"] != "cpu" or case["scenario"] in PAUSING or not begin or not end:
        return
    if end < (1 - CLOCK_FELL) * begin:
        yield _Sign("clock", 1 - end / begin, f"clock fell from {_ghz(begin)} to {_ghz(end)} GHz")
    elif most and end < CLOCK_LEAST * most:
        text = f"clock was at {_ghz(end)} of {_ghz(most)} GHz"
        yield _Sign("low clock", 1 - end / most, text)


def _gpu(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    """What went on on the GPU beside the process. An idle one lowers its clock, as it should; so
    does one at its power limit, which is the load's own doing and the same in every trial."""
    gpu = trial.get("gpu") or {}
    throttled = gpu.get("throttled") or {}
    for reason, share in throttled.items():
        if reason != POWER_CAP:
            text = f"{reason} lowered the GPU's clock in {_percent(share)} of the readings"
            yield _Sign(f"gpu {reason}", share, text)
    low, high = gpu.get("sm_clock_low_mhz"), gpu.get("sm_clock_high_mhz")
    moves = case["scenario"] in PAUSING or POWER_CAP in throttled
    if not moves and low is not None and high and 1 - low / high > GPU_CLOCK_MOVED:
        text = f"the GPU's clock moved between {low:.0f} and {high:.0f} MHz"
        yield _Sign("gpu clock", 1 - low / high, text)
    if others := gpu.get("others"):
        word = "process" if others == 1 else "processes"
        yield _Sign("gpu others", others, f"{others} other {word} computed on the GPU")
    for name, what in (("ecc_corrected", "corrected"), ("ecc_uncorrected", "not corrected")):
        if (errors := gpu.get(name) or 0) > 0:
            text = f"the GPU's memory had {errors} errors that were {what}"
            yield _Sign(f"gpu {name}", errors, text)


def _gpu_limits(trial: Mapping[str, Any]) -> Iterator[_Sign]:
    """What makes this GPU slower than others of its kind, in every trial alike."""
    gpu = trial.get("gpu") or {}
    if share := (gpu.get("throttled") or {}).get(POWER_CAP):
        text = f"the power limit lowered the GPU's clock in {_percent(share)} of the readings"
        yield _Sign("gpu power cap", share, text)
    limit, usual = gpu.get("power_limit_w"), gpu.get("power_limit_default_w")
    if limit and usual and limit < usual:
        text = f"the GPU's power limit is {limit:.0f} W, below its default of {usual:.0f} W"
        yield _Sign("gpu power limit", usual / limit, text)


def _program(trial: Mapping[str, Any], case: Mapping[str, Any]) -> Iterator[_Sign]:
    """What the program did that a warm one does not."""
    asked, cores = case["threads"] * case["streams"], trial["cpu_ns"] / trial["wall_ns"]
    if cores > asked * MORE_THAN_ASKED:
        threads = "1 thread was" if asked == 1 else f"{asked} threads were"
        text = f"{cores:.1f} cores were busy though {threads} asked for"
        yield _Sign("more than asked", cores, text)
    work = trial["loop"].get("worst_work")
    if _works_alone(case) and work is not None and work > WORST_WORK:
        text = f"one call did {work:.0f}x the work of the median: something compiled"
        yield _Sign("worst work", work, text)
    faults = trial["conditions"].get("major_faults") or 0
    if faults >= MAJOR_FAULTS:
        text = f"{faults} page faults in the timed loop were served from storage"
        yield _Sign("faults", faults, text)


def _drift(trial: Mapping[str, Any], case: Mapping[str, Any], calm: bool) -> Iterator[_Sign]:
    """Whether the warm-up had ended. If it could not tell, and calls then stay as they begin, it
    had; if a disturbance came or went, calls change with it, which is told already."""
    if trial["warmup"].get("clock_steady") is False and case["scenario"] not in PAUSING:
        yield _Sign("gpu warm-up", 1, "the GPU's clock was not steady after warm-up")
    head = trial["loop"].get("head_over_rest")
    if head is None or not (1 / (1 + DRIFT) <= head <= 1 + DRIFT):
        if trial["warmup"].get("stable") is False:  # None: too short to tell
            yield _Sign("warm-up", 1, "not stable after warm-up")
        if head is None or not calm:
            return
        change = "still getting faster" if head > 1 else "getting slower"
        how = "slower" if head > 1 else "faster"
        text = f"{change}: the first fifth is {_percent(abs(head - 1))} {how} than the rest"
        yield _Sign("drift", max(head, 1 / head), text)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _ghz(khz: float) -> str:
    return f"{khz * 1e-6:.1f}"
