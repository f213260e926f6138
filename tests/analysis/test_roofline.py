"""The roofline: its arithmetic, the yardsticks that it rests on, and the machine's memory."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qbench.analysis.table.roofline import (
    SUSPICIOUS,
    Ceilings,
    Run,
    columns,
    roofline,
    roofline_chart,
)
from qbench.bundle.records.run import Bandwidth, Cache, Effective
from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.model import Artifact, Calibration, Model, PrepareTarget, RunConfig
from qbench.kit.operators import EffectivePrecision
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.isolate import run_job
from qbench.spec.case import Case
from qbench.spec.precisions import complete_options
from qbench.spec.suite import suites_dir
from qbench.spec.yardsticks import NOTHING, RATES, cards, yardsticks

RUN = Run("net", "b", "default", "cpu", 1, {"fp32": 100_000_000}, 4_000_000, 1_000_000, 4e6)
CEILINGS = Ceilings(
    rates={("cpu", 1, "fp32"): 50e9, ("cpu", 1, "int8"): 200e9},
    bandwidths={1: 20e9},
    cache_bytes=30_000_000,
    floors={("b", "default", "cpu", 1): 2_500.0},
)


# --------------------------------------------------------------------------- the arithmetic


def test_a_case_is_bounded_by_its_multiply_accumulates():
    roof = roofline(RUN, CEILINGS)  # 100e6 at 50e9 per second: 2 ms, and it took 4
    assert roof is not None
    assert roof.share == pytest.approx(0.5)
    assert roof.bound == "compute"
    assert roof.attainable_macs_per_s == pytest.approx(50e9)
    assert roof.achieved_macs_per_s == pytest.approx(25e9)
    assert roof.suspicious is None


def test_each_precision_has_its_own_ceiling():
    mixed = replace(RUN, macs={"fp32": 50_000_000, "int8": 200_000_000})
    roof = roofline(mixed, CEILINGS)  # 1 ms and 1 ms
    assert roof is not None and roof.share == pytest.approx(0.5)


def test_weights_beyond_the_caches_are_bounded_by_memory():
    heavy = replace(RUN, weight_bytes=90_000_000)  # 60 MB at 20 GB/s: 3 ms
    roof = roofline(heavy, CEILINGS)
    assert roof is not None
    assert (roof.bound, roof.share) == ("memory", pytest.approx(0.75))
    assert roof.attainable_macs_per_s == pytest.approx(100e6 / 3e-3)
    held = roofline(replace(RUN, weight_bytes=30_000_000), CEILINGS)
    assert held is not None and held.bound == "compute"


@pytest.mark.parametrize("change", [{"device": "cuda:0"}, {"weight_bytes": None}])
def test_memory_bounds_nothing_where_it_is_not_known(change: dict[str, Any]):
    heavy = replace(RUN, **{"weight_bytes": 90_000_000, **change})
    assert CEILINGS.memory_s(heavy) == 0
    assert replace(CEILINGS, cache_bytes=None).memory_s(replace(heavy, device="cpu")) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"macs": None},
        {"macs": {}},
        {"macs": {"fp32": 1, "int16": 1}},  # no yardstick for 16 bits
        {"threads": 2},
        {"p10_ns": None},
    ],
)
def test_unknown_operands_give_no_roof(change: dict[str, Any]):
    run = replace(RUN, **change)
    assert roofline(run, CEILINGS) is None
    assert columns(run, CEILINGS)["roofline_share"] is None
    assert roofline_chart({"c": run}, CEILINGS)["points"] == []


def test_a_case_above_its_roof_is_suspicious():
    fast = replace(RUN, p10_ns=2e6 / 3)  # three times the ceiling: it cannot have done the work
    roof = roofline(fast, CEILINGS)
    assert roof is not None and roof.suspicious is not None
    assert roof.suspicious.startswith("3.00 times as fast as this machine's ceilings allow")
    assert "Winograd" in roof.suspicious
    near = roofline(replace(RUN, p10_ns=2e6 / 1.1), CEILINGS)
    assert near is not None and near.share > 1 and near.suspicious is None


def test_the_columns_of_a_case():
    assert columns(RUN, CEILINGS) == {
        "macs": 100_000_000,
        "roofline_share": pytest.approx(0.5),
        "roofline_bound": "compute",
        "floor_us": 2.5,
    }
    other = columns(replace(RUN, backend="other"), Ceilings())
    assert other == {
        "macs": 100_000_000,
        "roofline_share": None,
        "roofline_bound": None,
        "floor_us": None,
    }


def test_the_chart_is_plain_json():
    chart = json.loads(json.dumps(roofline_chart({"c1": RUN}, CEILINGS)))
    (point,) = chart["points"]
    assert point["case_id"] == "c1" and point["precision"] == "fp32"
    assert point["macs_per_byte"] == pytest.approx(20)  # 100e6 in 5 MB
    assert point["macs_per_s"] == pytest.approx(25e9)
    assert [line["macs_per_s"] for line in chart["rates"]] == [50e9, 200e9]
    assert chart["bandwidths"] == [{"threads": 1, "bytes_per_s": 20e9}]


amounts = st.integers(1, 10**12)
runs = st.builds(
    lambda fp32, int8, weights, ns: replace(
        RUN, macs={"fp32": fp32, "int8": int8}, weight_bytes=weights, p10_ns=float(ns)
    ),
    *(amounts, amounts, amounts, amounts),
)


@given(runs, st.floats(1.01, 100))
def test_the_roof_is_consistent(run: Run, factor: float):
    roof = roofline(run, CEILINGS)
    assert roof is not None and roof.share > 0
    assert roof.achieved_macs_per_s / roof.attainable_macs_per_s == pytest.approx(roof.share)
    assert (roof.suspicious is not None) == (roof.share >= SUSPICIOUS)
    slower = roofline(replace(run, p10_ns=(run.p10_ns or 0) * factor), CEILINGS)
    assert slower is not None and slower.share == pytest.approx(roof.share / factor)
    higher = replace(CEILINGS, rates={k: r * factor for k, r in CEILINGS.rates.items()})
    under_higher = roofline(run, higher)
    assert under_higher is not None and under_higher.share <= roof.share * (1 + 1e-9)
    more = roofline(replace(run, weight_bytes=(run.weight_bytes or 0) * 2), CEILINGS)
    assert more is not None and more.share >= roof.share * (1 - 1e-9)


def test_a_ceiling_is_the_highest_rate_of_all_yardsticks():
    matmul, conv = (replace(RUN, model=name) for name in RATES)
    found = Ceilings.of(
        [
            matmul,  # 25e9
            replace(conv, backend="other", p10_ns=2e6),  # 50e9
            replace(matmul, macs={"fp32": 60, "int8": 40}, p10_ns=1.0),  # of no one precision
            replace(matmul, macs={"int8": 100_000_000}, p10_ns=None),  # failed
            replace(matmul, threads=2, p10_ns=1e6),
            replace(RUN, p10_ns=1.0),  # no yardstick
            replace(RUN, model=NOTHING, macs={}, p10_ns=700.0),
        ],
        Bandwidth.model_validate({"copy": {"1": [9e9, 11e9]}, "read": {"1": [12e9], "2": [20e9]}}),
        [
            Cache(level="L1d", bytes=32_768, instances=2),
            Cache(level="L2", bytes=1_000_000, instances=2),
            Cache(level="L3", bytes=8_000_000, instances=1),
        ],
    )
    assert found.rates == {("cpu", 1, "fp32"): 50e9, ("cpu", 2, "fp32"): 100e9}
    assert found.bandwidths == {1: 12e9, 2: 20e9}
    assert found.cache_bytes == 10_000_000
    assert found.floor_ns(RUN) == 700.0 and found.floor_ns(replace(RUN, threads=2)) is None
    assert Ceilings.of([]) == Ceilings()


# --------------------------------------------------------------------------- which yardsticks


def case(**changes: Any) -> Case:
    precision = changes.get("precision", "fp32")
    options = complete_options(precision, {})
    return Case(
        **{"model": "net", "backend": "a", "precision": precision, "options": options, **changes}
    )


PROBES: dict[str, Ready | Unavailable] = {
    "a": Ready("1", {"cpu": ("fp32", "int8-static", "w8")}),
    "b": Ready("1", {"cpu": ("fp32", "bf16", "int8-dynamic")}),
    "gone": Unavailable("no", "fix"),
}


def test_a_suite_gets_the_yardsticks_of_what_it_measures():
    asked = yardsticks(
        [
            case(),
            case(model="other", precision="int8-static"),
            case(threads=2),
            case(backend="b", precision="bf16", hints={"X": 1}),
            case(backend="gone"),
            case(backend="b", scenario="offline", streams=2),
        ],
        PROBES,
    )
    found = {(c.backend, c.threads, c.model, c.precision) for c in asked}
    rates = {(name, p) for name in RATES for p in ("fp32", "int8-static")}
    assert found == {
        *(("a", threads, *of) for threads in (1, 2) for of in {(NOTHING, "fp32"), *rates}),
        *(("b", 1, name, p) for name in RATES for p in ("fp32", "bf16")),
        ("b", 1, NOTHING, "fp32"),
    }
    assert len(asked) == len(found) == len({c.case_id for c in asked})
    assert all(c.hints == ({"X": 1} if c.backend == "b" else {}) for c in asked)
    assert all((c.batch_size, c.streams, c.scenario) == (1, 1, "single-stream") for c in asked)


@pytest.mark.parametrize("precision", ["int8-dynamic", "as-shipped", "int8-static"])
def test_every_way_to_int8_has_the_same_ceiling(precision: str):
    found = yardsticks([case(precision=precision)], PROBES)
    assert {c.precision for c in found if c.model in RATES} == {"fp32", "int8-static"}


def test_weights_alone_in_int8_compute_in_float32():
    found = yardsticks([case(precision="w8")], PROBES)
    assert {c.precision for c in found} == {"fp32"}


def test_the_cards_fit_their_files_and_are_in_no_list():
    catalog = Catalog([suites_dir()])
    listed = catalog.names
    size = 0
    for path in cards():
        assert path.stem not in listed
        card = catalog.add_card(path)
        assert card.name == path.stem
        for form in ("onnx", "tflite"):
            size += catalog.model(card, form).bytes  # checks the digest too
    assert size < 1_500_000
    assert {path.stem for path in cards()} == {NOTHING, *RATES}


def test_the_yardsticks_are_shipped():
    """The wheel holds all of ``suites`` (see test_packaging); so what git knows is complete."""
    folder = suites_dir() / "yardsticks"
    named = {
        source["path"]
        for path in (folder / "models").glob("*.yaml")
        for source in yaml.safe_load(path.read_text())["sources"].values()
    }
    assert named == {path.name for path in folder.iterdir() if path.is_file()}


# --------------------------------------------------------------------------- with real runtimes


def backend(name: str) -> Any:
    found = importlib.import_module(f"qbench_{name}").Backend()
    ready = found.probe()
    if isinstance(ready, Unavailable):
        pytest.skip(f"{name}: {ready.reason}")
    found.import_runtime()
    return found


def model(name: str, formats: tuple[str, ...]) -> Model:
    catalog = Catalog([suites_dir()])
    for path in cards():
        catalog.add_card(path)
    card = catalog.card(name)
    return catalog.model(card, next(f for f in formats if f in card.sources))


def prepared(runtime: Any, name: str, precision: str, out: Path) -> Artifact:
    if precision not in runtime.probe().precisions["cpu"]:
        pytest.skip(f"{runtime.name} has no {precision} here")
    source = model(name, runtime.formats)
    target = PrepareTarget(precision, complete_options(precision, {}))
    rng = np.random.default_rng(0)
    items = {n: rng.standard_normal((4, *s.at(1)[1:])) for n, s in source.inputs.items()}
    calibration = None
    if precision == "int8-static":
        calibration = Calibration({n: a.astype(np.float32) for n, a in items.items()})
    out.mkdir()
    return Artifact(out, source, target, runtime.prepare(source, target, calibration, out))


def effective(runtime: Any, artifact: Artifact) -> EffectivePrecision:
    with runtime.open(artifact, RunConfig(), inspect=True) as program:
        told = program.effective()
    json.dumps(asdict(told))  # as it leaves a worker
    return told


MACS = {
    "yardstick_matmul": 512 * 8 * 256 + 4 * 512 * 256 * 256 + 512 * 256 * 8,
    "yardstick_conv": 32 * 32 * 4 * 64
    + sum(side**2 for side in (30, 28, 26, 24)) * 64 * 64 * 9
    + 24 * 24 * 64 * 4,
}
WEIGHTS = {  # the shared ones at each of the four layers that read them, and the biases
    "yardstick_matmul": 2 * 8 * 256 + 4 * 256 * 256 + 5 * 256 + 8,
    "yardstick_conv": 2 * 4 * 64 + 4 * 64 * 64 * 9 + 5 * 64 + 4,
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("runtime", "precision", "word", "bytes_each"),
    [
        ("onnxruntime", "fp32", "fp32", 4),
        ("openvino", "fp32", "fp32", 4),
        ("openvino", "bf16", "bf16", 2),
        ("tflite", "fp32", "fp32", 4),
        ("onnxruntime", "int8-static", "int8", 1),
        ("openvino", "int8-static", "int8", 1),
        ("tflite", "int8-static", "int8", 1),
    ],
)
def test_a_yardstick_works_in_one_precision_on_every_runtime(
    name: str, runtime: str, precision: str, word: str, bytes_each: int, tmp_path: Path
):
    adapter = backend(runtime)
    told = effective(adapter, prepared(adapter, name, precision, tmp_path / "out"))
    assert told.macs is not None and set(told.macs) == {word}
    # ONNX Runtime's convolutions in blocks of channels count the padding of the last one.
    assert told.macs[word] == pytest.approx(MACS[name], rel=0.01)
    # int8 has wider biases, and scales with its weights.
    assert told.weight_bytes == pytest.approx(WEIGHTS[name] * bytes_each, rel=0.05)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "tflite"])
def test_the_runtimes_agree_on_work_and_bytes(runtime: str, tmp_path: Path):
    """By hand from the network: four convolutions 3x3, and a matrix product."""
    sides, channels = (8, 8, 4, 2), (1, 16, 32, 32, 64)
    layers = list(zip(sides, channels, channels[1:], strict=False))
    macs = sum(side**2 * 9 * before * after for side, before, after in layers) + 256 * 10
    weights = sum((9 * before + 1) * after for _, before, after in layers) + 257 * 10
    read = 8 * 8 + sum(side**2 * after for side, _, after in layers)
    written = sum(side**2 * after for side, _, after in layers) + 10
    adapter = backend(runtime)
    told = effective(adapter, prepared(adapter, "digits_cnn", "fp32", tmp_path / "out"))
    assert told.macs == {"fp32": macs}
    assert told.weight_bytes == pytest.approx(4 * weights, rel=0.001)
    # No less than the layers' own; runtimes add layout changes, and TFLite pads in between.
    assert told.activation_bytes is not None
    assert 4 * (read + written) <= told.activation_bytes <= 2.5 * 4 * (read + written)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "tflite"])
def test_a_lookup_reads_the_rows_it_takes(runtime: str, tmp_path: Path, assets: Path):
    """256 words of 16 numbers from a table of 10,000; and two dense layers behind their mean."""
    adapter = backend(runtime)
    artifact = prepared(adapter, "avgwordvec_sst2", "fp32", tmp_path / "out")
    rows, dense = 256 * 16 * 4, (16 * 16 + 16 + 16 * 2 + 2) * 4
    assert artifact.model.bytes > 10 * (rows + dense)
    told = effective(adapter, artifact)
    assert told.weight_bytes == pytest.approx(rows + dense, rel=0.01)


LAZY = """
import qbench_onnxruntime

