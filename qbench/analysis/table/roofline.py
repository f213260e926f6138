"""How near a case comes to what its machine could reach: the roofline model.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009. The ceilings are measured, not computed from a data sheet: see
``qbench.spec.yardsticks`` and ``qbench.kit.jobs.bandwidth``. Pure functions of what a bundle holds.

An inference takes at least the time of its multiply-accumulates at the highest rate that any
yardstick reached at their precision, and at least the time in which memory delivers the weights
that caches cannot keep until the next inference: of W bytes that are read over and over, the best
cache of C bytes leaves W - C to be fetched each time (Belady 1966). A model that fits into the
caches is not bounded by memory at all. Activations may stay in caches, so they bound nothing; they
count for the arithmetic intensity alone, in the sense of a cache-aware roofline (Ilic, Pratas,
Sousa, IEEE CAL 13(1), 2014): multiply-accumulates per byte that operators read and write.

Every time here is a 10th percentile: the undisturbed speed, of the ceiling as of the case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qbench.bundle.records.run import Bandwidth, Cache, Effective
from qbench.spec.case import Case
from qbench.spec.yardsticks import NOTHING, RATES

SUSPICIOUS = 1.15
"""A share from which on a case is suspicious. The best of many other shapes was 5 % faster than the
yardsticks, and runtimes leave out the products with padding: 9 % of a 3x3 convolution of 14x14."""
PURE = 0.95
"""A yardstick tells the rate of a precision if it has so much of its work in it."""
ABOVE = "above the roofline"
"""The flag of a suspicious case."""


@dataclass(frozen=True)
class Run:
    """What one inference of a case or a yardstick does, and how long it takes.

    Attributes:
        macs: multiply-accumulates of the whole batch by the precision they run at; None if they
            cannot be told.
        weight_bytes, activation_bytes: as ``qbench.kit.operators.EffectivePrecision`` has them.
        p10_ns: 10th percentile of a call's duration: of a case the mean over its trials, of a
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
        """From a case of the plan, its effective precision as read back, and its latency."""
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
        """None if it has none, or if they cannot be told."""
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
    """What a machine reaches at most.

    Attributes:
        rates: multiply-accumulates per second by device, threads and precision: the highest of
            all yardsticks of all backends.
        bandwidths: bytes per second that its memory delivers, by threads.
        cache_bytes: what its caches beyond the first level hold together; None if not known.
        floors: nanoseconds that a call costs beyond any network, by backend, environment, device
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
        """From the runs of yardsticks (those of other models are passed over).

        Args:
            bandwidth: the result of the job ``bandwidth``.
            caches: of the host.
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
        """The least time that memory needs for one inference; 0 where nothing is known."""
        rate = self.bandwidths.get(run.threads) if run.device == "cpu" else None
        if not rate or self.cache_bytes is None or run.weight_bytes is None:
            return 0.0
        return max(0, run.weight_bytes - self.cache_bytes) / rate

    def floor_ns(self, run: Run) -> float | None:
        """What a call of this backend costs beyond any network; None if not measured."""
        return self.floors.get(_place(run))


def _place(run: Run) -> tuple[str, str, str, int]:
    return run.backend, run.environment, run.device, run.threads


@dataclass(frozen=True)
class Roof:
    """One case under its machine's ceilings.

    Attributes:
        share: the least time that an inference can take, over the time it took; 1 is the roof.
        bound: which ceiling makes that least time.
        attainable_macs_per_s, achieved_macs_per_s: the same as rates of the case's work.
        suspicious: why the case cannot be believed as it is, with what to look for; None if
            nothing speaks against it.
    """

    share: float
    bound: Literal["compute", "memory"]
    attainable_macs_per_s: float
    achieved_macs_per_s: float
    suspicious: str | None = None


def roofline(run: Run, ceilings: Ceilings) -> Roof | None:
    """``run`` under ``ceilings``; None where its work, its time or a ceiling is not known."""
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
    """The case's columns of the case table."""
    roof, floor_ns = roofline(run, ceilings), ceilings.floor_ns(run)
    return {
        "macs": run.total_macs,
        "roofline_share": roof.share if roof else None,
        "roofline_bound": roof.bound if roof else None,
        "floor_us": None if floor_ns is None else floor_ns * 1e-3,
    }


def roofline_chart(runs: Mapping[str, Run], ceilings: Ceilings) -> dict[str, list[dict[str, Any]]]:
    """What a report draws, as JSON: ``points`` (the cases, by their ids, that have an intensity and
    a roof), and the ceilings: flat lines ``rates`` and slanted lines ``bandwidths``."""
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
