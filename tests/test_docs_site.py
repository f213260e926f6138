"""The documentation site: it builds without a warning, needs no network, and fits a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from typer.testing import CliRunner

from qbench.cli import app
from qbench.spec.columns import COLUMNS

pytestmark = pytest.mark.slow

pytest.importorskip("material", reason="mkdocs-material is not installed")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def words(page: Path) -> str:
    """The text of a page's article, without markup."""
    article = re.search(r"<article.*?</article>", page.read_text(), re.S)
    assert article, page
    return html.unescape(re.sub(r"<[^>]+>", "", article[0]))


def test_pages_ask_nothing_of_a_network(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)", text)
        loaded += [
            link for link in re.findall(r"<link\b[^>]*>", text) if 'rel="stylesheet"' in link
        ]
        assert loaded
        assert not [address for address in loaded if "//" in address], page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_nothing_of_the_generator_is_published(site: Path):
    assert not list(site.rglob("*.py"))
    left = [page for page in site.rglob("*.html") if "<!-- generated" in page.read_text()]
    assert not left, "a marker was not filled in"


def test_every_option_of_every_command_is_in_the_reference(site: Path):
    said = words(site / "reference" / "commands.html")
    runner = CliRunner()
    listed = runner.invoke(app, ["--help"]).output.partition("Measure:")[2]
    names = re.findall(r"^  ([a-z]+) ", listed, re.M)
    assert len(names) > 15
    for name in names:
        assert f"qbench {name}" in said
        helped = runner.invoke(app, [name, "--help"]).output
        section = said.partition(f"qbench {name}")[2]
        for option in set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", helped, re.M)) - {"--help"}:
            assert option in section, (name, option)


def test_every_key_of_the_commented_files_is_in_the_references(site: Path):
    for name in ("suite", "system", "costs"):
        said = (site / "reference" / f"{name}.html").read_text()
        template = (ROOT / "suites" / "templates" / f"{name}.yaml").read_text()
        keys = set(re.findall(r"^[# ]*([a-z_]+): ", template, re.M))
        assert len(keys) > 3
        for key in keys - {"best"}:  # a comment's first word
            assert f"<td><code>{key}</code></td>" in said, (name, key)


def test_references_list_defaults_and_limits(site: Path):
    said = (site / "reference" / "suite.html").read_text()
    row = re.search(r"<tr><td><code>timed_s</code>.*?</tr>", said)
    assert row
    assert re.search("number (>|&gt;) 0", row[0])
    assert "<code>1.0</code>" in row[0], "the template's value"


def test_the_case_table_and_the_messages_are_there(site: Path):
    table = words(site / "case-table.html")
    assert all(name in table for name in COLUMNS)
    said = words(site / "troubleshooting.html")
    assert "there is no suite '<name_or_path>'" in said
    assert "another qbench run is measuring on this machine" in said
    assert "a shared Q/DQ model is an ONNX file" in said
    assert "TF32 is a format of NVIDIA GPUs" in said
    assert "two threads on one core slow each other down" in said


# --------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no chromium on the PATH")
    with playwright.sync_playwright() as library:
        chromium = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, site: Path) -> Iterator[Any]:
    """A function that opens a page at a width; nothing may be said or asked for meanwhile."""
    wrong: list[str] = []
    contexts = []

    def open_page(name: str, width: int) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url),
        )
        page.goto((site / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def test_no_page_is_wider_than_its_window(opened: Any, site: Path):
    page = opened("index.html", 390)
    for file in site.rglob("*.html"):
        if file.name == "404.html":  # for servers only
            continue
        page.goto(file.as_uri())
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            fits = f"document.documentElement.scrollWidth <= {width}"
            page.wait_for_function(fits, timeout=10_000)  # its menu slides aside first


def test_search_works_from_a_file(opened: Any):
    page = opened("index.html", 1280)
    page.fill("input.md-search__input", "zip bomb")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    assert "Troubleshooting" in page.inner_text(".md-search-result__list")


def test_dark_and_light(opened: Any):
    page = opened("index.html", 1280)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("label.md-header__button[for^=__palette]:visible")
    page.wait_for_function(
        "was => getComputedStyle(document.body).backgroundColor !== was", arg=before, timeout=5_000
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_people_out(opened: Any, site: Path, scheme: str):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe")
    page = opened("index.html", 1280)
    page.emulate_media(color_scheme=scheme)
    for name in ("index", "reference/suite"):
        page.goto((site / f"{name}.html").as_uri())
        only = {"runOnly": ["wcag2a", "wcag2aa"], "preload": False}
        found = axe.Axe().run(page, options=only).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, [(v["id"], [n["html"] for n in v["nodes"]][:5]) for v in serious]
