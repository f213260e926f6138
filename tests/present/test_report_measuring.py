"""Scenarios, sweeps, noise, energy and machines on the page and in the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from pages import Page, written
from rich.console import Console
from rows import case_row
from test_report import browsed, browser

from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.page.content import page_content
from qbench.present.terminal.cases import case_tables
from qbench.present.words.traces import MOST_PROBES, MOST_STEPS

HOSTILE = "<img src=x onerror=alert(1)>\u202eevil"
COLUMNS = ["end_s", "calls", "p50_ms", "p99_ms", "frequency_khz", "temperature_c"]
PACED = {"rounds": None, "rate_hz": 100.0, "duration_s": 2.0, "deadline_ms": None}
SERVER = {
    "rounds": 1, "min_duration_s": 2.0, "min_queries": 662, "max_duration_s": 20.0,
    "latency_ms": 5.0, "percentile": 99.0, "probes": 4,
}  # fmt: skip
SUSTAINED = {"rounds": 1, "duration_s": 6.0, "step_s": 0.5}


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    return Crafted(tmp_path)


def saved(bundle: Bundle, trial: str, name: str, array: np.ndarray) -> None:
    """Add a file to a trial's traces, as its scenario does."""
    path = bundle.path / "traces" / trial / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def series(steps: int, **columns: Any) -> np.ndarray:
    table = np.full((steps, len(COLUMNS)), np.nan)
    table[:, 0] = np.arange(1, steps + 1) * 0.5
    for name, values in columns.items():
        table[:, COLUMNS.index(name)] = values
    return table


def sustained(
    folder: Path, table: np.ndarray, facts: dict[str, Any] | None = None, **fields: Any
) -> Bundle:
    crafted = Crafted(folder)
    case = crafted.case("fp32", scenario="sustained", scenario_options=SUSTAINED)
    told = {"columns": COLUMNS, "part_s": 1.0} if facts is None else facts
    crafted.trial(case, 0, 1.0, facts=told, figures={"sustained_ratio": 1.3}, **fields)
    bundle = crafted.done()
    saved(bundle, f"r000-{case}", "series.npy", table)
    return bundle


# --------------------------------------------------------------------------- scenarios


def test_a_long_load_is_thinned_without_losing_its_worst_moment(tmp_path):
    p99 = np.full(5000, 2.0)
    p99[1234] = 77.0
    table = series(5000, p50_ms=1.0, p99_ms=p99, temperature_c=60.0)
    table[10, 2] = np.nan  # a step in which no call ended
    (case,) = page_content([sustained(tmp_path, table)])["charts"]["cases"]
    drawn = case["series"]
    assert len(drawn["p99_ms"]) == len(drawn["end_s"]) <= MOST_STEPS
    assert max(drawn["p99_ms"]) == 77.0
    assert set(drawn["p50_ms"]) == {1.0}
    assert drawn["end_s"][-1] == 2500.0
    assert drawn["clock_ghz"] is None  # the machine does not tell
    assert set(drawn["temperature_c"]) == {60.0}
    assert case["sustained_ratio"] == 1.3 and drawn["part_s"] == 1.0


def test_the_clock_is_in_gigahertz_and_a_step_without_calls_is_none(tmp_path):
    table = series(10, p50_ms=[1.0, np.nan, *[2.0] * 8], p99_ms=3.0, frequency_khz=2.5e6)
    (case,) = page_content([sustained(tmp_path, table)])["charts"]["cases"]
    assert case["series"]["p50_ms"][:3] == [1.0, None, 2.0]
    assert case["series"]["clock_ghz"] == [2.5] * 10


