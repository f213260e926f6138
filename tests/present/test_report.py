"""The HTML page: what it holds, what it must not do, and that it works in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from pages import HOSTILE, Page, measured, written

from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.present.page import write_report
from qbench.present.page.render import harmless, script_json
from qbench.present.words.named import PageCase
from qbench.present.words.ranking import sentence as told
from qbench.present.words.ranking import verdicts

LOADS = {"src", "srcset", "href", "action", "poster", "data", "background", "ping", "xlink:href"}


def test_the_page_holds_every_case_and_loads_nothing(project, tmp_path):
    bundle = measured(project)
    html, page = written(bundle, path=tmp_path / "page.html")
    cases = case_table(bundle)
    assert page.cases == list(cases["case_id"])
    assert [case["precision"] for case in page.data["cases"]] == ["fp32", "int8-static"]
    assert page.text.index("Cases") < page.text.index("Charts") < page.text.index("Not measured")
    assert "2 rounds are too few to rank" in page.text
    assert "3.5 W" not in page.text  # no energy was estimated
    assert html.count("plotly.js v") == 1
    for tag, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on")}
        for name in LOADS & attributes.keys():
            assert (attributes[name] or "").startswith(("#", "data:")), (tag, attributes)
    own = "".join(page.scripts[:1] + page.scripts[2:])
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|import\(|innerHTML|eval\(", own)
    assert set(re.findall(r"https?://[^\s\"']+", own)) <= {"http://www.w3.org/2000/svg"}
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy and "default-src 'none'" in policy
    assert "unsafe" not in policy.split("style-src")[0]


def test_distributions_are_thinned_and_keep_their_ends(project, tmp_path):
    bundle = measured(project, timed_s=0.2)
    _, page = written(bundle, path=tmp_path / "page.html")
    by_id = {row["case_id"]: row for row in case_table(bundle).to_dict("records")}
    trials = {(t.case_id, t.round + 1): bundle.samples(t.trial) for t in bundle.trials}
    assert len(page.data["cases"]) == 2
    for case, case_id in zip(page.data["cases"], page.cases, strict=True):
        assert case["label"] == f"fake {by_id[case_id]['precision']}"
        assert len(case["trials"]) == 2
        for trial in case["trials"]:
            samples = trials[case_id, trial["round"]]
            assert len(trial["ms"]) == min(500, len(samples))
            assert trial["ms"] == sorted(trial["ms"])
            assert trial["ms"][-1] == pytest.approx(samples.max() * 1e-6, rel=1e-3)


def test_hostile_labels_are_text(project, tmp_path):
    project.model(fail={"int8-static:prepare": "error"})
    bundle = measured(project)
    swap = {
        "net": HOSTILE,
        "planted failure in prepare": HOSTILE,
        "the fake backend prints before it fails": HOSTILE,
        bundle.begin.host.hostname: HOSTILE,
        bundle.begin.host.cpu_model: HOSTILE + "\ud800",
    }

    def planted(value):
        if isinstance(value, dict):
            return {swap.get(key, key): planted(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [planted(inner) for inner in value]
        if isinstance(value, str):
            for known, evil in swap.items():
                value = value.replace(known, evil) if len(known) > 5 else swap.get(value, value)
        return value

    for name in ("begin.json", "plan.json", "prepare.jsonl", "evaluate.jsonl", "journal.jsonl"):
        path = bundle.path / name
        lines = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
        path.write_text("".join(json.dumps(planted(json.loads(line))) + "\n" for line in lines))
    (bundle.path / "suite.yaml").write_text(HOSTILE)
    html, page = written(Bundle(bundle.path), path=tmp_path / "page.html")
    assert len(page.all("script")) == 3
    assert not page.all("img")
    assert page.text.count("<script>alert(1)</script>") >= 5
    assert "last lines of the log" in page.text
    assert page.data["cases"][0]["model"].startswith("<script>")
    assert "\u202e" not in html and "\u2028" not in html
    assert "[U+202E]" in page.text and "[U+D800]" in page.text


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a&b", "\u2028\u2029", "'\"\\"])
def test_json_in_a_script_stays_inside_and_says_the_same(text):
    made = script_json({"label": text})
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made) == {"label": text}


def test_hidden_characters_are_written_out_and_numbers_are_finite():
    assert harmless(["a\u202eb", {"x": float("nan")}, "zwölf\n"]) == [
        "a[U+202E]b",
        {"x": None},
        "zwölf\n",
    ]


def test_one_case(project, tmp_path):
    _, page = written(measured(project, precisions=["fp32"]), path=tmp_path / "page.html")
    assert len(page.cases) == 1
    assert "only one case was measured" in page.text
    assert "Every case was measured." in page.text


def test_no_case_that_went_well(project, tmp_path):
    project.model(fail={"open": "error"})
    html, page = written(measured(project), path=tmp_path / "page.html")
    assert "No case was measured, so there is nothing to draw." in page.text
    assert "planted failure in open" in page.text
    assert "last lines of the log" in page.text
    assert "plotly.js v" not in html


def test_an_incomplete_bundle(project, tmp_path):
    bundle = measured(project)
    (bundle.path / "manifest.json").unlink()
    journal = bundle.path / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    _, page = written(Bundle(bundle.path), path=tmp_path / "page.html")
    assert "Incomplete: the run was interrupted" in page.text
    assert len(page.cases) == 2
    assert len(page.data["cases"]) == 1
    assert "not measured yet" in page.text


@pytest.mark.slow
def test_two_bundles_and_the_command(project):
    first, second = measured(project), measured(project, name="other", precisions=["fp32"])
    done = project.qbench("report", first.path, second.path, "-o", "both.html")
    assert done.returncode == 0, done.stderr
    page = Page((project.root / "both.html").read_text(encoding="utf-8"))
    assert len(page.cases) == 3
    assert page.data["runs"] == ["A", "B"]
    assert [case["label"] for case in page.data["cases"]] == [
        "A fake fp32", "A fake int8-static", "B fake fp32"
    ]  # fmt: skip


def ranked(*medians: tuple[float, float | None, float | None]) -> str:
    rows = [
        {f"latency_p50{end}_ms": ms for end, ms in zip(("", "_low", "_high"), three, strict=True)}
        for three in medians
    ]
    return sentence(*rows)


def sentence(*rows: dict, scenario: str = "single-stream") -> str:
    """The ranking of cases that are called case0, case1, ..."""
    words = ("environment", "recipe", "device", "case_id", "host_id", "run_id", "run", "name",
             "condition", "anchor", "doubt", "verdict")  # fmt: skip
    same = dict.fromkeys(words, "") | {
        "model": "net", "scenario": scenario, "batch_size": 1, "threads": 1, "streams": 1,
        "status": "ok", "rounds": 7, "noisy": False, "inconclusive": False, "precision": "fp32",
        "kind": "fp32", "texts": {},
    }  # fmt: skip
    cases = [
        PageCase(**{**same, "label": f"case{index}", "backend": f"backend{index}", **row})
        for index, row in enumerate(rows)
    ]
    (verdict,) = verdicts(cases)
    return told(verdict)


def test_the_fastest_is_named_only_where_intervals_lie_apart():
    apart = ranked((2.0, 1.9, 2.1), (1.0, 0.9, 1.1), (3.0, 2.0, 4.0))
    assert apart.startswith("fastest is case1: p50 1.00 ms (0.90 … 1.10); next is case0")
    near = ranked((1.0, 0.9, 1.1), (1.2, 1.05, 1.4), (3.0, 2.0, 4.0))
    assert near.startswith("within noise of each other: case0") and "case1" in near
    assert "case2" not in near
    assert "too few to rank" in ranked((1.0, None, None), (2.0, None, None))


def latency(ms: float, **more) -> dict:
    ends = {"latency_p50_low_ms": 0.99 * ms, "latency_p50_high_ms": 1.01 * ms}
    return {"latency_p50_ms": ms, **ends, **more}


def test_doubtful_cases_are_not_ranked_silently():
    sure = sentence(latency(2.0), latency(1.0), latency(3.0))
    assert sure.startswith("fastest is case1") and "noisy" not in sure
    named = sentence(latency(2.0), latency(1.0, inconclusive=True), latency(3.0))
    assert named.startswith(
        "fastest, by figures in doubt, is case1: p50 1.000 ms (0.990 … 1.010), inc"
    )
    unnamed = sentence(latency(2.0), latency(1.0), latency(3.0, noisy=True), latency(4.0))
    assert unnamed.startswith("fastest is case1") and unnamed.endswith("(of the others: 1 noisy).")


def test_a_scenario_is_ranked_by_what_it_is_for():
    rate = {"throughput_ips": 10.0, "throughput_ips_low": 9.0, "throughput_ips_high": 11.0}
    more = {"throughput_ips": 20.0, "throughput_ips_low": 19.0, "throughput_ips_high": 21.0}
    offline = sentence(latency(1.0, **rate), latency(5.0, **more), scenario="offline")
    assert offline.startswith(
        "fastest is case1: throughput 20.0 items/s (19.0 … 21.0); next is case0"
    )
    near = {**more, "throughput_ips_low": 10.5}
    overlap = sentence(latency(1.0, **rate), latency(5.0, **near), scenario="offline")
    assert overlap.startswith("within noise of each other: case1")
    hot = [latency(1.0, sustained_p50_ms=3.0), latency(2.0, sustained_p50_ms=2.5)]
    sustained = sentence(*hot, scenario="sustained")
    assert "has no interval" in sustained and "case1: sustained p50 2.50 ms" in sustained
    invalid = latency(1.0, loadgen_qps=None, loadgen_valid=False)
    assert sentence(invalid, scenario="mlperf-server") == "no case has a rate."


# --------------------------------------------------------------------------- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=10000", "--window-size=1280,900",
]  # fmt: skip
browser = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH")
CLICK = """
const button = document.querySelector("th[data-name='artifact_size_mb'] button");
button.click();
button.click();
document.querySelector("#filter-text").value = "int8";
document.querySelector("#filter-text").dispatchEvent(new Event("input", { bubbles: true }));
"""


def browsed(page: Path, fragment: str, folder: Path) -> tuple[str, list[str]]:
    """The document as the browser has it once drawn, and what its console said.

    Chromium keeps a socket in TMPDIR, whose path would be too long for it in a test's folder."""
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", "--dump-dom",
         f"{page.as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "TMPDIR": "/tmp"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r"CONSOLE[^\n]*", done.stderr)


