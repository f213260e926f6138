"""The adapters that CONTRIBUTING.md shows pass the conformance tests."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from paths import ROOT, TESTS

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Model, RunConfig, SourceTensor, TensorSpec
from qbench.spec.suite import suites_dir
from qbench.testing.conformance import AdapterConformance

EXAMPLES = TESTS / "examples"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
sys.path.insert(0, str(EXAMPLES))

SCALER, SCALER_TEST = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
exec(compile(SCALER_TEST, str(CONTRIBUTING), "exec"))  # defines TestScaler


@pytest.fixture(scope="module")
def scaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package that CONTRIBUTING.md shows."""
    folder = tmp_path_factory.mktemp("scaler")
    (folder / "qbench_scaler").mkdir()
    (folder / "qbench_scaler" / "__init__.py").write_text(SCALER)
    return folder


@pytest.fixture(autouse=True)
def importable_in_workers(scaler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(scaler)
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLES}{os.pathsep}{scaler}", prepend=os.pathsep)


def test_a_trivial_adapter_is_short() -> None:
    assert len(SCALER.splitlines()) <= 80


def write_mlp(path: Path, *arrays: np.ndarray) -> None:
    names = [f"{kind}{i}" for i in range(len(arrays) // 2) for kind in "wb"]
    with path.open("wb") as file:
        np.savez(file, **dict(zip(names, arrays, strict=True)))


class TestNumpyExample(AdapterConformance):
    target = "qbench_numpy:Backend"
    tolerance_db = 30.0

    def model(self, folder: Path) -> Model:
        rng = np.random.default_rng(0)
        path = folder / "net.mlp"
        arrays = [rng.normal(size=s).astype("float32") for s in ((20, 16), 16, (16, 5), 5)]
        write_mlp(path, *arrays)
        return Model(
            name="net",
            format="mlp",
            path=path,
            digest="0" * 64,
            task="image-classification",
            inputs={"image": TensorSpec("float32", ("N", 20))},
            outputs={"scores": TensorSpec("float32", ("N", 5))},
            source_inputs={"image": SourceTensor("x")},
            source_outputs={"scores": SourceTensor("y")},
        )

    def test_more_threads_than_it_has_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match="one thread, not 2"):
            self.backend().open(self.artifact(tmp_path), RunConfig(threads=2))


def trained(images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """A perceptron of one hidden layer, trained by gradient descent with momentum."""
    rng = np.random.default_rng(0)
    params = [0.15 * rng.normal(size=(64, 32)), np.zeros(32), 0.15 * rng.normal(size=(32, 10))]
    params.append(np.zeros(10))
    speed = [np.zeros_like(p) for p in params]
    for _ in range(300):
        hidden = np.maximum(images @ params[0] + params[1], 0)
        scores = np.exp(hidden @ params[2] + params[3])
        error = (scores / scores.sum(1, keepdims=True) - np.eye(10)[labels]) / len(labels)
        back = error @ params[2].T * (hidden > 0)
        slopes = [images.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
        for param, fast, slope in zip(params, speed, slopes, strict=True):
            fast *= 0.9
            fast -= 0.3 * slope
            param += fast
    return [param.astype(np.float32) for param in params]


@pytest.mark.slow
def test_it_runs_from_the_command_line(project: Project, tmp_path: Path) -> None:
    info = tmp_path / "packages" / "qbench_numpy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qbench_numpy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qbench.backends]\nnumpy = qbench_numpy:Backend\n")
    project.env["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
    with np.load(suites_dir() / "zoo" / "digits.npz") as digits:
        images, labels = digits["images"].reshape(-1, 64), digits["labels"]
    np.savez(project.root / "flat.npz", images=images, labels=labels)
    w0, b0, w1, b1 = params = trained(images[:1200] / 16, labels[:1200])
    write_mlp(project.root / "mlp.mlp", *params)
    scores = np.maximum(images[1200:] / 16 @ w0 + b0, 0) @ w1 + b1
    expected = (scores.argmax(1) == labels[1200:]).mean()
    assert expected >= 0.9
    project.write(
        "datasets/flat.yaml",
        """\
        name: flat
        licence: CC0-1.0
        format: npz
        files: {data: {path: flat.npz}}
        arrays: {image: images}
        labels: labels
        items: 1797
        """,
    )
    project.write(
        "models/mlp.yaml",
        """\
        name: mlp
        task: image-classification
        licence: CC0-1.0
        inputs:
          image: {dtype: float32, shape: [N, 64]}
        outputs:
          scores: {dtype: float32, shape: [N, 10]}
        sources:
          mlp: {path: mlp.mlp, inputs: {image: {name: x}}, outputs: {scores: {name: y}}}
        preprocess: {image: [{normalize: {mean: 0, std: 16}}]}
        metric: top1
        evaluation: {dataset: flat, items: "1200:1797"}
        calibration: {dataset: flat, items: "0:100"}
        """,
    )
    suite = project.suite(
        models=["mlp"],
        backends=["numpy"],
        precisions=["fp32", "int8-static", {"int8-static": {"per_channel": False}}, "fp16"],
        rounds=1,
    )

    counts = project.run_json(suite)["counts"]

    assert counts == {"ok": 3, "skipped": 1}
    cases = {(c["precision"], c["variant"]): c for c in project.cases()}
    assert "half precision" in cases["fp16", None]["reason"]
    exact = cases["fp32", None]
    assert exact["accuracy"] == pytest.approx(expected, abs=0.002)
    assert exact["effective_precision"] == "fp32"
    for variant in (None, "per_channel=false"):
        int8 = cases["int8-static", variant]
        assert int8["accuracy"] >= 0.9
        assert 25 <= int8["sqnr_db"] <= 60  # eight bits: neither broken nor float32 after all
        assert int8["effective_precision"] == "int8"
        assert int8["calibration_items"] == 100
        assert int8["artifact_size_mb"] < exact["artifact_size_mb"] / 2
