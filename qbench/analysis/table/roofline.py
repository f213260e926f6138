"""The roofline model: compare a case with the ceilings of its machine.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009. The ceilings are measured, not computed from a data sheet: see
``qbench.spec.yardsticks`` and ``qbench.kit.jobs.bandwidth``.

An inference takes at least the time of its multiply-accumulates at the highest rate that any
yardstick reached at their precision, and at least the time to read from memory the weights that
caches cannot keep until the next inference: with W bytes read repeatedly, an optimal cache of C
bytes misses W - C each time (Belady 1966). Models that fit into the caches have no memory bound.
Activations may stay in caches, so they give no bound; they count only in the arithmetic intensity,
as in a cache-aware roofline (Ilic, Pratas, Sousa, IEEE CAL 13(1), 2014): multiply-accumulates per
byte that operators read and write.

All times are 10th percentiles, the undisturbed speed, for ceilings and cases alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qbench.bundle.records.run import Bandwidth, Cache, Effective
from qbench.spec.case import Case
from qbench.spec.yardsticks import NOTHING, RATES

SUSPICIOUS = 1.15
"""A case with at least this share is suspicious. The best of many other shapes was 5 % faster than
the yardsticks, and runtimes skip products with padding: 9 % of a 3x3 convolution of 14x14."""
PURE = 0.95
"""A yardstick measures the rate of a precision if at least this share of its work runs in it."""
ABOVE = "above the roofline"
"""The flag of a suspicious case."""


@dataclass(frozen=True)
class Run:
    """Work and duration of one inference of a case or a yardstick.

    Attributes:
        macs: multiply-accumulates of the whole batch by the precision they run at; None if
            unknown.
        weight_bytes, activation_bytes: as in ``qbench.kit.operators.EffectivePrecision``.
        p10_ns: 10th percentile of a call's duration: for a case the mean over its trials, for a
            yardstick the best trial. None if not measured.
    """

    model: str
    backend: str
    environment: str
    device: str
    threads: int
    macs: Mapping[str, int] | None
    weight_bytes: int | None
    activation_bytes: int | None
    p10_ns: float | None

    @classmethod
    def of(cls, case: Case, effective: Effective | None, p10_ns: float | None) -> Run:
        """Make it from a case of the plan, its effective precision, and its latency."""
        return cls(
            case.model,
            case.backend,
            case.environment,
            case.device,
            case.threads,
            macs=effective and effective.macs,
            weight_bytes=effective and effective.weight_bytes,
            activation_bytes=effective and effective.activation_bytes,
            p10_ns=p10_ns,
        )

    @property
    def total_macs(self) -> int | None:
        """Multiply-accumulates of all precisions; None if there are none, or they are unknown."""
        return sum(self.macs.values()) or None if self.macs else None

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: multiply-accumulates per byte that operators read and write."""
        if self.total_macs is None or self.weight_bytes is None or self.activation_bytes is None:
            return None
        moved = self.weight_bytes + self.activation_bytes
        return self.total_macs / moved if moved else None


@dataclass(frozen=True)
class Ceilings:
    """Measured ceilings of a machine.

    Attributes:
        rates: multiply-accumulates per second by device, threads and precision: the highest of
            all yardsticks of all backends.
        bandwidths: memory bandwidth in bytes per second, by threads.
        cache_bytes: total size of its caches beyond the first level; None if unknown.
        floors: overhead of an empty network's call in nanoseconds, by backend, environment, device
            and threads.
    """

    rates: Mapping[tuple[str, int, str], float] = field(
        default_factory=dict[tuple[str, int, str], float]
    )
    bandwidths: Mapping[int, float] = field(default_factory=dict[int, float])
    cache_bytes: int | None = None
    floors: Mapping[tuple[str, str, str, int], float] = field(
        default_factory=dict[tuple[str, str, str, int], float]
    )

    @classmethod
    def of(
        cls,
        yardsticks: Iterable[Run],
        bandwidth: Bandwidth | None = None,
        caches: Iterable[Cache] | None = None,
    ) -> Ceilings:
        """Compute them from runs of yardsticks; runs of other models are ignored.

        Args:
            bandwidth: the result of the job ``bandwidth``.
            caches: the host's caches.
        """
        rates: dict[tuple[str, int, str], float] = {}
        floors: dict[tuple[str, str, str, int], float] = {}
        for run in yardsticks:
            if run.p10_ns is None:
                continue
            if run.model == NOTHING:
                floors[_place(run)] = run.p10_ns
            elif run.model in RATES and run.macs and run.total_macs:
                word, most = max(run.macs.items(), key=lambda item: item[1])
                if most >= PURE * run.total_macs:
                    key = (run.device, run.threads, word)
                    rates[key] = max(
                        rates.get(key, 0.0), float(run.total_macs / (run.p10_ns * 1e-9))
                    )
        fastest: dict[int, float] = {}
        for repeats in (bandwidth.copied, bandwidth.read) if bandwidth else ():
            for threads, values in repeats.items():
                fastest[int(threads)] = max([fastest.get(int(threads), 0.0), *values])
        sizes = [c.bytes * (c.instances or 1) for c in caches or () if c.level[:2] != "L1"]
        return cls(rates, fastest, sum(sizes) if sizes else None, floors)

    def memory_s(self, run: Run) -> float:
        """Return the minimum time of memory traffic for one inference; 0 if unknown."""
        rate = self.bandwidths.get(run.threads) if run.device == "cpu" else None
        if not rate or self.cache_bytes is None or run.weight_bytes is None:
            return 0.0
        return max(0, run.weight_bytes - self.cache_bytes) / rate

    def floor_ns(self, run: Run) -> float | None:
        """Return the overhead of a call of this backend in nanoseconds; None if not measured."""
        return self.floors.get(_place(run))


