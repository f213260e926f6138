"""Energy methods as words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.analysis.table.energy import ACROSS_MACHINES

Case = Mapping[str, Any]


def described(group: Sequence[Case]) -> dict[str, str]:
    """What a group's figures are: ``title`` and ``note``."""
    first = group[0]
    methods = ", ".join(dict.fromkeys(str(case["energy_method"]) for case in group))
    if not first["energy_is_measured"]:
        note = "Estimated, not measured: good for ratios on one machine, not between machines."
    elif first["energy_scope"] in ACROSS_MACHINES:
        note = "Measured at the wall, which means the same on every machine."
    else:
        note = "Measured; the scope covers other parts on another machine."
    if first["idle_w"] is not None:
        note += " The energy is above idle; gross holds the idle share, too."
    return {"title": f"{methods}; scope {first['energy_scope']}", "note": note}
