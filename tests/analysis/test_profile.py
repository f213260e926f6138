"""Profiles of operators: recorded where a suite asks for them, and only while evaluating."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st

from qbench.analysis.explain import by_kind
from qbench.analysis.table.profile import MOST_KINDS, MOST_OPERATORS, summary
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.records.run import Profiled, to_json
from qbench.kit.operators import Operator, Profile
from qbench.present.page import write_report
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.suite import Suite, load_suite, suites_dir

REFUSES = """
from qbench.kit.adapter import Unsupported
from qbench.testing.fake import FakeBackend, FakeProgram

class Silent(FakeProgram):
    def profile(self, feed, runs):
        raise {error}

class Backend(FakeBackend):
    name = "{name}"

    def open(self, artifact, config, inspect=False):
        if not inspect:
            return super().open(artifact, config)
        opened = super().open(artifact, config)
        return Silent(opened.artifact, opened.content, opened.config)
"""


def measured(project, *options: str, **suite) -> Bundle:
    return Bundle(project.root / project.run_json(project.suite(**suite), *options)["bundle"])


def profiles(bundle: Bundle) -> list[dict]:
    return [to_json(record)["profile"] for record in bundle.evaluated.values()]


def test_a_suite_that_asks_for_it_gets_each_evaluations_operators(project):
    bundle = measured(project, profile=True)
    fp32, int8 = profiles(bundle)
    assert [one["precision"] for one in fp32["operators"]] == ["fp32"]
    assert [one["precision"] for one in int8["operators"]] == ["int8"]
    (product,) = fp32["operators"]
    assert (product["kind"], product["role"], product["share"]) == ("MatMul", "compute", 1.0)
    assert product["ns"] == fp32["ns"] > 20_000  # a call of the fake net takes 20 us
    assert fp32["kinds"][0]["operators"] == 1 and fp32["reason"] == ""
    assert find_problems(bundle) == []


@pytest.mark.slow
def test_the_option_enables_it_and_a_run_without_is_not_resumed(project):
    """An interrupted run's evaluations are kept, so that it could not come to have profiles."""
    plain = measured(project)
    assert not any(record.profile for record in plain.evaluated.values())
    (plain.path / "manifest.json").unlink()
    profiled = measured(project, "--profile")
    assert profiled.run_id != plain.run_id
    assert all(profile["operators"] for profile in profiles(profiled))
    assert "operators" not in (profiled.path / "journal.jsonl").read_text()


def test_it_is_the_same_suite_with_it_and_without(project):
    plain, profiled = (
        load_suite(project.suite(profile=asked), ["fake"], ["net"]) for asked in (False, True)
    )
    assert profiled.profile and plain.digest() == profiled.digest()


def test_an_adapter_that_cannot_profile_leaves_its_reason(project):
    errors = {"refuses": 'Unsupported("none are told")', "breaks": 'RuntimeError("all are zero")'}
    for name, error in errors.items():
        project.adapter(name, REFUSES.format(name=name, error=error))
    bundle = measured(project, backends=list(errors), precisions=["fp32"], profile=True)
    found = profiles(bundle)
    assert {profile["reason"] for profile in found} == {"none are told", "all are zero"}
    for profile in found:
        assert profile["operators"] == profile["kinds"] == [] and profile["ns"] is None
    for case in case_table(bundle).to_dict("records"):
        assert case["status"] == "ok" and case["accuracy"] == 1.0


# --------------------------------------------------------------------------- what is kept


def _operators(count: int, ns) -> dict:
    kinds = [f"Kind{index % (MOST_KINDS + 5)}" for index in range(count)]
    operators = tuple(
        Operator(f"op-{index}", kind, "compute", "fp32", ns=ns(index))
        for index, kind in enumerate(kinds)
    )
    return json.loads(json.dumps(asdict(Profile(operators, ("a note",)))))


def test_of_many_operators_the_costliest_are_kept_and_nothing_is_lost():
    found = summary(_operators(200, lambda index: float(index)), "", 20)
    Profiled.model_validate(found)
    assert [one["name"] for one in found["operators"]] == [
        f"op-{199 - index}" for index in range(MOST_OPERATORS)
    ]
    assert found["other_operators"]["operators"] == 200 - MOST_OPERATORS
    listed = sum(one["ns"] for one in found["operators"])
    assert listed + found["other_operators"]["ns"] == pytest.approx(sum(range(200)))
    assert len(found["kinds"]) == MOST_KINDS
    assert found["other_kinds"]["operators"] == 200 - sum(k["operators"] for k in found["kinds"])


@pytest.mark.parametrize("ns", [None, -1.0, float("nan"), float("inf"), 0.0])
def test_missing_times_are_not_shown(ns):
    found = summary(_operators(3, lambda index: ns), "", 20)
    Profiled.model_validate(found)
    assert found["operators"] == [] and found["ns"] is None
    assert sum(kind["share"] for kind in found["kinds"]) == pytest.approx(1)
    assert {kind["ns"] for kind in found["kinds"]} == {None}


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=80))
def test_shares_add_up_to_all(times):
    operators = _operators(len(times), lambda index: times[index])
    found = summary(operators, "", 1)
    Profiled.model_validate(found)
    kept = sum(one["share"] for one in found["kinds"])
    all_kinds = by_kind(Operator.from_json(one) for one in operators["operators"])
    assert kept <= 1 + 1e-9
    if found["other_kinds"] is None:
        assert kept == pytest.approx(1)
        assert len(found["kinds"]) == len(all_kinds)