@pytest.mark.parametrize(
    ("facts", "table"),
    [
        ({"columns": "p50_ms", "part_s": 1.0}, series(5)),
        ({"columns": COLUMNS}, series(5)),
        ({"columns": COLUMNS, "part_s": float("inf")}, series(5)),
        ({"columns": COLUMNS[:3], "part_s": 1.0}, series(5)),
        ({"columns": ["time", *COLUMNS[1:]], "part_s": 1.0}, series(5)),
        (None, series(5, end_s=np.nan)),
        (None, np.zeros(5)),
        (None, np.zeros((0, len(COLUMNS)))),
    ],
)
def test_facts_and_series_that_make_no_sense_are_refused(tmp_path, facts, table):
    bundle = sustained(tmp_path, table, facts)
    with pytest.raises(UserError, match="damaged"):
        page_content([bundle])


def scenarios(folder: Path) -> Bundle:
    """A case of every kind of scenario."""
    crafted = Crafted(folder)
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    hot = crafted.case("fp32", scenario="sustained", scenario_options=SUSTAINED)
    crafted.trial(hot, 0, 1.0, facts={"columns": COLUMNS, "part_s": 1.0})
    paced = crafted.case("fp32", scenario="paced", scenario_options=PACED)
    for number, (late, dropped) in enumerate([(3, 1), (4, 2)]):
        facts = {"frames": 200, "late": late, "dropped": dropped, "deadline_ms": 10.0}
        figures = {"deadline_miss_rate": (late + dropped) / 200, "processor_left": 0.75}
        crafted.trial(paced, number, 1.0, facts=facts, figures=figures)
    pipeline = crafted.case(
        "fp32", scenario="pipeline", scenario_options={"rounds": None, "frames": 32}
    )
    stages = ["preprocess", "bind", "infer", "read", "postprocess"]
    figures = {"preprocess_ms": 1.0, "e2e_p50_ms": 10.0, "fps": 99.0}
    crafted.trial(pipeline, 0, 10.0, facts={"stages": stages, "frames": 32}, figures=figures)
    server = crafted.case("fp32", scenario="mlperf-server", scenario_options=SERVER)
    probes = [
        {"target_qps": 100.0 + n, "valid": n % 2 == 0, "latency_ms": 2.0, "queries": 662, "seed": 0}
        for n in range(MOST_PROBES + 50)
    ]
    loadgen = {"invalid_because": f"Reduce target QPS {HOSTILE}"}
    facts = {"loadgen": loadgen, "no_rate_because": "no rate held", "probes": probes}
    figures = {"loadgen_valid": False, "loadgen_qps": None, "target_qps": None}
    crafted.trial(server, 0, 1.0, facts=facts, figures=figures)
    bundle = crafted.done()
    saved(bundle, f"r000-{hot}", "series.npy", series(12, p50_ms=1.0, p99_ms=2.0))
    times = np.tile(np.array([1, 2, 5, 1, 1], np.int64) * 1_000_000, (9, 1))
    saved(bundle, f"r000-{pipeline}", "stages.npy", times)
    return bundle


def cells(table: dict[str, Any], row: int = 0) -> dict[str, str]:
    titles = [column["title"] for column in table["columns"]]
    texts = [cell["text"] for cell in table["rows"][row]["cells"]]
    return dict(zip(titles, texts, strict=True))


def test_every_scenario_has_its_own_table(tmp_path):
    content = page_content([scenarios(tmp_path)])
    tables = {table["id"]: table for table in content["scenarios"]}
    assert list(tables) == ["sustained", "paced", "pipeline", "mlperf"]
    paced = cells(tables["paced"])
    assert (paced["late"], paced["dropped"], paced["of"]) == ("7", "3", "400")
    assert paced["missed"] == "2.50" and paced["processor left"] == "75.0"
    pipeline = cells(tables["pipeline"])
    assert pipeline["bind, infer, read"] == "8.00"  # 2 + 5 + 1 ms
    assert "decode" not in pipeline  # there is nothing to decode
    verdict = tables["mlperf"]["rows"][0]["cells"][2]
    assert verdict["marks"][0][0] == "not valid"
    reason = cells(tables["mlperf"])["because"]
    assert reason.startswith("no rate held; Reduce target QPS")


