"""The verdict on trials and cases, from hand-made records."""

from __future__ import annotations

from typing import Any

import pytest

from qbench.analysis.table.noise import noise_columns, trial_noise
from qbench.bundle.records.run import Trial
from qbench.spec.case import Case

SECOND = 1_000_000_000
CALM = {
    "involuntary_switches": 2, "run_delay_ns": 300_000, "cpus": 4, "steal_ns": 0,
    "others_cpu_ns": 20_000_000, "cpu_pressure_ns": 400_000, "memory_pressure_ns": 0,
    "throttled_ns": 0, "throttled_periods": 0, "major_faults": 0, "minor_faults": 140,
    "frequency_khz_begin": 3_100_000, "frequency_khz_end": 3_080_000,
    "frequency_max_khz": 3_500_000, "temperature_c": 55.0, "thermal_throttles": 0,
    "load_average": 0.4,
}  # fmt: skip


def case(threads=1, streams=1, scenario="single-stream", device="cpu") -> Case:
    return Case(
        model="net", backend="fake", precision="fp32", device=device, scenario=scenario,
        threads=threads, streams=streams,
    )  # fmt: skip


def trial(
    cores=0.998, stable: bool | None = True, loop: dict[str, Any] | None = None, **met: Any
) -> Trial:
    """One second's window on a calm machine, except for the given conditions."""
    calm = {"clean_share": 0.99, "head_over_rest": 1.01, "worst_work": 1.4, **(loop or {})}
    return Trial.model_validate({
        "trial": "t", "case_id": "c", "round": 0, "sitting": 1, "seconds": 2.0, "reason": "",
        "status": "ok", "calls": 1000, "items": 1000, "wall_ns": SECOND, "window": [0, SECOND],
        "cpu_ns": int(cores * SECOND), "figures": {},
        "warmup": {"stable": stable}, "conditions": {**CALM, **met}, "loop": calm,
    })  # fmt: skip


def changed(trial: Trial, **fields: Any) -> Trial:
    return trial.model_copy(update=fields)


def test_a_calm_trial_is_not_doubted():
    assert trial_noise(trial(), case()) == []
    assert trial_noise(trial(cores=1.96), case(threads=2)) == []


def test_a_machine_without_readings_is_not_doubted():
    silent = changed(trial(), conditions=dict.fromkeys(CALM), loop={})
    assert trial_noise(silent, case()) == []
    assert trial_noise(changed(silent, conditions={}, warmup={}), case()) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (trial(run_delay_ns=120_000_000), "waited 12 % of the time for a processor"),
        (trial(cores=0.62), "had the processor for 62 % of the time only"),
        (trial(steal_ns=60_000_000), "the hypervisor gave away 6 % of a core"),
        (trial(others_cpu_ns=900_000_000), "others used 0.9 cores"),
        (trial(throttled_ns=300_000_000), "throttled 30 % of the time by a quota"),
        (
            trial(memory_pressure_ns=50_000_000),
            "processes of this machine waited 5 % of the time for memory",
        ),
        (trial(frequency_khz_end=2_200_000), "clock fell from 3.1 to 2.2 GHz"),
        (
            trial(frequency_khz_begin=1_200_000, frequency_khz_end=1_200_000),
            "clock was at 1.2 of 3.5 GHz",
        ),
        (trial(thermal_throttles=3, temperature_c=97.0), "heat lowered the clock 3x (at 97 °C)"),
        (trial(thermal_throttles=1, temperature_c=None), "heat lowered the clock 1x"),
        (trial(loop={"clean_share": 0.4}), "only 40 % of the time was clean"),
        (trial(cores=2.0), "2.0 cores were busy though 1 thread was asked for"),
        (
            trial(loop={"head_over_rest": 1.18}),
            "still getting faster: the first fifth is 18 % slower than the rest",
        ),
        (
            trial(loop={"head_over_rest": 0.8}),
            "getting slower: the first fifth is 20 % faster than the rest",
        ),
        (
            trial(loop={"worst_work": 40.0}),
            "one call did 40x the work of the median: something compiled",
        ),
        (trial(major_faults=12), "12 page faults in the timed loop were served from storage"),
        (trial(stable=False, loop={"head_over_rest": None}), "not stable after warm-up"),
    ],
)  # fmt: skip
def test_each_sign_alone_says_how_far_off(record, said):
    assert trial_noise(record, case()) == [said]


def test_waiting_is_reported_once():
    """A processor that was taken away does not count again as missing processor time."""
    record = trial(cores=0.7, run_delay_ns=290_000_000)
    assert trial_noise(record, case()) == ["waited 29 % of the time for a processor"]
    record = trial(cores=0.5, run_delay_ns=290_000_000)
    assert len(trial_noise(record, case())) == 2  # there is something else, too


