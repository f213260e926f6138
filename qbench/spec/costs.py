"""The cost sheet: prices and power of machines, from the YAML file of `qbench cost --costs`.

Every figure names its source. One file has one currency: qbench converts none, so a second one is
an error. ``suites/templates/costs.yaml`` explains the keys to users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, model_validator

from qbench.errors import UserError, nearest
from qbench.spec.system import Price, Text
from qbench.spec.yamlfile import Strict, load


class Machine(Protocol):
    """A machine as a cost sheet names it: by its host_id, or by the name that qbench prints."""

    @property
    def key(self) -> str: ...

    @property
    def name(self) -> str: ...


class Lifetime(Strict):
    """Years over which the price is written off."""

    years: Annotated[float, Field(gt=0)]
    source: Text


class Utilisation(Strict):
    """The share of its lifetime in which the machine serves; otherwise it is on and idle."""

    share: Annotated[float, Field(gt=0, le=1)]
    source: Text


class Tariff(Price):
    """The price of a kilowatt-hour, in ``currency``; 0 where it is free."""

    amount: Annotated[float, Field(ge=0)]


class Pue(Strict):
    """Power usage effectiveness: the building's energy over its machines' (ISO/IEC 30134-2)."""

    factor: Annotated[float, Field(ge=1)]
    source: Text


class Carbon(Strict):
    """Emissions of generating a kilowatt-hour, in grams of CO2 or CO2 equivalent, as the source
    counts them."""

    grams_per_kwh: Annotated[float, Field(ge=0)]
    source: Text


class Watts(Strict):
    """Power of the whole machine, in watts, read from a meter in its power cord, not a data sheet.

    Attributes:
        load: during inference at full speed.
        idle: while the machine is on and does nothing.
        source: which meter, where it was plugged in, and when.
    """

    load: Annotated[float, Field(gt=0)]
    idle: Annotated[float, Field(ge=0)]
    source: Text

    @model_validator(mode="after")
    def _idle_is_less(self) -> Watts:
        if self.idle > self.load:
            raise ValueError("idle is more than load")
        return self


class Site(Strict):
    """Figures that several machines may share; all are optional.

    Attributes:
        price_per_kwh: the tariff.
        pue: of the building; None: count the machine's own energy only.
    """

    lifetime: Lifetime | None = None
    utilisation: Utilisation | None = None
    price_per_kwh: Tariff | None = None
    pue: Pue | None = None
    carbon: Carbon | None = None


class MachineCosts(Site):
    """Costs of one machine; all are optional, and a missing one is never guessed.

    Attributes:
        price: of the whole measured system, host included; None: the bundle's (``system.yaml``).
        price_per_hour: its rent, energy included.
        watts: measured power.
    """

    price: Price | None = None
    price_per_hour: Price | None = None
    watts: Watts | None = None


class CostSheet(Strict):
    """The file.

    Attributes:
        every_machine: defaults for all machines.
        machines: by the machine's name, as qbench prints it, or its host_id.
    """

    every_machine: Site = Site()
    machines: Annotated[dict[str, MachineCosts], Field(min_length=1)]

    @property
    def currency(self) -> str | None:
        """The currency of all prices; None where there are none."""
        return next((price.currency for _, price in _money(self)), None)

    def for_machine(self, machine: Machine) -> MachineCosts:
        """The machine's own costs, completed by those of every machine."""
        own = self.machines.get(machine.key) or self.machines.get(machine.name) or MachineCosts()
        given = {name: getattr(own, name) for name in type(own).model_fields}
        shared = {name: getattr(self.every_machine, name) for name in Site.model_fields}
        return own.model_copy(
            update={name: value for name, value in shared.items() if given[name] is None}
        )

    def check(self, machines: Sequence[Machine]) -> None:
        """Check that the sheet fits the machines of the runs.

        A sheet for a whole fleet may name further machines if it names each of these, too: a
        misspelt name never goes unnoticed.

        Raises:
            UserError: the sheet names an unknown machine and lacks one of these, or names one of
                them twice.
        """
        known = [name for machine in machines for name in (machine.name, machine.key)]
        unknown = [name for name in self.machines if name not in known]
        left_out = [m for m in machines if not {m.name, m.key} & self.machines.keys()]
        if unknown and left_out:
            raise UserError(
                f"there is no run on a machine '{unknown[0]}', and '{left_out[0].name}' has no "
                "costs",
                nearest(unknown[0], known),
            )
        for machine in machines:
            if {machine.name, machine.key} <= self.machines.keys():
                raise UserError(
                    f"the costs name one machine twice: '{machine.name}' and '{machine.key}'",
                    "Leave one of the two out.",
                )


def load_costs(path: Path) -> CostSheet:
    """Read the file.

    Raises:
        UserError: it cannot be read, is no ``CostSheet``, or holds two currencies.
    """
    sheet, lines = load(path, CostSheet)
    for keys, price in _money(sheet):
        if price.currency != sheet.currency:
            raise UserError(
                f"{lines.at(*keys, 'currency')}: {'.'.join(keys)} is in {price.currency}, and "
                f"other figures are in {sheet.currency}",
                "qbench converts no currencies: give all in one, with the rate in `source`.",
            )
    return sheet


def _money(sheet: CostSheet) -> Iterator[tuple[tuple[str, ...], Price]]:
    """Yield every price, with its keys in the file."""
    if sheet.every_machine.price_per_kwh is not None:
        yield ("every_machine", "price_per_kwh"), sheet.every_machine.price_per_kwh
    for name, costs in sheet.machines.items():
        for key in ("price", "price_per_hour", "price_per_kwh"):
            if (price := getattr(costs, key)) is not None:
                yield ("machines", name, key), price
