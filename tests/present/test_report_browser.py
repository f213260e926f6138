"""The page as a reader has it: in Chromium, at the widths of a phone, a laptop and a large screen,
in light and dark. What it shows is made up (``crafted``), so that what it should show is known."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import Crafted
from test_report_measuring import COLUMNS, PACED, SERVER, SUSTAINED, saved, series

from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.present.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH"),
]

WIDTHS = (390, 1280, 1920)
HOSTILE = "=HYPERLINK(1)<img src=x onerror=alert(1)>\u202e" + "long" * 120


def a_run(folder: Path, run_id: str = "20260101-000000-crafted-0001", slower: float = 1) -> Bundle:
    """Two models, two backends and three precisions in seven rounds, labels for one model; batch
    sizes and streams of one case; a case of every scenario; and energy by two methods."""
    power = {"watts_per_core": 3.5, "source": "a test"}
    settings = {"cpu_power": power, "rounds": 7}
    backends = {name: {"ready": True, "version": "1.0"} for name in ("fake", "other")}
    crafted = Crafted(folder, run_id, settings=settings, backends=backends, environments={})
    rng = np.random.default_rng(0)
    crafted.labels = rng.integers(0, 10, 400)
    right = 2 * np.eye(10, dtype=np.float32)[crafted.labels]
    speeds = {"fp32": 4.0, "int8-dynamic": 3.9, "int8-static": 1.5}
    first = ""
    for model in ("net", HOSTILE):
        for backend, factor in (("fake", 1.0), ("other", 1.3)):
            for precision, ms in speeds.items():
                case = crafted.case(precision, model=model, backend=backend)
                first = first or case
                for number in range(7):
                    noise = 1 + 0.03 * rng.normal()
                    crafted.trial(case, number, slower * factor * ms * noise)
                outputs = right + rng.normal(0, 1 if precision == "fp32" else 1.2, right.shape)
                reference = None if case == first else first
                crafted.evaluation(case, outputs.astype(np.float32), reference)
    for batch in (2, 4, 8):
        crafted.trial(crafted.case("fp32", batch_size=batch), 0, 4.0 * batch**0.8)
        crafted.trial(crafted.case("fp32", scenario="offline", streams=batch), 0, 4.0)
    traces = _scenarios(crafted)
    bundle = crafted.done()
    for trial, name, array in traces:
        saved(bundle, trial, name, array)
    return Bundle(bundle.path)


def _scenarios(crafted: Crafted) -> list[tuple[str, str, np.ndarray]]:
    hot = crafted.case("fp32", scenario="sustained", scenario_options=SUSTAINED)
    told = {"columns": COLUMNS, "part_s": 1.0}
    crafted.trial(hot, 0, 4.0, facts=told, figures={"sustained_ratio": 1.3})
    for precision, deadline in (("fp32", 10.0), ("int8-static", 9.6)):
        paced = crafted.case(precision, scenario="paced", scenario_options=PACED)
        facts = {"frames": 200, "late": 3, "dropped": 1, "deadline_ms": deadline}
        crafted.trial(paced, 0, 4.0, facts=facts, figures={"deadline_miss_rate": 0.02})
    options = {"rounds": None, "frames": 32}
    pipeline = crafted.case("fp32", scenario="pipeline", scenario_options=options)
    stages = ["preprocess", "bind", "infer", "read", "postprocess"]
    figures = {"preprocess_ms": 1.0, "e2e_p50_ms": 10.0, "fps": 99.0}
    crafted.trial(pipeline, 0, 10.0, facts={"stages": stages, "frames": 32}, figures=figures)
    server = crafted.case("fp32", scenario="mlperf-server", scenario_options=SERVER)
    probes = [
        {"target_qps": 100.0 + n, "valid": n < 3, "latency_ms": 2.0 + n, "queries": 662, "seed": 0}
        for n in range(5)
    ]
    facts = {"loadgen": {"invalid_because": None}, "no_rate_because": None, "probes": probes}
    figures = {"loadgen_valid": True, "loadgen_qps": 102.0, "target_qps": 102.0}
    crafted.trial(server, 0, 4.0, facts=facts, figures=figures)
    long = series(12, p50_ms=4.0, p99_ms=6.0, frequency_khz=2.5e6, temperature_c=np.arange(60, 72))
    times = np.tile(np.array([1, 2, 5, 1, 1], np.int64) * 1_000_000, (9, 1))
    return [(f"r000-{hot}", "series.npy", long), (f"r000-{pipeline}", "stages.npy", times)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return [a_run(folder / "a"), a_run(folder / "b", "20260102-000000-crafted-0002", 1.2)]


@pytest.fixture(scope="module")
def pages(bundles: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``one``: of one run; ``two``: of two."""
    folder = tmp_path_factory.mktemp("pages")
    write_report(bundles[:1], folder / "one.html")
    write_report(bundles, folder / "two.html")
    return {"one": folder / "one.html", "two": folder / "two.html"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser. It keeps a socket in TMPDIR, whose path would be too long in a test's folder."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], env={**os.environ, "TMPDIR": "/tmp"}
        )
        yield browser
        browser.close()


