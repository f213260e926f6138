"""Cost of an inference: figures worked out by hand, invariants, and errors in a file of costs."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st
from rows import case_row

from qbench.analysis.compare.machines import Machine
from qbench.analysis.cost.figures import CostFigures, cost_of
from qbench.analysis.statistics.estimates import Estimate
from qbench.cli import app
from qbench.errors import UserError
from qbench.spec.columns import CaseRow
from qbench.spec.costs import CostSheet, load_costs
from qbench.spec.suite import suites_dir
from qbench.spec.system import Price

MACHINE = Machine("0123456789ab", "board", "a chip")
DAY = "2026-01-31"


def money(amount: float, currency: str = "EUR") -> dict[str, Any]:
    return {"amount": amount, "currency": currency, "date": DAY, "source": "the list"}


SHEET: dict[str, Any] = {
    "every_machine": {
        "lifetime": {"years": 4, "source": "the books"},
        "utilisation": {"share": 0.5, "source": "the monitor"},
        "price_per_kwh": money(0.30),
        "pue": {"factor": 1.2, "source": "the hall's report"},
        "carbon": {"grams_per_kwh": 400, "source": "the grid"},
    },
    "machines": {
        "board": {
            "price": money(1000),
            "price_per_hour": money(0.9),
            "watts": {"load": 100, "idle": 40, "source": "a plug meter"},
        }
    },
}


def sheet(**of_board: Any) -> CostSheet:
    """``SHEET`` with other figures of the machine; None takes one away."""
    board = {k: v for k, v in (SHEET["machines"]["board"] | of_board).items() if v is not None}
    return CostSheet.model_validate({**SHEET, "machines": {"board": board}})


def row(throughput: float = 100.0, **more: Any) -> CaseRow:
    """A case that went well and whose energy nobody measured."""
    told = {
        "case_id": "c1", "run_id": "r1", "host_id": MACHINE.key, "status": "ok",
        "model": "net", "backend": "fake", "precision": "fp32", "device": "cpu",
        "scenario": "single-stream", "batch_size": 1, "threads": 1, "streams": 1,
        "throughput_ips": throughput, "energy_is_measured": False,
        "energy_method": "proxy: cpu time x 3.5 W per core (a table)",
        "energy_mj_per_inference": 5.0, "power_w": 3.5,
    }  # fmt: skip
    return case_row(**{**told, **more})


METERED = {
    "energy_is_measured": True, "energy_scope": "wall", "energy_method": "wall meter (plug)",
    "energy_gross_mj_per_inference": 2000.0, "power_w": 200.0, "idle_w": 80.0,
}  # fmt: skip


def value(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.value


def test_figures_are_those_of_a_calculation_by_hand():
    found = cost_of(row(throughput_ips_low=80.0, throughput_ips_high=130.0), MACHINE, sheet(), 250)
    assert found.currency == "EUR"
    assert found.throughput_ips == (100, 80, 130)
    assert found.ips_per_price == pytest.approx((0.1, 0.08, 0.13))
    assert found.ips_per_hourly_price == pytest.approx((100 / 0.9, 80 / 0.9, 130 / 0.9))
    assert found.ips_per_watt == pytest.approx((1.0, 0.8, 1.3))
    assert found.watts_scope == "wall"
    assert found.machines_needed == (3, 2, 4)  # 250 / 100 = 2.5; 250 / 130 = 1.9; 250 / 80 = 3.1
    assert found.capacity_used == pytest.approx(250 / 300)
    # 3 x 1000 EUR over 4 x 31,557,600 s x 0.5 = 63,115,200 s, and 250 inferences in each
    assert value(found.amortised_per_million) == pytest.approx(3e9 / (63_115_200 * 250))
    # 40 W + 5/6 of 60 W = 90 W, and 40 W for each second that it stands idle: 130 W, three times;
    # 390 W / 250 = 1.56 J; 1.56e6 J x 1.2 / 3.6e6 = 0.52 kWh, at 0.30
    assert value(found.energy_per_million) == pytest.approx(0.156)
    assert value(found.owned_per_million) == pytest.approx(0.156 + 3e9 / (63_115_200 * 250))
    assert value(found.rented_per_million) == pytest.approx(3.0)  # 3 x 0.9 / 3600 / 250 x 1e6
    assert found.rented_per_million == pytest.approx((3.0, 2.0, 4.0))
    assert found.cost_per_million == found.owned_per_million
    assert found.co2_grams_per_million is None  # a proxy is no measured energy
    assert "proxy" in found.reasons["co2_grams_per_million"]
    told = {one.name: (one.value, one.source) for one in found.inputs}
    assert told["price"] == ("1,000 EUR", "the list, 2026-01-31")
    assert told["watts"] == ("100 W at 'wall', idle 40 W", "a plug meter")
    assert told["throughput"][1] == "measured, single-stream: run r1, case c1"


def test_without_a_rate_one_machine_is_fully_used():
    everything = {**SHEET["every_machine"], "utilisation": {"share": 1, "source": "a loop"}}
    found = cost_of(
        row(), MACHINE, CostSheet.model_validate({**SHEET, "every_machine": everything}), None
    )
    assert found.machines_needed is None
    assert found.reasons["machines_needed"] == "no rate is required"
    assert found.capacity_used == 1
    assert value(found.amortised_per_million) == pytest.approx(1000 * 1e6 / (4 * 31_557_600 * 100))
    # 100 W at 100 a second: 1 J, 1e6 J x 1.2 / 3.6e6 x 0.30
    assert value(found.energy_per_million) == pytest.approx(0.1)
    assert value(found.rented_per_million) == pytest.approx(2.5)


def test_energy_measured_with_the_case_goes_before_watts_of_the_file():
    found = cost_of(row(**METERED), MACHINE, sheet(), None)
    assert found.ips_per_watt == (0.5, None, None)  # 2 J each
    # 200 W, and 80 W while it stands idle: 280 W at 100 a second, 2.8 J
    assert value(found.energy_per_million) == pytest.approx(2.8 * 1.2 / 3.6 * 0.30)
    # 2 J x 1e6 x 1.2 / 3.6e6 x 400 g
    assert found.co2_grams_per_million == pytest.approx((266.6666667, None, None), nan_ok=True)
    assert {one.source for one in found.inputs if one.name in ("watts", "energy")} == {
        "wall meter (plug): run r1, case c1"
    }


def test_a_sensor_of_a_part_says_nothing_of_the_whole():
    package = {**METERED, "energy_scope": "cpu package", "energy_method": "rapl package-0"}
    found = cost_of(row(**package), MACHINE, sheet(watts=None), 250)
    assert found.ips_per_watt == (0.5, None, None)
    assert found.watts_scope == "cpu package"
    for name in ("energy_per_million", "owned_per_million", "co2_grams_per_million"):
        assert getattr(found, name) is None
        assert "leaves out the rest of the machine" in found.reasons[name]
    with_watts = cost_of(row(**package), MACHINE, sheet(), 250)
    assert with_watts.ips_per_watt == (1, None, None) and with_watts.watts_scope == "wall"
    assert value(with_watts.energy_per_million) == pytest.approx(0.156)
    assert with_watts.co2_grams_per_million is None  # watts of any load are not this case's energy


def test_unknown_costs_are_none_with_a_reason_and_never_zero():
    empty = CostSheet.model_validate({"machines": {"board": {}}})
    found = cost_of(row(), MACHINE, empty, 250)
    for name in (
        "ips_per_price", "ips_per_hourly_price", "ips_per_watt", "amortised_per_million",
        "energy_per_million", "owned_per_million", "rented_per_million", "co2_grams_per_million",
    ):  # fmt: skip
        assert getattr(found, name) is None
        assert found.reasons[name]
    assert found.reasons["ips_per_price"] == "the costs give no price for 'board'"
    assert found.cost_per_million is None and found.currency is None
    assert found.machines_needed == (3, None, None)
    for missing in ("lifetime", "utilisation"):
        everything = {k: v for k, v in SHEET["every_machine"].items() if k != missing}
        part = CostSheet.model_validate({**SHEET, "every_machine": everything})
        found = cost_of(row(), MACHINE, part, 250)
        assert found.reasons["owned_per_million"] == f"the costs give no {missing} for 'board'"
        assert found.cost_per_million == found.rented_per_million
    no_baseline = cost_of(row(**{**METERED, "idle_w": None}), MACHINE, sheet(watts=None), 250)
    assert "idle power was not measured" in no_baseline.reasons["energy_per_million"]


def test_the_price_of_system_yaml_stands_where_the_file_has_none():
    told = Machine("0123456789ab", "board", "a chip", price=Price(**money(500)))
    assert value(cost_of(row(), told, sheet(price=None), None).ips_per_price) == 0.2
    assert value(cost_of(row(), told, sheet(), None).ips_per_price) == 0.1
    dollars = Machine("0123456789ab", "board", "a chip", price=Price(**money(500, "USD")))
    found = cost_of(row(), dollars, sheet(price=None), None)
    assert found.ips_per_price is None
    assert "in USD (system.yaml) and the costs are in EUR" in found.reasons["ips_per_price"]


def test_sustained_and_offline_throughput_of_the_same_load_is_preferred():
    own = row()
    offline = row(90.0, case_id="c2", scenario="offline")
    hot = row(70.0, case_id="c3", scenario="sustained")
    other = row(500.0, case_id="c4", scenario="sustained", batch_size=8)
    for beside, expected, of in (
        ([], 100, "single-stream"),
        ([other], 100, "single-stream"),
        ([offline, other], 90, "offline"),
        ([offline, hot, other], 70, "sustained"),
    ):
        found = cost_of(own, MACHINE, sheet(), None, beside)
        assert (value(found.throughput_ips), found.throughput_of) == (expected, of)
    assert value(cost_of(offline, MACHINE, sheet(), None, [own, hot]).throughput_ips) == 70
    paced = cost_of(row(30.0, scenario="paced"), MACHINE, sheet(), 250, [hot])
    assert paced.throughput_ips is None and paced.cost_per_million is None
    assert "given rate" in paced.reasons["rented_per_million"]
    invalid = row(scenario="mlperf-server", loadgen_valid=False)
    assert cost_of(invalid, MACHINE, sheet(), None).throughput_ips is None


def test_whole_machines_are_not_bought_for_rounding():
    tenth = cost_of(row(0.1), MACHINE, sheet(), 1.1)  # 1.1 / 0.1 is 11.000000000000002
    assert tenth.machines_needed == (11, None, None)
    assert cost_of(row(), MACHINE, sheet(), 100).machines_needed == (1, None, None)
    assert cost_of(row(), MACHINE, sheet(), 100.1).machines_needed == (2, None, None)


# --------------------------------------------------------------------------- what always holds

positive = st.floats(1e-3, 1e6)
more = st.floats(1, 1e3)


def owned(
    throughput: float = 100, rate: float | None = 250, price: float = 1000, tariff: float = 0.3,
    pue: float = 1.2, load: float = 100, idle: float = 40, share: float = 0.5, years: float = 4,
) -> CostFigures:  # fmt: skip
    everything = {
        "lifetime": {"years": years, "source": "s"},
        "utilisation": {"share": share, "source": "s"},
        "price_per_kwh": money(tariff),
        "pue": {"factor": pue, "source": "s"},
    }
    board = {
        "price": money(price),
        "price_per_hour": money(price / 1e4),
        "watts": {"load": load, "idle": idle, "source": "s"},
    }
    made = CostSheet.model_validate({"every_machine": everything, "machines": {"board": board}})
    return cost_of(row(throughput), MACHINE, made, rate)


@given(
    positive, st.one_of(st.none(), positive), positive, st.floats(0, 10), st.floats(1, 3),
    st.floats(0, 1), st.floats(0.01, 1), more,
)  # fmt: skip
def test_nothing_that_is_dearer_makes_it_cheaper(
    throughput, rate, price, tariff, pue, idle_share, share, factor
):
    base = {
        "throughput": throughput, "rate": rate, "price": price, "tariff": tariff, "pue": pue,
        "load": 100, "idle": 100 * idle_share, "share": share,
    }  # fmt: skip
    before = value(owned(**base).owned_per_million)
    dearer = {
        "price": price * factor,
        "tariff": tariff * factor,
        "pue": pue * factor,
        "load": 100 * factor,
        "share": share / factor,
        "years": 4 / factor,
    }
    for name, changed in dearer.items():
        assert value(owned(**{**base, name: changed}).owned_per_million) >= before * (1 - 1e-9)
    faster = owned(**{**base, "throughput": throughput * factor})
    assert value(faster.owned_per_million) <= before * (1 + 1e-9)
    assert value(faster.rented_per_million) <= value(owned(**base).rented_per_million) * (1 + 1e-9)


@given(positive, positive)
def test_machines_reach_the_rate_and_none_is_superfluous(throughput, rate):
    found = owned(throughput, rate)
    machines = value(found.machines_needed)
    assert machines * throughput >= rate * (1 - 1e-8)
    assert machines == 1 or (machines - 1) * throughput < rate
    assert found.capacity_used is not None and 0 < found.capacity_used <= 1
    alone = owned(throughput, None)
    assert value(found.amortised_per_million) >= value(alone.amortised_per_million) * (1 - 1e-8)


@given(positive, st.one_of(st.none(), positive), st.floats(1, 3), st.floats(1, 3))
def test_an_interval_holds_its_value(throughput, rate, below, above):
    ends = {"throughput_ips_low": throughput / below, "throughput_ips_high": throughput * above}
    found = cost_of(row(throughput, **ends), MACHINE, sheet(), rate)
    for name in ("ips_per_price", "ips_per_watt", "owned_per_million", "rented_per_million"):
        low, middle, high = (found_or(getattr(found, name), place) for place in (1, 0, 2))
        assert low <= middle * (1 + 1e-9) and middle <= high * (1 + 1e-9)
        assert math.isfinite(high) and low > 0


def found_or(estimate: Estimate | None, place: int) -> float:
    assert estimate is not None and estimate[place] is not None
    return float(estimate[place])  # type: ignore[arg-type]


# --------------------------------------------------------------------------- the file


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "costs.yaml"
    path.write_text(text)
    return path


PRICE = "{amount: 5, currency: EUR, date: 2026-01-31, source: the list}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "costs.yaml:1: this file does not hold keys and values\n  `qbench"),
        ("machines:\n  a:\n    prize: 3\n", "costs.yaml:3: unknown key 'prize'"),
        (
            "machines:\n  a:\n    price: {amount: 5, currency: EUR, date: 2026-01-31}\n",
            "'machines.a.price.source' is missing",
        ),
        (
            "machines:\n  a:\n    watts:\n      load: 5\n      idle: 6\n      source: s\n",
            "idle is more than load",
        ),
        (
            "every_machine:\n  utilisation: {share: 50, source: s}\nmachines:\n  a: {}\n",
            "costs.yaml:2: every_machine.utilisation.share",
        ),
        (
            f"machines:\n  a:\n    price: {PRICE}\n  b:\n    price_per_hour: "
            + PRICE.replace("EUR", "USD"),
            "costs.yaml:5: machines.b.price_per_hour is in USD, and other figures are in EUR",
        ),
        (f"machines:\n  a:\n    price: {PRICE.replace('EUR', 'euro')}\n", "costs.yaml:3"),
        ("machines: {}\n", "costs.yaml:1: machines"),
        ("every_machine: {}\n", "'machines' is missing"),
    ],
)
def test_errors_in_a_file_are_reported_with_their_line(tmp_path, text, told):
    with pytest.raises(UserError) as error:
        load_costs(written(tmp_path, text))
    assert told in str(error.value)


def test_the_template_is_valid_and_speaks_of_every_key():
    path = suites_dir() / "templates" / "costs.yaml"
    made = load_costs(path)
    assert made.currency == "EUR"
    uncommented = path.read_text()
    for name in (
        "lifetime", "utilisation", "price_per_kwh", "pue", "carbon", "price", "price_per_hour",
        "watts",
    ):  # fmt: skip
        assert f"{name}: {{" in uncommented


def test_a_misspelt_machine_is_named_and_a_fleet_may_have_more():
    other = Machine("ba9876543210", "server", "another chip")
    sheet().check([MACHINE])
    with pytest.raises(
        UserError, match=r"there is no run on a machine 'bord', and 'board' has no"
    ) as error:
        CostSheet.model_validate({"machines": {"bord": {}}}).check([MACHINE, other])
    assert "Did you mean 'board'?" in str(error.value)
    CostSheet.model_validate({"machines": {"board": {}, "ba9876543210": {}, "x": {}}}).check(
        [MACHINE, other]
    )
    with pytest.raises(UserError, match="name one machine twice"):
        CostSheet.model_validate({"machines": {"board": {}, MACHINE.key: {}}}).check([MACHINE])


def test_defaults_apply_to_machines_without_their_own_value():
    own = sheet(lifetime={"years": 2, "source": "worn out"}).for_machine(MACHINE)
    assert own.lifetime is not None and own.lifetime.years == 2
    assert own.utilisation is not None and own.utilisation.share == 0.5
    elsewhere = sheet().for_machine(Machine("ba9876543210", "server", "another chip"))
    assert elsewhere.price is None and elsewhere.lifetime is not None


# --------------------------------------------------------------------------- the command


def crafted(folder: Path) -> Path:
    """A run of two cases, at 250 and 500 items a second, of a system with a hostile name."""
    made = Crafted(folder, system={"system_name": "=board"})
    for place, precision in enumerate(("fp32", "int8-static")):
        case = made.case(precision)
        for number in range(6):
            made.trial(case, number, (4.0, 2.0)[place])
    return made.done().path


def command(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    """The output of `qbench ...`, which must succeed."""
    assert app([str(arg) for arg in args], standalone_mode=False) == 0
    return capsys.readouterr().out


def test_the_command_prints_costs_as_table_json_and_csv(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    run = crafted(tmp_path)
    board = {"=board": SHEET["machines"]["board"]}
    path = tmp_path / "costs.yaml"
    path.write_text(json.dumps({**SHEET, "machines": board}))  # which is YAML
    told = json.loads(command(capsys, "cost", run, "--costs", path, "--rate", "1200", "--json"))
    assert (told["currency"], told["rate_ips"]) == ("EUR", 1200)
    for case, ips, machines in zip(told["cases"], (250, 500), (5, 3), strict=True):
        assert case["throughput_ips"] == pytest.approx({"value": ips, "low": ips, "high": ips})
        assert case["ips_per_price"]["value"] == pytest.approx(ips / 1000)
        assert case["machines_needed"]["value"] == machines
        assert case["rented_per_million"]["value"] == pytest.approx(machines * 0.9 / 4.32)
        assert case["co2_grams_per_million"] is None and case["reasons"]["co2_grams_per_million"]
        assert {one["name"]: one["source"] for one in case["inputs"]}["watts"] == "a plug meter"
    table = command(capsys, "cost", run, "--costs", path)
    assert "bought, a million EUR" in table and "a plug meter" in table and "=board" in table
    out = tmp_path / "costs.csv"
    command(capsys, "cost", run, "--costs", path, "-o", out)
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["machine"] for line in lines] == ["'=board"] * 2  # no formula for a spreadsheet
    assert float(lines[1]["ips_per_price_low"]) == pytest.approx(0.5)


def test_the_command_says_what_is_missing_or_wrong(tmp_path, capsys):
    run, path = crafted(tmp_path), tmp_path / "mine.yaml"
    assert "qbench cost" in command(capsys, "init", "--costs", path)
    for args, told in (
        (("init", "--costs", path), "nothing was overwritten"),
        (("cost", run, "--costs", path), "there is no run on a machine 'my machine'"),
        (("cost", run), "qbench init --costs"),
        (("cost", run, "--costs", path, "--rate", "0"), "not a rate"),
        (("cost", run, "--costs", path, "--rate", "nan"), "not a rate"),
        (("cost", run, "--costs", path, "-o", tmp_path / "no" / "x.csv"), "no folder"),
        (("report", run, "--rate", "5"), "Add --costs FILE"),
    ):
        with pytest.raises(UserError) as error:
            command(capsys, *args)
        assert told in str(error.value)
