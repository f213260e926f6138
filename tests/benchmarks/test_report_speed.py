"""How long a report takes, once all is imported:
pytest tests/benchmarks/test_report_speed.py --benchmark-enable -s"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from many import many_cases

from qbench.bundle.bundle import Bundle
from qbench.present.page import write_report


@pytest.mark.parametrize(
    ("shape", "most_s"),
    [
        pytest.param({"rounds": 12, "calls": 20_000}, 2, id="quick"),
        pytest.param(
            {"models": 5, "backends": 2, "rounds": 10, "calls": 200}, 5, id="100k-samples"
        ),
        pytest.param({"models": 100, "backends": 4, "rounds": 1, "calls": 50}, 60, id="2000-cases"),
    ],
)
def test_a_report(benchmark: Any, tmp_path: Path, shape: dict[str, int], most_s: float) -> None:
    """The quick suite’s 45 cases in 12 rounds of as many calls as a small network makes; 50 cases
    of 100,000 samples in all; and 2,000 cases, of which only an end is asked for."""
    if not benchmark.enabled:
        pytest.skip("a claim about speed: run with --benchmark-enable")
    path, page = many_cases(tmp_path, **shape).path, tmp_path / "page.html"
    write_report([Bundle(path)], page)  # with imports
    processor: list[float] = []

    def written() -> None:
        begin = time.process_time()
        write_report([Bundle(path)], page)
        processor.append(time.process_time() - begin)

    benchmark.pedantic(written, rounds=3)
    wall, took = benchmark.stats.stats, sorted(processor)[1]
    print(f"\n{wall.min:.2f} to {wall.max:.2f} s, of which {took:.2f} s on the processor; "
          f"{page.stat().st_size / 1e6:.1f} MB")  # fmt: skip
    assert took <= most_s, "one thread: what a machine that does nothing else needs"
