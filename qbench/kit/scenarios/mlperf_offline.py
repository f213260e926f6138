"""MLPerf's offline: all samples in one query. Its result is the rate."""

from __future__ import annotations

import numpy as np

from qbench.kit.scenarios import loadgen
from qbench.kit.scenarios.lane import put_back
from qbench.kit.scenarios.window import Opened, Timed

MARGIN = 1.5
"""So many times the rehearsal's rate is expected: a query that is done too soon is not valid."""
SLACK = 1.1
"""LoadGen makes so many times the samples that the expected rate would need."""


def drive(opened: Opened) -> Timed:
    """Options: ``min_duration_s``, ``max_samples``.

    The query is worked off in batches over all streams. A sample of the result is the call of a
    batch with placing and reading: LoadGen's latency of a sample is that of the whole query."""
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