@pytest.mark.slow
@browser
def test_the_page_draws_and_keeps_its_own_policy(project, tmp_path):
    page = tmp_path / "page.html"
    html, _ = written(measured(project), path=page)
    drawn, console = browsed(page, "", tmp_path / "chromium")
    assert console == []
    assert drawn.count('class="main-svg"') >= 5
    assert "2 of 2 cases" in drawn
    # Each chart's data as a file; of plotly's own buttons, none that uploads.
    assert 'data-as="csv"' in drawn and 'data-title="Share' not in drawn
    # A script that the policy does not name is refused.
    page.write_text(html.replace("</body>", "<script>document.title='owned'</script></body>"))
    drawn, console = browsed(page, "", tmp_path / "chromium")
    assert "<title>owned" not in drawn
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.slow
@browser
def test_the_table_sorts_and_filters(project, tmp_path):
    page = tmp_path / "page.html"
    html, _ = written(measured(project), path=page)
    drawn, console = browsed(page, "#sort=-precision&precision=int8-static", tmp_path / "chromium")
    assert console == []
    seen = re.findall(r'<tr class=""[^>]*data-precision="([^"]*)"[^>]*?( hidden="")?>', drawn)
    assert seen == [("int8-static", ""), ("fp32", ' hidden=""')]
    assert 'aria-sort="descending"' in drawn
    assert "1 of 2 cases" in drawn
    # By mouse and keyboard: a copy without the policy, and with a script that does it.
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    page.write_text(policy.sub("", html).replace("</body>", f"<script>{CLICK}</script></body>"))
    drawn, console = browsed(page, "", tmp_path / "chromium")
    assert console == []
    assert re.search(r'data-name="artifact_size_mb"[^>]*aria-sort="descending"', drawn)
    assert "1 of 2 cases" in drawn


def test_it_is_quick_and_small(project, tmp_path):
    """A second writing, once all is imported; plotly's script is 4.8 MB of the page."""
    from plotly.offline import get_plotlyjs

    bundle = measured(project)
    write_report([bundle], tmp_path / "page.html")
    begin = time.process_time()  # whatever else the machine does
    write_report([bundle], tmp_path / "page.html")
    assert time.process_time() - begin < 2
    assert (tmp_path / "page.html").stat().st_size - len(get_plotlyjs().encode()) < 200_000
