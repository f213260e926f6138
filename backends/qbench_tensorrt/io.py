"""What a prepared file takes and gives: ``io.json``, so that later stages need no onnx package.

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
    """Inputs and outputs of the ONNX file, by the file's names, in its order.

    Attributes:
        inputs, outputs: dtype and shape as the file has them; a name in a shape is a size that is
            free. ``scale`` and ``zero_point`` of 8-bit ones.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def input_shapes(self, model: Model, batch: int) -> dict[str, tuple[int, ...]]:
        """The inputs' shapes for ``batch`` items: free first axes hold them; other free axes have
        the size that the card gives them (the length of a sentence), or 1 where it is free there,
        too.

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
                    f"the file is fixed at batch {first} (input '{name}'), so not at {batch}"
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
    """The file's shape with its free sizes taken from the card's."""
    shape = spec.shape
    if len(card) == len(shape):
        shape = tuple(
            told if isinstance(size, str) else size for size, told in zip(shape, card, strict=True)
        )
    return replace(spec, shape=shape).sized(batch)
