"""The gate's verdicts on bundles with chosen figures. The commands: ``test_gate_command.py``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from crafted import MEMORY, PHASES, Crafted
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from qbench.analysis.gate.figures import adjusted_twice
from qbench.analysis.gate.judge import Evidence, Figure, Finding, GateResult, Judged, gate_verdict
from qbench.analysis.gate.record import to_json
from qbench.bundle.bundle import Bundle
from qbench.errors import MachineryError, UserError
from qbench.present.exports.gate import to_junit, to_markdown
from qbench.spec.accepted import Acceptance, Accepted, accept, read_accepted
from qbench.spec.gate import GateSettings

ITEMS, CLASSES = 400, 10
LABELS = np.arange(ITEMS) % CLASSES


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nights")


@pytest.fixture(autouse=True)
def not_for_eternity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights of hundreds of trials, which need not outlive a power cut."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@dataclass
class Change:
    """How one case differs from the rest of a night."""

    slower: float = 1.0
    memory: float = 1.0
    load: float = 1.0
    size: int = 500_000
    stalls: bool = False
    wrong: int = 40
    status: str = "ok"
    skip: str | None = None
    gone: bool = False
    effective: Mapping[str, Any] = field(default_factory=dict)


def night(
    folder: Path,
    run_id: str,
    changes: Mapping[tuple[int, str], Change] | None = None,
    environments: Sequence[str] = ("default", "baseline"),
    cases: int = 6,
    rounds: int = 20,
    seed: int = 0,
    **begin: Any,
) -> Bundle:
    """A complete run of ``cases`` batch sizes in each environment, with 1 % noise between trials
    and 2 % between rounds. It is made once for all tests that ask for the same.

    Args:
        changes: by batch size and environment.
    """
    asked = repr((run_id, changes, environments, cases, rounds, seed, begin))
    folder /= hashlib.sha256(asked.encode()).hexdigest()[:12]
    if (folder / run_id / "manifest.json").exists():
        return Bundle(folder / run_id)
    folder.mkdir()
    random = np.random.default_rng(seed)
    made = Crafted(folder, run_id, **begin)
    made.labels = LABELS
    weather = random.normal(0, 0.02, rounds)
    for environment in environments:
        for batch in range(1, cases + 1):
            change = (changes or {}).get((batch, environment), Change())
            if change.gone:
                continue
            case_id = made.case("fp32", change.skip, environment=environment, batch_size=batch)
            made.cases[-1]["case_id"] = case_id = f"{batch:06d}{environment[:6]:0<6}"
            if change.skip:
                continue
            made.prepared.popitem()
            made.cases[-1] |= {
                "artifact_key": f"a{batch}",
                "evaluation_id": f"e{case_id}",
                "dataset_digest": "e" * 64,
            }
            made.prepared[f"a{batch}"] = {
                "status": "ok", "reason": "", "bytes": change.size, "digest": f"{batch:064d}",
            }  # fmt: skip
            scores = np.eye(CLASSES, dtype=np.float32)[LABELS]
            scores[: change.wrong] = np.roll(scores[: change.wrong], 1, axis=1)
            made.evaluation(case_id, scores, **change.effective)
            for number in range(rounds):
                shared = 1 + weather[number] + random.normal(0, 0.01)
                slowness = shared * change.slower
                failed = change.status != "ok" and number == rounds - 1
                made.trial(
                    case_id,
                    number,
                    batch * slowness,
                    status=change.status if failed else "ok",
                    memory={**MEMORY, "peak_bytes": round(6e6 * shared * change.memory)},
                    phases={**PHASES, "load_ns": round(5e6 * shared * change.load)},
                )
                samples = made.trials[-1][1]
                if change.stalls and samples is not None:
                    samples[::20] *= 3
    return made.done()


def judged(bundle: Bundle, *earlier: Bundle, confirmation: Bundle | None = None, **gate: Any):
    accepted = gate.pop("accepted", Accepted())
    evidence = Evidence(earlier, confirmation=confirmation, accepted=accepted)
    return gate_verdict(bundle, GateSettings.model_validate(gate), evidence)


def found(result: GateResult) -> set[tuple[str, str, str]]:
    """Kind, severity and label of findings above a notice."""
    return {(f.kind, f.severity, f.label) for f in result.findings if f.severity != "notice"}


SLOW = {(2, "default"): Change(slower=1.03)}


# --------------------------------------------------------------------------- speed


def test_a_night_like_its_baseline_passes(shelf):
    result = judged(night(shelf, "n1"))
    assert (result.exit_code, found(result), result.notes) == (0, set(), ())
    assert (result.compared, result.candidates) == (6, 6) and result.baselines == (
        "environment:baseline: environment baseline",
    )


def test_three_per_cent_is_suspected_and_then_confirmed_or_not(shelf):
    bundle = night(shelf, "n1", SLOW)
    first = judged(bundle)
    assert found(first) == {("slower", "suspicion", "net fake fp32 b2")}
    assert first.exit_code == 0, "without new trials it is no regression"
    assert set(first.to_confirm) == {"000002defaul", "000002baseli"}
    (suspicion,) = first.of("suspicion")
    assert suspicion.figure is not None and suspicion.figure.rounds == 20
    assert suspicion.figure.value == pytest.approx(0.03, abs=0.01)

    again = night(shelf, "n2", SLOW, seed=1, confirms="n1")
    result = judged(bundle, confirmation=again)
    (finding,) = result.of("regression")
    assert (result.exit_code, result.confirmed_by, result.to_confirm) == (1, "n2", [])
    assert finding.confirmed and finding.again is not None
    assert finding.again.value == pytest.approx(0.03, abs=0.01)

    chance = night(shelf, "n3", seed=2, confirms="n1")
    cleared = judged(bundle, confirmation=chance)
    assert cleared.exit_code == 0 and not found(cleared)
    (notice,) = [f for f in cleared.findings if f.kind == "slower"]
    assert (notice.severity, notice.confirmed) == ("notice", False)


def test_less_than_the_guard_is_nothing(shelf):
    bundle = night(shelf, "n1", {(2, "default"): Change(slower=1.02)}, rounds=40)
    assert found(judged(bundle)) == {("slower", "suspicion", "net fake fp32 b2")}
    assert found(judged(bundle, slowdown=0.04)) == set()
    assert found(judged(bundle, slowdown=None)) == set()


def test_a_speed_up_is_not_a_finding(shelf):
    bundle = night(shelf, "n1", {(2, "default"): Change(slower=0.9)})
    assert found(judged(bundle)) == set()


def test_stalls_in_every_20th_call_are_found_despite_the_low_percentile(shelf):
    changes = {(3, "default"): Change(stalls=True)}
    bundle = night(shelf, "n1", changes)
    again = night(shelf, "n2", changes, seed=1, confirms="n1")
    result = judged(bundle, confirmation=again)
    assert found(result) == {("stalls", "regression", "net fake fp32 b3")}


def test_too_few_rounds_are_reported(shelf):
    result = judged(night(shelf, "n1", SLOW, rounds=5))
    assert result.exit_code == 0
    # of 5 rounds not even all of one sign has a two-sided p below 5 %: 2 ** -4
    assert any("5 rounds" in note and "at least 6" in note for note in result.notes)


def test_unconfirmed_suspicions_fail_only_if_that_is_asked_for(shelf):
    bundle = night(shelf, "n1", SLOW, rounds=40)
    assert judged(bundle, unconfirmed="fail").exit_code == 1


def test_a_case_that_fails_when_it_is_confirmed_is_a_failure(shelf):
    bundle = night(shelf, "n1", SLOW)
    crashed = {(2, "default"): Change(slower=1.03, status="crashed")}
    again = night(shelf, "n2", crashed, seed=1, confirms="n1")
    result = judged(bundle, confirmation=again)
    assert ("failing", "regression", "net fake fp32 b2") in found(result)


def test_against_another_night_drift_is_no_suspicion_and_more_never_fails_alone(shelf):
    last = night(shelf, "n1", environments=["default"])
    drifted = {(batch, "default"): Change(slower=1.03) for batch in range(1, 7)}
    assert found(judged(night(shelf, "n2", drifted, ["default"], seed=1), last)) == set()
    slow = {(2, "default"): Change(slower=1.10)}
    newer = {"qbench": "0", "numpy": "3.0"}
    bundle = night(shelf, "n3", slow, ["default"], seed=2, software=newer)
    result = judged(bundle, last, unconfirmed="fail")
    assert found(result) == {("slower", "suspicion", "net fake fp32 b2")}
    assert result.exit_code == 0 and any("another time" in note for note in result.notes)
    assert any("software.numpy: not known against 3.0" in note for note in result.notes)
    again = night(shelf, "n4", slow, ["default"], seed=3, confirms="n3")
    assert judged(bundle, last, confirmation=again).exit_code == 1


def test_a_creeping_slowdown_shows_against_the_anchor(shelf):
    nights = [
        night(shelf, f"n{k}", {(2, "default"): Change(slower=1.02**k)}, ["default"], seed=k)
        for k in range(5)
    ]
    assert found(judged(nights[4], nights[3], baselines=["last"])) == set()
    against = GateSettings.model_validate({"baselines": ["anchor:v1"]})
    result = gate_verdict(nights[4], against, Evidence(anchors={"anchor:v1": nights[0]}))
    assert found(result) == {("slower", "suspicion", "net fake fp32 b2")}


def test_another_machine_is_compared_in_what_does_not_depend_on_it(shelf):
    host = {
        "host_id": "other", "cpu_model": "another", "cpu_flags": [], "governor": None,
        "power_mode": None, "caches": None,
    }  # fmt: skip
    anchor = night(shelf, "n1", environments=["default"], host=host)
    changes = {(2, "default"): Change(slower=2.0, wrong=80)}
    bundle = night(shelf, "n2", changes, ["default"])
    against = GateSettings.model_validate({"baselines": ["anchor:v1"]})
    result = gate_verdict(bundle, against, Evidence(anchors={"anchor:v1": anchor}))
    assert found(result) == {("accuracy", "regression", "net fake fp32 b2")}
    assert any("another machine" in note for note in result.notes)


# --------------------------------------------------------------------------- other figures


@pytest.mark.parametrize(
    ("change", "kind", "severity", "setting"),
    [
        (Change(wrong=60), "accuracy", "regression", "accuracy_drop_points"),
        (Change(memory=1.5), "memory", "suspicion", "memory_growth"),
        (Change(load=1.5), "start_up", "suspicion", "start_growth"),
    ],
)
def test_other_figures_have_guards_of_their_own(shelf, change, kind, severity, setting):
    bundle = night(shelf, "n1", {(2, "default"): change})
    assert found(judged(bundle)) == {(kind, severity, "net fake fp32 b2")}
    assert found(judged(bundle, **{setting: None})) == set()


def test_a_megabyte_more_is_no_finding_whatever_share_it_is(shelf):
    """20 % of 6 MB: how the page cache holds libraries differs by as much."""
    assert found(judged(night(shelf, "n1", {(2, "default"): Change(memory=1.2)}))) == set()


def test_accuracy_within_chance_is_no_finding(shelf):
    """5 of 400 items is more than the guard of half a point, and McNemar's p is 0.06."""
    bundle = night(shelf, "n1", {(2, "default"): Change(wrong=45)})
    assert found(judged(bundle)) == set()


