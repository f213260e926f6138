"""Yardsticks: small shipped networks that show the limits of a machine and a runtime.

They run through the same adapters as every model: the rate of multiply-accumulates of two is the
ceiling of a precision, and the latency of one that does nothing is the cost of a call. Their cards
lie in ``suites/yardsticks``, where no list of models and no suite finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.precisions import PRECISIONS
from qbench.spec.case import Case
from qbench.spec.precisions import REFERENCE, complete_options
from qbench.spec.suite import suites_dir

NOTHING = "yardstick_nothing"
RATES = ("yardstick_matmul", "yardstick_conv")
"""The faster of the two is the ceiling; it differs between runtimes and precisions."""
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8-static")
"""One precision for each number format that networks compute in."""


def cards() -> list[Path]:
    """The files of all yardsticks' cards, for ``Catalog.add_card``."""
    return [suites_dir() / "yardsticks" / "models" / f"{name}.yaml" for name in (NOTHING, *RATES)]


def yardsticks(cases: Sequence[Case], probes: Mapping[str, Ready | Unavailable]) -> list[Case]:
    """The yardsticks of ``cases``, which can run here.

    For each backend, with the device, threads and hints of its single-stream cases: the cost of a
    call, and on the CPU the rates in float32 and in the suite's other precisions that the backend
    offers. On a GPU no rates: its ceilings need far larger products than a yardstick has, and a
    ceiling that is too low would make every large batch suspicious.
    """
    wanted = _wanted({case.precision for case in cases})
    found: dict[str, Case] = {}
    for case in cases:
        probe = probes.get(case.backend)
        if case.scenario != "single-stream" or not isinstance(probe, Ready):
            continue
        offered = [p for p in wanted if p in probe.precisions.get(case.device, ())]
        offered = offered if case.device == "cpu" else []
        asked = [(NOTHING, REFERENCE), *((name, p) for p in offered for name in RATES)]
        for model, precision in asked:
            yardstick = Case(
                model=model,
                backend=case.backend,
                environment=case.environment,
                precision=precision,
                options=complete_options(precision, {}),
                device=case.device,
                threads=case.threads,
                hints=case.hints,
            )
            found[yardstick.case_id] = yardstick
    return list(found.values())


def _wanted(precisions: set[str]) -> list[str]:
    """The precisions to measure rates at, for a suite of ``precisions``."""
    asked = {REFERENCE, *precisions}
    if any(PRECISIONS[p].activations in ("int8", "as in the file") for p in precisions):
        asked.add("int8-static")
    return [precision for precision in _PRECISIONS if precision in asked]
