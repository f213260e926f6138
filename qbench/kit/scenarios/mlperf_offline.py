"""MLPerf's offline scenario: all samples in one query. Its result is the throughput."""

from __future__ import annotations

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed

MARGIN = 1.5
"""Factor from the rehearsal's rate to the expected rate: a query that ends too early is not
valid."""
SLACK = 1.1
"""Factor by which LoadGen makes more samples than the expected rate needs."""


def drive(opened: Opened) -> Timed:
    """Options: ``min_duration_s``, ``max_samples``.

    The query is processed in batches on all streams. Samples are of batches, with binding and
    reading: LoadGen's latency of a sample is that of the whole query."""
    system = loadgen.System(opened)
    settings = loadgen.settings(opened, "Offline")
    most = opened.options["max_samples"] / (SLACK * opened.options["min_duration_s"])
    expected = MARGIN * system.rehearse().items_per_s
    settings.offline_expected_qps = min(expected, most)
    settings.min_query_count = 1
    opened.begin()
    result = system.run(settings)
    put_back(opened)
    calls = np.concatenate([np.asarray(lane.call_ns, dtype=np.int64) for lane in system.lanes])
    figures = {"loadgen_qps": result.number("result_samples_per_second")}
    return loadgen.timed(result, system, figures, {"capped": expected > most}, calls)
