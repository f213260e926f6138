"""What an inference costs on a machine: money, power and CO2. Pure.

Each figure is an ``Estimate`` whose interval is carried through from the throughput's, or None with
a reason; prices, tariffs and watts are taken as given, without an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qbench.analysis.machines import Machine
from qbench.costs import CostSheet
from qbench.stats import Estimate

Row = Mapping[str, Any]
"""A case's row of the case table."""


class Input(NamedTuple):
    """A figure that went in: its ``name`` (``price``, ``lifetime``, ...), the ``value`` with its
    unit as text, and the ``source``, in its author's words."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class CostFigures:
    """What a case costs on its machine.

    A figure that is None has its reason in ``reasons``, under the attribute's name. Items are what
    the model infers on: one inference each.

    Attributes:
        machine: that it was measured on.
        case_id: of the case that was asked about.
        rate_ips: the required rate, in items per second; None: what one machine does at full load.
        throughput_ips: what one machine does, in items per second.
        throughput_of: what that is of: ``sustained``, ``offline`` or another scenario.
        currency: of all money here (ISO 4217); None where nothing has a price.
        ips_per_price: items per second for each unit of currency of the purchase price.
        ips_per_hourly_price: items per second for each unit of currency an hour, rented.
        ips_per_watt: items per second and watt, which is items per joule; idle power included.
        watts_scope: what the watts are of: ``wall`` is the whole machine; never compare across.
        machines_needed: to reach the rate, whole ones.
        capacity_used: rate over what so many machines do; the rest is idle, and paid for.
        amortised_per_million: the price's share in a million inferences, bought.
        energy_per_million: the energy's share in it.
        owned_per_million: the two together.
        rented_per_million: a million inferences by the hour.
        co2_grams_per_million: from measured energy only; as long as the machine is busy.
        reasons: by attribute, why it is None.
        inputs: what went in, with where it comes from.
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
    capacity_used: Estimate | None
    amortised_per_million: Estimate | None
    energy_per_million: Estimate | None
    owned_per_million: Estimate | None
    rented_per_million: Estimate | None
    co2_grams_per_million: Estimate | None
    reasons: Mapping[str, str]
    inputs: tuple[Input, ...]

    @property
    def cost_per_million(self) -> Estimate | None:
        """The cheaper way to have a million inferences, of those that are known: bought or
        rented."""
        ways = [way for way in (self.owned_per_million, self.rented_per_million) if way]
        return min(ways, default=None, key=lambda way: way.value)


def cost_of(
    case: Row,
    machine: Machine,
    sheet: CostSheet,
    rate_ips: float | None,
    beside: Sequence[Row] = (),
) -> CostFigures:
    """What ``case`` costs on ``machine``.

    Args:
        case: a row of that machine's case table.
        sheet: what is known of the machine's costs.
        rate_ips: the rate that is required, in items per second, above 0; None: what one machine
            does.
        beside: other rows of the same run. Where one of them is the same work under sustained
            load, or offline, with the same batch, threads and streams, its throughput is taken.
    """
    raise NotImplementedError
