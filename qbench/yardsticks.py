"""Yardsticks: small shipped networks that show what a machine and a runtime can reach at all.

They run through the same adapters as every model: two whose rate of multiply-accumulates is the
ceiling of a precision, and one that does nothing, whose latency is what a call costs. Their cards
lie apart from those of the models (``suites/yardsticks``), so that no list of models shows them,
and no suite names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.backend import Ready, Unavailable
from qbench.kit.precisions import PRECISIONS
from qbench.precision import REFERENCE, complete_options
from qbench.suite import suites_dir

if TYPE_CHECKING:
    from qbench.spec.case import Case

NOTHING = "yardstick_nothing"
RATES = ("yardstick_matmul", "yardstick_conv")
"""Which reaches more differs between runtimes and precisions; the ceiling is the higher one."""
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8-static")
"""Those whose name says what is computed in, one for each word."""


def cards() -> list[Path]:
    """The cards of all yardsticks, for ``Catalog.add_card``."""
    return [suites_dir() / "yardsticks" / "models" / f"{name}.yaml" for name in (NOTHING, *RATES)]


def yardsticks(cases: Sequence[Case], probes: Mapping[str, Ready | Unavailable]) -> list[Case]:
    """What to measure beside ``cases``, which can run here: for each backend, with the same device,
    threads and hints as its single-stream cases, what a call costs, and on the CPU the rates at
    float32 and at the other precisions that the suite computes in and the backend has.

    A GPU has no rates here: its ceilings take far larger products than a yardstick has, and a
    ceiling that is too low would call every large batch suspicious.
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
            yardstick = type(case)(
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
    """The precisions to measure rates at for a suite that asks for ``precisions``."""
    asked = {REFERENCE, *precisions}
    if any(PRECISIONS[p].activations in ("int8", "as in the file") for p in precisions):
        asked.add("int8-static")
    return [precision for precision in _PRECISIONS if precision in asked]
