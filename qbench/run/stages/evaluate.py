"""The stage that computes all evaluation items with every artifact and judges the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qbench.analysis.quality.fidelity import dequantized, judged_outputs
from qbench.analysis.quality.judge import NotFinite, find_scores, score_outputs
from qbench.analysis.quality.plausible import MUCH_CLIPPED
from qbench.analysis.table.profile import summary
from qbench.bundle.records.run import Effective
from qbench.kit.model import RunConfig
from qbench.kit.pipeline.decoding import DecoderFailed
from qbench.kit.reasons import LONGEST, short
from qbench.machine.host import usable_cores
from qbench.run.artifacts import feed_files
from qbench.run.plan import Planned
from qbench.run.stages.prepare import prepare_one
from qbench.run.stages.sitting import Sitting
from qbench.run.stages.wrong import why_outputs_are_wrong
from qbench.run.workers.isolate import in_parallel, run_job, scratch_folder, stop_if_disk_full
from qbench.spec.judging import Quality
from qbench.spec.models import Expected
from qbench.spec.precisions import IN_NAME_ONLY, QUANTIZED_IN_NAME_ONLY, REFERENCE, flags
from qbench.text import percent

PROFILE_RUNS = 20
"""Profiled inferences of an evaluation, where the suite asks for a profile."""
MADE_UP = "; inputs were made up: give real ones by --inputs, --data or a card's evaluation"
"""What is added to an error on inputs that nobody gave."""
EXPECTED_TOLERANCE = 0.005
"""Float32 accuracy differs by less between runtimes; by more with another preprocessing."""


def evaluate(sitting: Sitting) -> None:
    """Run all evaluation items through every artifact, the models' references first."""
    done = sitting.bundle.evaluated
    todo = [
        planned
        for key, planned in sitting.plan.evaluations().items()
        if key not in done and sitting.is_prepared(planned)
    ]
    sitting.progress.stage("evaluate", len(todo))
    at_once = 1 if sitting.plan.suite.profile else usable_cores()  # a profile is a measurement
    references = list(sitting.plan.references.values())
    on_cpu = all(planned.case.device == "cpu" for one in references for planned in one)
    in_parallel(
        references,
        lambda candidates: _evaluate_reference(sitting, candidates),
        at_once if on_cpu else 1,
    )
    done = sitting.bundle.evaluated
    rest = [p for p in todo if p.evaluation_id not in done]

    def evaluate_one(planned: Planned) -> None:
        _evaluate_one(sitting, planned)

    in_parallel([p for p in rest if p.case.device == "cpu"], evaluate_one, at_once)
    # the number of cores says nothing about a device's memory
    in_parallel([p for p in rest if p.case.device != "cpu"], evaluate_one, 1)


def _evaluate_reference(sitting: Sitting, candidates: Sequence[Planned]) -> None:
    """Evaluate the candidates for a model's reference, in order, until one succeeds."""
    for planned in candidates:
        record = sitting.bundle.evaluated.get(str(planned.evaluation_id))
        if record is None:
            for preparation in planned.preparation.chain if planned.preparation else ():
                if preparation.key not in sitting.bundle.prepared:
                    prepare_one(sitting, preparation)
            if sitting.is_prepared(planned):
                _evaluate_one(sitting, planned)
                record = sitting.bundle.evaluated[str(planned.evaluation_id)]
        if record is not None and record.status == "ok":
            return


def _evaluate_one(sitting: Sitting, planned: Planned) -> None:
    """Evaluate one artifact in a worker, judge its outputs and record both."""
    plan, case, items = sitting.plan, planned.case, planned.evaluation
    assert items is not None
    profiled = plan.suite.profile and planned not in plan.yardsticks
    sitting.progress.working(case.label)
    config = RunConfig(device=case.device, batch=case.batch_size, hints=case.hints)
    feeds, files = feed_files(items, "feed")
    with scratch_folder(sitting.store.work_folder) as folder:
        outcome = run_job(
            "evaluate",
            sitting.registry.targets[case.backend],
            {
                "artifact": "artifact",
                "config": asdict(config),
                "feeds": feeds,
                "profile_runs": PROFILE_RUNS if profiled else None,
            },
            folder,
            {**files, "artifact": sitting.artifact(planned).folder},
            sitting.limits.evaluate_timeout_s,
            sitting.limits.memory_bytes,
            plan.interpreter(case),
        )
        stop_if_disk_full(outcome, folder)
        record: dict[str, Any] = {
            "evaluation_id": planned.evaluation_id,
            "status": outcome.status,
            "reason": outcome.reason,
            "log": outcome.log,
            "seconds": outcome.seconds,
            "dataset_digest": items.digest,
            "data_is_random": items.random,
        }
        outputs = {n: folder / f for n, f in outcome.result.get("outputs", {}).items()}
        if outcome.status == "ok":
            kept = ("effective", "runtime_version", "clipped", "scales")
            record |= {k: outcome.result[k] for k in kept}
            if profiled:
                record["profile"] = summary(
                    outcome.result["profile"], outcome.result["profile_refusal"], PROFILE_RUNS
                )
            record |= _judge(sitting, planned, outputs, items.labels, record["scales"])
            _warn_of_clipping(sitting, case.label, record["clipped"])
            if "quality" in record:
                quality = Quality.model_validate(record["quality"])
                mismatch = outcome.result["mismatch"]
                if reason := why_outputs_are_wrong(sitting, planned, quality, mismatch):
                    record |= {"status": "wrong_output", "reason": short(reason)}
            if sitting.request.strict and record["status"] == "ok":
                record |= _refuse_in_name_only(
                    case.precision, Effective.model_validate(record["effective"])
                )
        if items.random and record["status"] == "error":
            room = LONGEST - len(MADE_UP)
            record["reason"] = short(record["reason"], room) + MADE_UP
        with sitting.writing:
            sitting.bundle.add_items(case.model, items.labels, items.chosen)
            sitting.bundle.add_evaluated(record, outputs)
    sitting.progress.done(case.label, record["status"], record["reason"])