class Opened:
    """A page, and what it said and asked for."""

    def __init__(self, chromium: Any, path: Path, width: int, scheme: str, fragment: str = ""):
        size = {"width": width, "height": 900}
        self.page = chromium.new_page(viewport=size, color_scheme=scheme)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri() + fragment)
        self.page.wait_for_selector("#ecdf-chart .main-svg")


@pytest.fixture
def opened(chromium: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """``opened(page, width, scheme)``; at the end, nothing was said and nothing asked for."""
    made: list[Opened] = []

    def open_page(name: str, width: int = 1280, scheme: str = "light", fragment: str = "") -> Any:
        made.append(Opened(chromium, pages[name], width, scheme, fragment))
        return made[-1].page

    yield open_page
    for one in made:
        assert one.said == []
        addresses = {
            url.split("#")[0] for url in one.asked if not url.startswith(("data:", "blob:"))
        }
        assert addresses == {one.page.url.split("#")[0]}
        one.page.close()


CLASHES = """
() => [...document.querySelectorAll(".chart")].filter((chart) => chart.offsetParent)
  .flatMap((chart) => {
    const found = [], frame = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("svg text")]
      .filter((text) => text.textContent.trim() && getComputedStyle(text).visibility !== "hidden")
      .map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }))
      .filter(({ box }) => box.width);
    texts.forEach(({ text, box }, index) => {
      const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1
        && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
      if (!inside) found.push(`${chart.id}: "${text}" is cut`);
      for (const other of texts.slice(index + 1)) {
        const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (wide > 1 && high > 3) found.push(`${chart.id}: "${text}" over "${other.text}"`);
      }
    });
    return found;
  })
"""
"""Texts of charts that overlap or are cut. Boxes of text have some air above and below."""
BEYOND = """
() => [...document.querySelectorAll("body *")]
  .filter((one) => one.offsetParent && !one.closest(".wide, .contents, pre, svg"))
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`)
"""
"""What reaches beyond the window's edge, but for what scrolls by itself."""


def serious(page: Any, rules: list[str] | None = None) -> list[tuple[str, list[str]]]:
    """Serious or critical findings of axe, by all rules or by these."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        (one["help"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_overlaps_or_is_cut_and_axe_finds_nothing_serious(opened, name, width):
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(CLASHES) == []
    axe_too = (name, width) in (("one", min(WIDTHS)), ("two", 1280))  # it takes ten seconds
    assert not axe_too or serious(page) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert not axe_too or serious(page, ["color-contrast", "link-in-text-block"]) == []
    assert page.evaluate(CLASHES) == []


def rows(page: Any, chart: str) -> list[dict[str, str]]:
    """Rows of a chart's CSV."""
    with page.expect_download() as waiting:
        page.locator(f"figure:has(#{chart}) button[data-as='csv']").click()
    text = Path(waiting.value.path()).read_bytes().decode()
    return list(csv.DictReader(io.StringIO(text)))


def case_rows(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Rows of the case table that ran at the chart's first conditions, by backend and precision."""
    table = case_table(bundle)
    first = {"model": "net", "scenario": "single-stream", "batch_size": 1, "streams": 1}
    for name, value in first.items():
        table = table[table[name] == value]
    rows = [{str(name): cell for name, cell in row.items()} for row in table.to_dict("records")]
    return {f"{row['backend']} {row['precision']}": row for row in rows}


def test_a_chart_s_csv_holds_the_case_table_s_figures(opened, bundles):
    page = opened("one")
    with page.expect_download() as waiting:
        page.locator("figure:has(#accuracy-chart) button[data-as='csv']").focus()
        page.keyboard.press("Enter")
    assert re.fullmatch(r"qbench-accuracy-net-[\w.-]+\.csv", waiting.value.suggested_filename)
    expected = case_rows(bundles[0])
    found = rows(page, "accuracy-chart")
    assert len(found) == len(expected) == 6
    for row in found:
        case = expected[" ".join(row["case"].split()[:2])]
        for head, name, scale in (
            ("p50 (ms)", "latency_p50_ms", 1),
            ("p50 low (ms)", "latency_p50_low_ms", 1),
            ("p50 high (ms)", "latency_p50_high_ms", 1),
            ("accuracy (%)", "accuracy", 100),
            ("accuracy low (%)", "accuracy_low", 100),
            ("accuracy high (%)", "accuracy_high", 100),
        ):
            assert float(row[head]) == pytest.approx(scale * case[name], rel=1e-5)
        assert row["Pareto"] in ("on the front", "not told apart from the front", "dominated")
    slowest = max(found, key=lambda row: float(row["p50 (ms)"]))
    assert slowest["Pareto"] != "on the front"
    speedups = {
        " ".join(row["case"].split()[:2]): row
        for row in rows(page, "speedup-chart")
        if row["model"] == "net"
    }
    row = speedups["fake int8-static"]
    assert float(row["speed-up (× fp32)"]) == pytest.approx(
        expected["fake int8-static"]["speedup"], rel=1e-5
    )
    assert row["meaning"] == "the interval excludes 1"
    assert speedups["other int8-dynamic"]["meaning"] == "the interval includes 1"


def test_text_that_looks_like_a_formula_is_inert_in_a_spreadsheet(opened):
    page = opened("one")
    page.locator("#choose-model").select_option(index=1)
    for row in rows(page, "start-chart"):
        assert row["model"].startswith("'=HYPERLINK(1)<img src=x")
        assert "\u202e" not in row["model"] and "[U+202E]" in row["model"]
    assert page.locator("img").count() == 0


def test_every_chart_that_is_shown_has_its_data(opened):
    page = opened("two")
    charts = page.eval_on_selector_all(
        ".chart", "found => found.filter((one) => one.offsetParent).map((one) => one.id)"
    )
    assert {"accuracy-chart", "speedup-chart", "ecdf-chart", "trials-chart", "sweep-chart",
            "growth-chart", "memory-chart", "start-chart", "sustained-chart", "paced-chart",
            "pipeline-chart", "server-chart", "energy-1-chart"} <= set(charts)  # fmt: skip
    for chart in charts:  # what a download would hold; so many at once a browser may refuse
        text = page.evaluate(f"csv(told.get('{chart}'))")
        found = list(csv.DictReader(io.StringIO(text)))
        assert found, chart
        units = [head for head in found[0] if "(" in head]
        assert units, chart
        numbers = [cell for row in found for head, cell in row.items() if "(" in head and cell]
        assert numbers and all(re.fullmatch(r"-?[\d.]+(e-?\d+)?", n) for n in numbers), chart


def test_a_picture_has_title_and_legend(opened):
    page = opened("one")
    with page.expect_download() as waiting:
        page.locator("figure:has(#ecdf-chart) button[data-as='svg']").click()
    picture = Path(waiting.value.path()).read_text()
    assert picture.startswith("<svg") and "Latency distributions" in picture
    for name in ("fake", "other", "fp32", "latency of a call, ms (log)"):
        assert f">{name}</text>" in picture or f"> {name}</text>" in picture
    with page.expect_download() as waiting:
        page.locator("figure:has(#ecdf-chart) button[data-as='png']").click()
    png = Path(waiting.value.path()).read_bytes()
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") == 2000


def test_a_point_has_a_tooltip_and_leads_to_its_case(opened, bundles):
    page = opened("one")
    point = page.locator("#accuracy-chart .scatterlayer .points path").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#accuracy-chart .hoverlayer .hovertext")
    tip.wait_for()
    assert re.search(r"p50 [\d.]+ ms \([\d.]+ … [\d.]+\)", tip.text_content())
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile("#case-A-"))
    case = page.locator(page.evaluate("location.hash"))
    assert case.is_visible()
    assert page.evaluate("location.hash").removeprefix("#case-A-") in set(
        case_table(bundles[0])["case_id"]
    )


def test_without_a_mouse_a_table_leads_to_the_case(opened):
    page = opened("one")
    page.locator("figure:has(#speedup-chart) .as-table summary").focus()
    page.keyboard.press("Enter")
    table = page.locator("figure:has(#speedup-chart) .as-table table")
    table.wait_for()
    heads = table.locator("th").all_inner_texts()
    assert heads[:3] == ["model", "case", "precision"] and "speed-up × fp32" in heads
    assert re.search(r"[\d.]+ × fp32 \([\d.]+ … [\d.]+\)", table.inner_text())
    table.locator("a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#case-A-"))
    assert page.locator(page.evaluate("location.hash")).is_visible()