def test_a_larger_artifact_is_a_regression_at_once(shelf):
    last = night(shelf, "n1", environments=["default"])
    changes = {(2, "default"): Change(size=600_000)}
    result = judged(night(shelf, "n2", changes, ["default"], seed=1), last)
    assert found(result) == {("size", "regression", "net fake fp32 b2")}
    (finding,) = result.of("regression")
    assert "20.0 % larger" in finding.says


def test_limits_are_for_cases_that_match_and_for_figures_that_are_wholly_beyond(shelf):
    bundle = night(shelf, "n1")  # batch n takes n ms
    limits = ["p50<=3.5ms", "accuracy>=90%"]
    result = judged(bundle, limits=limits)
    labels = {f"net fake fp32 b{batch}" for batch in (4, 5, 6)}
    assert found(result) == {("limit", "regression", label) for label in labels}
    assert set(result.to_confirm) == {f"{b:06d}defaul" for b in (4, 5, 6)}
    baseline_too = [{"limit": limits[0], "environment": "baseline"}]
    assert len(judged(bundle, limits=baseline_too).of("regression")) == 3
    (p50,) = [c.latency_p50_ms for c in result.cases if c.case_id == "000006defaul"]
    assert p50 is not None
    at_the_limit = judged(bundle, limits=[f"latency_p50_ms<={0.999 * p50!r}"])
    assert at_the_limit.exit_code == 0
    (notice,) = at_the_limit.findings
    assert notice.kind == "limit" and "within its interval" in notice.says
    within = night(shelf, "n2", {(b, "default"): Change(slower=0.5) for b in (4, 5, 6)})
    assert judged(bundle, confirmation=within, limits=limits).exit_code == 0


