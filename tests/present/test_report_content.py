"""Content of the page: the answer, rounded figures, links, exclusions, what ran."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, measured, written

from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import PartOf
from qbench.present.page.content import page_content
from qbench.present.page.render import plotly_script
from qbench.present.words.cells import INTERVALS, accuracy_of
from qbench.spec.columns import COLUMNS
from qbench.text import figure, with_interval

LABELS = np.arange(400) % 4


def content(*bundles: Bundle) -> dict[str, Any]:
    return page_content(list(bundles))


def answered(*bundles: Bundle) -> str:
    return " ".join(content(*bundles)["answer"])


def rounds(crafted: Crafted, case: str, ms: float, count: int = 8, spread: float = 0.01) -> None:
    """Trials around ``ms``, which differ by ``spread``."""
    for number in range(count):
        crafted.trial(case, number, ms * (1 + spread * (number % 3 - 1)))


def scores(right: int) -> np.ndarray:
    """Outputs for 400 items, of which the first ``right`` get their label."""
    found = np.eye(4, dtype=np.float32)[LABELS] * 5
    found[right:] = np.roll(found[right:], 1, axis=1)
    return found


# --------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (1.2345, 1.20, 1.27, "1.234 (1.200 … 1.270)"),  # ± 0.035
        (12345.6, 12000, 12700, "12,350 (12,000 … 12,700)"),  # ± 350
        (0.712, 0.676, 0.746, "0.712 (0.676 … 0.746)"),
        (5.2, -120, 130, "10 (-120 … 130)"),
        (99.96, 99.5, 100.4949, "99.96 (99.50 … 100.49)"),
        (9.999, None, None, "10.0"),
        (0.0012345, None, None, "0.00123"),
        (0, None, None, "0"),
        (1.0, 1.0, 1.0, "1.00 (1.00 … 1.00)"),  # an interval of no width tells no digits
    ],
)
def test_a_figure_has_the_digits_that_its_interval_supports(value, low, high, said):
    assert with_interval(value, low, high) == said


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6, exclude_min=True), st.floats(0.001, 0.999))
def test_rounding_is_finer_than_the_interval_and_not_much(value, half, place):
    low, high = value - 2 * half * place, value + 2 * half * (1 - place)
    text = figure(value, low, high).replace(",", "")
    assert abs(float(text) - value) <= half / 19.9 + 1e-12 * abs(value)
    decimals = len(text.partition(".")[2])
    assert decimals == 0 or 10**-decimals >= half / 101


def test_a_minus_of_zero_is_no_minus():
    assert figure(-0.001, -0.5, 0.5) == "0.00"
    assert figure(-0.001, -0.5, 0.5, "+") == "+0.00"


@pytest.mark.parametrize(
    ("items", "official", "said"),
    [
        (650, 50000, "n = 650 of 50,000, not the official score"),
        (10000, 10000, "n = 10,000, the whole set"),
        (450, None, "n = 450"),
        (None, 50000, None),
    ],
)
def test_an_accuracy_says_what_it_is_of(items, official, said):
    part_of = PartOf.model_construct(items=official) if official else None
    assert accuracy_of(items, part_of) == said


# --------------------------------------------------------------------------- the answer


def test_the_fastest_is_named_with_what_it_costs(tmp_path):
    crafted = Crafted(tmp_path)
    crafted.labels = LABELS
    base, quick = crafted.case("fp32"), crafted.case("int8-static")
    rounds(crafted, base, 2.0)
    rounds(crafted, quick, 1.0)
    crafted.evaluation(base, scores(390))
    crafted.evaluation(quick, scores(350), base)
    first, second, third = content(crafted.done())["answer"]
    assert first.startswith(
        "Compared: 1 model (net), 1 backend (fake) and 2 precisions (fp32, int8"
    )
    assert "2 of 2 cases measured in 8 rounds, on a processor, 2026-01-01" in first
    assert second.startswith("The fastest is fake int8-static, p50 ")
    # the ends face each other: a little less than the 2.00 that the values are apart
    (lead,) = re.findall(r"at least (1\.9\d) times as fast as the rest", second)
    assert 1.9 < float(lead) < 2.0
    assert third.startswith("It loses accuracy: Δ −10.0 pp (−1") and "n = 400" in third


def test_an_undetectable_loss_is_not_called_none(tmp_path):
    crafted = Crafted(tmp_path)
    crafted.labels = LABELS
    base, quick = crafted.case("fp32"), crafted.case("int8-static")
    rounds(crafted, base, 2.0)
    rounds(crafted, quick, 1.0)
    crafted.evaluation(base, scores(390))
    crafted.evaluation(quick, scores(389), base)
    assert "No loss of accuracy is shown: Δ −0.25 pp (" in answered(crafted.done())


def test_intervals_that_meet_name_nobody(tmp_path):
    crafted = Crafted(tmp_path)
    for backend, ms in (("one", 1.0), ("two", 1.001), ("slow", 3.0)):
        rounds(crafted, crafted.case("fp32", backend=backend), ms)
    second = content(crafted.done())["answer"][1]
    assert second.startswith("No case is surely the fastest: one fp32, two fp32 lie within noise")
    assert "slow" not in second


def test_cases_of_one_backend_and_precision_are_named_together(tmp_path):
    crafted = Crafted(tmp_path)
    for recipe in ("best", "shared"):
        rounds(crafted, crafted.case("int8-static", recipe=recipe), 1.0)
    rounds(crafted, crafted.case("fp32"), 2.0)
    second = content(crafted.done())["answer"][1]
    assert second.startswith(
        "The fastest is fake int8-static recipe best (1 more of it within noise)"
    )


def test_over_several_models_it_says_for_how_many(tmp_path):
    crafted = Crafted(tmp_path)
    for model, quick, slow in (("a", 1.0, 2.0), ("b", 1.0, 3.0), ("c", 1.0, 1.0)):
        rounds(crafted, crafted.case("int8-static", model=model), quick)
        rounds(crafted, crafted.case("fp32", model=model), slow)
    second = content(crafted.done())["answer"][1]
    assert re.match(
        r"Of 3 models, the fastest is fake int8-static for 2 "
        r"\(at least 1\.9\d to 2\.9\d times as fast as the rest\); "
        r"for 1 it is open, since intervals overlap\.$",
        second,
    ), second


def test_too_few_rounds_give_no_answer_and_it_says_so(tmp_path):
    crafted = Crafted(tmp_path)
    for precision, ms in (("fp32", 2.0), ("int8-static", 1.0)):
        rounds(crafted, crafted.case(precision), ms, count=3)
    text = answered(crafted.done())
    assert "Nothing is ranked: 3 rounds are too few to rank (6 are needed)" in text
    assert "fastest" not in text


def test_doubts_and_failures_stand_in_the_answer(tmp_path):
    crafted = Crafted(tmp_path)
    base, quick = crafted.case("fp32"), crafted.case("int8-static")
    rounds(crafted, base, 2.0)
    for number in range(8):  # something else had a processor all the time
        crafted.trial(quick, number, 1.0, conditions={"run_delay_ns": 90_000_000, "cpus": 2})
    crafted.evaluation(base, scores(390))
    ran = {"precision": "fp32", "macs": {"fp32": 640}, "emulated": ["bf16"]}
    crafted.evaluation(quick, scores(390), base, **ran)
    crafted.case("fp16", skip="there is no such unit")
    text = answered(crafted.done())
    assert "The fastest, by figures in doubt, is fake int8-static" in text
    assert "1 of 2 cases is noisy" in text
    assert "1 of 2 cases is int8 in name only" in text
    assert "1 of 2 cases is computed by emulation" in text
    assert "not measured: 1 skipped" in text.lower()


def test_runs_are_ranked_apart_and_machines_side_by_side(tmp_path):
    bundles = []
    for number, factor in enumerate((1.0, 3.0)):
        host = {
            "host_id": f"machine{number}", "hostname": f"host{number}", "cpu_model": "a processor",
            "cpu_flags": [], "governor": None, "power_mode": None, "caches": None,
        }  # fmt: skip
        crafted = Crafted(tmp_path, f"20260101-00000{number}-crafted-0001", host=host)
        for precision, ms in (("fp32", 2.0), ("int8-static", 1.0)):
            rounds(crafted, crafted.case(precision), ms * factor)
        bundles.append(crafted.done())
    page = content(*bundles)
    assert "on 2 machines (" in page["answer"][0]
    assert (
        "Of 2 comparisons (a model called in one way, in one run), the fastest is fake int8"
        in (page["answer"][1])
    )
    assert "Each run is ranked by itself." in page["answer"][1]
    assert [line["model"] for line in page["rankings"]] == ["A net", "B net"]
    # the quicker machine's slow case is not held against the slower one's quick case
    assert all("next is fake fp32" in line["text"] for line in page["rankings"])


# --------------------------------------------------------------------------- the page


def test_every_link_leads_somewhere_and_no_id_is_there_twice(project, tmp_path):
    project.model(fail={"int8-static:open": "error"})
    bundle = measured(project)
    _, page = written(bundle, Bundle(bundle.path), path=tmp_path / "page.html")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] or "" for a in page.all("a")]
    assert targets and all(href.startswith("#") and href[1:] in ids for href in targets)


def test_sections_stand_in_their_order_and_are_linked(project, tmp_path):
    _, page = written(measured(project), path=tmp_path / "page.html")
    order = [
        "answer", "cases-title", "charts", "effective", "missing", "noise", "method", "machine",
        "reproduce",
    ]  # fmt: skip
    ids = [attributes.get("id") for _, attributes in page.elements]
    assert [name for name in ids if name in order] == order
    links = [a["href"] for a in page.all("a")]
    assert {"#answer", "#cases", "#missing", "#method", "#reproduce"} <= set(links)
    assert [a["aria-label"] for a in page.all("nav")] == ["On this page"]


def test_each_case_has_all_its_figures_and_each_figure_its_formula(project, tmp_path):
    bundle = measured(project)
    html, page = written(bundle, path=tmp_path / "page.html")
    ends = {end for both in INTERVALS.values() for end in both}
    for row in case_table(bundle).to_dict("records"):
        known = {name for name, value in row.items() if value is not None} - ends
        start = html.index(f'id="case-A-{row["case_id"]}"')
        own = html[start : html.index("</details>", start)]
        common = html[html.index("The same in all of them") : html.index('class="target"')]
        linked = {*re.findall(r"#formula-(\w+)", own), *re.findall(r"#formula-(\w+)", common)}
        assert known == linked
        assert f"Case <code>{row['case_id']}</code>" in own
    for name in ("latency_p50_ms", "throughput_ips", "sqnr_db"):
        assert f'<tr id="formula-{name}">' in html
    assert "exp(Σ ln p50ᵢ / n)" in page.text


def test_columns_with_an_interval_say_how_they_are_computed():
    assert set(INTERVALS) <= set(COLUMNS)
    assert all(COLUMNS[name].formula for name in INTERVALS)


def test_a_part_of_a_data_set_is_not_called_the_official_score(tmp_path):
    crafted = Crafted(tmp_path)
    crafted.labels = LABELS
    case = crafted.case("fp32")
    rounds(crafted, case, 1.0)
    crafted.evaluation(case, scores(390))
    bundle = crafted.open()
    plan = bundle.path / "plan.json"
    told = json.loads(plan.read_text())
    told["data"]["net"]["part_of"] = {"name": "ImageNet validation", "items": 50000}
    plan.write_text(json.dumps(told))
    _, page = written(Bundle(bundle.path), path=tmp_path / "page.html")
    said = "n = 400 of 50,000, not the official score"
    assert page.text.count(said) >= 2  # in the table and in the ranking
    assert said in page.data["cases"][0]["texts"]["accuracy"]
    assert "not official scores" in page.text


def test_omissions_are_listed(tmp_path):
    crafted = Crafted(tmp_path, filters={"models": ["net"], "backends": [], "precisions": []})
    base, other = crafted.case("fp32"), crafted.case("int8-static")
    rounds(crafted, base, 1.0, count=10)
    rounds(crafted, other, 1.0, count=7)
    crafted.trial(other, 8, 0, status="crashed")
    crafted.trial(other, 9, 0, status="crashed")
    bundle = crafted.open()
    (bundle.path / "suite.yaml").write_text(
        "name: x\nexclude:\n- {backend: openvino, batch_size: 4}\n"
    )
    ((letter, told),) = content(Bundle(bundle.path))["exclusions"]
    text = " ".join(told)
    assert letter == "A"
    assert "Only these models of the suite were selected: net." in text
    assert "The suite excludes: backend openvino, batch 4." in text
    assert "The run was interrupted" in text
    assert "2 trials are in no figure (crashed: planned crashed): net fake int8-static (2)." in text


def test_a_suite_that_cannot_be_read_is_no_error(tmp_path):
    crafted = Crafted(tmp_path)
    rounds(crafted, crafted.case("fp32"), 1.0)
    bundle = crafted.open()
    (bundle.path / "suite.yaml").write_text(HOSTILE)
    ((_, told),) = content(Bundle(bundle.path))["exclusions"]
    assert any("cannot be read" in sentence for sentence in told)


def test_the_precision_read_back_is_shown_next_to_the_requested_one(tmp_path):
    crafted = Crafted(tmp_path)
    base, half, named = (crafted.case(p) for p in ("fp32", "fp16", "int8-static"))
    for case in (base, half, named):
        rounds(crafted, case, 1.0)
    crafted.evaluation(base, scores(390))
    crafted.evaluation(half, scores(390), base, precision="fp32", macs={"fp32": 640})
    crafted.evaluation(
        named, scores(390), base, precision="fp32", macs={"int8": 64, "fp32": 576},
        fallback_ops=3, notes=["told <b>so</b>"],
    )  # fmt: skip
    html, page = written(crafted.done(), path=tmp_path / "page.html")
    section = page.text[page.text.index("Effective precision and fallbacks") :]
    section = section[: section.index("Not measured, and excluded")]
    assert "not as asked" in section  # fp16
    assert "int8 in name only" in section
    assert "fp32 90.0 %, int8 10.0 %" in section
    assert re.search(r"10\.0 3 int8 in name only", section)
    assert "told <b>so</b>" in page.text
    assert "<b>so</b>" not in html


def test_noise_has_a_verdict_on_each_case(tmp_path):
    crafted = Crafted(tmp_path)
    calm, busy = crafted.case("fp32"), crafted.case("int8-static")
    rounds(crafted, calm, 1.0)
    for number in range(8):
        crafted.trial(busy, number, 1.0, conditions={"run_delay_ns": 90_000_000, "cpus": 2})
    noise = content(crafted.done())["noise"]
    place = [column["name"] for column in noise["columns"]].index("verdict")
    verdicts = [row["cells"][place]["text"] for row in noise["rows"]]
    assert verdicts[0] == "no doubts"
    assert verdicts[1].startswith("noisy: 8 of 8 trials are doubtful")


def test_names_of_500_characters_and_of_hidden_ones_are_readable(tmp_path):
    evil = HOSTILE + "x" * 500
    crafted = Crafted(tmp_path, environments={}, suite=evil)
    rounds(crafted, crafted.case("fp32", backend=evil), 1.0)
    html, page = written(crafted.done(), path=tmp_path / "page.html")
    assert len(page.all("script")) == 3 and not page.all("img")
    assert "\u202e" not in html and "[U+202E]" in page.text


@pytest.mark.slow
def test_a_page_of_two_thousand_cases_is_still_a_page(tmp_path):
    crafted = Crafted(tmp_path)
    for number in range(2000):
        skip = None if number % 100 == 0 else "there is no such device"
        case = crafted.case("fp32", skip=skip, model=f"net{number // 4}", threads=1 + number % 4)
        if skip is None:
            rounds(crafted, case, 1.0, count=6)
    html, page = written(crafted.done(), path=tmp_path / "page.html")
    assert len(page.cases) == 2000
    assert len(html.encode()) - len(plotly_script().encode()) < 6_000_000
