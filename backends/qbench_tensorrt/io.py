"""What a prepared file takes and gives: ``io.json``, so that later stages need no onnx package.

Imported while measuring: the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qbench.backend import TensorSpec, Unsupported

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

    def input_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The inputs' shapes for ``batch`` items: free first axes hold them, other free axes 1.

        Raises:
            Unsupported: the file is fixed at another batch.
        """
        for name, spec in self.inputs.items():
            first = spec.shape[0] if spec.shape else "N"
            if isinstance(first, int) and first != batch:
                raise Unsupported(
                    f"the file is fixed at batch {first} (input '{name}'), so not at {batch}"
                )
        return {name: spec.sized(batch) if spec.shape else () for name, spec in self.inputs.items()}

    def has_free_axes(self) -> bool:
        """Whether any size of an input is free, so that an engine needs a profile."""
        return any(isinstance(size, str) for spec in self.inputs.values() for size in spec.shape)

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