def test_a_limit_on_words_is_refused(shelf):
    with pytest.raises(UserError, match="holds words"):
        judged(night(shelf, "n1"), limits=["backend<=1"])


# --------------------------------------------------------------------------- what broke


def test_ok_last_time_and_not_today_is_a_failure(shelf):
    last = night(shelf, "n1", environments=["default"], cases=12)
    changes = {
        (1, "default"): Change(status="crashed"),
        (2, "default"): Change(skip="no longer supported"),
        (3, "default"): Change(gone=True),
    }
    bundle = night(shelf, "n2", changes, ["default"], cases=12, seed=1)
    result = judged(bundle, last)
    assert found(result) == {
        ("newly_failing", "regression", "net fake fp32"),
        ("newly_failing", "regression", "net fake fp32 b2"),
        ("missing", "regression", "net fake fp32 b3"),
    }
    assert result.exit_code == 1
    says = {f.label: f.says for f in result.of("regression")}
    assert "it was ok in run n1" in says["net fake fp32"]
    assert "no longer supported" in says["net fake fp32 b2"]
    assert judged(bundle, last, missing="report", baselines=["last"]).of("notice")


def test_a_case_that_the_baseline_can_run_and_the_candidate_cannot_is_newly_failing(shelf):
    bundle = night(shelf, "n1", {(1, "default"): Change(skip="not any more")}, cases=6)
    assert found(judged(bundle)) == {("newly_failing", "regression", "net fake fp32")}


