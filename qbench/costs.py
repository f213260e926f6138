"""What machines cost, as a person knows it: the small YAML file of `qbench cost --costs`.

Every figure says where it comes from. One file is in one currency: qbench converts none, so a
figure in another is an error. ``suites/templates/costs.yaml`` explains the keys to a user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from qbench.errors import UserError, nearest
from qbench.system import Price, Text
from qbench.yamlfile import Strict, load

if TYPE_CHECKING:
    from qbench.analysis.machines import Machine


class Lifetime(Strict):
    """Over how many years the price is written off."""

    years: Annotated[float, Field(gt=0)]
    source: Text


class Utilisation(Strict):
    """The share of its lifetime in which the machine serves; in the rest it is on, and idle."""

    share: Annotated[float, Field(gt=0, le=1)]
    source: Text


class Tariff(Price):
    """What a kilowatt-hour costs, in ``currency``; 0 where it costs nothing."""

    amount: Annotated[float, Field(ge=0)]


class Pue(Strict):
    """Power usage effectiveness: what the building draws over what its machines draw (ISO/IEC
    30134-2)."""

    factor: Annotated[float, Field(ge=1)]
    source: Text


class Carbon(Strict):
    """What making a kilowatt-hour emits, in grams of CO2 (or CO2 equivalent, as the source has
    it)."""

    grams_per_kwh: Annotated[float, Field(ge=0)]
    source: Text


class Watts(Strict):
    """The power that the whole machine draws, as a meter in its power cord reads it: no data sheet.

    Attributes:
        load: while it infers as fast as it can.
        idle: while it is on and does nothing.
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
    """What several machines may have in common; nothing is required.

    Attributes:
        price_per_kwh: the tariff.
        pue: of the building; None: what a machine draws is all there is.
    """

    lifetime: Lifetime | None = None
    utilisation: Utilisation | None = None
    price_per_kwh: Tariff | None = None
    pue: Pue | None = None
    carbon: Carbon | None = None


class MachineCosts(Site):
    """What one machine costs; nothing is required, and what is missing is never guessed.

    Attributes:
        price: of the whole system that was measured, host included; where it is left out, the
            bundle's (``system.yaml``).
        price_per_hour: for which it is rented, energy included.
        watts: measured.
    """

    price: Price | None = None
    price_per_hour: Price | None = None
    watts: Watts | None = None


class CostSheet(Strict):
    """The file.

    Attributes:
        every_machine: what holds for all that do not say otherwise.
        machines: by the machine's name, as qbench prints it, or its host_id.
    """

    every_machine: Site = Site()
    machines: Annotated[dict[str, MachineCosts], Field(min_length=1)]

    @property
    def currency(self) -> str | None:
        """Of all its money; None where it has none."""
        return next((price.currency for _, price in _money(self)), None)

    def of(self, machine: Machine) -> MachineCosts:
        """What it says of a machine, and of every machine; nothing, if it does not name it."""
        own = self.machines.get(machine.key) or self.machines.get(machine.name) or MachineCosts()
        given = {name: getattr(own, name) for name in type(own).model_fields}
        shared = {name: getattr(self.every_machine, name) for name in Site.model_fields}
        return own.model_copy(
            update={name: value for name, value in shared.items() if given[name] is None}
        )

    def check(self, machines: Sequence[Machine]) -> None:
        """Whether it is of these machines. It may name others besides, as a file for a whole fleet
        does, but then it names each of these, so that no misspelt name is passed over.

        Raises:
            UserError: it names a machine that is not there, and leaves one out that is.
        """
        known = [name for machine in machines for name in (machine.name, machine.key)]
        unknown = [name for name in self.machines if name not in known]
        left_out = [m for m in machines if not {m.name, m.key} & self.machines.keys()]
        if unknown and left_out:
            raise UserError(
                f"no run is of a machine '{unknown[0]}', and '{left_out[0].name}' has no costs",
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
        UserError: it cannot be read, says something else than a ``CostSheet`` does, or holds two
            currencies.
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
    """Every sum of money, with the keys it stands under."""
    if sheet.every_machine.price_per_kwh is not None:
        yield ("every_machine", "price_per_kwh"), sheet.every_machine.price_per_kwh
    for name, costs in sheet.machines.items():
        for key in ("price", "price_per_hour", "price_per_kwh"):
            if (price := getattr(costs, key)) is not None:
                yield ("machines", name, key), price
