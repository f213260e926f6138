"""Inputs and outputs of a prepared file, in ``io.json``, so that later steps need no onnx package.

Imported while measuring: the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import Model, TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto

IO_FILE = "io.json"


@dataclass(frozen=True)
class Io:
    """Inputs and outputs of the ONNX file, by the file's names and in its order.

    Attributes:
        inputs, outputs: the file's dtypes and shapes; a name stands for a free size. 8-bit ones
            have ``scale`` and ``zero_point``.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def input_shapes(self, model: Model, batch: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs for ``batch`` items.

        Raises:
            Unsupported: the file is fixed at another batch.
        """
        shapes = model.source_shapes(batch)
        for name, tensor in model.source_inputs.items():
            spec = replace(self.inputs[tensor.name], batch=model.inputs[name].batch)
            if (fixed := fixed_batch(spec)) not in (None, batch):
                raise Unsupported(
                    f"the file is fixed at batch {fixed} (input '{tensor.name}'), not {batch}"
                )
        return shapes

    @classmethod
    def of(cls, model: ModelProto) -> Io:
        """Inputs and outputs of an ONNX model."""
        from qbench.kit.onnxfile.graph import real_inputs, specs

        graph = model.graph
        return cls(specs(real_inputs(graph), graph), specs(graph.output, graph))

    def write(self, folder: Path) -> None:
        (folder / IO_FILE).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Io:
        data = json.loads((folder / IO_FILE).read_text())
        return cls(
            **{
                kind: {name: TensorSpec.from_json(spec) for name, spec in data[kind].items()}
                for kind in ("inputs", "outputs")
            }
        )
