"""Figures of trials on a GPU: columns, trtexec's warnings, noise, and where they are shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted
from rich.console import Console

from qbench.analysis.recommend.recommend import recommend
from qbench.analysis.table.gpu import gpu_columns
from qbench.analysis.table.noise import disturbed, trial_noise
from qbench.analysis.table.table import case_rows, case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import Trial
from qbench.present.page.content import page_content
from qbench.present.terminal.cases import case_tables
from qbench.spec.case import Case
from qbench.spec.question import Limit, Question

SECOND = 1_000_000_000
STEADY = {
    "samples": 10, "missing": {}, "sm_clock_mhz": 1980, "sm_clock_low_mhz": 1965,
    "sm_clock_high_mhz": 1980, "memory_clock_mhz": 2619, "power_w": 412.5, "temperature_c": 57,
    "throttled": {}, "memory_used_bytes": 3 * 10**9, "memory_process_bytes": 900_000_000,
    "memory_process_by": "process", "others": 0, "ecc_corrected": 0, "ecc_uncorrected": 0,
    "power_limit_w": 700.0, "power_limit_default_w": 700.0, "mig": False,
}  # fmt: skip
ON_GPU = {"device": "cuda:0"}


def trial(**fields: Any) -> Trial:
    """A good trial of a second."""
    return Trial.model_validate({
        "trial": "t", "case_id": "c", "round": 0, "sitting": 1, "seconds": 2.0, "reason": "",
        "status": "ok", "calls": 1000, "items": 1000, "wall_ns": SECOND, "window": [0, SECOND],
        "cpu_ns": SECOND, "warmup": {}, "conditions": {}, "loop": {}, "figures": {}, **fields,
    })  # fmt: skip


def segment(p50_ms: float, cov: float = 0.002) -> dict[str, Any]:
    ns = p50_ms * 1e6
    return {"p50_ns": ns, "p90_ns": ns, "p99_ns": ns, "mean_ns": ns, "cov": cov}


def segments(
    compute: float = 2.0, h2d: float = 0.2, d2h: float = 0.05, enqueue: float = 0.4,
    cov: float = 0.002,
) -> dict[str, Any]:  # fmt: skip
    return {
        "calls": 100,
        "compute": segment(compute, cov),
        "h2d": segment(h2d),
        "d2h": segment(d2h),
        "enqueue": segment(enqueue),
    }


# --------------------------------------------------------------------------- columns


def test_columns_are_medians_over_trials_and_the_worst_of_limits():
    trials = [
        trial(gpu=STEADY, segments=segments(compute=2.0)),
        trial(gpu={**STEADY, "sm_clock_mhz": 1900, "temperature_c": 71, "power_w": 500.0,
                   "memory_process_bytes": 950_000_000, "throttled": {"power cap": 0.3}},
              segments=segments(compute=2.4)),
        trial(gpu={**STEADY, "sm_clock_mhz": 1950, "throttled": {"power cap": 0.1}},
              segments=segments(compute=2.1)),
    ]  # fmt: skip
    row = gpu_columns(trials)
    assert row["gpu_compute_p50_ms"] == pytest.approx(2.1)
    assert row["gpu_h2d_p50_ms"] == pytest.approx(0.2)
    assert row["gpu_d2h_p50_ms"] == pytest.approx(0.05)
    assert row["gpu_enqueue_p50_ms"] == pytest.approx(0.4)
    assert (row["gpu_sm_clock_mhz"], row["gpu_memory_clock_mhz"]) == (1950, 2619)
    assert (row["gpu_temperature_c"], row["gpu_power_w"]) == (71, 412.5)
    assert row["gpu_throttled"] == "power cap (30 %)"
    assert (row["device_memory_mb"], row["device_memory_by"]) == (900, "NVML, of the process")
    assert row["gpu_warnings"] is None


def test_unmeasured_figures_are_none():
    for blind in (
        trial(),
        trial(gpu=None, segments=None, device_memory={}),
        trial(gpu={"samples": 0, "missing": {"all": "no NVML"}}),
    ):
        assert set(gpu_columns([blind, blind]).values()) == {None}
    assert gpu_columns([trial(gpu=STEADY)])["gpu_throttled"] == "no"


@pytest.mark.parametrize(
    ("gpu", "held", "expected"),
    [
        (STEADY, {"weights": 5}, (900, "NVML, of the process")),
        (
            {**STEADY, "memory_process_by": "difference"},
            {"weights": 5},
            (900, "NVML, by difference"),
        ),
        (
            {**STEADY, "memory_process_bytes": None, "memory_process_by": None},
            {"weights": 100_000_000, "activations": 20_000_000},
            (120, "the runtime's own figure"),
        ),
        (None, {"weights": 100_000_000}, (100, "the runtime's own figure")),
        (None, {}, (None, None)),
    ],
)
def test_device_memory_is_of_the_best_source_and_says_which(gpu, held, expected):
    row = gpu_columns([trial(gpu=gpu, device_memory=held)])
    assert (row["device_memory_mb"], row["device_memory_by"]) == expected


# --------------------------------------------------------------------------- trtexec's warnings


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"enqueue": 1.59}, None),
        ({"enqueue": 1.61}, "bound by the host: handing a call over takes 80 %"),
        ({"h2d": 1.99}, None),
        ({"h2d": 2.0}, "bound by copying inputs to the GPU: it takes 100 %"),
        ({"d2h": 3.0}, "bound by copying outputs from the GPU: it takes 150 %"),
        ({"cov": 0.0099}, None),
        ({"cov": 0.0476}, "the GPU's time is unstable: its coefficient of variation is 4.8 %"),
    ],
)
def test_warnings_are_given_where_trtexec_gives_them(changed, said):
    """enqueue > 0.8 compute; h2d, d2h >= compute; coefficient of variation above 1 %."""
    warnings = gpu_columns([trial(segments=segments(**changed))])["gpu_warnings"]
    assert warnings is None if said is None else said in warnings


def test_warnings_of_a_stream_without_transfers():
    only = {"calls": 100, "compute": segment(2.0), "enqueue": segment(1.9)}
    row = gpu_columns([trial(segments=only)])
    assert row["gpu_h2d_p50_ms"] is None and "bound by the host" in row["gpu_warnings"]


# --------------------------------------------------------------------------- noise


def on_gpu(**changed: Any) -> Trial:
    warmup = {"stable": True, "clock_steady": changed.pop("clock_steady", True)}
    return trial(warmup=warmup, gpu={**STEADY, **changed})


CASE = Case(model="net", backend="fake", precision="fp32", device="cuda:0")


def test_a_steady_card_is_not_doubted():
    assert trial_noise(on_gpu(), CASE) == []
    assert trial_noise(on_gpu(clock_steady=None), CASE) == []
    assert trial_noise(trial(gpu={"samples": 0, "missing": {"all": "no NVML"}}), CASE) == []
    assert trial_noise(trial(gpu=None), CASE) == []


@pytest.mark.parametrize(
    ("changed", "said", "passes"),
    [
        (
            {"throttled": {"hardware thermal slowdown": 0.4}},
            "hardware thermal slowdown lowered the GPU's clock in 40 % of the readings",
            True,
        ),
        (
            {"throttled": {"power cap": 1.0}},
            "the power limit lowered the GPU's clock in 100 % of the readings",
            False,
        ),
        (
            {"sm_clock_low_mhz": 1200, "sm_clock_high_mhz": 1980},
            "the GPU's clock moved between 1200 and 1980 MHz",
            True,
        ),
        ({"others": 1}, "1 other process computed on the GPU", True),
        ({"others": 2}, "2 other processes computed on the GPU", True),
        ({"ecc_corrected": 4}, "the GPU's memory had 4 errors that were corrected", True),
        ({"ecc_uncorrected": 1}, "the GPU's memory had 1 errors that were not corrected", True),
        (
            {"power_limit_w": 400.0},
            "the GPU's power limit is 400 W, below its default of 700 W",
            False,
        ),
        ({"clock_steady": False}, "the GPU's clock was not steady after warm-up", False),
    ],
)
def test_each_sign_is_reported_and_passing_ones_cause_another_trial(changed, said, passes):
    assert trial_noise(on_gpu(**changed), CASE) == [said]
    assert disturbed(on_gpu(**changed), CASE) is passes


def test_a_clock_that_moves_within_two_percent_is_steady():
    assert trial_noise(on_gpu(sm_clock_low_mhz=1941, sm_clock_high_mhz=1980), CASE) == []
    assert trial_noise(on_gpu(sm_clock_low_mhz=1939, sm_clock_high_mhz=1980), CASE) != []


def test_a_power_limited_clock_is_reported_once_and_not_as_disturbance():
    capped = on_gpu(sm_clock_low_mhz=1500, throttled={"power cap": 1.0})
    assert trial_noise(capped, CASE) == [
        "the power limit lowered the GPU's clock in 100 % of the readings"
    ]
    assert not disturbed(capped, CASE)


def test_a_card_that_waits_for_frames_may_lower_its_clock():
    moved = on_gpu(sm_clock_low_mhz=345, clock_steady=False)
    assert trial_noise(moved, CASE.model_copy(update={"scenario": "paced"})) == []


# --------------------------------------------------------------------------- where it shows


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    crafted = Crafted(tmp_path)
    fp32, fp16 = crafted.case("fp32", **ON_GPU), crafted.case("fp16", **ON_GPU)
    for number in range(3):
        crafted.trial(fp32, number, 2.5, gpu=STEADY, segments=segments())
        crafted.trial(
            fp16, number, 1.2, segments=segments(compute=0.4),
            gpu={**STEADY, "throttled": {"power cap": 1.0}, "others": 1},
        )  # fmt: skip
    return crafted.done()


def test_the_case_table_has_them(bundle: Bundle):
    fp32, fp16 = case_table(bundle).to_dict("records")
    assert (fp32["gpu_sm_clock_mhz"], fp32["gpu_throttled"], fp32["noisy"]) == (1980, "no", False)
    assert fp16["noisy"] and "1 other process computed on the GPU (3)" in fp16["noise_reason"]
    assert "bound by the host: handing a call over takes 100 %" in fp16["gpu_warnings"]
    assert fp32["gpu_warnings"] is None


def shown(bundle: Bundle) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    for part in case_tables(case_rows(bundle, bundle.trials_frame()), console):
        console.print(part)
    return console.export_text()


def test_show_has_a_table_of_the_gpu_and_its_warnings(bundle: Bundle):
    text = shown(bundle)
    assert "compute ms" in text and "power cap (100 %)" in text
    assert "1 of 2 cases have warnings of the GPU, such as net fake fp16: throughput may be" in (
        " ".join(text.split())
    )


def test_the_report_has_a_table_of_the_gpu(bundle: Bundle):
    content = page_content([bundle])
    (table,) = [table for table in content["details"] if table["id"] == "gpu"]
    titles = [(column["title"], column["unit"]) for column in table["columns"]]
    assert ("clock", "MHz") in titles and ("warnings", "") in titles
    assert len(table["rows"]) == 2
    details = content["case_details"][0]["cases"][1]["rows"]
    assert "gpu_warnings" in {name for name, _, _ in details}


def test_a_run_without_a_gpu_has_none_of_it(tmp_path: Path):
    crafted = Crafted(tmp_path)
    crafted.trial(crafted.case("fp32"), 0, 2.0)
    bundle = crafted.done()
    assert [table["id"] for table in page_content([bundle])["details"]] == ["percentiles", "start"]
    assert "compute ms" not in shown(bundle)


# --------------------------------------------------------------------------- limits


def test_a_limit_of_device_memory_decides_between_cases(tmp_path: Path):
    """fp32 takes 1.5 to 1.6 GB on the GPU, fp16 0.8; the processor none."""
    crafted = Crafted(tmp_path)
    held = {"fp32": 1_500_000_000, "fp16": 800_000_000}
    for precision, size in held.items():
        case = crafted.case(precision, **ON_GPU)
        for number in range(8):
            gpu = {**STEADY, "memory_process_bytes": size + 10_000_000 * number}
            crafted.trial(case, number, 1.0, gpu=gpu)
    on_cpu = crafted.case("fp32")
    for number in range(8):
        crafted.trial(on_cpu, number, 50.0)
    bundle = crafted.done()

    def kept(most_mb: float) -> list[str]:
        asked = Question((Limit("device_memory", most_mb),))
        found = recommend([bundle], asked, None)
        return sorted(
            f"{choice.candidate.row.precision} {choice.candidate.row.device}"
            for answer in found.answers
            for choice in answer.sure
        )

    assert kept(2000) == ["fp16 cuda:0", "fp32 cpu", "fp32 cuda:0"]
    assert kept(1000) == ["fp16 cuda:0", "fp32 cpu"]
    assert kept(100) == ["fp32 cpu"]
