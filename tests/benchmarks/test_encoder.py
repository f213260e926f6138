"""A transformer that comes as torch code, at every precision:
pytest tests/benchmarks/test_encoder.py --benchmark-enable -s

It is trained here for a minute, because quantization is not judged on random weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from qbench.analysis.table.table import case_table
from qbench.run.request import Request
from qbench.run.runner import run_suite
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.suite import load_suite, suites_dir

WIDTH, DEPTH, EPOCHS = 256, 4, 30
HELD_OUT = 1347
"""The digits from here on are evaluated."""
CARD = {
    "name": "encoder",
    "task": "image-classification",
    "inputs": {"image": {"dtype": "float32", "shape": ["N", 1, 8, 8], "layout": "NCHW"}},
    "outputs": {"logits": {"dtype": "float32", "shape": ["N", 10]}},
    "sources": {
        "torch": {
            "path": "encoder.py",
            "callable": "make",
            "options": {"width": WIDTH, "depth": DEPTH},
            "weights": {"path": "encoder.safetensors"},
        }
    },
    "preprocess": {"image": [{"normalize": {"mean": 0, "std": 16}}, {"layout": "NCHW"}]},
    "evaluation": {"dataset": "digits", "items": f"{HELD_OUT}:"},
    "calibration": {"dataset": "digits", "items": "0:200"},
}
SUITE = {
    "name": "encoder",
    "models": ["encoder"],
    "precisions": ["fp32", "bf16", "w8", "w4", "int8-dynamic", "int8-static"],
    "backends": ["onnxruntime", "openvino", "tflite"],
    "rounds": 10,
    "warmup_s": 0.3,
    "timed_s": 0.5,
}
FASTER = [("onnxruntime", "int8-dynamic"), ("openvino", "int8-static")]
"""What has to be faster than float32 by a half at least, steadily."""


def train(folder: Path) -> None:
    """Write ``encoder.safetensors``, trained on the digits that are not evaluated."""
    torch = pytest.importorskip("torch")
    from encoder import make
    from safetensors.torch import save_file

    data = np.load(suites_dir() / "zoo" / "digits.npz")
    images = torch.tensor(data["images"][:HELD_OUT, None] / 16, dtype=torch.float32)
    labels = torch.tensor(data["labels"][:HELD_OUT], dtype=torch.int64)
    torch.manual_seed(0)
    network = make(WIDTH, DEPTH)
    steps = EPOCHS * (len(images) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(64)[: len(images) // 64]:
            loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    save_file(network.state_dict(), folder / "encoder.safetensors")


@pytest.mark.timeout(1800)
def test_int8_pays_on_a_transformer_from_torch(benchmark, tmp_path: Path):
    if not benchmark.enabled:
        pytest.skip("takes minutes: run with --benchmark-enable")
    shutil.copy(Path(__file__).with_name("encoder.py"), tmp_path)
    train(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "encoder.yaml").write_text(yaml.safe_dump(CARD))
    path = tmp_path / "encoder.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    registry = Registry()
    catalog = Catalog([tmp_path, suites_dir()])
    suite = load_suite(path, registry.names, catalog.names)
    request = Request(suite, path.read_text(), tmp_path / "results")
    bundle = benchmark.pedantic(
        lambda: run_suite(request, catalog, registry), rounds=1, iterations=1
    )
    cases = {
        (row["backend"], row["precision"]): row for row in case_table(bundle).to_dict("records")
    }
    for (backend, precision), row in cases.items():
        if row["status"] != "ok":
            print(f"\n{backend} {precision}: {row['status']}: {row['reason']}")
            continue
        speed = "" if row["speedup_p10"] is None else f" {row['speedup_p10']:.2f}x"
        close = "" if row["sqnr_db"] is None else f" {row['sqnr_db']:.1f} dB"
        print(f"\n{backend} {precision}:{speed} top-1 {row['accuracy']:.4f}{close}")
    assert cases["onnxruntime", "fp32"]["accuracy"] > 0.95, "it was trained"
    assert cases["onnxruntime", "fp32"]["converted_from"] == "torch"
    for key in FASTER:
        assert cases[key]["speedup_p10"] > 1.5, key
        assert cases[key]["accuracy_delta"] > -0.015, key
