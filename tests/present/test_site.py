"""The site: its pages and links, and what it does to its folder."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from rows import case_row
from site_runs import NOISE, four_nights, measured, page_at, pages

from qbench.analysis.compare.comparable import comparable_energy, energy_key
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.site import folder as site_folder
from qbench.present.site import write_site
from qbench.present.site.folder import STATE
from qbench.present.site.names import file_stem
from qbench.present.site.rules import comparison_rules

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\u202eevil\u2028</style>"
NAMES = ("Net", "../../up", "__proto__", "con", "x" * 500, HOSTILE, "net-" + "0" * 20)


def check_links(site: Path) -> int:
    """That every address leads to a file of the site, and every fragment to an element."""
    found, checked = pages(site), 0
    for name, page in found.items():
        for address in page.addresses:
            if address == "data:,":
                continue
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc and not parts.path.startswith("/")
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert target.resolve().is_relative_to(site.resolve()), address
            assert target.is_file(), f"{name}: {address}"
            fragment = unquote(parts.fragment)
            if fragment and "=" not in fragment:
                inner = str(target.resolve().relative_to(site.resolve()))
                assert fragment in found[inner].ids, f"{name}: {address}"
            checked += 1
    return checked


def files(site: Path) -> dict[str, bytes]:
    """All but the lock, which is no page."""
    return {
        str(path.relative_to(site)): path.read_bytes()
        for path in site.rglob("*")
        if path.is_file() and path.name != ".qbench.lock"
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    four_nights(tmp_path / "results")
    return tmp_path / "results"


# --------------------------------------------------------------------------- pages


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(results, tmp_path):
    site = tmp_path / "site"
    written = write_site([results], site)
    assert check_links(site) > 50
    found = pages(site)
    assert set(found) == {
        "index.html", "trends.html", "compare.html", "models/net.html", "models/other.html",
        "backends/fake.html",
        *(f"runs/202601{day:02d}-020000-nightly-{day:04x}.html" for day in (1, 2, 3, 4)),
    }  # fmt: skip
    assert written.pages == len(found) and written.runs == 4
    for page in found.values():
        assert "script-src 'self';" in page.policy and "default-src 'none'" in page.policy
        for _, attributes in page.elements:
            assert not {name for name in attributes if name.startswith("on")}
            assert "style" not in attributes
    holding = [name for name, content in files(site).items() if b"plotly.js v" in content]
    assert len(holding) == 1 and re.fullmatch(r"assets/plotly-[0-9a-f]{12}\.js", holding[0])
    assert (site / ".nojekyll").is_file()


def test_the_index_lists_every_run(results, tmp_path):
    measured(results, 5, complete=False)
    broken = measured(results, 6)
    measured(results, 7, confirms=broken.run_id)
    (results / f"{broken.run_id}.gate.json").write_text('{"valid": false}')
    write_site([results], tmp_path / "site")
    page = page_at(tmp_path / "site" / "index.html")
    rows = page.rows("data-day")
    assert [row["data-day"] for row in rows] == [f"2026-01-{day:02d}" for day in range(7, 0, -1)]
    assert [row["data-state"] for row in rows] == [
        "confirms another", "broken as a whole", "incomplete", *["complete"] * 4
    ]  # fmt: skip
    assert [row["data-machine"] for row in rows][3:] == ["loudbox", *["quietbox"] * 3]
    assert page.text.count("The fastest is fake int8-static") >= 4
    assert "7 runs, 2 machines, 2 models, 1 backend, 4 cases" in page.text
    # The third night's link compares it with the second, the last of its suite and machine.
    assert (
        "compare.html#a=20260102-020000-nightly-0002&b=20260103-020000-nightly-0003"
        in page.addresses
    )


def test_a_model_has_its_newest_figures_on_each_machine_and_its_trend(results, tmp_path):
    measured(results, 5, factor=9.0, complete=False)
    write_site([results], tmp_path / "site")
    page = page_at(tmp_path / "site" / "models" / "net.html")
    rows = page.rows("data-machine")
    assert {(row["data-machine"], row["data-precision"]) for row in rows} == {
        (machine, precision)
        for machine in ("quietbox", "loudbox")
        for precision in ("fp32", "int8-static")
    }
    runs = sorted(address for address in page.addresses if address.startswith("../runs/"))
    assert runs == [
        f"../runs/2026010{day}-020000-nightly-000{day}.html#case-A-c0000000000{case}"
        for day in (3, 4)
        for case in (0, 1)
    ]
    data = json.loads(re.findall(r'id="data">(.*)</script>', page.html)[0])
    assert len(data["runs"]) == 4
    (case,) = (c for c in data["cases"] if c["label"] == "net fake fp32")
    series = {one["machine"]: one for one in dict(case["metrics"])["p50"]}
    nights = [data["runs"][place][0][:8] for place in series["quietbox"]["nights"]]
    assert nights == ["20260101", "20260102", "20260103"]
    mean = np.exp(np.log(NOISE).mean())
    assert series["quietbox"]["values"] == pytest.approx(
        [2.0 * mean, 2.0 * mean, 2.4 * mean], rel=1e-4
    )


def test_hostile_names_are_text_and_lead_nowhere(tmp_path):
    measured(tmp_path / "results", 1, NAMES, host={"hostname": HOSTILE, "cpu_model": HOSTILE})
    site = tmp_path / "site"
    write_site([tmp_path / "results"], site)
    check_links(site)
    models = [path.name for path in (site / "models").iterdir()]
    assert len({name.lower() for name in models}) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*\.html", name) for name in models)
    assert {path.parent for path in site.rglob("*.html")} <= {
        site, site / "models", site / "backends", site / "runs"
    }  # fmt: skip
    for name, page in pages(site).items():
        assert not [tag for tag, _ in page.elements if tag == "img"], name
        assert "\u202e" not in page.html and "\u2028" not in page.html
    for path in (site / "data").iterdir():
        text = path.read_text()
        assert not set("<>&\u2028") & set(text)
        assert '"__proto__":' not in text


@given(st.lists(st.text(min_size=1, max_size=100), min_size=2, max_size=8, unique=True))
def test_names_of_files_are_safe_and_never_meet(names):
    stems = [file_stem(name) for name in names]
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,79}", stem) for stem in stems)


def test_a_name_that_looks_like_another_s_file_gets_one_of_its_own():
    made = file_stem("Net")
    assert file_stem(made) != made


def test_cases_that_never_ran_have_no_trend(tmp_path):
    for day in (1, 2):
        measured(tmp_path / "results", day, skipped=True)
    write_site([tmp_path / "results"], tmp_path / "site")
    check_links(tmp_path / "site")
    page = page_at(tmp_path / "site" / "models" / "net.html")
    assert [row["data-status"] for row in page.rows("data-machine")].count("skipped") == 1
    data = json.loads(re.findall(r'id="data">(.*)</script>', page.html)[0])
    assert [case["label"] for case in data["cases"]] == ["net fake fp32", "net fake int8-static"]


def test_a_damaged_bundle_is_named_and_stops_nothing(results, tmp_path):
    bad = Bundle(results / "20260102-020000-nightly-0002")
    (bad.path / "plan.json").write_text("{")
    changed = Bundle(results / "20260103-020000-nightly-0003")
    (changed.path / "suite.yaml").write_text("name: another\n")
    shutil.copytree(results / "20260101-020000-nightly-0001", results / "a-copy")
    written = write_site([results], tmp_path / "site")
    assert written.runs == 2
    reasons = dict(written.problems)
    assert "plan.json was changed" in reasons["20260102-020000-nightly-0002"]
    assert "suite.yaml was changed" in reasons["20260103-020000-nightly-0003"]
    copies = {"a-copy", "20260101-020000-nightly-0001"} & reasons.keys()
    assert len(copies) == 1 and "another copy" in reasons[copies.pop()]
    page = page_at(tmp_path / "site" / "index.html")
    assert "suite.yaml was changed" in page.text
    assert str(tmp_path) not in page.html
    check_links(tmp_path / "site")


def test_without_runs_there_is_still_a_site(tmp_path):
    (tmp_path / "results").mkdir()
    write_site([tmp_path / "results"], tmp_path / "site")
    check_links(tmp_path / "site")
    assert "There are no runs." in page_at(tmp_path / "site" / "index.html").text
    with pytest.raises(UserError, match="there is no folder"):
        write_site([tmp_path / "nowhere"], tmp_path / "site")


def test_redacted_pages_name_no_host(results, tmp_path):
    write_site([results], tmp_path / "plain")
    assert any(b"quietbox" in content for content in files(tmp_path / "plain").values())
    write_site([results], tmp_path / "site", redact=True)
    check_links(tmp_path / "site")
    for name, content in files(tmp_path / "site").items():
        assert b"quietbox" not in content and b"loudbox" not in content, name
    # A name that is not changed keeps its bundle out, and is not told on the page.
    kept_out = measured(results, 5, ("quietbox",))
    written = write_site([results], tmp_path / "site", redact=True)
    assert written.runs == 4
    ((name, reason),) = written.problems
    assert name == kept_out.run_id and "quietbox" in reason
    index = page_at(tmp_path / "site" / "index.html")
    assert "20260105-020000" in index.text and "quietbox" not in index.html
    shutil.rmtree(kept_out.path)
    # And a site that was not redacted becomes so.
    written = write_site([results], tmp_path / "plain", redact=True)
    assert len([name for name in written.written if name.startswith("runs/")]) == 4
    assert not any(b"quietbox" in content for content in files(tmp_path / "plain").values())


# --------------------------------------------------------------------------- its folder


def html(names: tuple[str, ...]) -> set[str]:
    return {name for name in names if name.endswith(".html")}


def test_only_what_changes_is_written(results, tmp_path):
    site = tmp_path / "site"
    first = write_site([results], site)
    assert not first.kept and not first.removed
    before = files(site)
    times = {path: path.stat().st_mtime_ns for path in site.rglob("*.html")}
    again = write_site([results], site)
    assert not again.written and set(again.kept) == set(first.written)
    assert files(site) == before
    assert times == {path: path.stat().st_mtime_ns for path in site.rglob("*.html")}

    measured(results, 5)
    more = write_site([results], site)
    assert html(more.written) == {
        "runs/20260105-020000-nightly-0005.html", "models/net.html", "backends/fake.html",
        "trends.html", "compare.html", "index.html",
    }  # fmt: skip
    assert "models/other.html" in more.kept
    shutil.rmtree(results / "20260105-020000-nightly-0005")
    less = write_site([results], site)
    assert set(less.removed) == {
        "runs/20260105-020000-nightly-0005.html", "data/20260105-020000-nightly-0005.js"
    }  # fmt: skip
    assert {n: c for n, c in files(site).items() if n != STATE} == {
        n: c for n, c in before.items() if n != STATE
    }


def test_files_of_others_are_neither_changed_nor_removed(results, tmp_path):
    site = tmp_path / "site"
    write_site([results], site)
    (site / "CNAME").write_text("bench.example.org")
    (site / "runs" / "mine.html").write_text("mine")
    gone = "20260103-020000-nightly-0003"
    (site / "runs" / f"{gone}.html").write_text("edited by hand")
    shutil.rmtree(results / gone)
    written = write_site([results], site)
    assert written.left == (f"runs/{gone}.html",)
    assert (site / "runs" / f"{gone}.html").read_text() == "edited by hand"
    assert (site / "runs" / "mine.html").read_text() == "mine"
    assert (site / "CNAME").is_file()
    # A page of a run that is still there is qbench's own, and made again.
    page = site / "runs" / "20260102-020000-nightly-0002.html"
    page.write_text("edited by hand")
    write_site([results], site)
    assert "<!doctype html>" in page.read_text()
    # A file that is in the way stays, and the site says so.
    measured(results, 7)
    (site / "runs" / "20260107-020000-nightly-0007.html").write_text("mine, too")
    with pytest.raises(UserError, match="in the way"):
        write_site([results], site)
    assert (site / "runs" / "20260107-020000-nightly-0007.html").read_text() == "mine, too"


def test_a_folder_that_is_no_site_is_refused(results, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a site of qbench, and not empty"):
        write_site([results], tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    (tmp_path / "full" / STATE).write_text(
        '{"version": 1, "files": {"../results/x": {"key": "", "sha256": "", "bytes": 0}}}'
    )
    with pytest.raises(UserError, match="damaged"):
        write_site([results], tmp_path / "full")
    with pytest.raises(UserError, match="is a bundle"):
        write_site([results], results / "20260101-020000-nightly-0001" / "site")
    with pytest.raises(UserError, match="is not a folder"):
        write_site([results], tmp_path / "full" / "notes.txt")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "runs").symlink_to(outside)
    with pytest.raises(UserError):
        write_site([results], tmp_path / "linked")
    assert not list(outside.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 5, 9, 12, 15])
def test_an_interrupted_build_leaves_a_site_that_works(results, tmp_path, monkeypatch, writes):
    """Of the second build, which changes every page, as that of a new version does."""
    site = tmp_path / "site"
    write_site([results], site, redact=True)
    measured(results, 5)
    shutil.rmtree(results / "20260101-020000-nightly-0001")
    left = writes
    whole = site_folder.write_file

    def killed(path: Path, content: bytes | str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(site_folder, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write_site([results], site)
    assert check_links(site) > 50
    monkeypatch.setattr(site_folder, "write_file", whole)
    done = write_site([results], site)
    assert not done.left
    write_site([results], tmp_path / "fresh")
    assert {n: c for n, c in files(site).items() if n != STATE} == {
        n: c for n, c in files(tmp_path / "fresh").items() if n != STATE
    }


@pytest.mark.slow
def test_the_command(results, project, tmp_path):
    done = project.qbench("site", results, "-o", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "4 runs; pages: 10 written, 0 unchanged, 0 removed" in done.stdout
    (results / "20260102-020000-nightly-0002" / "begin.json").write_text("{")
    done = project.qbench("site", results, "-o", tmp_path / "site", "--json")
    told = json.loads(done.stdout)
    assert told["runs"] == 3 and "20260102-020000-nightly-0002" in told["problems"][0][0]
    assert "runs/20260102-020000-nightly-0002.html" in told["removed"]
    done = project.qbench("site", results, "-o", results)
    assert done.returncode == 2 and "is not a site of qbench" in done.stderr


# --------------------------------------------------------------------------- rules of comparing


@given(st.floats(min_value=5, max_value=1e6))
def test_the_quantile_is_student_s(freedom):
    from scipy import stats

    coefficients = comparison_rules()["quantile"]
    value = np.polynomial.polynomial.polyval(1 / freedom, coefficients)
    assert value == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


ENERGY = st.fixed_dictionaries(
    {
        "case_id": st.just("c"),
        "energy_mj_per_inference": st.sampled_from([None, 1.0]),
        "energy_is_measured": st.booleans(),
        "energy_scope": st.sampled_from([None, "wall", "package"]),
        "energy_method": st.sampled_from([None, "RAPL", "a meter"]),
        "idle_w": st.sampled_from([None, 5.0]),
        "host_id": st.sampled_from(["one", "two"]),
    }
)


@given(ENERGY, ENERGY)
def test_energies_have_one_key_if_they_may_be_compared(a, b):
    a, b = case_row(**a), case_row(**b)
    may = comparable_energy(a, b) is None
    assert (energy_key(a) is not None and energy_key(a) == energy_key(b)) == may


# --------------------------------------------------------------------------- the recipe


RECIPE = ROOT / "docs" / "recipes" / "pages.yml"


def test_the_workflow_is_what_github_takes():
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema, which ships the hosts' schemas")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-workflows", str(RECIPE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_workflow_s_command_makes_a_site(results, project):
    (job,) = yaml.safe_load(RECIPE.read_text())["jobs"].values()
    (line,) = [step["run"] for step in job["steps"] if "qbench site" in step.get("run", "")]
    shutil.copytree(results, project.root / "results")
    done = project.qbench(*shlex.split(line, comments=True)[1:])
    assert done.returncode == 0, done.stderr
    (uploaded,) = [s["with"]["path"] for s in job["steps"] if "upload-pages" in s.get("uses", "")]
    assert check_links(project.root / uploaded) > 50
    assert b"quietbox" not in (project.root / uploaded / "index.html").read_bytes()
