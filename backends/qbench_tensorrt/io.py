"""Inputs and outputs of a prepared file, in ``io.json``, so that later steps need no onnx package.

Imported while measuring: the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Model, TensorSpec, relayout_shape

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
        """Shapes of the inputs for ``batch`` items. Other free sizes than the first come from the
        card (the length of a sentence), or are 1 if free there too.

        Raises:
            Unsupported: the file is fixed at another batch.
        """
        cards = {
            tensor.name: relayout_shape(
                model.inputs[name].shape, model.inputs[name].layout, tensor.layout
            )
            for name, tensor in model.source_inputs.items()
        }
        for name, spec in self.inputs.items():
            first = spec.shape[0] if spec.shape else "N"
            if isinstance(first, int) and first != batch:
                raise Unsupported(
                    f"the file is fixed at batch {first} (input '{name}'), not {batch}"
                )
        return {
            name: _sized(spec, cards.get(name, ()), batch) if spec.shape else ()
            for name, spec in self.inputs.items()
        }

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


def _sized(spec: TensorSpec, card: tuple[int | str, ...], batch: int) -> tuple[int, ...]:
    """The file's shape with free sizes from the card."""
    shape = spec.shape
    if len(card) == len(shape):
        shape = tuple(
            given if isinstance(size, str) else size
            for size, given in zip(shape, card, strict=True)
        )
    return replace(spec, shape=shape).sized(batch)
