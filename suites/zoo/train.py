"""Train the zoo: three small networks on scikit-learn's digits, each as ONNX and as TFLite.

    python suites/zoo/train.py                        # all three, in place, 5 to 15 minutes
    python suites/zoo/train.py --model digits_cnn
    python suites/zoo/train.py --steps 1 --output /tmp/trial

Needs qbench (`pip install -e .`), torch, onnx, onnxruntime, litert-torch and scikit-learn. It
writes, below the output folder (by default `suites/`):

    zoo/digits.npz            images and labels, in the recorded order (only if it is missing)
    datasets/digits.yaml      the card of the data set
    zoo/<model>.onnx          float32, any batch size
    zoo/<model>.tflite        float32, the same weights, batch size 1, channels last
    models/<model>.yaml       the model card: digests, tensor names, measured accuracy

A model's files are written only if both formats agree on the test items. Training uses the training
rows only and has a fixed length: nothing is selected by looking at the test rows.
"""

import argparse
import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import networks
import numpy as np
import torch
import yaml
from pydantic import TypeAdapter

from qbench.data.apply import apply
from qbench.spec.preprocess import Steps

SEED = 20240613
TRAIN, TEST = slice(0, 1347), slice(1347, 1797)
MIN_SQNR_DB = 100.0
BATCH = 64
THREADS = 2  # the order of float sums, hence the weights, depends on it
SUITES = Path(__file__).resolve().parents[1]


class RecipeError(Exception):
    """The trained model does not meet the requirements for shipping."""


@dataclass(frozen=True)
class Recipe:
    """Training of one model. `size`: height and width of the input in pixels."""

    network: Callable[[], torch.nn.Module]
    description: str
    size: int
    steps: int
    learning_rate: float

    @property
    def preprocess(self) -> str:
        """Preprocessing steps of the model's card, in YAML; training uses the same."""
        lines = ["- normalize: {mean: 0, std: 16}", "- layout: NCHW"]
        if self.size != 8:
            lines.insert(0, f"- resize: {{size: [{self.size}, {self.size}]}}")
        return "\n".join(lines)


RECIPES = {
    "digits_cnn": Recipe(
        networks.Cnn,
        "Convolutional network of four layers on 8x8 digits, the smallest model of the zoo",
        size=8,
        steps=1500,
        learning_rate=4e-3,
    ),
    "digits_mobilenet": Recipe(
        networks.MobileNetV2,
        "MobileNetV2 of width 0.35 on digits enlarged to 96x96 pixels",
        size=96,
        steps=700,
        learning_rate=4e-3,
    ),
    "digits_vit": Recipe(
        networks.VisionTransformer,
        "Vision transformer (3 blocks, width 64, 64 tokens) on digits enlarged to 32x32 pixels",
        size=32,
        steps=2000,
        learning_rate=1e-3,
    ),
}

MODEL_CARD = Template("""\
# Written by suites/zoo/train.py: change the recipe, not this file.
name: $name
task: image-classification
description: $description
licence: Apache-2.0
inputs:
  image: {dtype: float32, shape: [N, 1, $size, $size], layout: NCHW}
outputs:
  logits: {dtype: float32, shape: [N, 10]}
sources:
  onnx:
    path: zoo/$name.onnx
    sha256: $onnx_sha256
    inputs: {image: {name: image}}
    outputs: {logits: {name: logits}}
  tflite:
    path: zoo/$name.tflite
    sha256: $tflite_sha256
    inputs: {image: {name: $tflite_input, layout: NHWC}}
    outputs: {logits: {name: $tflite_output}}
preprocess:
  image:
$preprocess
metric: top1
evaluation: {dataset: digits, items: "1347:1797"}
calibration: {dataset: digits, items: "0:200"}
expected: {value: $accuracy, items: 450}
""")