def test_data_of_scenario_charts(tmp_path):
    charts = page_content([scenarios(tmp_path)])["charts"]
    cases = {case["scenario"]: case for case in charts["cases"]}
    assert cases["paced"]["deadline_ms"] == 10.0
    assert cases["pipeline"]["stages"] == {
        "decode": None, "preprocess": 1.0, "inference": 8.0, "postprocess": 1.0
    }  # fmt: skip
    server = cases["mlperf-server"]
    assert len(server["probes"]) == MOST_PROBES
    assert server["probes"][1] == {"qps": 101.0, "ms": 2.0, "valid": False}
    assert (server["limit_ms"], server["percentile"]) == (5.0, 99.0)
    assert "probes" not in cases["paced"] and "series" not in cases["single-stream"]
    # Cases that are called in different ways are chosen, not thrown together.
    assert [case["condition"] for case in charts["cases"]] == list(cases)


def test_absent_scenarios_are_not_on_the_page(crafted: Crafted, tmp_path):
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    html, page = written(crafted.done(), path=tmp_path / "page.html")
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"ecdf-chart", "trials-chart", "start-chart"} <= ids
    absent = ("sweep", "roofline", "sustained", "paced", "pipeline", "server", "power")
    assert not {f"{name}-chart" for name in absent} & ids
    assert "Energy</h2>" not in html and "Scenarios</h2>" not in html and "floors" not in ids
    assert "Fields that differ" not in html


# --------------------------------------------------------------------------- sweeps and noise


def test_a_line_joins_what_differs_in_one_thing_only(crafted: Crafted):
    for batch in (8, 1, 4):
        for threads in (1, 2):
            case = crafted.case("fp32", batch_size=batch, threads=threads)
            crafted.trial(case, 0, batch / threads)
    crafted.trial(crafted.case("int8-static"), 0, 1.0)  # at one condition only
    paced = crafted.case("fp32", scenario="paced", scenario_options=PACED, batch_size=4)
    facts = {"frames": 1, "late": 0, "dropped": 0, "deadline_ms": 10.0}
    crafted.trial(paced, 0, 1.0, facts=facts)
    one, two = page_content([crafted.done()])["charts"]["sweeps"]
    assert one["axis"] == "batch_size"
    assert [point["label"] for point in one["points"]] == ["b1 t1", "b4 t1", "b8 t1"]
    assert [point["label"] for point in two["points"]] == ["b1 t2", "b4 t2", "b8 t2"]
    assert [point["ms"] for point in two["points"]] == [0.5, 2.0, 4.0]
    assert [point["at"] for point in two["points"]] == [1, 4, 8]
    assert [point["ips"] for point in one["points"]] == [1000.0] * 3


def test_cases_are_ranked_within_their_own_run(tmp_path):
    """Twice as slow is surely slower; on another machine it is another front."""
    bundles = []
    for letter, slower in (("a", 1.0), ("b", 3.0)):
        crafted = Crafted(tmp_path / letter)
        crafted.labels = np.arange(40) % 10
        fast = ""
        for precision, ms in (("fp32", 1.0), ("int8-static", 2.0), ("int8-dynamic", 1.005)):
            case = crafted.case(precision)
            fast = fast or case
            for number in range(6):
                crafted.trial(case, number, slower * ms * (1 + 0.01 * (number % 3)))
            outputs = np.eye(10, dtype=np.float32)[crafted.labels]
            crafted.evaluation(case, outputs, None if case == fast else fast)
        bundles.append(crafted.done())
    charts = page_content(bundles)["charts"]
    places = [(case["run"], case["precision"], case["place"]) for case in charts["cases"]]
    assert places == [
        (run, *one)
        for run in "AB"
        for one in (
            ("fp32", "front"), ("int8-static", "dominated"), ("int8-dynamic", "undecided")
        )
    ]  # fmt: skip


