"""One timed window of a case in a fresh worker, checked against the case's evaluation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from qbench.analysis.quality.fidelity import sqnr_db
from qbench.kit.feeds import padded
from qbench.machine.gpu.watch import watching
from qbench.run.artifacts import feed_files
from qbench.run.plan import Planned
from qbench.run.stages.sitting import Sitting
from qbench.run.workers.isolate import Outcome, run_job, stop_if_disk_full
from qbench.spec.scenarios import SCENARIOS

SAME_OUTPUTS_DB = 20.0
"""Two openings of an artifact, with other threads or streams, agree better than this (SQNR);
different computations do not."""


def run_trial(
    sitting: Sitting, planned: Planned, folder: Path, timed_s: float, metered: bool = False
) -> Outcome:
    """Run one worker with a timed window of its case's scenario.

    A worker whose outputs differ from the evaluation's is an error: its speed would be that of
    other work.

    Args:
        folder: the worker's folder, empty; files that the result names are in it.
        metered: the window lasts ``timed_s``, whatever the scenario's own length.
    """
    suite, case, items = sitting.plan.suite, planned.case, planned.evaluation
    assert items is not None
    feeds, files = feed_files(items, "feed")
    options = case.scenario_options
    if metered and "duration_s" in options:
        options = {**options, "duration_s": timed_s}
    if case.scenario == "pipeline":
        pipeline = sitting.catalog.pipeline(sitting.plan.cards[case.model], options["frames"])
        options, files = {**options, **pipeline.options}, {**files, **pipeline.files}
    with watching(planned.gpu) as watcher:
        outcome = run_job(
            "measure",
            sitting.registry.targets[case.backend],
            {
                "artifact": "artifact",
                "config": asdict(case.config()),
                "feeds": feeds,
                "scenario": SCENARIOS[case.scenario].module,
                "options": options,
                "warmup_s": suite.warmup_s,
                "timed_s": timed_s,
                "gpu": planned.gpu,
            },
            folder,
            {**files, "artifact": sitting.artifact(planned).folder},
            sitting.limits.trial_timeout_s + suite.warmup_s + timed_s + case.longest_s,
            sitting.limits.memory_bytes,
            sitting.plan.interpreter(case),
        )
    stop_if_disk_full(outcome, folder)
    if outcome.status != "ok":
        return outcome
    gpu = watcher.summary(*outcome.result["window"])
    outcome = replace(outcome, result={**outcome.result, "gpu": gpu})
    expected = _first_outputs(sitting, planned)
    for name, file in outcome.result["outputs"].items():
        exact, got = expected[name], np.load(folder / file)
        if got.ndim == exact.ndim:  # fewer rows than the largest item of the evaluation
            got = padded(got, exact.shape)
        close = sqnr_db(exact, got)
        if not close >= SAME_OUTPUTS_DB:  # NaN is not close either
            return replace(
                outcome,
                status="error",
                reason=f"output '{name}' of the timed program differs from the evaluation's for "
                f"the same items ({close:.1f} dB)",
            )
    return outcome


def _first_outputs(sitting: Sitting, planned: Planned) -> dict[str, np.ndarray]:
    """The evaluation's outputs for the timed items, the first batch: by name, ``[batch, ...]``."""
    key, known = str(planned.evaluation_id), sitting.first_outputs
    if key not in known:
        rows = np.arange(planned.case.batch_size)  # as the worker chooses its batch
        outputs = sitting.bundle.outputs(key)
        known[key] = {name: array[rows % len(array)] for name, array in outputs.items()}
    return known[key]
