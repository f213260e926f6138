"""Packed bundles: without predictions, and otherwise like their originals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qbench.analysis.compare.compare import compare_runs
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.copies import pack_bundle
from qbench.bundle.records.run import to_json
from qbench.errors import UserError
from qbench.present.exports.collection import merge_bundles
from qbench.storage import digest_file


@pytest.fixture
def bundle(project) -> Bundle:
    suite = project.suite(rounds=2, timed_s=0.3)
    return Bundle(project.root / project.run_json(suite)["bundle"])


def rows(bundle: Bundle) -> str:
    return case_table(bundle).to_json(orient="records")


def test_a_packed_bundle_says_what_cannot_be_recomputed(project, bundle: Bundle):
    before = {path: digest_file(path) for path in bundle.path.rglob("*") if path.is_file()}
    done = project.qbench("pack", bundle.path, "-o", "out", "--json")
    assert {path: digest_file(path) for path in before} == before
    (written,) = json.loads(done.stdout)
    assert written["to_bytes"] < written["from_bytes"]
    packed = Bundle(project.root / written["to"])
    assert to_json(packed.begin.packed) == {
        "manifest_sha256": digest_file(bundle.path / "manifest.json"),
        "predictions": False,
    }
    assert [p.name for p in (packed.path / "predictions").iterdir() if p.is_dir()] == []
    assert packed.labels("net") is not None
    for trial in bundle.trials:
        assert np.array_equal(packed.samples(trial.trial), bundle.samples(trial.trial))
    assert rows(packed) == rows(bundle)
    done = project.qbench("verify", packed.path, "--recompute")
    assert done.returncode == 0, done.stdout
    assert "accuracy and fidelity cannot be recomputed" in done.stdout
    assert digest_file(bundle.path / "manifest.json") in done.stdout
    (same,) = {
        pair.accuracy_delta.paired
        for pair in compare_runs(bundle, packed).pairs
        if pair.accuracy_delta
    }
    assert same, "equal outputs are known by their digest"
    page = project.root / "page.html"
    done = project.qbench("report", packed.path, "-o", page)
    assert done.returncode == 0 and page.stat().st_size > 1e6


def test_pack_refuses(bundle: Bundle, tmp_path: Path):
    packed = pack_bundle(bundle, tmp_path / "packed")
    with pytest.raises(UserError, match="packed already"):
        pack_bundle(packed, tmp_path / "again")
    with pytest.raises(UserError, match="already"):
        pack_bundle(bundle, tmp_path / "packed")
    with pytest.raises(UserError, match="is a bundle, and not changed"):
        pack_bundle(bundle, bundle.path)
    with pytest.raises(UserError, match="differ") as found:
        merge_bundles([bundle, packed], tmp_path / "merged", False)
    assert "was packed from the other" in str(found.value)
    (bundle.path / "manifest.json").unlink()
    with pytest.raises(UserError, match="incomplete"):
        pack_bundle(Bundle(bundle.path), tmp_path / "none")
    assert not (tmp_path / "none").exists()
