"""Compute the cost of an inference on a machine: money, power and CO2.

Each figure is an ``Estimate`` whose interval is propagated from that of the throughput, or None
with a reason; prices, tariffs and watts are exact. The docstring of each figure's function has its
formula. One inference is that of one item.

The cost model is that of a data centre: straight-line depreciation of the hardware, and energy
times the building's overhead (Barroso, Hölzle & Ranganathan, The Datacenter as a Computer, 3rd
edition, 2018, chapter 6). It excludes staff, rent, network and interest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qbench.analysis.compare.comparable import WALL
from qbench.analysis.compare.machines import Machine, SideBySide
from qbench.analysis.cost.inputs import BETTER, NOT_ALL, Given, Input, Missing
from qbench.analysis.statistics.estimates import Estimate
from qbench.spec.columns import CaseRow
from qbench.spec.costs import CostSheet

PER_MILLION = 1e6
JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0
_ROUNDING = 1e-9
"""An excess over whole machines below this share is rounding, and needs no further machine."""


@dataclass(frozen=True)
class CostFigures:
    """Costs of a case on its machine.

    For a figure that is None, ``reasons`` has the reason under the attribute's name.

    Attributes:
        machine: the machine that it was measured on.
        case_id: the case.
        rate_ips: the required rate, in items per second; None: the throughput of one machine.
        throughput_ips: throughput of one machine, in items per second.
        throughput_of: the scenario that the throughput was measured in.
        currency: of all amounts (ISO 4217); None if there is no price.
        ips_per_price: items per second for each unit of currency of the purchase price.
        ips_per_hourly_price: items per second for each unit of currency an hour, rented.
        ips_per_watt: items per second and watt, which is items per joule; idle power included.
        watts_scope: what the watts cover; ``wall`` is the whole machine. Never compare different
            scopes.
        machines_needed: whole machines needed for the rate.
        capacity_used: rate over the throughput of these machines; the rest is idle, and paid for.
        amortised_per_million: depreciation of bought hardware for a million inferences.
        energy_per_million: cost of energy for a million inferences.
        owned_per_million: the sum of the two.
        rented_per_million: a million inferences on machines rented by the hour.
        co2_grams_per_million: from measured energy only, of a busy machine.
        reasons: by attribute, why it is None.
        inputs: inputs of the figures, with their sources.
    """

    machine: Machine
    case_id: str
    rate_ips: float | None
    throughput_ips: Estimate | None
    throughput_of: str | None
    currency: str | None
    ips_per_price: Estimate | None
    ips_per_hourly_price: Estimate | None
    ips_per_watt: Estimate | None
    watts_scope: str | None
    machines_needed: Estimate | None
    capacity_used: float | None
    amortised_per_million: Estimate | None
    energy_per_million: Estimate | None
    owned_per_million: Estimate | None
    rented_per_million: Estimate | None
    co2_grams_per_million: Estimate | None
    reasons: Mapping[str, str]
    inputs: tuple[Input, ...]

    @property
    def cost_per_million(self) -> Estimate | None:
        """Cost of a million inferences, bought or rented: the cheaper of those that are known."""
        ways = [way for way in (self.owned_per_million, self.rented_per_million) if way]
        return min(ways, default=None, key=lambda way: way.value)


def cost_of(
    case: CaseRow,
    machine: Machine,
    sheet: CostSheet,
    rate_ips: float | None,
    beside: Sequence[CaseRow] = (),
) -> CostFigures:
    """Compute the costs of ``case`` on ``machine``.

    Args:
        case: a row of that machine's case table.
        sheet: prices and settings by machine.
        rate_ips: the required rate, in items per second, above 0; None: the throughput of one
            machine.
        beside: other rows of the same machine. If one of them is the same work under sustained
            load, or offline, with the same batch, threads and streams, its throughput is used.
    """
    given = Given(case, machine, sheet, rate_ips, beside)
    figures: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for formula in _FORMULAS:
        name = formula.__name__
        try:
            figures[name] = formula(given)
        except Missing as reason:
            figures[name], reasons[name] = None, str(reason)
    return CostFigures(
        machine=machine,
        case_id=str(case.case_id),
        rate_ips=rate_ips,
        throughput_of=given.throughput_of,
        currency=given.currency,
        watts_scope=given.power().scope if figures["ips_per_watt"] else None,
        **figures,
        reasons=reasons,
        inputs=tuple(given.used.values()),
    )


class Costed(NamedTuple):
    """A case's row and its costs."""

    row: CaseRow
    figures: CostFigures


def costs_side_by_side(
    side: SideBySide, sheet: CostSheet, rate_ips: float | None = None
) -> list[Costed]:
    """Compute the costs of every successful case on each machine, ordered so that the same work on
    several machines is adjacent.

    Raises:
        UserError: the sheet is for other machines.
    """
    sheet.check(side.machines)
    found: list[Costed] = []
    better = [
        [row for row in side.rows_of(machine) if row.scenario in BETTER and row.status == "ok"]
        for machine in side.machines
    ]
    for line in side.lines:
        for machine, cell, beside in zip(side.machines, line.cells, better, strict=True):
            if cell is not None and cell.ok:
                figures = cost_of(cell.row, machine, sheet, rate_ips, beside)
                found.append(Costed(cell.row, figures))
    return found


# --------------------------------------------------------------------------- formulas
#
# X: items per second of one machine, P: its price, R: the required rate, n: machines.


def throughput_ips(of: Given) -> Estimate:
    """X, in items per second of the whole timed window: under sustained load if that was measured,
    else offline, else that of the case itself."""
    return of.throughput