def test_a_doubtful_trial_is_marked_with_its_reason_and_its_time(tmp_path):
    crafted = Crafted(tmp_path)
    case = crafted.case("fp32")
    minute = 60_000_000_000
    stolen = {"cpus": 2, "steal_ns": 50_000_000}
    for number, (sitting, start, met) in enumerate([(1, 7, {}), (1, 9, stolen), (2, 0, {})]):
        window = [start * minute, start * minute + 100_000_000]
        crafted.trial(case, number, 1.0, sitting=sitting, window=window, conditions=met)
    content = page_content([crafted.done()])
    (drawn,) = content["charts"]["cases"]
    assert [bool(trial["doubt"]) for trial in drawn["trials"]] == [False, True, False]
    assert "the hypervisor gave away 50 % of a core" in drawn["trials"][1]["doubt"]
    # A new sitting has its own clock; it goes on where the one before ended.
    assert [trial["minute"] for trial in drawn["trials"]] == pytest.approx([0, 2, 2.00167], 1e-4)
    assert all(trial["p10"] == trial["p50"] == 1.0 for trial in drawn["trials"])
    met = cells(content["noise"])
    assert met["doubtful trials"] == "1" and met["verdict"].startswith("noisy: 1 of 3 trials")


def test_an_inconclusive_case_says_how_far_off_it_is(tmp_path):
    rounds = {"least": 6, "most": 8, "target": 0.01}
    crafted = Crafted(tmp_path, settings={"cpu_power": None, "rounds": rounds})
    case = crafted.case("fp32")
    for number in range(6):
        crafted.trial(case, number, 1.0 + 0.2 * number)
    content = page_content([crafted.done()])
    assert content["inconclusive"] == 1
    (row,) = content["table"]["rows"]
    marks = dict(mark for cell in row["cells"] for mark in cell["marks"])
    assert marks["inconclusive"].startswith("inconclusive: known to ±")
    assert content["method"]["rounds"] == "6 to 8, until p10 is known to 1 %"


def test_percentiles_come_with_their_intervals(crafted: Crafted):
    case = crafted.case("fp32")
    for number in range(6):
        crafted.trial(case, number, 1.0 + 0.01 * number)
    (table,) = [t for t in page_content([crafted.done()])["details"] if t["id"] == "percentiles"]
    titles = [column["title"] for column in table["columns"]]
    assert titles[2:6] == ["p10", "p50", "p90", "p99"]  # 100 calls are too few for p99.9
    low, high = table["rows"][0]["cells"][2]["range"].split(" … ")
    assert float(low) < 1.02 < float(high)


# --------------------------------------------------------------------------- roofline


def roofed(folder: Path) -> Bundle:
    """A case, and yardsticks that reach 1 MAC a ns: 1 GMAC/s, and a floor of 0.02 ms."""
    crafted = Crafted(folder)
    crafted.labels = None
    names = ("net", "yardstick_matmul", "yardstick_nothing")
    work = {"net": 2_000_000, "yardstick_matmul": 1_000_000, "yardstick_nothing": 0}
    latency = {"net": 1.0, "yardstick_matmul": 1.0, "yardstick_nothing": 0.02}
    for name in names:
        case = crafted.case("fp32", model=name)
        crafted.trial(case, 0, latency[name])
        crafted.evaluation(
            case,
            np.eye(4, 10, dtype=np.float32),
            macs={"fp32": work[name]},
            weight_bytes=1_000_000,
            activation_bytes=1_000_000,
        )
    bundle = crafted.open()
    plan = json.loads((bundle.path / "plan.json").read_text())
    plan["cases"], plan["yardsticks"] = plan["cases"][:1], plan["cases"][1:]
    (bundle.path / "plan.json").write_text(json.dumps(plan))
    return Bundle(bundle.path)


def test_a_case_above_its_roofline_is_seen(tmp_path):
    content = page_content([roofed(tmp_path)])
    (roof,) = content["charts"]["roofs"]
    (point,) = roof["points"]
    assert point["macs_per_byte"] == 1.0 and point["macs_per_s"] == pytest.approx(2e9)
    assert roof["rates"][0]["macs_per_s"] == pytest.approx(1e9)
    assert point["share"] == pytest.approx(2.0) and "ceilings allow" in point["suspicious"]
    (row,) = content["table"]["rows"]
    marks = [mark for cell in row["cells"] for mark in cell["marks"]]
    assert ("above the roofline", point["suspicious"]) in marks
    (floor,) = content["floors"]
    assert (floor["backend"], floor["threads"]) == ("fake", 1)
    assert floor["us"] == pytest.approx(20)


