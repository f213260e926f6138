"""MLPerf's single-stream: one sample after the other. Its result is the 90th percentile of a
query's latency."""

from __future__ import annotations

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed


def drive(opened: Opened) -> Timed:
    """Options: ``min_duration_s``, ``max_duration_s``, ``min_queries``. A sample is a query."""
    loadgen.one_at_a_time(opened, "single-stream")
    system = loadgen.System(opened)
    settings = loadgen.settings(opened, "SingleStream")
    settings.min_query_count = opened.options["min_queries"]
    # the shortest call, so that LoadGen makes queries enough beforehand
    settings.single_stream_expected_latency_ns = int(np.min(system.rehearse().call_ns))
    opened.begin()
    result = system.run(settings)
    put_back(opened)
    latency = loadgen.milliseconds(result.number("early_stopping_latency_ss"))
    return loadgen.timed(result, system, {"loadgen_latency_ms": latency})
