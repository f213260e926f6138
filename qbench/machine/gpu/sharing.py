"""Before a run: nobody else may compute on the cards that it measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qbench.errors import UserError
from qbench.machine.gpu.card import NoCard, compute_processes, find_card, is_ours, named
from qbench.machine.gpu.nvml import NoNvml, nvml


def refuse_shared(devices: Mapping[str, Mapping[str, Any]]) -> None:
    """Where NVML cannot be asked, or does not show a device, nothing is refused: what comes while
    a trial runs is in its record.

    Args:
        devices: by name, such as ``cuda:0``, their facts (``Ready.devices``).

    Raises:
        UserError: other processes compute on one of them.
    """
    if not devices:
        return
    try:
        with nvml() as library:
            for name, facts in devices.items():
                others = _others(library, facts)
                if others:
                    raise UserError(
                        f"{name} ({facts['name']}) is shared: other processes compute on it: "
                        f"{named(others)}",
                        "End them, or measure all the same with `qbench run --allow-shared-gpu`: "
                        "trials that meet others are then marked as doubtful.",
                    )
    except NoNvml:
        return


def _others(library: Any, facts: Mapping[str, Any]) -> Iterable[int]:
    try:
        processes, _ = compute_processes(library, find_card(library, facts))
    except NoCard:
        return ()
    return [pid for pid in processes or () if not is_ours(pid)]