def ips_per_price(of: Given) -> Estimate:
    """X / P, in items per second for each unit of currency of the purchase price of the whole
    system: the inverse of the TPC's price/performance."""
    price = of.price
    return _over(of.throughput, lambda x: x / price)


def ips_per_hourly_price(of: Given) -> Estimate:
    """X over the price of an hour, in items per second for each unit of currency an hour."""
    price = of.hourly_price
    return _over(of.throughput, lambda x: x / price)


def ips_per_watt(of: Given) -> Estimate:
    """Items per joule, which is items per second and watt, idle power included.

    From the bundle's sensors: items over joules of the same windows. From watts in the cost sheet:
    X over the watts at load. MLPerf Power has the same figure, samples per joule (Tschand et
    al., HPCA 2025).
    """
    power = of.power()
    if power.items_per_joule is not None:
        return Estimate(power.items_per_joule, None, None)
    return _over(of.throughput, lambda x: x / power.load_w)


def machines_needed(of: Given) -> Estimate:
    """n = ceil(R / X): whole machines, assuming an evenly balanced load. Its interval is computed
    at the ends of that of X."""
    rate = of.rate
    if rate is None:
        raise Missing("no rate is required")
    return _over(of.throughput, lambda x: float(_machines(rate, x)))


def capacity_used(of: Given) -> float:
    """R / (n X): from 0 to 1."""
    if of.rate is None:
        return 1.0
    return _share(of.rate, of.throughput.value)


def amortised_per_million(of: Given) -> Estimate:
    """n P / (lifetime in seconds x utilisation x R) x 10^6, in units of currency.

    Straight-line depreciation (Barroso et al., chapter 6) over the seconds in which it serves; idle
    capacity is paid for, too. Without a required rate n is 1 and R is X.
    """
    price, seconds = of.price, of.lifetime_s * of.utilisation
    return _per_million(of, lambda n, _: n * price / seconds)


def energy_per_million(of: Given) -> Estimate:
    """n W x PUE x tariff / (3.6 x 10^6 J/kWh x R) x 10^6, in units of currency.

    W, in watts for each second of service: idle + capacity used x (load - idle), linear in the load
    (Fan, Weber & Barroso, Power provisioning for a warehouse-sized computer, ISCA 2007);
    plus (1 - utilisation) / utilisation x idle, for the time in which it is on and serves nothing
    (qbench's own term).
    """
    power = of.power(with_idle=True)
    if power.scope != WALL:
        raise Missing(
            f"the power was measured at '{power.scope}', {NOT_ALL}; the costs give no watts"
        )
    u = of.utilisation
    price_of_joule = of.pue * of.tariff / JOULES_PER_KWH

    def money_per_s(n: int, used: float) -> float:
        watts = power.load_w
        if used < 1 or u < 1:
            if power.idle_w is None:
                raise Missing("the idle power was not measured, and the machine is not always busy")
            idle = min(power.idle_w, power.load_w)  # the meter's resolution may hide the load
            watts = idle + used * (power.load_w - idle) + (1 - u) / u * idle
        return n * watts * price_of_joule

    return _per_million(of, money_per_s)


def owned_per_million(of: Given) -> Estimate:
    """``amortised_per_million`` plus ``energy_per_million``, in units of currency."""
    price, energy = amortised_per_million(of), energy_per_million(of)
    ends = zip(price, energy, strict=True)
    return Estimate(*(None if a is None or b is None else a + b for a, b in ends))  # type: ignore[arg-type]


def rented_per_million(of: Given) -> Estimate:
    """n x price of an hour / (3600 s x R) x 10^6, in units of currency: the price includes energy,
    and only hours of service are paid. qbench's own formula."""
    price = of.hourly_price
    return _per_million(of, lambda n, _: n * price / SECONDS_PER_HOUR)


def co2_grams_per_million(of: Given) -> Estimate:
    """J x PUE x 10^6 / (3.6 x 10^6 J/kWh) x grams per kWh, in grams: the operational part only, of
    a busy machine (Patterson et al., Carbon emissions and large neural network training,
    arXiv:2104.10350: energy x PUE x carbon intensity). Excludes manufacturing.
    """
    kwh = of.joules * of.pue * PER_MILLION / JOULES_PER_KWH
    return Estimate(kwh * of.grams_per_kwh, None, None)


_FORMULAS: tuple[Callable[[Given], Any], ...] = (
    throughput_ips, ips_per_price, ips_per_hourly_price, ips_per_watt, machines_needed,
    capacity_used, amortised_per_million, energy_per_million, owned_per_million,
    rented_per_million, co2_grams_per_million,
)  # fmt: skip


def _machines(rate: float, throughput: float) -> int:
    return max(1, math.ceil(rate / throughput * (1 - _ROUNDING)))


def _share(rate: float, throughput: float) -> float:
    return min(1.0, rate / (_machines(rate, throughput) * throughput))


def _per_million(of: Given, money_per_s: Callable[[int, float], float]) -> Estimate:
    """Cost of a million inferences, from the cost a second of n machines and their used share."""
    rate = of.rate

    def money(throughput: float) -> float:
        if rate is None:
            return PER_MILLION / throughput * money_per_s(1, 1.0)
        machines = _machines(rate, throughput)
        return PER_MILLION / rate * money_per_s(machines, _share(rate, throughput))

    return _over(of.throughput, money)


def _over(throughput: Estimate, figure: Callable[[float], float]) -> Estimate:
    """Compute a figure that is monotonic in the throughput, with its interval."""
    value, low, high = throughput
    if low is None or high is None:
        return Estimate(figure(value), None, None)
    return Estimate(figure(value), *sorted((figure(low), figure(high))))
