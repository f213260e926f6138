"""The report's recommendation in Chromium: nothing overlaps or is cut, axe finds nothing serious,
and each figure is drawn next to its limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

from test_report_browser import (
    BEYOND,
    CHROMIUM,
    CLASHES,
    Opened,
    a_run,
    axe,
    chromium,
    rows,
)

from qbench.present.page import Options, write_report
from qbench.spec.question import Question, read_limit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH"),
]
__all__ = ["chromium"]  # a fixture


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of two models, one of them with a hostile name of 500 characters."""
    folder = tmp_path_factory.mktemp("recommend")
    limits = (read_limit("p99<=4ms"), read_limit("accuracy_drop<=5pp"))
    path = folder / "page.html"
    write_report([a_run(folder / "a")], path, Options(question=Question(limits)))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_it_is_readable_and_accessible(chromium: Any, page_path: Path, width: int, scheme: str):
    opened = Opened(chromium, page_path, width, scheme, "#recommend")
    page = opened.page
    assert page.locator("#recommend-chart .main-svg").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND) == []
    assert [clash for clash in page.evaluate(CLASHES) if "recommend" in clash] == []
    found = axe.Axe().run(page, context="#recommend").response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    assert opened.said == []
    page.close()


def test_figures_are_chosen_and_downloaded(chromium: Any, page_path: Path):
    opened = Opened(chromium, page_path, 1280, "light")
    page = opened.page
    names = page.locator("#recommend-chart-choice option").all_inner_texts()
    assert names[0].startswith("p99, net (single-stream, batch 1)")
    assert any(name.startswith("accuracy drop, net") for name in names)
    assert "at most 4 ms" in page.locator("#recommend-chart").inner_text()
    found = rows(page, "recommend-chart")
    assert {row["keeps the limits"] for row in found} <= {"surely", "perhaps", "not"}
    expected = {
        f"{backend} {precision}"
        for backend in ("fake", "other")
        for precision in ("fp32", "int8-dynamic", "int8-static")
    }
    # which has a sustained load, whose 99th percentile is not known
    assert {row["case"] for row in found} == expected - {"fake fp32"}
    page.locator("#recommend-chart-choice").select_option(names[1])
    assert any("(pp)" in head or "(ms)" in head for head in rows(page, "recommend-chart")[0])
    assert opened.said == []
    page.close()