DATASET_CARD = Template("""\
# Written by suites/zoo/train.py: change the recipe, not this file.
name: digits
description: >-
  Handwritten digits, 8x8 pixels with values 0 to 16. Rows 0:1347 are the training split of the
  zoo's models, rows 1347:1797 the held-out test split.
licence: CC-BY-4.0
homepage: https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits
format: npz
files:
  data: {path: zoo/digits.npz, sha256: $sha256}
arrays: {image: images}
labels: labels
items: 1797
classes: 10
""")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(THREADS)
    images, labels = prepare_digits(arguments.output)
    for name in arguments.model or RECIPES:
        make_model(name, images, labels, arguments.steps, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export the zoo's models.")
    parser.add_argument("--model", nargs="+", choices=list(RECIPES), help="default: all")
    parser.add_argument("--steps", type=int, help="training steps; for trials, needs --output")
    parser.add_argument("--output", type=Path, help="default: the folder of the shipped suites")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.output is None:
        parser.error("--steps makes a trial model: give --output too, so that none is overwritten")
    arguments.output = arguments.output or SUITES
    return arguments


def make_model(
    name: str, images: np.ndarray, labels: np.ndarray, steps: int | None, output: Path
) -> None:
    """Train, export, check and describe one model below `output`.

    Args:
        images, labels: all rows of the data set, uint8 [1797, 8, 8] and int64 [1797].
        steps: training steps, or None for the recipe's.

    Raises:
        RecipeError: the two exported forms disagree; nothing is written then.
    """
    recipe = RECIPES[name]
    preprocess = TypeAdapter(Steps).validate_python(yaml.safe_load(recipe.preprocess))
    begin = time.monotonic()
    network = train(recipe, preprocess, images[TRAIN], labels[TRAIN], steps or recipe.steps)
    train_s = time.monotonic() - begin

    networks.fold_batch_norms(network)
    with tempfile.TemporaryDirectory() as folder:
        onnx_path, tflite_path = Path(folder, f"{name}.onnx"), Path(folder, f"{name}.tflite")
        export_onnx(network, recipe.size, onnx_path)
        export_tflite(network, recipe.size, tflite_path)

        items = np.stack([apply(preprocess, image) for image in images[TEST]])
        logits = run_onnx(onnx_path, items)
        tflite_logits, tflite_input, tflite_output = run_tflite(tflite_path, items)
        sqnr_db = require_agreement(name, logits, tflite_logits)
        accuracy = float(np.mean(logits.argmax(1) == labels[TEST]))

        card = MODEL_CARD.substitute(
            name=name,
            description=recipe.description,
            size=recipe.size,
            onnx_sha256=sha256(onnx_path),
            tflite_sha256=sha256(tflite_path),
            tflite_input=tflite_input,
            tflite_output=tflite_output,
            preprocess="\n".join(f"    {line}" for line in recipe.preprocess.splitlines()),
            accuracy=round(accuracy, 4),
        )
        yaml.safe_load(card)  # a description may break the YAML: fail before anything is written
        for path in (onnx_path, tflite_path):
            write(output / "zoo" / path.name, path.read_bytes())
        write(output / "models" / f"{name}.yaml", card.encode())
    print(f"{name}: top-1 {accuracy:.4f}, SQNR {sqnr_db:.1f} dB, trained in {train_s:.0f} s")


def prepare_digits(output: Path) -> tuple[np.ndarray, np.ndarray]:
    """Make `zoo/digits.npz` from scikit-learn if it is missing, write its card, and load it.

    Returns:
        images uint8 [1797, 8, 8] with values 0 to 16, and labels int64 [1797].
    """
    path = output / "zoo" / "digits.npz"
    if not path.exists():
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(SEED).permutation(len(digits.target))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            images=digits.images[order].astype(np.uint8),
            labels=digits.target[order].astype(np.int64),
        )
    card = DATASET_CARD.substitute(sha256=sha256(path))
    write(output / "datasets" / "digits.yaml", card.encode())
    with np.load(path) as arrays:
        return arrays["images"], arrays["labels"]


def train(
    recipe: Recipe, preprocess: Steps, images: np.ndarray, labels: np.ndarray, steps: int
) -> torch.nn.Module:
    """Train a network on images uint8 [n, 8, 8], each randomly shifted by up to one pixel."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = recipe.network().train()
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=max(steps, 2), pct_start=0.2
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    for step in range(steps):
        rows = rng.choice(len(images), BATCH, replace=False)
        batch = np.stack([apply(preprocess, shift(images[row], rng)) for row in rows])
        loss = loss_of(network(torch.from_numpy(batch)), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    return network.eval()


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift uint8 [H, W] by -1, 0 or 1 pixel along each axis, filling the border with zeros."""
    top, left = rng.integers(0, 3, size=2)
    height, width = image.shape
    return np.pad(image, 1)[top : top + height, left : left + width]


def export_onnx(network: torch.nn.Module, size: int, path: Path) -> None:
    """Input `image` [N, 1, size, size], output `logits` [N, 10], any N."""
    import onnx

    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, size, size),),  # not 1: the exporter would take that for a constant
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=18,
        verbose=False,
    )
    model = program.model_proto
    # The exporter notes Python stack traces, with paths of the machine it ran on.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        value.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path, save_as_external_data=False)


def export_tflite(network: torch.nn.Module, size: int, path: Path) -> None:
    """Signature `serving_default`, input [1, size, size, 1], output [1, 10]."""
    import litert_torch

    channels_last = litert_torch.to_channel_last_io(network, args=[0]).eval()
    litert_torch.convert(channels_last, (torch.zeros(1, size, size, 1),)).export(str(path))


def run_onnx(path: Path, items: np.ndarray) -> np.ndarray:
    """float32 items [n, 1, H, W] to logits [n, 10]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": items})[0]


def run_tflite(path: Path, items: np.ndarray) -> tuple[np.ndarray, str, str]:
    """float32 items [n, 1, H, W] to logits [n, 10], and the names of the input and the output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    logits = []
    for item in items:
        interpreter.set_tensor(source["index"], item.transpose(1, 2, 0)[None])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(target["index"])[0].copy())
    return np.stack(logits), source["name"], target["name"]


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """10 log10(sum(reference^2) / sum((reference - other)^2)), in float64; inf if equal."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    noise = np.sum((reference - other) ** 2)
    return math.inf if noise == 0 else float(10 * np.log10(np.sum(reference**2) / noise))


def require_agreement(name: str, onnx_logits: np.ndarray, tflite_logits: np.ndarray) -> float:
    """The SQNR of the TFLite form against the ONNX form, in dB.

    Raises:
        RecipeError: it is below MIN_SQNR_DB, or no number.
    """
    found = sqnr_db(onnx_logits, tflite_logits)
    if not found >= MIN_SQNR_DB:
        raise RecipeError(
            f"{name}: the ONNX and TFLite forms agree to {found:.1f} dB only, "
            f"{MIN_SQNR_DB:.0f} dB are required; look for an operator that was converted otherwise"
        )
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main()