def test_a_case_that_was_always_skipped_is_not_a_finding(shelf):
    changes = {(1, "default"): Change(skip="never"), (1, "baseline"): Change(skip="never")}
    last = night(shelf, "n1", changes)
    assert judged(night(shelf, "n2", changes, seed=1), last).exit_code == 0


def test_more_than_a_fifth_broken_makes_the_run_invalid(shelf):
    broken = {(batch, "default"): Change(status="oom") for batch in (1, 2, 3)}
    result = judged(night(shelf, "n1", broken, cases=6))  # 3 of 12
    assert result.exit_code == 3 and "3 of its 12 cases" in str(result.invalid)
    assert to_json(result)["valid"] is False
    two = {(batch, "default"): Change(status="oom") for batch in (1, 2)}
    result = judged(night(shelf, "n2", two, cases=6))  # 2 of 12
    assert (result.exit_code, result.invalid) == (1, None)


def test_a_baseline_that_has_nothing_in_common_makes_the_run_invalid(shelf):
    changes = {(batch, "baseline"): Change(skip="no interpreter") for batch in range(1, 4)}
    result = judged(night(shelf, "n1", changes, cases=3))
    assert result.exit_code == 3 and "environment baseline" in str(result.invalid)


def test_an_incomplete_run_is_no_night(shelf):
    made = Crafted(shelf, "n1")
    made.case("fp32")
    with pytest.raises(MachineryError, match="interrupted"):
        judged(made.open())


