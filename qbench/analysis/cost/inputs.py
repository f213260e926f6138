"""Inputs of the costs of a case: throughput, power and prices of its machine, each with its source,
or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from qbench.analysis.compare.comparable import WALL
from qbench.analysis.compare.machines import Machine
from qbench.analysis.statistics.estimates import Estimate
from qbench.analysis.table.table import estimate_of
from qbench.spec.columns import CaseRow
from qbench.spec.costs import CostSheet, MachineCosts
from qbench.spec.system import Price

SECONDS_PER_YEAR = 365.25 * 86400
NOT_ALL = "which leaves out the rest of the machine"
_same_load = attrgetter(
    "host_id", "model", "model_digest", "dataset_digest", "backend", "environment", "precision",
    "variant", "recipe", "device", "batch_size", "threads", "streams",
)  # fmt: skip
"""Columns that identify the work: cases equal in these differ only in scenario and duration."""
BETTER = ("sustained", "offline")
"""Scenarios whose throughput represents the capacity of a machine, the better first."""
_AT_WILL = ("single-stream", *BETTER)
"""Scenarios that call without pause; the throughput of one of ``BETTER`` replaces theirs."""


class Input(NamedTuple):
    """An input that was used: its ``name`` (``price``, ``lifetime``, ...), the ``value`` with its
    unit as text, and its ``source`` as the cost sheet states it."""

    name: str
    value: str
    source: str


class Missing(Exception):
    """A figure cannot be computed; the message is the reason."""


class Power(NamedTuple):
    """Measured power.

    Attributes:
        load_w: at full load, idle power included.
        idle_w: with nothing running; None: there was no baseline.
        items_per_joule: measured in the same windows; None: only the watts are known.
        scope: what it covers; ``wall`` is the whole machine.
        source: how it was measured.
    """

    load_w: float
    idle_w: float | None
    items_per_joule: float | None
    scope: str
    source: str


class Given:
    """Inputs of one case's figures. Reading one records it in ``used``, or raises ``Missing``."""

    def __init__(
        self,
        case: CaseRow,
        machine: Machine,
        sheet: CostSheet,
        rate_ips: float | None,
        beside: Sequence[CaseRow],
    ) -> None:
        self.used: dict[str, Input] = {}
        self._case, self._machine = case, machine
        self._costs: MachineCosts = sheet.for_machine(machine)
        self._rate_ips = rate_ips
        self._from = _source_of_throughput(case, beside)
        self.throughput_of = None if isinstance(self._from, str) else str(self._from.scenario)
        told = machine.price
        self.currency = sheet.currency or (told.currency if told else None)

    @property
    def throughput(self) -> Estimate:
        if isinstance(self._from, str):
            raise Missing(self._from)
        row = self._from
        found = estimate_of(row, "throughput_ips")
        assert found is not None  # else ``_from`` would be the reason
        where = f"measured, {row.scenario}: run {row.run_id}, case {row.case_id}"
        self._use("throughput", f"{_number(found.value)} items/s", where)
        return found

    @property
    def rate(self) -> float | None:
        """The required rate; None: the throughput of one machine."""
        return self._rate_ips

    @property
    def price(self) -> float:
        price, where = self._costs.price, ""
        if price is None and (price := self._machine.price) is not None:
            where = "system.yaml: "
            if price.currency != self.currency:
                raise Missing(
                    f"its price is in {price.currency} (system.yaml) and the costs are in "
                    f"{self.currency}: nothing is converted"
                )
        return self._money("price", price, where=where)

    @property
    def hourly_price(self) -> float:
        return self._money("price_per_hour", self._costs.price_per_hour, " an hour")

    @property
    def tariff(self) -> float:
        """Price of a kWh."""
        return self._money("price_per_kwh", self._costs.price_per_kwh, " per kWh")

    @property
    def lifetime_s(self) -> float:
        lifetime = self._costs.lifetime
        if lifetime is None:
            raise self._missing("lifetime")
        self._use("lifetime", f"{_number(lifetime.years)} years", lifetime.source)
        return lifetime.years * SECONDS_PER_YEAR

    @property
    def utilisation(self) -> float:
        utilisation = self._costs.utilisation
        if utilisation is None:
            raise self._missing("utilisation")
        self._use("utilisation", f"{_number(100 * utilisation.share)} %", utilisation.source)
        return utilisation.share

    @property
    def pue(self) -> float:
        if self._costs.pue is None:
            return 1.0
        self._use("pue", _number(self._costs.pue.factor), self._costs.pue.source)
        return self._costs.pue.factor

    @property
    def grams_per_kwh(self) -> float:
        carbon = self._costs.carbon
        if carbon is None:
            raise self._missing("carbon")
        self._use("carbon", f"{_number(carbon.grams_per_kwh)} g CO2 per kWh", carbon.source)
        return carbon.grams_per_kwh

    @property
    def joules(self) -> float:
        """Energy of one inference, measured at the wall for this case, idle power included."""
        own = self._own_power()
        if own is None or own.items_per_joule is None:
            raise Missing(self._no_energy())
        if own.scope != WALL:
            raise Missing(f"the energy was measured at '{own.scope}', {NOT_ALL}")
        self._use("energy", f"{_number(1 / own.items_per_joule)} J an inference", own.source)
        return 1 / own.items_per_joule

    def power(self, with_idle: bool = False) -> Power:
        """Return the power of the whole machine if it is known, else of the measured part. Power
        measured for this case is preferred to the cost sheet's, which is for any load.

        Args:
            with_idle: whether idle power is needed.
        """
        own, watts = self._own_power(), self._costs.watts
        lacks = own is None or own.scope != WALL or (with_idle and own.idle_w is None)
        if watts is not None and lacks:
            own = Power(watts.load, watts.idle, None, WALL, watts.source)
        if own is None:
            raise Missing(f"{self._no_energy()}; the costs give no watts")
        idle = "" if own.idle_w is None else f", idle {_number(own.idle_w)} W"
        self._use("watts", f"{_number(own.load_w)} W at '{own.scope}'{idle}", own.source)
        return own

    def _own_power(self) -> Power | None:
        """Return the power that the bundle's sensors measured for this case; None if none did."""
        case = self._case
        gross_mj, load_w, idle_w = case.energy_gross_mj_per_inference, case.power_w, case.idle_w
        if not case.energy_is_measured or load_w is None:
            return None
        return Power(
            load_w,
            idle_w,
            1e3 / gross_mj if gross_mj else None,
            str(case.energy_scope),
            f"{case.energy_method}: run {case.run_id}, case {case.case_id}",
        )

    def _no_energy(self) -> str:
        if self._case.energy_is_measured is False:
            return f"the energy was not measured, but is a {self._case.energy_method}"
        return f"the energy was not measured: {self._case.energy_reason or 'no energy pass'}"

    def _money(self, name: str, price: Price | None, per: str = "", where: str = "") -> float:
        if price is None:
            raise self._missing(name)
        shown = f"{_number(price.amount)} {price.currency}{per}"
        self._use(name, shown, f"{where}{price.source}, {price.date}")
        return price.amount

    def _missing(self, name: str) -> Missing:
        return Missing(f"the costs give no {name} for '{self._machine.name}'")

    def _use(self, name: str, value: str, source: str) -> None:
        self.used.setdefault(name, Input(name, value, source))


def _source_of_throughput(case: CaseRow, beside: Sequence[CaseRow]) -> CaseRow | str:
    """Return the row whose throughput represents the machine's capacity at this case's batch,
    threads and streams; or the reason why there is none."""
    if case.status != "ok":
        return f"it was not measured: {case.status or 'open'}: {case.reason}"
    scenario = case.scenario
    if scenario == "paced":
        return "paced frames come at a given rate, which is not what the machine can do"
    if scenario == "mlperf-server" and case.loadgen_valid is not True:
        return "LoadGen found no rate at which its latency limit is met"
    if scenario in _AT_WILL:
        for better in BETTER[: BETTER.index(scenario) if scenario in BETTER else None]:
            for row in beside:
                same = _same_load(row) == _same_load(case)
                if same and row.scenario == better and row.throughput_ips is not None:
                    return row
    return case if case.throughput_ips is not None else "its throughput is not known"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
