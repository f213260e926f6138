"""The committed bundles and pages, and what the README says of them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from qbench.analysis.recompute import not_recomputed, recompute
from qbench.analysis.table.table import case_rows
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.find import bundles

RUNS = bundles(ROOT / "results" / "reference")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_reference_bundle_is_whole_and_names_no_machine(path: Path):
    bundle = Bundle(path)
    assert bundle.complete and find_problems(bundle) == []
    assert bundle.begin.packed and bundle.begin.host.hostname is None
    if "-quick-" in path.name:
        assert not_recomputed(bundle) == "" and recompute(bundle) == []


FIGURES = json.loads((ROOT / "tests" / "files" / "reference-figures.json").read_text())
"""Case ids and figures of every case, computed once by the code of commit 94de70f."""


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_case_ids_and_figures_of_a_reference_bundle_do_not_move(path: Path):
    bundle = Bundle(path)
    assert all(entry.case.case_id == entry.case_id for entry in bundle.plan.cases)
    found = {row.case_id: row for row in case_rows(bundle, bundle.trials_frame())}
    expected = FIGURES["runs"][path.name]
    assert list(found) == list(expected)
    for case_id, values in expected.items():
        for name, value in zip(FIGURES["columns"], values, strict=True):
            same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert getattr(found[case_id], name) == same, f"{case_id}: {name}"


def test_reference_bundles_and_their_list_agree():
    told = re.findall(r"^\| `(\d{8}-\S+)` \|", (ROOT / "results" / "README.md").read_text(), re.M)
    assert sorted(told) == [path.name for path in RUNS] and RUNS


def test_the_figures_of_the_readme_come_from_a_reference_bundle():
    blocks = re.findall(
        r"```console\n\$ qbench (.*?)\n```\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    assert blocks
    for command, shown in blocks:
        done = subprocess.run(
            [sys.executable, "-m", "qbench.cli", *shlex.split(command)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert " ".join(shown.split()) in " ".join(done.stdout.split())


def test_the_pages_name_the_bundles_that_they_are_made_from():
    page = (ROOT / "reports" / "reference" / "which-chip.html").read_text(encoding="utf-8")
    quick = [path.name for path in RUNS if "-quick-" in path.name]
    assert len(quick) == 2 and all(name in page for name in quick)
    site = ROOT / "reports" / "reference" / "site"
    index = (site / "index.html").read_text(encoding="utf-8")
    assert all(path.name in index for path in RUNS)