# --------------------------------------------------------------------------- energy


def reading(watts: float, seconds: float, **more: Any) -> dict[str, Any]:
    same = {"name": "rapl-package", "method": "rapl package-0", "scope": "cpu package"}
    same |= {"kind": "counter", "reason": ""}
    return {**same, "joules": watts * seconds, "watts": watts, "idle_w": 5.0, **more}


def metered(folder: Path) -> Bundle:
    """Two cases: RAPL has measured the first, of the second there is only the proxy."""
    power = {"watts_per_core": 3.5, "source": "a test"}
    crafted = Crafted(folder, settings={"cpu_power": power, "rounds": 10})
    measured, estimated = crafted.case("fp32"), crafted.case("int8-static")
    crafted.trial(measured, 0, 1.0)
    crafted.trial(estimated, 0, 1.0)
    bundle = crafted.done()
    second = 1_000_000_000
    common = {"sitting": 1, "meter_cpu_share": None}
    idle = {**common, "kind": "idle", "begin_ns": 10 * second, "end_ns": 12 * second,
            "busy_share": 0.0, "sensors": [reading(5.0, 2)]}  # fmt: skip
    bundle.add_energy(idle, {})
    window = {**common, "kind": "window", "case_id": measured, "round": 0, "status": "ok",
              "reason": "", "begin_ns": 20 * second, "end_ns": 22 * second, "items": 1000,
              "sensors": [reading(15.0, 2)]}  # fmt: skip
    bundle.add_energy(window, {})
    wall = reading(25.0, 2, name="wall", method="wall meter (a plug)", scope="wall", idle_w=20.0)
    wall["kind"] = "power"
    times = np.column_stack([np.linspace(10, 22, 5000) * second, np.full(5000, 25.0)])
    align = {"kind": "alignment", "sitting": 1, "method": "wall meter (a plug)",
             "marker_begins_ns": [0, second], "offset_s": 0.0, "rate": 1.0, "correlation": 1.0,
             "reason": "", "series": "wall-s1.npy", "idle": {**wall, "watts": 20.0},
             "windows": []}  # fmt: skip
    bundle.add_energy(align, {"wall-s1.npy": times})
    return Bundle(bundle.path)


def test_energies_of_different_methods_never_share_a_table(tmp_path):
    content = page_content([metered(tmp_path)])
    rapl, proxy = content["energy"]
    assert rapl["title"] == "rapl package-0; scope cpu package"
    assert cells(rapl) == {
        "model": "net", "case": "fake fp32", "energy": "20.0", "gross": "30.0", "power": "15.0",
        "idle": "5.00", "window": "2.00",
    }  # fmt: skip
    assert proxy["title"].startswith("proxy: cpu time x 3.5 W per core")
    assert "not measured" in proxy["note"] and len(proxy["rows"]) == 1
    bars = content["charts"]["energy"]
    assert [[bar["label"] for bar in group] for group in bars] == [
        ["fake fp32"],
        ["fake int8-static"],
    ]
    assert (bars[0][0]["mj"], bars[0][0]["gross"]) == (20.0, 30.0)
    names = [column["name"] for column in content["table"]["columns"]]
    assert "energy_mj_per_inference" not in names  # sorted there, they would be ranked
    (reason, named) = content["energy_reasons"][-1]
    assert "the energy pass has not come to this case" in reason
    assert named == ["net fake int8-static"]


def test_one_method_stands_in_the_main_table(tmp_path):
    power = {"watts_per_core": 3.5, "source": "a test"}
    crafted = Crafted(tmp_path, settings={"cpu_power": power, "rounds": 10})
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    content = page_content([crafted.done()])
    (column,) = [c for c in content["table"]["columns"] if c["name"] == "energy_mj_per_inference"]
    assert column["title"] == "energy (proxy)"
    assert len(content["energy"]) == 1