def _place(run: Run) -> tuple[str, str, str, int]:
    return run.backend, run.environment, run.device, run.threads


@dataclass(frozen=True)
class Roof:
    """One case under its machine's ceilings.

    Attributes:
        share: minimum time of an inference over its measured time; 1 is the roof.
        bound: the ceiling that determines the minimum time.
        attainable_macs_per_s, achieved_macs_per_s: the case's work over these two times.
        suspicious: why the result is implausible, and possible causes; None if it is plausible.
    """

    share: float
    bound: Literal["compute", "memory"]
    attainable_macs_per_s: float
    achieved_macs_per_s: float
    suspicious: str | None = None


def roofline(run: Run, ceilings: Ceilings) -> Roof | None:
    """Compare ``run`` with ``ceilings``; None if its work, its time or a ceiling is unknown."""
    macs, work = run.macs, run.total_macs
    if macs is None or work is None or not run.p10_ns:
        return None
    keys = {word: (run.device, run.threads, word) for word in macs}
    if not all(key in ceilings.rates for key in keys.values()):
        return None
    compute_s = sum(count / ceilings.rates[keys[word]] for word, count in macs.items())
    memory_s = ceilings.memory_s(run)
    least_s, took_s = max(compute_s, memory_s), run.p10_ns * 1e-9
    share = least_s / took_s
    return Roof(
        share=share,
        bound="compute" if compute_s >= memory_s else "memory",
        attainable_macs_per_s=work / least_s,
        achieved_macs_per_s=work / took_s,
        suspicious=None if share < SUSPICIOUS else _doubt(share),
    )


def _doubt(share: float) -> str:
    return (
        f"{share:.2f} times as fast as this machine's ceilings allow: does it do the work? Compare "
        "its outputs, and look for results that are kept from call to call. Winograd convolutions, "
        "sparse weights and padding that is left out also do this"
    )


def columns(run: Run, ceilings: Ceilings) -> dict[str, Any]:
    """Return the case's roofline columns of the case table."""
    roof, floor_ns = roofline(run, ceilings), ceilings.floor_ns(run)
    return {
        "macs": run.total_macs,
        "roofline_share": roof.share if roof else None,
        "roofline_bound": roof.bound if roof else None,
        "floor_us": None if floor_ns is None else floor_ns * 1e-3,
    }


def roofline_chart(runs: Mapping[str, Run], ceilings: Ceilings) -> dict[str, list[dict[str, Any]]]:
    """Return a report's chart as JSON: ``points`` (the cases with an intensity and a roof), and the
    ceilings: horizontal lines ``rates`` and slanted lines ``bandwidths``."""
    points: list[dict[str, Any]] = []
    for case_id, run in runs.items():
        roof = roofline(run, ceilings)
        if roof is not None and run.intensity is not None:
            points.append(
                {
                    "case_id": case_id,
                    "model": run.model,
                    "backend": run.backend,
                    "device": run.device,
                    "threads": run.threads,
                    "precision": max(run.macs or {}, key=(run.macs or {}).__getitem__),
                    "macs_per_byte": run.intensity,
                    "macs_per_s": roof.achieved_macs_per_s,
                    "share": roof.share,
                    "suspicious": roof.suspicious,
                }
            )
    return {
        "points": points,
        "rates": [
            {"device": device, "threads": threads, "precision": word, "macs_per_s": rate}
            for (device, threads, word), rate in sorted(ceilings.rates.items())
        ],
        "bandwidths": [
            {"threads": threads, "bytes_per_s": rate}
            for threads, rate in sorted(ceilings.bandwidths.items())
        ],
    }