# --------------------------------------------------------------------------- the page


def crafted(folder: Path, **profiles: dict) -> Bundle:
    """One case by precision, each with the profile of its name, if there is one."""
    made = Crafted(folder)
    made.labels = np.arange(20) % 10
    outputs = np.eye(10, dtype=np.float32)[made.labels]
    first = None
    for precision in ("fp32", "int8-static", "int8-dynamic"):
        case = made.case(precision)
        made.evaluation(case, outputs, first)
        first = first or case
        made.trial(case, 0, 2.0)
        if precision in profiles:
            made.evaluated[f"e{case}"][0]["profile"] = profiles[precision]
    return made.done()


def shown(bundle: Bundle, path: Path) -> tuple[str, list[dict]]:
    """The page, and what its script draws of profiles."""
    write_report([bundle], path)
    text = path.read_text(encoding="utf-8")
    data = text.partition('id="data">')[2].partition("</script>")[0]
    return text, json.loads(data)["profile"]


def test_the_page_lists_operators_and_types_in_a_section(tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    timed = Profile(
        (
            Operator(hostile, "Conv", "compute", "fp32", ns=3000.0),
            Operator("cast", "Cast", "convert", fallback=True, ns=1000.0),
        ),
        ("a note of the runtime",),
    )
    untimed = Profile((Operator("a", "CONV_2D", "compute", "int8"),) * 4, ("it tells no times",))
    text, bars = shown(
        crafted(
            tmp_path / "bundle",
            **{
                "fp32": summary(asdict(timed), "", 20),
                "int8-static": summary(asdict(untimed), "", 20),
                "int8-dynamic": summary(None, "the adapter cannot tell", 20),
            },
        ),
        tmp_path / "page.html",
    )
    section = text.partition('id="profile"')[2].partition("</section>")[0]
    assert hostile not in text and "&lt;img src=x onerror=alert(1)&gt;" in section
    for words in ("75.0", "3.00", "4.00 µs in one inference", "fallback", "it tells no times"):
        assert words in section, words
    assert "the adapter cannot tell" in section and "CONV_2D" in section
    assert 'href="#profile"' in text
    by_precision = {bar["precision"]: bar for bar in bars}
    assert set(by_precision) == {"fp32", "int8-static"}  # nothing to draw of the third
    assert by_precision["fp32"]["share"] == {"Conv": 75.0, "Cast": 25.0}
    assert by_precision["fp32"]["us"] == {"Conv": 3.0, "Cast": 1.0}
    assert by_precision["int8-static"]["of"] == "operators"
    assert by_precision["int8-static"]["share"] == {"CONV_2D": 100.0}


def test_types_beyond_the_costliest_are_drawn_as_one_and_add_up(tmp_path):
    many = _operators(200, lambda index: float(1 + index))
    bundle = crafted(tmp_path / "bundle", fp32=summary(many, "", 20))
    _, (bar,) = shown(bundle, tmp_path / "page.html")
    assert len(bar["share"]) <= 8 and "other types" in bar["share"]
    assert sum(bar["share"].values()) == pytest.approx(100, abs=0.1)
    assert sum(bar["us"].values()) == pytest.approx(sum(range(1, 201)) / 1e3, rel=1e-3)
    assert sum(bar["operators"].values()) == 200


def test_a_page_without_profiles_has_no_section(tmp_path):
    text, bars = shown(crafted(tmp_path / "bundle"), tmp_path / "page.html")
    assert 'id="profile"' not in text and 'href="#profile"' not in text and bars == []


# --------------------------------------------------------------------------- real runtimes


@pytest.mark.slow
def test_the_shipped_net_is_profiled_on_every_runtime(tmp_path):
    text = yaml.safe_dump(
        {
            "name": "profiled",
            "models": ["digits_cnn"],
            "precisions": ["fp32", "int8-static"],
            "backends": ["onnxruntime", "openvino", "tflite"],
            "rounds": 1,
            "warmup_s": 0.01,
            "timed_s": 0.02,
            "roofline": False,
            "profile": True,
        }
    )
    suite = Suite.model_validate(yaml.safe_load(text))
    catalog = Catalog([suites_dir()])
    bundle = run_suite(Request(suite, text, tmp_path / "results"), catalog, Registry())
    assert find_problems(bundle) == []
    cases = case_table(bundle)
    assert set(cases["status"]) == {"ok"}
    entries = {entry.evaluation_id: entry.case for entry in bundle.plan.cases}
    latencies = cases.set_index(["backend", "precision"])["latency_p10_ms"].to_dict()
    for key, record in bundle.evaluated.items():
        case, profile = entries[key], to_json(record)["profile"]
        assert profile["reason"] == "", case
        assert any("conv" in kind["kind"].lower() for kind in profile["kinds"]), case
        computing = [kind for kind in profile["kinds"] if kind["role"] == "compute"]
        told = sum(kind["operators"] for kind in computing if kind["precision"])
        assert told == sum(record.effective.operators.values()), case
        if case.backend == "tflite":
            assert profile["ns"] is None and "no times" in " ".join(profile["notes"])
        else:
            listed = sum(one["ns"] for one in profile["operators"])
            assert listed == pytest.approx(profile["ns"], rel=1e-6)  # it has under 30 operators
            assert profile["ns"] > 1000
            p10_ms = latencies[case.backend, case.precision]
            assert profile["ns"] < 10 * p10_ms * 1e6  # slower than timed, and no cold call in it
