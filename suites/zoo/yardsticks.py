"""Write the yardsticks: networks that measure the ceilings of a machine and a runtime.

    python suites/zoo/yardsticks.py                  # in place, about a minute
    python suites/zoo/yardsticks.py --output /tmp/trial

Needs qbench (`pip install -e .`), torch, onnx, onnxruntime and litert-torch. For each yardstick it
writes, below the output folder (by default `suites/yardsticks/`):

    <name>.onnx, <name>.tflite   float32, the same fixed pseudo-random weights, batch size 1
    models/<name>.yaml           the card

The inner layers of a network share one weight, so that files are small and weights stay in a
processor's own cache. Narrow layers at both ends keep inputs and outputs small. Convolutions have
no padding, because runtimes skip products with padding, although all tools count them as work.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
import train
import yaml
from torch import nn

SEED = 20240613
OUTPUT = Path(__file__).resolve().parents[1] / "yardsticks"


class Matmul(nn.Module):
    """Four products of [512, 256] with [256, 256]: 136 million multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = (
            nn.Linear(8, 256),
            nn.Linear(256, 256),
            nn.Linear(256, 8),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for _ in range(4):
            x = torch.relu(self.inner(x))
        return self.last(x)


class Conv(nn.Module):
    """Four convolutions 3x3 of 64 channels, on 30x30 down to 24x24: 108 million."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = (
            nn.Conv2d(4, 64, 1),
            nn.Conv2d(64, 64, 3),
            nn.Conv2d(64, 4, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for _ in range(4):
            x = torch.relu(self.inner(x))
        return self.last(x)


class Nothing(nn.Module):
    """One operator on one number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


@dataclass(frozen=True)
class Yardstick:
    """One network; `shape` is its input's, images as NCHW."""

    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    description: str


YARDSTICKS = {
    "yardstick_matmul": Yardstick(
        Matmul, (1, 512, 8), "Matrix products, to see what a machine reaches at most"
    ),
    "yardstick_conv": Yardstick(
        Conv, (1, 4, 32, 32), "Convolutions, to see what a machine reaches at most"
    ),
    "yardstick_nothing": Yardstick(
        Nothing, (1, 1), "One operator on one number, to see what a call costs beyond any network"
    ),
}

CARD = Template("""\
# Written by suites/zoo/yardsticks.py: change that, not this file.
name: $name
task: other
description: $description
licence: Apache-2.0
inputs:
  x: $input
outputs:
  y: $output
sources:
  onnx:
    path: $name.onnx
    sha256: $onnx_sha256
  tflite:
    path: $name.tflite
    sha256: $tflite_sha256
    inputs: {x: {name: $tflite_input$layout}}
    outputs: {y: {name: $tflite_output$layout}}
""")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the yardsticks.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    for name, yardstick in YARDSTICKS.items():
        make(name, yardstick, output)


def initialized(network: nn.Module) -> nn.Module:
    """With weights that keep the size of values from layer to layer (He et al. 2015)."""
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    return network.eval()


def make(name: str, yardstick: Yardstick, output: Path) -> None:
    """Export, check and describe one yardstick below `output`.

    Raises:
        train.RecipeError: an exported form disagrees with the network; nothing is written then.
    """
    network = initialized(yardstick.network())
    x = torch.empty(yardstick.shape).normal_(generator=torch.Generator().manual_seed(SEED))
    expected = network(x).detach().numpy()
    image = x.ndim == 4
    with tempfile.TemporaryDirectory() as folder:
        onnx_path, tflite_path = Path(folder, f"{name}.onnx"), Path(folder, f"{name}.tflite")
        export_onnx(network, x, onnx_path)
        export_tflite(network, x, tflite_path)
        train.require_agreement(name, run_onnx(onnx_path, x.numpy()), expected)
        given = x.numpy().transpose(0, 2, 3, 1) if image else x.numpy()
        got, tflite_input, tflite_output = run_tflite(tflite_path, given)
        got = got.transpose(0, 3, 1, 2) if image else got
        decibels = train.require_agreement(name, got, expected)
        card = CARD.substitute(
            name=name,
            description=yardstick.description,
            input=tensor(x.shape),
            output=tensor(expected.shape),
            onnx_sha256=train.sha256(onnx_path),
            tflite_sha256=train.sha256(tflite_path),
            tflite_input=tflite_input,
            tflite_output=tflite_output,
            layout=", layout: NHWC" if image else "",
        )
        yaml.safe_load(card)
        for path in (onnx_path, tflite_path):
            train.write(output / path.name, path.read_bytes())
        train.write(output / "models" / f"{name}.yaml", card.encode())
    print(f"{name}: SQNR {decibels:.1f} dB")


def tensor(shape: tuple[int, ...]) -> str:
    layout = ", layout: NCHW" if len(shape) == 4 else ""
    return f"{{dtype: float32, shape: {list(shape)}{layout}}}"


def export_onnx(network: nn.Module, x: torch.Tensor, path: Path) -> None:
    """Input `x`, output `y`, of fixed shapes."""
    import onnx

    program = torch.onnx.export(
        network,
        (x,),
        dynamo=True,
        input_names=["x"],
        output_names=["y"],
        opset_version=18,
        verbose=False,
    )
    assert program is not None  # only the older exporter gives None
    model = program.model_proto
    clear_traces(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path, save_as_external_data=False)


def clear_traces(model: Any) -> None:
    """Remove the exporter's Python stack traces, which contain paths of this machine."""
    graph = model.graph
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for weight in graph.initializer:
        weight.ClearField("metadata_props")


def export_tflite(network: nn.Module, x: torch.Tensor, path: Path) -> None:
    """The same, images with channels last."""
    import litert_torch

    if x.ndim == 4:
        network = litert_torch.to_channel_last_io(network, args=[0], outputs=[0]).eval()
        x = x.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(network, (x,)).export(str(path))


def run_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x})[0])


def run_tflite(path: Path, x: np.ndarray) -> tuple[np.ndarray, str, str]:
    """The output for one input, and the names of the input and the output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(source["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"]).copy(), source["name"], target["name"]


if __name__ == "__main__":
    main()
