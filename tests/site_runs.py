"""Runs for a site, and its pages as they are on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from crafted import Crafted
from pages import Page

from qbench.bundle.bundle import Bundle

HOST = {
    "host_id": "h" * 12, "hostname": "quietbox", "cpu_model": "a processor", "cpu_flags": ["avx2"],
    "governor": None, "power_mode": None, "caches": None,
}  # fmt: skip
NOISE = (0.97, 1.02, 0.99, 1.04, 1.0, 1.01, 0.98)


def measured(
    results: Path,
    day: int,
    models: tuple[str, ...] = ("net",),
    factor: float = 1.0,
    rounds: int = 7,
    complete: bool = True,
    host: dict | None = None,
    quality: bool = False,
    skipped: bool = False,
    **begin,
) -> Bundle:
    """A run of fp32 and int8-static of some models on that day of 2026; with ``quality`` the first
    one's accuracy; with ``skipped`` another case that does not run."""
    results.mkdir(exist_ok=True)
    run_id = f"202601{day:02d}-020000-nightly-{day:04x}"
    started = f"2026-01-{day:02d}T02:00:00+0000"
    begin = {"environments": {}, "host": {**HOST, **(host or {})}, "started": started, **begin}
    made = Crafted(results, run_id, **begin)
    rng = np.random.default_rng(day)
    if quality:
        made.labels = np.arange(40) % 10
    for model in models:
        for precision, latency in (("fp32", 2.0), ("int8-static", 1.0)):
            case = made.case(precision, model=model)
            made.cases[-1]["dataset_digest"] = "e" * 64
            made.prepared[f"a{case}"]["digest"] = f"{len(made.cases):064x}"
            if quality and model == models[0]:
                reference = None if precision == "fp32" else made.cases[0]["case_id"]
                made.evaluation(case, rng.normal(size=(40, 10)).astype(np.float32), reference)
            for index in range(rounds):
                wave = NOISE[(index + day) % len(NOISE)]
                made.trial(case, index, factor * latency * wave)
    if skipped:
        made.case("w8", skip="it has no such precision", model=models[0])
    return made.done() if complete else made.open()


def four_nights(results: Path) -> None:
    """Three nights on one machine, of which the second has a model more, and one on another."""
    measured(results, 1)
    measured(results, 2, ("net", "other"))
    measured(results, 3, factor=1.2)
    measured(results, 4, host={"host_id": "g" * 12, "hostname": "loudbox"})


def page_at(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): page_at(path) for path in sorted(site.rglob("*.html"))}
