"""Groups of comparable energies in words."""

from __future__ import annotations

from collections.abc import Sequence

from qbench.analysis.table.energy import ACROSS_MACHINES
from qbench.spec.columns import CaseRow


def described(group: Sequence[CaseRow]) -> dict[str, str]:
    """``title`` and ``note`` of a group of comparable energies."""
    first = group[0]
    methods = ", ".join(dict.fromkeys(str(case.energy_method) for case in group))
    if not first.energy_is_measured:
        note = "Estimated, not measured: valid for ratios on one machine, not between machines."
    elif first.energy_scope in ACROSS_MACHINES:
        note = "Measured at the wall, and so comparable between machines."
    else:
        note = "Measured; on another machine the scope covers other parts."
    if first.idle_w is not None:
        note += " The energy is above idle; gross includes the idle share."
    return {"title": f"{methods}; scope {first.energy_scope}", "note": note}
