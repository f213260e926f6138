"""MLPerf's single-stream scenario: samples in succession. Its result is the 90th percentile of the
query latency."""

from __future__ import annotations

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed


def drive(opened: Opened) -> Timed:
    """Options: ``min_duration_s``, ``max_duration_s``, ``min_queries``. Samples are of queries."""
    loadgen.one_at_a_time(opened, "single-stream")
    system = loadgen.System(opened)
    settings = loadgen.settings(opened, "SingleStream")
    settings.min_query_count = opened.options["min_queries"]
    # the shortest call, so that LoadGen makes enough queries
    settings.single_stream_expected_latency_ns = int(np.min(system.rehearse().call_ns))
    opened.begin()
    result = system.run(settings)
    put_back(opened)
    latency = loadgen.milliseconds(result.number("early_stopping_latency_ss"))
    return loadgen.timed(result, system, {"loadgen_latency_ms": latency})
