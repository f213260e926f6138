"""The shipped suite, cut short, leaves a bundle that proves itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu.running import qbench
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json

pytestmark = pytest.mark.gpu


def test_the_suite_leaves_a_bundle(backend: str, tmp_path: Path):
    words = ["--backend", backend, "--model", "digits_vit", "--rounds", "1"]
    told = json.loads(qbench("run", "gpu", *words, "--json", folder=tmp_path))
    (folder,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    bundle = Bundle(folder)
    assert bundle.complete and told["counts"]["ok"] > 0
    assert folder.with_suffix(".html").exists()
    qbench("verify", folder, "--recompute", folder=tmp_path, ok=(0,))

    facts = to_json(bundle.begin)["backends"][backend]["devices"]["cuda:0"]
    assert facts["compute_capability"] and facts["memory_bytes"] > 0
    batches = {p.case.batch_size for p in bundle.plan.cases if not p.skip}
    assert batches == {1, 8, 32}
    for trial in bundle.trials:
        assert trial.status == "ok", trial.reason
        assert trial.gpu is not None
