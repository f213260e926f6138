"""Packed bundles: smaller, and otherwise like the ones that they were made from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qbench.analysis.compare.compare import compare_runs
from qbench.analysis.recompute import not_recomputed, recompute
from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.bundle.check import find_problems
from qbench.bundle.copies import pack_bundle
from qbench.errors import UserError
from qbench.present.exports.collection import merge_bundles
from qbench.storage import digest_file, folder_bytes


@pytest.fixture
def bundle(project) -> Bundle:
    suite = project.suite(rounds=2, timed_s=0.3)
    return Bundle(project.root / project.run_json(suite)["bundle"])


def rows(bundle: Bundle) -> str:
    return case_table(bundle).to_json(orient="records")


def test_a_packed_bundle_says_the_same_and_is_smaller(bundle: Bundle, tmp_path: Path):
    before = {path: digest_file(path) for path in bundle.path.rglob("*") if path.is_file()}
    packed = pack_bundle(bundle, tmp_path / "packed")
    assert packed.path == tmp_path / "packed" / bundle.run_id and packed.complete
    assert {path: digest_file(path) for path in before} == before
    assert packed.begin["packed"] == {
        "manifest_sha256": digest_file(bundle.path / "manifest.json"),
        "predictions": True,
    }
    assert list((packed.path / "samples").iterdir()) == []
    for trial in bundle.trials:
        assert np.array_equal(packed.samples(trial), bundle.samples(trial))
    assert rows(packed) == rows(bundle)
    assert find_problems(packed) == [] and recompute(packed) == [] and not_recomputed(packed) == ""
    assert folder_bytes(packed.path) < folder_bytes(bundle.path) / 2


def test_without_predictions_it_says_what_cannot_be_recomputed(project, bundle: Bundle):
    done = project.qbench("pack", bundle.path, "--no-predictions", "-o", "out", "--json")
    (written,) = json.loads(done.stdout)
    assert written["to_bytes"] < written["from_bytes"]
    packed = Bundle(project.root / written["to"])
    assert [p.name for p in (packed.path / "predictions").iterdir() if p.is_dir()] == []
    assert packed.labels("net") is not None
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


def test_samples_that_were_changed_are_found(bundle: Bundle, tmp_path: Path):
    packed = pack_bundle(bundle, tmp_path)
    path = packed.path / "samples.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "latency_ns"] += 1
    frame.to_parquet(path)
    assert find_problems(packed) == ["samples.parquet was changed"]
    first = packed.trials[0]["trial"]
    assert any(
        first in line and "not those of the journal" in line
        for line in recompute(Bundle(packed.path))
    )


@pytest.mark.parametrize("damage", ["torn", "missing", "no column", "a trial less", "words"])
def test_damaged_samples_are_an_error_with_the_file(bundle: Bundle, tmp_path: Path, damage: str):
    packed = pack_bundle(bundle, tmp_path)
    path = packed.path / "samples.parquet"
    frame = pd.read_parquet(path)
    first = packed.trials[0]
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    elif damage == "no column":
        frame[["trial"]].to_parquet(path)
    elif damage == "a trial less":
        frame[frame["trial"] != first["trial"]].to_parquet(path)
    else:
        frame.assign(latency_ns="fast").to_parquet(path)
    with pytest.raises(UserError, match=r"samples\.parquet"):
        packed.samples(first)


def test_what_cannot_be_packed(bundle: Bundle, tmp_path: Path):
    packed = pack_bundle(bundle, tmp_path / "packed")
    with pytest.raises(UserError, match="packed already"):
        pack_bundle(packed, tmp_path / "again")
    with pytest.raises(UserError, match="already"):
        pack_bundle(bundle, tmp_path / "packed")
    with pytest.raises(UserError, match="is a bundle, and not changed"):
        pack_bundle(bundle, bundle.path)
    with pytest.raises(UserError, match="differ") as found:
        merge_bundles([bundle.path, packed.path], tmp_path / "merged", False)
    assert "was packed from the other" in str(found.value)
    (bundle.path / "manifest.json").unlink()
    with pytest.raises(UserError, match="incomplete"):
        pack_bundle(Bundle(bundle.path), tmp_path / "none")
    assert not (tmp_path / "none").exists()