def test_a_proxy_is_not_compared_across_machines(tmp_path):
    power = {"watts_per_core": 3.5, "source": "a test"}
    bundles = []
    for name in ("one", "two"):
        host = {"host_id": name, "cpu_model": name, "cpu_flags": [], "governor": name,
                "power_mode": None, "caches": None}  # fmt: skip
        settings = {"cpu_power": power, "rounds": 10}
        crafted = Crafted(tmp_path / name, settings=settings, host=host)
        crafted.trial(crafted.case("fp32"), 0, 1.0)
        bundles.append(crafted.done())
    content = page_content(bundles)
    assert len(content["energy"]) == 2
    assert [table["rows"][0]["run"] for table in content["energy"]] == ["A", "B"]
    (pair,) = content["differences"]
    assert pair["pair"] == ("A", "B") and pair["level"] == "different machine"
    assert not pair["regression"] and pair["choice"]
    assert ("host.governor", "one", "two", "regression") in pair["rows"]


def test_power_is_drawn_over_time_and_thinned(tmp_path):
    power = page_content([metered(tmp_path)])["charts"]["power"]
    by_name = {series["name"]: series for series in power}
    rapl = by_name["rapl package-0, cpu package"]
    assert rapl["seconds"] == []  # a counter's readings are no watts
    assert [(w["label"], w["from"], w["to"], w["watts"]) for w in rapl["windows"]] == [
        ("idle", 0, 2, 5.0), ("net fake fp32", 10, 12, 15.0)
    ]  # fmt: skip
    wall = by_name["wall meter (a plug), wall"]
    assert 1000 < len(wall["seconds"]) == len(wall["watts"]) <= 2000
    assert set(wall["watts"]) == {25.0}
    assert 0 <= wall["seconds"][0] < wall["seconds"][-1] <= 12


# --------------------------------------------------------------------------- the machine


def test_fields_for_a_person_are_marked(tmp_path):
    system = {"submitter": "me", "cooling": HOSTILE}
    crafted = Crafted(tmp_path, system=system)
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    bundle = crafted.done()
    content = page_content([bundle])
    fields = dict(content["mlperf"]["rows"])
    assert fields["submitter"] == ["me"] and fields["host_storage_type"] == [""]
    assert fields["host_processor_model_name"] == ["a processor"]
    assert content["mlperf"]["missing"] == [sum(not values[0] for values in fields.values())]
    assert "frequency governor" in content["facts"]["unknown"]
    html, page = written(bundle, path=tmp_path / "page.html")
    assert not page.all("img") and "\u202e" not in html
    assert html.count("to be filled in") == content["mlperf"]["missing"][0]


def test_a_host_that_makes_no_sense_is_refused(tmp_path):
    host = {"host_id": "h", "cpu_model": None, "cpu_flags": [], "governor": None,
            "power_mode": None, "caches": None, "gpus": [7]}  # fmt: skip
    crafted = Crafted(tmp_path, host=host)
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    with pytest.raises(UserError, match=r"damaged: host\.gpus"):
        page_content([crafted.done()])


# --------------------------------------------------------------------------- the terminal


def terminal(bundle: Bundle, width: int = 200) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    for part in case_tables(case_rows(bundle, bundle.trials_frame()), console):
        console.print(part)
    return out.getvalue()


def test_the_terminal_has_a_table_for_every_scenario(tmp_path):
    text = terminal(scenarios(tmp_path))
    main, rest = text.split("Sustained load")
    assert "mlperf-server" in main and "options" not in main
    assert rest.index("Paced frames") < rest.index("Pipeline") < rest.index("MLPerf LoadGen")
    assert "2.5 %" in rest and "75.0 %" in rest and "not valid" in rest
    assert "Paced frames" not in terminal(sustained(tmp_path / "other", series(5)))


