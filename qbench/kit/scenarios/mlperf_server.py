"""MLPerf's server scenario: queries arrive as a Poisson process. Its result is the highest rate
that meets the latency limit.

The rate is found by bisection; each probe is a LoadGen run with its own verdict. The rate found is
confirmed with other arrival times, since the last valid probe may have been lucky.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed

FIRST, WIDEN, CLOSE = 0.8, 1.25, 1.05
"""The first rate as a share of a closed loop's; the factor to the next rate while all are valid;
the ratio of an invalid to a valid rate that ends the search."""
CONFIRMATIONS = 5
"""Maximum number of confirming runs, each at a lower rate, in growing steps."""


def drive(opened: Opened) -> Timed:
    """Options: ``latency_ms``, ``percentile``, ``probes``, ``min_duration_s``, ``max_duration_s``,
    ``min_queries``.

    Samples are of queries of the last run, from the time each was due, as LoadGen reports them; of
    calls of the rehearsal if it shows that no run can be valid."""
    options = opened.options
    limit_ms, percentile = options["latency_ms"], options["percentile"]
    system = loadgen.System(opened, queued=True)
    runs: list[loadgen.Result] = []
    probes: list[dict[str, Any]] = []

    def probe(rate: float, seed: int = 0) -> bool:
        settings = loadgen.settings(opened, "Server")
        settings.server_target_qps = rate
        settings.server_target_latency_ns = round(limit_ms * 1e6)
        settings.server_target_latency_percentile = percentile / 100
        settings.min_query_count = options["min_queries"]
        settings.schedule_rng_seed = seed
        result = system.run(settings, f"probe-{len(runs) + 1:02d}_", trace=True)
        runs.append(result)
        probes.append(
            {
                "target_qps": rate,
                "valid": result.valid,
                "latency_ms": float(np.percentile(result.query_ns, percentile)) / 1e6,
                "queries": len(result.query_ns),
                "seed": seed,
            }
        )
        return result.valid

    rehearsal = system.rehearse()
    start = FIRST * rehearsal.items_per_s
    floor = options["min_queries"] / options["max_duration_s"]  # lower rates take too long
    reason = _hopeless(rehearsal, start, floor, limit_ms)
    rate = None
    if reason is None:
        rate = _confirmed(probe, highest(probe, start, floor, options["probes"]))
        if rate is None:
            tried = [each["target_qps"] for each in probes]
            reason = (
                f"no rate was valid, from {max(tried):.4g} down to {min(tried):.4g} queries per "
                f"second: the {percentile:g}th percentile must stay within {limit_ms:g} ms"
            )
    put_back(opened)
    facts = {"no_rate_because": reason, "probes": probes}
    if not runs:
        return _without_a_run(opened, rehearsal, facts)
    reached = runs[-1].number("result_scheduled_samples_per_sec") if rate else None
    figures = {"target_qps": rate, "loadgen_qps": reached}
    summaries = [result.files[0] for result in runs[:-1]]
    return loadgen.timed(runs[-1], system, figures, facts, more_files=summaries)


def highest(probe: Callable[[float], bool], start: float, floor: float, most: int) -> float | None:
    """Find the highest valid rate with at most ``most`` probes, not below ``floor``; None if there
    is none.

    Halves the rate, or raises it by a quarter, until a valid and an invalid rate are known, then
    bisects the logarithm until they are within 5 % of each other."""
    good = bad = None
    rate = start
    for _ in range(most):
        if rate < floor:
            break
        if probe(rate):
            good = rate
        else:
            bad = rate
        if good is None:
            rate /= 2
        elif bad is None:
            rate *= WIDEN
        elif bad <= CLOSE * good:
            break
        else:
            rate = math.sqrt(good * bad)
    return good


def _confirmed(probe: Callable[..., bool], rate: float | None) -> float | None:
    """Return the rate, or a lower one, that is valid with other arrival times as well."""
    step = CLOSE
    for seed in range(1, CONFIRMATIONS + 1):
        if rate is None or probe(rate, seed=seed):
            return rate
        rate /= step
        step *= step
    return None


def _hopeless(
    rehearsal: loadgen.Rehearsal, start: float, floor: float, limit_ms: float
) -> str | None:
    """Return why no rate can be valid; None if one may be."""
    quickest_ms = float(np.percentile(rehearsal.call_ns, 10)) / 1e6
    if quickest_ms > limit_ms:
        return (
            f"a call takes {quickest_ms:.3g} ms even without waiting, and the limit is "
            f"{limit_ms:g} ms: raise latency_ms"
        )
    if start < floor:
        return (
            f"at {start:.3g} queries per second, min_queries take longer than max_duration_s: "
            "raise max_duration_s"
        )
    return None


def _without_a_run(opened: Opened, rehearsal: loadgen.Rehearsal, facts: dict[str, Any]) -> Timed:
    """Return the result if LoadGen was never run: the rehearsal's calls."""
    return Timed(
        samples=rehearsal.call_ns,
        items=len(rehearsal.call_ns) * opened.config.batch,
        wall_ns=rehearsal.wall_ns,
        cpu_ns=rehearsal.cpu_ns,
        figures={"loadgen_valid": None, "loadgen_qps": None, "target_qps": None},
        facts=facts,
    )
