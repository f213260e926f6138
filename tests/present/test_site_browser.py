"""The site in a browser: from a disk and from a server, and two runs compared in it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from site_runs import four_nights, measured

from qbench.analysis.compare.compare import compare_runs
from qbench.bundle.bundle import Bundle
from qbench.present.site import write_site

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, by playwright. It keeps a socket in TMPDIR, whose path would be too long for it in
    a test's folder."""
    if not CHROMIUM:
        pytest.skip("there is no chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", "/tmp")
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield chromium
            chromium.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    four_nights(folder / "results")
    write_site([folder / "results"], folder / "site")
    return folder / "site"


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The site by HTTP, not at the server's root."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/site/"
    server.shutdown()
    thread.join()
    server.server_close()


def opened(browser, address: str, **settings) -> SimpleNamespace:
    """A page with what its console said and what it asked for; ``close`` it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    return SimpleNamespace(page=page, said=said, asked=asked, close=context.close)


PAGES = (
    "index.html", "trends.html", "compare.html", "models/net.html", "backends/fake.html",
    "compare.html#a=20260101-020000-nightly-0001&b=20260103-020000-nightly-0003",
    "runs/20260101-020000-nightly-0001.html",
)  # fmt: skip


@pytest.mark.parametrize(("how", "scheme"), [("file", "light"), ("http", "dark")])
def test_pages_work_and_load_only_the_site(site, browser, served, how, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    root = f"{site.as_uri()}/" if how == "file" else served
    for name in PAGES:
        seen = opened(browser, root + name, color_scheme=scheme)
        seen.page.wait_for_timeout(150)
        background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light"), name
        if not name.startswith("runs/"):  # which is the report's own, and tested with it
            # Without preload, for which axe would fetch style sheets that the policy keeps back.
            found = axe.run(seen.page, options={"preload": False}).response["violations"]
            serious = [v for v in found if v["impact"] in ("serious", "critical")]
            assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == [], (name, scheme)
        seen.page.set_viewport_size({"width": 390, "height": 800})
        seen.page.wait_for_timeout(300)  # until a chart has taken its new width
        overflow = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, name
        assert seen.said == [], name
        assert all(address.startswith((root, "data:", "blob:")) for address in seen.asked)
        seen.close()


def test_the_policy_stops_other_scripts(site, tmp_path, browser):
    shutil.copytree(site, tmp_path / "site")
    path = tmp_path / "site" / "models" / "net.html"
    planted = (
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    )
    path.write_text(path.read_text().replace("<main>", f"<main>{planted}"))
    seen = opened(browser, path.as_uri())
    assert seen.page.title() == "net"
    assert any("Content Security Policy" in line for line in seen.said)
    seen.close()


def test_runs_are_filtered_sorted_and_found(site, browser):
    seen = opened(browser, f"{site.as_uri()}/index.html")
    page = seen.page
    rows = page.locator("#cases tbody tr:visible")
    assert rows.count() == 4
    page.select_option("select[data-column=machine]", "loudbox")
    assert rows.count() == 1
    assert "1 of 4 runs" in page.inner_text("#shown")
    page.select_option("select[data-column=machine]", "")
    page.click("th[data-name=started] button")
    assert "20260101" in rows.first.inner_text()
    page.fill("#find-text", "other int8")
    found = page.locator("#found a")
    assert [found.nth(n).inner_text() for n in range(found.count())] == ["other fake int8-static"]
    found.first.click()
    page.wait_for_url("**/models/other.html#case-*")
    assert page.locator("tr:target").get_attribute("data-precision") == "int8-static"
    assert seen.said == []
    seen.close()


def test_a_trend_is_drawn_and_listed(site, browser):
    seen = opened(browser, f"{site.as_uri()}/models/net.html")
    page = seen.page
    page.wait_for_selector("#trend-chart .main-svg")
    page.select_option("#choose-metric", "throughput")
    page.click("text=As a table")
    table = page.locator(".as-table table")
    assert "throughput items/s" in table.locator("thead").inner_text()
    rows = [row.split("\t") for row in table.locator("tbody").inner_text().strip().split("\n")]
    assert {row[1][:8]: row[2] for row in rows} == {
        "20260101": "quietbox", "20260102": "quietbox", "20260103": "quietbox",
        "20260104": "loudbox",
    }  # fmt: skip
    with page.expect_download() as download:
        page.click("button[data-as=csv]")
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "started,run,machine,throughput (items/s)" and len(lines) == 5
    assert seen.said == []
    seen.close()


RATIOS = ("p10", "p50", "p99", "throughput", "memory", "load", "size", "energy")
IN_THE_PAGE = """
([idA, idB]) => {
  const [a, b] = [idA, idB].map((id) => loaded.get(id));
  const found = matched(a.cases, b.cases), refused = [], pairs = [];
  for (const [first, last] of found.pairs) {
    const reason = refusal(first, last);
    if (reason) refused.push([first.case_id, last.case_id, reason]);
    else pairs.push(compared(first, last));
  }
  const common = comparability(a, b);
  const ids = (rows) => rows.map((row) => row.case_id);
  return { refused, pairs, onlyA: ids(found.onlyA), onlyB: ids(found.onlyB), level: common.level,
    regression: common.regression, choice: common.choice,
    fields: common.fields.map((field) => [field.name, field.spoils]) };
}
"""
PROXY: dict[str, Any] = {
    "settings": {"cpu_power": {"watts_per_core": 3.5, "source": "a guess"}, "rounds": 10}
}


def two_runs(kind: str, results: Path) -> tuple[Bundle, Bundle]:
    first = measured(results, 1, ("net", "other"), quality=True, **PROXY)
    if kind == "same":
        return first, measured(results, 2, ("net", "other"), 1.3, quality=True, **PROXY)
    if kind == "few":
        models = ("net", "third", "fourth")  # the third has other's ids
        return first, measured(results, 2, models, 0.9, rounds=5, quality=True, **PROXY)
    host = {"host_id": "g" * 12, "cpu_model": "another", "kernel": "6.1"}
    settings: dict[str, Any] = {
        "settings": {**PROXY["settings"], "timed_s": 5.0},
        "software": {"qbench": "1"},
    }
    return first, measured(results, 2, host=host, rounds=1, quality=True, **settings)


@pytest.mark.parametrize("kind", ["same", "few", "elsewhere"])
def test_two_runs_compare_as_on_the_command_line(tmp_path, browser, kind):
    a, b = two_runs(kind, tmp_path / "results")
    write_site([tmp_path / "results"], tmp_path / "site")
    address = f"{(tmp_path / 'site').as_uri()}/compare.html#a={a.run_id}&b={b.run_id}"
    seen = opened(browser, address)
    seen.page.wait_for_selector("#verdict:visible")
    found = seen.page.evaluate(IN_THE_PAGE, [a.run_id, b.run_id])
    wanted = compare_runs(a, b)
    assert len(wanted.pairs) == {"same": 4, "few": 2, "elsewhere": 2}[kind]
    assert found["refused"] == [[r.a.case_id, r.b.case_id, r.reason] for r in wanted.refused]
    assert found["onlyA"] == [row.case_id for row in wanted.only_a]
    assert found["onlyB"] == [row.case_id for row in wanted.only_b]
    for got, pair in zip(found["pairs"], wanted.pairs, strict=True):
        assert (got["a"]["case_id"], got["b"]["case_id"]) == (pair.a.case_id, pair.b.case_id)
        assert got["same"] == (pair.claim == "same artifact")
        assert tuple(got["differs"]) == pair.differs
        assert got["outputsChanged"] == pair.outputs_changed
        assert got["percentile"] == pair.percentile
        for name in RATIOS:
            ratio = pair.latency if name == "p10" else getattr(pair, name)
            assert (got[name] is None) == (ratio is None), name
            if ratio is not None:
                assert got[name]["value"] == pytest.approx(ratio.value, rel=1e-9), name
                ends = [(got[name][end], getattr(ratio, end)) for end in ("low", "high")]
                assert [end is None for end, _ in ends] == [end is None for _, end in ends], name
                for end, wanted_end in ends:
                    assert end is None or end == pytest.approx(wanted_end, rel=1e-9), name
        delta = pair.accuracy_delta
        assert (got["accuracy"] is None) == (delta is None)
        if delta is not None:
            assert got["accuracy"]["value"] == pytest.approx(delta.value, abs=1e-12)
    common = wanted.comparability
    assert common is not None
    assert found["level"].lower() == common.level
    assert found["regression"] == common.reasons_against("regression")
    assert found["choice"] == common.reasons_against("choice")
    assert found["fields"] == [[d.field, list(d.spoils)] for d in common.differences]
    told = seen.page.inner_text("#told")
    assert ("Not comparable" in told) == (kind == "elsewhere")
    first = seen.page.locator("#pairs tbody tr").first.inner_text()
    ratio = wanted.pairs[0].latency
    assert ratio is not None and f"{ratio.value:.3f}" in first
    shown = {"same": "above 1", "few": "too few trials", "elsewhere": "too few trials"}[kind]
    assert shown in first
    assert seen.said == []
    # The other way round, by the page's button, and back by the browser's.
    seen.page.click("#swap")
    seen.page.wait_for_url(f"**#a={b.run_id}&b={a.run_id}")
    assert f"{1 / ratio.value:.3f}" in seen.page.locator("#pairs tbody tr").first.inner_text()
    seen.close()


def test_a_comparison_of_what_is_not_there(site, tmp_path, browser):
    site = Path(shutil.copytree(site, tmp_path / "site"))
    known = "20260101-020000-nightly-0001"
    seen = opened(browser, f"{site.as_uri()}/compare.html#a={known}&b=../../etc/passwd")
    assert "no run ../../etc/passwd" in seen.page.inner_text("#state")
    assert not [address for address in seen.asked if "passwd" in address.partition("#")[0]]
    (site / "data" / f"{known}.js").unlink()
    seen.page.goto(f"{site.as_uri()}/compare.html#a={known}&b=20260102-020000-nightly-0002")
    seen.page.reload()
    seen.page.wait_for_selector("#state:has-text('cannot be loaded')")
    seen.close()