def test_options_are_shown_only_for_a_scenario_with_several(tmp_path):
    crafted = Crafted(tmp_path)
    facts = {"frames": 1, "late": 0, "dropped": 0, "deadline_ms": 10.0}
    for rate in (100.0, 50.0):
        options = {**PACED, "rate_hz": rate}
        case = crafted.case("fp32", scenario="paced", scenario_options=options)
        crafted.trial(case, 0, 1.0, facts=facts, figures={"deadline_miss_rate": 0.0})
    bundle = crafted.done()
    text = terminal(bundle)
    assert "options" in text and "rate_hz=50.0" in text
    labels = [case["label"] for case in page_content([bundle])["charts"]["cases"]]
    assert "rate_hz=100.0" in labels[0] and labels[0] != labels[1]


def test_the_terminal_keeps_methods_of_energy_apart(tmp_path):
    text = terminal(metered(tmp_path))
    main, rapl, proxy = text.split("Energy: ")
    assert "mJ" not in main
    assert rapl.startswith("rapl package-0") and "gross mJ" in rapl
    assert proxy.startswith("proxy: cpu time") and "int8-static" in proxy


def test_a_narrow_terminal_leaves_out_columns_and_never_the_name(tmp_path):
    text = terminal(metered(tmp_path), width=60)
    assert "left out: widen the terminal" in text
    assert "precision" in text and "p50 ms" in text and "cold ms" not in text


# --------------------------------------------------------------------------- in a browser


@browser
def test_every_chart_draws(tmp_path):
    bundles = [scenarios(tmp_path / "a"), metered(tmp_path / "b"), roofed(tmp_path / "c")]
    crafted = Crafted(tmp_path / "d")
    for batch in (1, 4):
        crafted.trial(crafted.case("fp32", batch_size=batch), 0, float(batch))
    path = tmp_path / "page.html"
    written(*bundles, crafted.done(), path=path)
    html, console = browsed(path, "", tmp_path / "chromium")
    assert console == []
    assert "<img" not in html.split("<script")[0]
    shown = Page(html)
    drawn = {a["id"] for a in shown.all("div") if "js-plotly-plot" in (a.get("class") or "")}
    figures = {a["id"] for a in shown.all("div") if (a.get("class") or "").split()[:1] == ["chart"]}
    names = (
        "accuracy", "speedup", "ecdf", "trials", "sweep", "growth", "memory", "start", "sustained",
        "paced", "pipeline", "server", "energy-1", "energy-2", "power", "roofline",
    )  # fmt: skip
    assert figures >= {f"{name}-chart" for name in names}
    # no speed-up and no accuracy under the first conditions
    assert figures - drawn <= {"accuracy-chart", "speedup-chart"}


def test_a_method_of_energy_steers_no_terminal(tmp_path):
    """Two methods have a title each; what they are called comes from the bundle."""
    power = {"watts_per_core": 3.5, "source": "\x1b]0;x\x07[/bold] [red]"}
    crafted = Crafted(tmp_path, settings={"cpu_power": power, "rounds": 10})
    crafted.trial(crafted.case("fp32"), 0, 1.0)
    crafted.evaluation("c00000000000", np.ones((4, 3), np.float32), weight_bytes=1)
    crafted.trial(crafted.case("int8-static"), 0, 1.0)
    bundle = crafted.done()
    first, second = case_rows(bundle, bundle.trials_frame())
    rows = [first, replace(second, energy_method="another \x1b[2J[/x]")]
    console = Console(width=200, record=True, file=io.StringIO())
    for part in case_tables(rows, console):
        console.print(part)
    text = console.export_text()
    assert "\x1b" not in text and "[/bold] [red]" in text and "another [2J[/x]" in text


def test_class_indices_have_their_share_of_equal_values_in_the_terminal():
    console = Console(width=200, record=True, file=io.StringIO())
    rows = [case_row(status="ok", latency_p50_ms=1.0), case_row(status="ok", equal_values=0.625)]
    for part in case_tables(rows, console):
        console.print(part)
    text = console.export_text()
    assert " equal " in text and "62.5 %" in text and "SQNR" not in text