def test_the_first_night_passes_and_says_that_there_is_nothing_before_it(shelf):
    result = judged(night(shelf, "n1", environments=["default"]))
    assert result.exit_code == 0 and result.compared == 0
    assert any("no earlier run" in note for note in result.notes)


def test_an_environment_that_is_not_there_names_those_that_are(shelf):
    with pytest.raises(UserError, match="baseline"):
        judged(night(shelf, "n1"), baselines=["environment:basline"])


def test_int8_before_and_float_today_is_lost_precision(shelf):
    def run(run_id: str, word: str, seed: int) -> Bundle:
        effective = {"precision": word, "operators": {word: 1}, "macs": {word: 640}}
        changes = {(2, "default"): Change(effective=effective)}
        return night(shelf, run_id, changes, ["default"], seed=seed)

    last, bundle = run("n1", "int8", 0), run("n2", "fp32", 1)
    result = judged(bundle, last)
    assert found(result) == {("effective_precision_lost", "regression", "net fake fp32 b2")}
    assert "ran at int8" in result.findings[0].says
    assert judged(bundle, last, effective_precision="report").exit_code == 0


def test_other_outputs_of_the_same_artifact_are_reported(shelf):
    bundle = night(shelf, "n1", {(2, "default"): Change(wrong=41)})
    result = judged(bundle)
    assert result.exit_code == 0
    assert [f.kind for f in result.of("notice")] == ["outputs_changed"]
    assert judged(bundle, outputs="fail").exit_code == 1


def test_too_many_inconclusive_nights_fail(shelf):
    rounds = {"least": 6, "most": 20, "target": 0.0001}
    settings = {"cpu_power": None, "rounds": rounds}
    nights = [
        night(shelf, f"n{k}", None, ["default"], cases=2, seed=k, settings=settings)
        for k in range(3)
    ]
    earlier = nights[1::-1]
    assert found(judged(nights[2], *earlier, inconclusive_nights=4)) == set()
    assert {kind for kind, *_ in found(judged(nights[2], *earlier, inconclusive_nights=3))} == {
        "inconclusive_for_nights"
    }


# --------------------------------------------------------------------------- known changes


def acceptance(**more: Any) -> Acceptance:
    fields = {"case": "000002defaul", "until": date(2026, 6, 30), "reason": "checks its inputs"}
    return Acceptance.model_construct(
        **(fields | {"label": "b2", "kinds": [], "most": None} | more)
    )


@pytest.mark.parametrize(
    ("entry", "today", "severity"),
    [
        ({}, date(2026, 6, 30), "accepted"),
        ({}, date(2026, 7, 1), "regression"),
        ({"kinds": ["slower"]}, date(2026, 6, 30), "accepted"),
        ({"kinds": ["memory"]}, date(2026, 6, 30), "regression"),
        ({"most": 0.05}, date(2026, 6, 30), "accepted"),
        ({"most": 0.01}, date(2026, 6, 30), "regression"),
        ({"case": "000003defaul"}, date(2026, 6, 30), "regression"),
    ],
)
def test_a_known_change_is_accepted_until_its_day(shelf, entry, today, severity):
    accepted = Accepted.of([acceptance(**entry)], today)
    bundle = night(shelf, "n1", SLOW)
    again = night(shelf, "n2", SLOW, seed=1, confirms="n1")
    result = judged(bundle, confirmation=again, accepted=accepted)
    assert found(result) == {("slower", severity, "net fake fp32 b2")}
    assert result.exit_code == (0 if severity == "accepted" else 1)
    expired = today > date(2026, 6, 30)
    assert any("expired on 2026-06-30" in note for note in result.notes) == expired


