"""``qbench explain``: findings from crafted profiles, and the command with the fake backend. What
it says of real models stands in tests/test_known_cases.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from typing import Any

import pytest
from crafted import Crafted
from rows import case_row

from qbench.analysis.explain import Explanation, by_kind, explain, layer_errors
from qbench.kit.operators import Operator, Profile
from qbench.run.explain import find_case
from qbench.spec.case import Case
from qbench.spec.precisions import complete_options

CONV = Operator("c", "Conv", "compute", "fp32", macs=1_000_000, ns=100_000)
INT8 = Operator("q", "QLinearConv", "compute", "int8", macs=1_000_000, ns=40_000)
RELU = Operator("r", "Relu", "other", "fp32", ns=1_000)


def explained(
    precision: str,
    ours: list[Operator],
    theirs: list[Operator],
    layers: list[dict[str, Any]] | None = None,
    sqnr_db: float | None = 40.0,
    **options: Any,
) -> Explanation:
    case = Case(
        model="m",
        backend="b",
        precision=precision,
        options=complete_options(precision, options),
    )
    row = case_row(sqnr_db=sqnr_db)
    found = {
        "profile": json.loads(json.dumps(asdict(Profile(tuple(ours))))),
        "twin_profile": json.loads(json.dumps(asdict(Profile(tuple(theirs))))),
        "layers": layers,
        "refusals": {},
    }
    return explain(case, row, found)


def reasons(found: Explanation) -> str:
    return " | ".join(finding.reason for finding in found.findings)


def test_operators_are_put_together_by_type_and_precision():
    ops = [CONV, CONV, RELU, Operator("q", "Conv", "compute", "int8", macs=500, ns=10_000)]
    kinds = by_kind(ops)
    assert [(k.kind, k.precision, k.operators) for k in kinds] == [
        ("Conv", "fp32", 2), ("Conv", "int8", 1), ("Relu", "fp32", 1),
    ]  # fmt: skip
    assert kinds[0].ns == 200_000 and kinds[0].macs == 2_000_000
    assert kinds[0].gmacs_per_s == 10.0  # 2e6 in 200 µs
    assert sum(k.share for k in kinds) == pytest.approx(1)


def test_without_times_shares_are_of_the_operators():
    kinds = by_kind([Operator(str(i), "Conv", "compute", "int8") for i in range(3)] + [
        Operator("q", "Quantize", "convert")
    ])  # fmt: skip
    assert [(k.kind, k.share, k.ns) for k in kinds] == [
        ("Conv", 0.75, None), ("Quantize", 0.25, None),
    ]  # fmt: skip


def test_a_kernel_slower_than_float32s_is_named_with_both_rates():
    slow = Operator("c", "ConvInteger", "compute", "int8", macs=1_000_000, ns=1_000_000)
    found = explained("int8-dynamic", [slow, RELU], [CONV, RELU])
    assert "ConvInteger takes 100 % of the time at 1.00 GMAC/s" in reasons(found)
    assert "float32 reaches 10.00" in reasons(found)
    assert "int8-static" in found.findings[0].advice


def test_a_kernel_as_fast_as_float32s_is_not_blamed():
    same = Operator("c", "QLinearConv", "compute", "int8", macs=1_000_000, ns=99_000)
    assert explained("int8-static", [same, RELU], [CONV, RELU]).findings == []


def test_emulation_is_said_to_be_the_reason():
    slow = replace(CONV, precision="bf16", emulated=True, ns=150_000)
    assert "bf16 is emulated" in reasons(explained("bf16", [slow], [CONV]))
    native = replace(slow, emulated=False)
    assert "emulated" not in reasons(explained("bf16", [native], [CONV]))


def test_casts_are_blamed_where_float32_has_none():
    cast = Operator("x", "Cast", "convert", ns=50_000)
    found = explained("fp16", [CONV, cast, cast], [CONV])
    assert "converting takes 50 % of the time (2 Cast)" in reasons(found)
    assert "only how the weights are stored" in reasons(found)


def test_fragments_outside_the_fast_path_are_counted():
    inside = Operator("c", "CONV_2D", "compute", "int8", macs=1)
    outside = Operator("d", "DEPTHWISE_CONV_2D", "compute", "int8", macs=1, fallback=True)
    found = explained(
        "int8-dynamic", [inside, outside, inside, outside, inside], [CONV, CONV], all_operators=True
    )
    assert "2 of 5 operators are outside the fast path (2 DEPTHWISE_CONV_2D" in reasons(found)
    assert "3 fragments" in reasons(found)


def test_nothing_on_the_fast_path_is_reported():
    slow = Operator("c", "CONV_2D", "compute", "int16", macs=1, fallback=True)
    found = explained("int16x8", [slow, slow], [CONV])
    assert "took none of the 2 operators" in reasons(found)


def test_the_same_operators_outside_as_in_float32_are_no_reason():
    twin = [Operator(str(i), "CONV_2D", "compute", "fp32", macs=1) for i in range(20)]
    ours = [Operator(str(i), "CONV_2D", "compute", "int8", macs=1) for i in range(20)]
    softmax = Operator("s", "SOFTMAX", "other", "fp32", fallback=True)
    assert explained("int8-static", [*ours, softmax], [*twin, softmax]).findings == []


def test_a_file_that_arrives_quantized_is_compared_with_nothing():
    outside = Operator("d", "SOFTMAX", "other", "int8", fallback=True)
    inside = Operator("c", "CONV_2D", "compute", "int8", macs=1)
    found = explained("as-shipped", [inside, inside, outside], [], sqnr_db=None)
    assert "1 of 3 operators are outside" in reasons(found) and "float32" not in reasons(found)
    assert "excluded_operators" not in found.findings[0].advice


def test_the_layer_that_loses_most_is_named():
    layers = [
        {"name": "first", "kind": "Conv", "signal": 1e6, "noise": 1e2},  # 40 dB
        {"name": "bad", "kind": "Conv (depthwise)", "signal": 1e6, "noise": 1e5},  # 10 dB
        {"name": "last", "kind": "Gemm", "signal": 1e6, "noise": 2e5},  # 7 dB
    ]
    assert [round(layer.drop_db) for layer in layer_errors(layers)] == [0, 30, 3]
    found = explained("int8-static", [CONV], [CONV], layers, sqnr_db=7.0, per_channel=False)
    assert found.worst_layers[0].name == "bad"
    assert "most is lost at bad" in reasons(found) and "depthwise" in reasons(found)
    assert found.findings[-1].advice == "per_channel: true"
    channels = explained("int8-static", [CONV], [CONV], layers, sqnr_db=7.0)
    assert "excluded_operators: [bad" in channels.findings[-1].advice


def test_a_good_model_has_no_layer_to_blame():
    layers = [{"name": "a", "kind": "Conv", "signal": 1e6, "noise": 1e2}]
    assert explained("int8-static", [INT8], [CONV], layers, sqnr_db=40.0).findings == []


def test_equal_layers_are_as_close_as_can_be():
    (layer,) = layer_errors([{"name": "a", "kind": "Conv", "signal": 5.0, "noise": 0.0}])
    assert (layer.sqnr_db, layer.drop_db) == (200.0, 0.0)


# --------------------------------------------------------------------------- the command


def test_the_command_explains_a_case_of_the_latest_bundle(project):
    project.run_json(project.suite())
    done = project.qbench("explain", "net", "fake", "int8-static", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["case"]["precision"] == "int8-static"
    (kind,) = found["kinds"]
    assert (kind["kind"], kind["precision"], kind["macs"]) == ("MatMul", "int8", 640)
    assert kind["ns"] >= 20_000  # the fake network waits so long
    assert found["twin_kinds"][0]["precision"] == "fp32"
    (layer,) = found["layers"]
    case = next(c for c in project.cases() if c["precision"] == "int8-static")
    assert layer["sqnr_db"] == pytest.approx(case["sqnr_db"], abs=3)  # of the first 16 items
    shown = project.qbench("explain", case["case_id"])
    assert shown.returncode == 0 and "MatMul" in shown.stdout, shown.stderr
    assert project.qbench("verify", "latest").returncode == 0, "the bundle is as it was"


def test_layers_of_what_was_compiled_are_those_that_it_was_compiled_from(project):
    """And its twin is the one of the same batch: an engine takes no other."""
    project.adapter("fakegpu", "from qbench.testing.fake import FakeGpuBackend as Backend\n")
    suite = project.suite(
        backends=["fakegpu"], devices=["cuda:0"], batch_sizes=[1, 4], recipes=["best"], rounds=1
    )
    project.run_json(suite)
    wanted = {"precision": "int8-static", "batch_size": 4}
    case = next(c for c in project.cases() if wanted.items() <= c.items())
    done = project.qbench("explain", case["case_id"], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (layer,) = found["layers"]
    assert layer["sqnr_db"] == pytest.approx(case["sqnr_db"], abs=3)
    assert found["twin_kinds"][0]["precision"] == "fp32"
    for path in (project.root.parent / "cache" / "artifacts").glob("*/model.json"):
        path.write_text(path.read_text() + " ")
    done = project.qbench("explain", case["case_id"])
    assert done.returncode == 2 and "base of the compiled artifact" in done.stderr


def test_of_several_cases_the_plainest_is_meant(project):
    project.run_json(project.suite(recipes=["best", "shared"], rounds=1))
    for words, recipe in (([], "best"), (["shared"], "shared")):
        done = project.qbench("explain", "net", "fake", "int8-static", *words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["case"]["recipe"] == recipe


def test_float32_has_no_twin(project):
    project.run_json(project.suite())
    found = json.loads(project.qbench("explain", "net/fake/fp32", "--json").stdout)
    assert found["kinds"] and not found["twin_kinds"] and not found["layers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no-such"], "no case fits"), (["net"], "several cases fit"), (["0" * 12], "no case fits")],
)
def test_a_case_that_is_not_clear_is_asked_for_with_the_list(project, words: list[str], said: str):
    project.run_json(project.suite())
    done = project.qbench("explain", *words)
    assert done.returncode == 2
    assert said in done.stderr and "net fake int8-static" in done.stderr


def test_a_missing_artifact_is_reported_with_a_remedy(project):
    suite = project.suite()
    project.run_json(suite)
    cache = project.root.parent / "cache"
    shutil.rmtree(cache / "artifacts")
    done = project.qbench("explain", "net", "int8-static")
    assert done.returncode == 2 and "Run the same suite again" in done.stderr
    project.run_json(suite, "--fresh")
    shutil.rmtree(cache / "data")
    done = project.qbench("explain", "net", "int8-static")
    assert done.returncode == 2 and "evaluation items" in done.stderr


def test_another_artifact_than_the_bundles_is_not_explained(project):
    project.run_json(project.suite())
    for path in (project.root.parent / "cache" / "artifacts").rglob("*"):
        if path.is_file() and path.name != "artifact.json":
            path.write_bytes(path.read_bytes() + b" ")
    done = project.qbench("explain", "net", "int8-static")
    assert done.returncode == 2
    assert "differs from the bundle's" in done.stderr and "Run the same" in done.stderr


def test_figures_of_another_machine_are_marked(project):
    ran = project.run_json(project.suite())
    assert "another machine" not in project.qbench("explain", "net/fake/fp32").stdout
    begin = project.root / ran["bundle"] / "begin.json"
    told = json.loads(begin.read_text())
    told["host"]["host_id"] = "0" * 12
    begin.write_text(json.dumps(told))
    found = json.loads(project.qbench("explain", "net/fake/fp32", "--json").stdout)
    assert "measured on another machine" in found["notes"][0]


def test_a_case_is_found_by_the_variant_that_it_was_planned_with(tmp_path):
    crafted = Crafted(tmp_path)
    for name in ("all_operators=false", ""):
        crafted.case("int8-dynamic", options={"of_the_future": 1})
        crafted.cases[-1]["variant"] = name
    bundle = crafted.done()
    for words in (["net", "all_operators=false"], ["net"]):
        entry = find_case(bundle, words)
        assert entry.variant == " ".join(words[1:])


def test_a_skipped_case_and_a_failed_one_give_their_reasons(project):
    project.model(fail={"int8-static:prepare": "error"})
    project.qbench("run", project.suite(precisions=["fp32", "fp16", "int8-static"]), "--no-report")
    done = project.qbench("explain", "net", "fp16")
    assert done.returncode == 2 and "no half precision" in done.stderr
    done = project.qbench("explain", "net", "int8-static")
    assert done.returncode == 2 and "planted failure" in done.stderr
