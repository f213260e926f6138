"""MLPerf's multi-stream scenario: queries of several samples in succession. Its result is the 99th
percentile of the query latency."""

from __future__ import annotations

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed


def drive(opened: Opened) -> Timed:
    """Options: ``samples_per_query``, ``min_duration_s``, ``max_duration_s``, ``min_queries``.

    A query is processed in batches on all streams. Samples are of queries."""
    system = loadgen.System(opened)
    settings = loadgen.settings(opened, "MultiStream")
    settings.min_query_count = opened.options["min_queries"]
    settings.multi_stream_samples_per_query = opened.options["samples_per_query"]
    rounds = -(-opened.options["samples_per_query"] // opened.config.batch) / len(opened.streams)
    shortest = np.min(system.rehearse().call_ns) * max(1.0, rounds)
    settings.multi_stream_expected_latency_ns = int(shortest)
    opened.begin()
    result = system.run(settings)
    put_back(opened)
    latency = loadgen.milliseconds(result.number("early_stopping_latency_ms"))
    return loadgen.timed(result, system, {"loadgen_latency_ms": latency})
