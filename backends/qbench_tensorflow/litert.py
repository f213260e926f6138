"""Run TFLite files by LiteRT, as sources of conversions. For workers only; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Source, match, run_twice
from qbench.kit.feeds import convert as cast
from qbench.kit.model import Feed, TensorSpec
from qbench.kit.reasons import sentence


@dataclass(frozen=True)
class Opened:
    """An opened file.

    Attributes:
        inputs, outputs: by canonical name, the file's own names.
        indices, specs: by the file's own names.
    """

    source: Source
    interpreter: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    indices: Mapping[str, int]
    specs: Mapping[str, TensorSpec]

    def run(self, samples: Feed) -> Feed:
        """The outputs for the samples, see ``run_twice``."""
        batch = 1
        for name, own in self.inputs.items():
            axis = self.source.inputs[name].batch
            batch = batch if axis is None else _sizes(self.specs[own])[axis]
        return run_twice(self.source, samples, self.infer, batch)

    def infer(self, feed: Feed) -> Feed:
        """Run once; feed and outputs by canonical name, in the card's dtypes."""
        for name, own in self.inputs.items():
            spec = self.specs[own]
            values = cast(feed[name], self.source.inputs[name], spec)
            self.interpreter.set_tensor(self.indices[own], values.reshape(_sizes(spec)))
        self.interpreter.invoke()
        return {
            name: cast(
                self.interpreter.get_tensor(self.indices[own]),
                self.specs[own],
                self.source.outputs[name],
            )
            for name, own in self.outputs.items()
        }


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(int(size) for size in spec.shape)


def open_file(source: Source) -> Opened:
    """
    Raises:
        PrepareError: LiteRT cannot run it, or it is not as the card describes it.
    """
    try:
        interpreter = Interpreter(str(source.path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise PrepareError(f"LiteRT cannot run the TFLite file: {sentence(error)}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    details = [*inputs, *outputs]
    return Opened(
        source,
        interpreter,
        match("input", source.source_inputs, [d["name"] for d in inputs]),
        match("output", source.source_outputs, [d["name"] for d in outputs]),
        {d["name"]: d["index"] for d in details},
        {d["name"]: _spec(d) for d in details},
    )


def _spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        np.dtype(detail["dtype"]).name,
        tuple(int(size) for size in detail["shape"]),
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )
