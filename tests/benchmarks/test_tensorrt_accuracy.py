"""Accuracy loss of TensorRT's portable artifacts, all models of the assets, on ONNX Runtime:
pytest tests/benchmarks/test_tensorrt_accuracy.py --benchmark-enable -s
"""

from __future__ import annotations

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from on_processor import subject  # noqa: E402

from qbench.kit.model import PrepareTarget  # noqa: E402
from qbench.spec.precisions import complete_options  # noqa: E402
from qbench_tensorrt import Backend  # noqa: E402
from qbench_tensorrt.rules import check  # noqa: E402

LOSES_MORE = {
    # ONNX Runtime loses 4.9 points with unsigned activations, mostly to the rounding of weights
    "mobilenet_v1_025_224": 0.09,
}
"""Int8 that loses more than 1.5 points, and how much is too much."""

OPTIONS = {
    # its input, of spectral coefficients, has outliers, for which 255 steps around zero are few: it
    # loses 2.0 points with minmax, and none with the first convolution left out
    "dscnn_kws": {"calibration_method": "mse"},
}
"""What int8 needs to lose less."""

LOUDER = {"mobilenet_v1_025_224": 35}
"""fp16 that is less than 40 dB from float32, and what is too near."""

EVERY = (
    *("resnet8_cifar10", "resnet_large_cifar10", "dscnn_kws", "mobilenet_v1_025_vww96"),
    *("mobilenet_v1_025_224", "mobilenet_v2_100_224", "mnist_cnn"),
    *("fastestdet_coco352", "toycar_autoencoder", "avgwordvec_sst2"),
    *("digits_cnn", "digits_mobilenet", "digits_vit"),
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EVERY)
def test_every_model_of_the_assets(benchmark, assets: Path, tmp_path: Path, name: str):
    """A table for the reader: what each loses at int8 and at half precision."""
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    trained = subject(name, 500)

    def made(precision: str) -> Path:
        options = OPTIONS.get(name, {}) if precision == "int8-static" else {}
        target = PrepareTarget(precision, complete_options(precision, options), "cuda")
        out = tmp_path / precision
        out.mkdir()
        file = out / Backend().prepare(trained.model, target, trained.calibration, out).file
        assert check(onnx.load(file)) == []
        return file

    made("bf16")
    for precision in ("fp16", "int8-static"):
        quality = trained.judged(made(precision), precision == "int8-static")
        delta, db = quality.accuracy_delta, quality.sqnr_db
        assert db is not None
        points = "-" if delta is None else f"{100 * delta:+.1f}"
        print(f"\n{name:24} {precision:12} {points:>6} points {db:6.1f} dB", end="")
        if precision == "fp16":
            assert db >= LOUDER.get(name, 40)
        elif delta is not None:
            assert delta >= -LOSES_MORE.get(name, 0.015) - 1e-9
    benchmark.pedantic(check, (onnx.load(tmp_path / "int8-static" / "model.onnx"),), rounds=3)
