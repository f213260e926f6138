"""Bundles with many cases and many samples, for what has to stay small and quick."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from crafted import Crafted

from qbench.bundle.bundle import Bundle

PRECISIONS = ("fp32", "fp16", "bf16", "int8-dynamic", "int8-static")


def many_cases(
    folder: Path, models: int = 3, backends: int = 3, rounds: int = 6, calls: int = 1000
) -> Bundle:
    """A complete bundle of ``models x backends x 5`` cases, of ``rounds x calls`` samples each. The
    defaults are the quick suite's cases."""
    power = {"watts_per_core": 3.5, "source": "a test"}
    names = {f"runtime_{b}": {"ready": True, "version": "1.0"} for b in range(backends)}
    settings = {"cpu_power": power, "rounds": rounds}
    crafted = Crafted(folder, settings=settings, backends=names, environments={})
    rng = np.random.default_rng(0)
    for m, backend, precision in product(range(models), names, PRECISIONS):
        case = crafted.case(precision, model=f"net_{m}", backend=backend)
        for number in range(rounds):
            crafted.trial(case, number, 1.0)
            record, _ = crafted.trials.pop()
            samples = np.round(1e6 * rng.lognormal(0, 0.1, calls)).astype(np.int64)
            record |= {"calls": calls, "items": calls, "wall_ns": int(samples.sum())}
            record |= {"window": [0, int(samples.sum())], "cpu_ns": int(samples.sum())}
            crafted.trials.append((record, samples))
    return crafted.done()