def _judge(
    sitting: Sitting,
    planned: Planned,
    files: Mapping[str, Path],
    labels: Path | None,
    scales: Mapping[str, tuple[float, int]],
) -> dict[str, Any]:
    """The record's field ``quality``, or an error's status and reason where outputs are unusable.

    Args:
        files: by output name, an array ``[items, ...]``.
        scales: (scale, zero-point) of integer outputs, by name.
    """
    card, known = sitting.plan.cards[planned.case.model], sitting.reference_scores
    with sitting.writing:
        reference = sitting.bundle.reference(card.name)
    base = judged_outputs(sitting.bundle, reference) if reference else None
    stored = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    outputs = dequantized(stored, scales)
    truth = None if labels is None else np.load(labels)
    how = sitting.plan.judging[card.name]
    if how.decoder is not None:
        sitting.progress.working(planned.case.label, f"decoder {how.decoder.name}")
    try:
        if reference and base is not None and reference not in known:
            known[reference] = find_scores(base, truth, how, sitting.limits)
        scores = known[reference] if reference else None
        quality = score_outputs(outputs, base, truth, how, scores, sitting.limits)
    except NotFinite as error:
        if base is None:  # float32 computes that, too, or there is no float32
            return {"status": "error", "reason": f"{error}: check inputs and weights"}
        return {"status": "wrong_output", "reason": f"{error}, float32's in none"}
    except DecoderFailed as failed:
        return {"status": failed.status, "reason": str(failed), "log": failed.log}
    except ValueError as error:
        return {"status": "error", "reason": short(str(error))}
    if card.expected is not None and planned.case.precision in (REFERENCE, "as-shipped"):
        _compare_with_card(sitting, planned.case.label, card.expected, quality)
    return {"quality": quality.model_dump(mode="json")}


def _warn_of_clipping(
    sitting: Sitting, label: str, clipped: Mapping[str, Mapping[str, float]]
) -> None:
    for name, found in clipped.items():
        if found["share"] >= MUCH_CLIPPED:
            sitting.progress.note(
                f"warning: {label}: {percent(found['share'], 1)} of input '{name}' is outside of "
                f"what the file's scale holds: {found['least']:.4g} … {found['most']:.4g}, not "
                f"{found['low']:.4g} … {found['high']:.4g}: check preprocess"
            )


def _compare_with_card(sitting: Sitting, label: str, expected: Expected, quality: Quality) -> None:
    """Warn where the unquantized model misses its card's accuracy on the same items."""
    if quality.accuracy is None or expected.items != quality.items:
        return
    if abs(quality.accuracy - expected.value) > EXPECTED_TOLERANCE:
        sitting.progress.note(
            f"warning: {label}: reaches {quality.accuracy:.4f}, its card expects "
            f"{expected.value:.4f} on the same {quality.items} items: check its preprocessing"
        )


def _refuse_in_name_only(precision: str, effective: Effective) -> dict[str, str]:
    """An error's status and reason where a case is quantized in name only; else nothing."""
    names = {IN_NAME_ONLY, QUANTIZED_IN_NAME_ONLY}.intersection(flags(precision, effective))
    if not names:
        return {}
    counts = effective.macs or effective.operators
    ran = ", ".join(f"{n} {word}" for word, n in counts.items())
    unit = "multiply-accumulates" if effective.macs else "operators"
    return {"status": "error", "reason": f"{names.pop()}: {unit} by precision: {ran}"}
