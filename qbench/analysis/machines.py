"""Runs of several machines side by side: which machine a run is of, which of its runs stands for
it, and how much faster one does the same work than another.

Two machines are never measured in the same rounds, so their ratios are unpaired and come with
intervals, not with verdicts; and accuracy is each machine's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from qbench.bundle import Bundle
from qbench.errors import UserError
from qbench.system import Price


@dataclass(frozen=True)
class Machine:
    """A machine that bundles are of.

    Attributes:
        key: its ``host_id``, by which it is told apart.
        name: the system's (``system.yaml``), else the host's; unique among those of one page
            (``machines_of``).
        chip: the processor's name.
        gpu: the GPU's, by its driver; None where there is none, or it is not known.
        price: of the whole system, by ``system.yaml``; None where it says none.
    """

    key: str
    name: str
    chip: str
    gpu: str | None = None
    price: Price | None = None

    def chip_of(self, device: str) -> str:
        """The chip that cases on ``device`` run on: the GPU's name for ``cuda``, the processor's
        for ``cpu``, and what the runtime calls it for any other."""
        if device == "cpu":
            return self.chip
        return (self.gpu if device.startswith("cuda") else None) or device


def machine_of(bundle: Bundle) -> Machine:
    """The machine of one bundle; its name need not be unique.

    Raises:
        UserError: the bundle is damaged.
    """
    begin = bundle.begin
    host, system = begin["host"], begin.get("system") or {}
    key = str(host["host_id"])
    gpus = [str(gpu["name"]) for gpu in host.get("gpus") or [] if gpu.get("name")]
    return Machine(
        key=key,
        name=str(system.get("system_name") or host.get("hostname") or f"machine {key}"),
        chip=str(host.get("cpu_model") or "an unnamed processor"),
        gpu=gpus[0] if gpus else system.get("accelerator_model_name"),
        price=_price(bundle, system.get("price")),
    )


def _price(bundle: Bundle, told: Any) -> Price | None:
    try:
        return None if told is None else Price.model_validate(told)
    except ValidationError as error:
        raise UserError(
            f"{bundle.path / 'begin.json'}: damaged: its system's price: "
            f"{error.errors(include_url=False)[0]['msg']}",
            "Run the suite again.",
        ) from None
