"""ONNX Runtime 3 % slower on one of its cases: that one is caught and confirmed, and no other:
pytest tests/benchmarks/test_planted.py --benchmark-enable -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ADAPTER = """
import os
import time
from qbench_onnxruntime import Backend as OnnxRuntime

SHARE = 0.03


class Backend(OnnxRuntime):
    name = "newer"

    def open(self, artifact, config, inspect=False):
        program = super().open(artifact, config, inspect)
        if "OLD_VERSION" in os.environ or artifact.target.precision != "fp32":
            return program
        make = program.stream

        def stream():
            made = make()
            infer, clock = made.infer, time.perf_counter_ns

            def slower():
                begin = clock()
                infer()
                now = clock()
                end = now + int(SHARE * (now - begin))
                while clock() < end:
                    pass

            made.infer = slower
            return made

        program.stream = stream
        return program
"""
SUITE = {
    "name": "planted",
    "models": ["resnet8_cifar10"],
    "precisions": ["fp32", "int8-static"],
    "backends": ["newer", "onnxruntime"],
    "exclude": [{"backend": "onnxruntime"}],
    "rounds": 30,
    "warmup_s": 0.15,
    "timed_s": 0.25,
    "roofline": False,
}


def qbench(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "qbench.cli", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(1200)
def test_three_per_cent_on_one_case_is_caught_and_confirmed(
    benchmark, assets: Path, tmp_path: Path
):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    info = tmp_path / "packages" / "newer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: newer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qbench.backends]\nnewer = newer:Backend\n")
    (info.parent / "newer.py").write_text(ADAPTER)
    older = {
        "python": sys.executable,
        "backends": ["newer", "onnxruntime"],
        "variables": {"OLD_VERSION": "1"},
    }
    suite = tmp_path / "planted.yaml"
    suite.write_text(yaml.safe_dump({**SUITE, "environments": {"baseline": older}}))
    ran = qbench(tmp_path, "run", suite.name, "--no-report")
    assert ran.returncode == 0, ran.stderr
    done = benchmark.pedantic(
        qbench, args=(tmp_path, "gate", "latest", "--confirm", "--json"), rounds=1
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    for finding in told["findings"]:
        print(f"\n{finding['severity']}: {finding['label']}: {finding['says']}")
        print(f"  new trials: {finding['again']}")
    regressions = [f for f in told["findings"] if f["severity"] == "regression"]
    assert [(f["kind"], f["label"]) for f in regressions] == [
        ("slower", "resnet8_cifar10 newer fp32")
    ]
    assert done.returncode == 1 and regressions[0]["confirmed"]
    assert regressions[0]["figure"]["value"] == pytest.approx(0.03, abs=0.015)