# --------------------------------------------------------------------------- the correction


def test_adjusted_p_values_by_hand():
    # Benjamini & Hochberg: 0.01 * 4 / 1, then min(0.02 * 4 / 2, 0.03 * 4 / 3), ...
    assert adjusted_twice([0.01, 0.5, 0.03, 0.02]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert adjusted_twice([None, 0.02]) == [None, pytest.approx(0.02)]
    # Fisher: the chance that the product of two uniforms is below p is p (1 - ln p)
    both = 0.0025 * (1 - np.log(0.0025))
    assert adjusted_twice([0.05, 0.9], {0: 0.05}) == pytest.approx([2 * both, 1.0])


# --------------------------------------------------------------------------- for other programs


def test_junit_and_markdown_of_labels_and_reasons_that_attack(shelf):
    evil = "<script>alert(1)</script>\x1b[31m\x00 | `x` [a](b)\u202e"
    last = night(shelf, "n1", environments=["default"], cases=6)
    bundle = night(shelf, "n2", {(2, "default"): Change(skip=evil)}, ["default"], cases=6)
    result = judged(bundle, last)
    root = ElementTree.fromstring(to_junit(result))
    (suite,) = root.iter("testsuite")
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "0", "skipped": "0"}
    (failure,) = root.iter("failure")
    assert failure.get("message") == "newly_failing"
    assert "<script>alert(1)</script>[31m" in str(failure.text)
    page = to_markdown(result)
    assert "1 of 6 cases failed" in page
    assert "<script" not in page and "| `x`" not in page and "](b)" not in page
    assert not {"\x1b", "\x00", "\u202e"} & set(page + str(failure.text))


def test_junit_reports_an_invalid_run_and_a_missing_case(shelf):
    last = night(shelf, "n1", environments=["default"], cases=6)
    changes = {(b, "default"): Change(status="crashed") for b in (1, 2)}
    changes[3, "default"] = Change(gone=True)
    root = ElementTree.fromstring(to_junit(judged(night(shelf, "n2", changes, ["default"]), last)))
    assert [error.get("message") for error in root.iter("error")] == ["invalid"]
    failures = {test.get("name"): test.find("failure") for test in root.iter("testcase")}
    gone = failures["net fake fp32 b3 [000003defaul]"]
    assert gone is not None and gone.get("message") == "missing"


@settings(max_examples=50, deadline=None)
@given(words=st.text(), numbers=st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_a_bundle_says_junit_can_be_parsed_and_a_table_keeps_its_cells(words, numbers):
    finding = Finding("a" * 12, words, "slower", "regression", words, figure=Figure(numbers))
    case = Judged("a" * 12, words, words, "ok", words, None)
    result = GateResult("run", words, (words,), (case,), 1, 1, (finding,), notes=(words,))
    (failure,) = ElementTree.fromstring(to_junit(result)).iter("failure")
    assert failure.get("message") == "slower"
    (row,) = [line for line in to_markdown(result).splitlines() if " slower | " in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert json.loads(json.dumps(to_json(result)))["exit_code"] == 1


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(reasons=st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1), min_size=1))
def test_accepted_changes_are_read_back(reasons, tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "accepted.yaml"
    entries = [
        Acceptance(case=f"{n:012x}", until=date(2026, 1, 1), reason=text)
        for n, text in enumerate(reasons)
    ]
    for entry in entries:
        accept(path, entry)
    assert read_accepted(path) == entries


# --------------------------------------------------------------------------- the page


def test_the_page_shows_the_settings_as_they_are():
    page = (ROOT / "docs" / "gate.md").read_text()
    text, _ = re.findall(r"```yaml\n(.*?)```", page, re.S)
    shown = yaml.safe_load(text)["gate"]
    assert set(shown) == set(GateSettings.model_fields)
    del shown["baselines"], shown["limits"]  # those are examples
    assert GateSettings.model_validate(shown) == GateSettings()
