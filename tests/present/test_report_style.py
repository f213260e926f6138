"""The page's contrasts and size, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from many import many_cases

from qbench.present.page import write_report
from qbench.present.page.render import plotly_script, style

COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", style()
    )
}


def luminance(colour: str) -> float:
    """Relative luminance of a colour of sRGB (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str, scheme: str) -> float:
    low, high = sorted(luminance(COLOURS[name][scheme]) for name in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("text", "back"), ("text", "raised"), ("quiet", "back"), ("quiet", "raised"),
        ("accent", "back"), ("accent", "raised"), ("bad", "back"), ("bad", "raised"),
        ("good", "back"), ("good", "raised"), ("noisy", "noisy-back"),
        ("text", "slower"), ("text", "even"), ("text", "faster"),
    ],
)  # fmt: skip
def test_text_can_be_read(ink, ground, scheme):
    """WCAG 2.1, 1.4.3; the last three are cells of the heat map."""
    assert contrast(ink, ground, scheme) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out_from_the_ground(scheme):
    """WCAG 2.1, 1.4.11."""
    marks = [name for name in COLOURS if name.startswith(("hue-", "part-"))]
    assert len(marks) == 12
    faint = {name: contrast(name, "back", scheme) for name in marks}
    assert {name: ratio for name, ratio in faint.items() if ratio < 3} == {}


def test_the_quick_suite_s_page_is_small(tmp_path: Path):
    """Its 45 cases; more rounds or calls are thinned to as many points."""
    write_report([many_cases(tmp_path)], tmp_path / "page.html")
    size = (tmp_path / "page.html").stat().st_size
    assert size - len(plotly_script().encode()) < 2_000_000
