"""Check before a run that no other process computes on the GPUs to be measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qbench.machine.gpu.card import NoCard, compute_processes, find_card, is_ours, named
from qbench.machine.gpu.nvml import NoNvml, nvml


class SharedGpu(Exception):
    """Other processes compute on a GPU.

    Attributes:
        message: names the GPU and the processes.
        fix: what to do about it.
    """

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message, self.fix = message, fix


def refuse_shared(devices: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if a GPU is shared. A GPU that NVML does not show passes: the record of each trial
    says who computed on it.

    Args:
        devices: by name, such as ``cuda:0``, their facts (``Ready.devices``).

    Raises:
        SharedGpu: other processes compute on one of them.
    """
    if not devices:
        return
    try:
        with nvml() as library:
            for name, facts in devices.items():
                others = _others(library, facts)
                if others:
                    raise SharedGpu(
                        f"{name} ({facts['name']}) is shared: other processes compute on it: "
                        f"{named(others)}",
                        "End them, or pass `qbench run --allow-shared-gpu`: trials with other "
                        "processes on the GPU are then marked as doubtful.",
                    )
    except NoNvml:
        return


def _others(library: Any, facts: Mapping[str, Any]) -> Iterable[int]:
    try:
        processes = compute_processes(library, find_card(library, facts)).value
    except NoCard:
        return ()
    return [pid for pid in processes or () if not is_ours(pid)]