def test_waiting_is_that_of_the_threads_that_were_asked_for():
    record = trial(cores=1.2, run_delay_ns=800_000_000)
    assert trial_noise(record, case(threads=2)) == ["waited 40 % of the time for a processor"]
    assert trial_noise(record, case(threads=1, streams=4)) == [
        "waited 20 % of the time for a processor"
    ]
    record = trial(cores=0.1, run_delay_ns=3 * SECOND)  # of a runtime's helpers, too
    assert trial_noise(record, case()) == ["waited 100 % of the time for a processor"]


def test_pressure_stands_in_for_unknown_waiting():
    told = trial(cpu_pressure_ns=600_000_000)
    assert trial_noise(told, case()) == []  # others waited, this process did not
    untold = trial(run_delay_ns=None, cpu_pressure_ns=600_000_000)
    assert trial_noise(untold, case()) == [
        "processes of this machine waited 60 % of the time for a processor"
    ]


@pytest.mark.parametrize(("cpus", "others_s", "doubtful"), [
    (2, 0.2, False), (2, 0.3, True), (4, 0.3, False), (4, 0.5, True), (64, 0.5, False),
    (64, 0.6, True), (256, 0.6, False), (256, 0.7, True),
])  # fmt: skip
def test_how_much_others_may_use_grows_with_the_machine_up_to_half_a_core(cpus, others_s, doubtful):
    """The clock's ticks are on top: of 64 processors 10 ms each, which add up like errors do, to
    80 ms, of 256 to 160 ms."""
    record = trial(cpus=cpus, others_cpu_ns=int(others_s * SECOND))
    assert bool(trial_noise(record, case())) is doubtful


def test_one_busy_neighbour_shows_on_a_large_machine_in_a_short_window():
    """0.3 s of one core; a tick of each of 64 processors would be 0.64 s."""
    ns = 3 * SECOND // 10
    short = trial(cpus=64, others_cpu_ns=300_000_000)
    short = changed(short, wall_ns=ns, window=[0, ns], cpu_ns=ns)
    assert trial_noise(short, case()) == ["others used 1.0 cores"]


def test_one_tick_of_steal_in_a_short_window_is_rounding():
    ns = SECOND // 5
    short = changed(trial(steal_ns=10_000_000), wall_ns=ns, window=[0, ns], cpu_ns=ns)
    assert trial_noise(short, case()) == []
    short.conditions["steal_ns"] = 30_000_000
    assert trial_noise(short, case()) == ["the hypervisor gave away 15 % of a core"]


@pytest.mark.parametrize("how", [
    case(scenario="paced"), case(scenario="mlperf-server"), case(device="cuda:0"),
])  # fmt: skip
def test_a_processor_may_idle_where_it_has_to_wait(how):
    """... for the next frame, or for the device; and clock down meanwhile."""
    record = trial(
        cores=0.2, frequency_khz_begin=3_000_000, frequency_khz_end=900_000,
        loop={"clean_share": 0.0, "worst_work": 20.0},
    )  # fmt: skip
    assert trial_noise(record, how) == []
    assert len(trial_noise(record, case())) == 4


def test_the_calling_threads_time_says_nothing_of_what_several_did():
    record = trial(cores=1.9, loop={"clean_share": 0.0, "worst_work": 24.0})
    assert trial_noise(record, case(streams=2)) == []


def test_a_drift_on_a_disturbed_machine_is_the_disturbance():
    record = trial(others_cpu_ns=950_000_000, loop={"head_over_rest": 3.1})
    assert trial_noise(record, case()) == ["others used 0.9 cores"]


def test_an_undecided_warm_up_is_accepted_if_later_calls_are_steady():
    assert trial_noise(trial(stable=False), case()) == []
    drifting = trial_noise(trial(stable=False, loop={"head_over_rest": 1.5}), case())
    assert [reason.split(":")[0] for reason in drifting] == [
        "not stable after warm-up", "still getting faster",
    ]  # fmt: skip


# --------------------------------------------------------------------------- cases


def test_a_case_with_few_doubtful_trials_is_believed():
    calm, noisy = trial(), trial(others_cpu_ns=900_000_000)
    for trials, doubtful in (
        ([calm] * 6, False),
        ([noisy, *[calm] * 5], False),
        ([noisy] * 2 + [calm] * 5, True),
    ):
        columns = noise_columns(trials, case())
        assert columns["noisy"] is doubtful and (columns["noise_reason"] is not None) is doubtful


def test_a_case_says_how_many_and_the_worst_of_each_kind():
    records = [
        trial(others_cpu_ns=600_000_000),
        trial(others_cpu_ns=1_400_000_000, run_delay_ns=200_000_000),
        trial(others_cpu_ns=900_000_000),
        trial(),
    ]
    assert noise_columns(records, case())["noise_reason"] == (
        "3 of 4 trials are doubtful; at worst: others used 1.4 cores (3), "
        "waited 20 % of the time for a processor (1)"
    )