class Backend(qbench_onnxruntime.Backend):
    '''Works once, and gives that answer ever after.'''

    def open(self, artifact, config, inspect=False):
        program = super().open(artifact, config, inspect)
        stream = program.stream

        def lazy():
            made = stream()
            real, done = made.infer, []
            made.infer = lambda: done or done.append(real())
            return made

        program.stream = lazy
        return program
"""


def measured(target: str, artifact: Artifact, folder: Path) -> Run:
    """One trial in a worker."""
    folder.mkdir()
    feeds = {}
    for name, spec in artifact.model.inputs.items():
        np.save(folder / f"{name}.npy", np.ones(spec.at(1), spec.dtype))
        feeds[name] = f"{name}.npy"
    (folder / "record").mkdir()
    for file in artifact.path.iterdir():
        (folder / "record" / file.name).write_bytes(file.read_bytes())
    (folder / "record" / "artifact.json").write_text(json.dumps(artifact.to_json()))
    request = {"artifact": "artifact", "config": asdict(RunConfig()), "feeds": feeds}
    files = {file: folder / file for file in feeds.values()} | {"artifact": folder / "record"}
    results = {}
    for job, more in (
        ("evaluate", {}),
        (
            "measure",
            {
                "scenario": "closed_loop",
                "options": {"rounds": None},
                "warmup_s": 0.05,
                "timed_s": 0.2,
            },
        ),
    ):
        (folder / job).mkdir()
        outcome = run_job(job, target, {**request, **more}, folder / job, files, timeout_s=120)
        assert outcome.status == "ok", outcome.reason + outcome.log
        results[job] = outcome.result
    samples = np.load(folder / "measure" / "samples.npy")
    return Run.of(
        Case(model=artifact.model.name, backend="onnxruntime", precision="fp32"),
        Effective.model_validate(results["evaluate"]["effective"]),
        float(np.percentile(samples, 10)),
    )


@pytest.mark.slow
def test_ceilings_and_floors_through_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lazy.py").write_text(LAZY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    adapter, target = backend("onnxruntime"), "qbench_onnxruntime:Backend"
    artifacts = {
        name: prepared(adapter, name, "fp32", tmp_path / name)
        for name in (NOTHING, *RATES, "digits_mobilenet")
    }
    runs = {n: measured(target, a, tmp_path / f"run-{n}") for n, a in artifacts.items()}
    ceilings = Ceilings.of(runs.values())
    honest = roofline(runs["digits_mobilenet"], ceilings)
    assert honest is not None and 0.02 < honest.share < SUSPICIOUS
    assert honest.suspicious is None
    floor = ceilings.floor_ns(runs["digits_mobilenet"])
    assert floor is not None and 100 < floor < (runs["digits_mobilenet"].p10_ns or 0) / 5
    assert roofline(runs[NOTHING], ceilings) is None  # it does no work
    cheat = measured("lazy:Backend", artifacts["digits_mobilenet"], tmp_path / "run-lazy")
    found = roofline(cheat, ceilings)
    assert found is not None and found.share > 5
    assert found.suspicious is not None and "does it do the work?" in found.suspicious


def test_the_speed_of_memory_through_a_worker(tmp_path: Path):
    request = {"threads": [1, 2], "bytes": 32_000_000, "repeats": 3}
    outcome = run_job(
        "bandwidth", "qbench.testing:FakeBackend", request, tmp_path, {}, timeout_s=60
    )
    assert outcome.status == "ok", outcome.reason + outcome.log
    for kind in ("copy", "read"):
        assert set(outcome.result[kind]) == {"1", "2"}
        for values in outcome.result[kind].values():
            assert len(values) == 3
            assert all(1e8 < value < 1e13 for value in values)  # from a slow board to a fast cache
    assert set(Ceilings.of([], Bandwidth.model_validate(outcome.result)).bandwidths) == {1, 2}