def test_the_table_filters_and_sorts_and_the_address_remembers(opened):
    page = opened("one")
    page.locator("select[data-column='backend']").select_option("other")
    page.fill("#filter-text", "int8-")
    page.click("#cases th[data-name='latency_p50_ms'] button")
    seen = page.locator("#cases tbody tr:visible")
    assert page.inner_text("#shown").startswith(f"{seen.count()} of ") and seen.count() == 4
    backends = seen.evaluate_all("found => found.map((row) => row.dataset.backend)")
    assert set(backends) == {"other"}
    column = "#cases th[data-name='latency_p50_ms']"
    assert page.get_attribute(column, "aria-sort") == "ascending"
    place = page.evaluate(f'document.querySelector("{column}").cellIndex')
    times = seen.evaluate_all(
        f"found => found.map((row) => Number(row.cells[{place}].dataset.sort))"
    )
    assert times == sorted(times) and times[0] < times[-1]
    again = opened("one", fragment=page.evaluate("location.hash"))
    assert again.locator("#cases tbody tr:visible").count() == 4


def test_light_and_dark_by_the_button(opened):
    page = opened("one")
    back = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#start-chart .ytick text')).fill"
    light, dark_ink = page.evaluate(back), page.evaluate(ink)
    assert (
        light == "rgb(255, 255, 255)" and page.get_attribute("#scheme", "aria-pressed") == "false"
    )
    page.locator("#scheme").focus()
    page.keyboard.press("Space")
    assert page.get_attribute("#scheme", "aria-pressed") == "true"
    assert page.evaluate(back) != light and page.evaluate(ink) != dark_ink
    page.click("#scheme")
    assert (page.evaluate(back), page.evaluate(ink)) == (light, dark_ink)
    page.emulate_media(color_scheme="dark")  # the choice stands against the system's
    assert page.evaluate(back) == light


def test_on_paper_all_is_light_open_and_within_the_page(opened):
    page = opened("two", scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    widths = page.eval_on_selector_all(
        ".chart .main-svg", "found => found.map((one) => one.getBoundingClientRect().width)"
    )
    assert max(widths) <= 1032  # A4 across, less the margins
    for hidden in (".controls", ".tools", "#scheme"):
        assert page.locator(f"{hidden}:visible").count() == 0
    assert "net" in page.locator("#accuracy-chart-about").inner_text()
    closed = """document.querySelectorAll(
        "details:not([open], .chooser, .as-table, :has(.case-figures))").length"""
    assert page.evaluate(closed) == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.evaluate(closed) > 0
    assert page.locator("#start-chart .main-svg").first.bounding_box()["width"] <= 1280


def test_a_script_that_the_policy_does_not_name_is_refused(chromium, pages, tmp_path):
    html = pages["one"].read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", "<script>document.title = 'owned'</script></body>"))
    one = Opened(chromium, page, 1280, "light")
    assert one.page.title() != "owned"
    assert any("Content Security Policy" in line for line in one.said)
    one.page.close()
