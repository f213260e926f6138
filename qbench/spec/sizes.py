"""Sizes of a model's inputs that the user gives: ``--shape``, ``--size``, ``--batch-axis``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from qbench.errors import UserError, nearest
from qbench.kit.model import UNKNOWN_RANK, TensorSpec
from qbench.spec.models import BATCH, ModelCard, Tensor

InputShapes = dict[str, list[int | str]]
"""Shapes by canonical input; the batch is called ``N``."""

LARGEST = 2**31 - 1
"""Largest size that runtimes take."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class GivenSizes:
    """Sizes from the command line.

    Attributes:
        shapes: all sizes of an input, by its name; that of the batch axis counts only where the
            model turns out to have no batch axis, and as the batch size.
        sizes: by name of the free size.
        batch_axes: by input; None: no batch axis.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    batch_axes: Mapping[str, int | None] = field(default_factory=dict[str, int | None])

    @classmethod
    def parse(
        cls,
        shapes: Sequence[str] = (),
        sizes: Sequence[str] = (),
        batch_axes: Sequence[str] = (),
    ) -> GivenSizes:
        """
        Args:
            shapes: such as ``images=1x3x320x320``, or ``rate=`` for a scalar.
            sizes: such as ``height=320,width=320``.
            batch_axes: such as ``state=1`` or ``anchors=none``.

        Raises:
            UserError: not of this form.
        """
        split = [part for given in sizes for part in given.split(",")]
        return cls(
            dict(_pairs("--shape", shapes, r"\d+(x\d+)*|", "images=1x3x320x320", _shape)),
            dict(_pairs("--size", split, r"\d+", "height=320,width=320", _size)),
            dict(_pairs("--batch-axis", batch_axes, r"\d+|none", "state=1 or state=none", _axis)),
        )

    def __bool__(self) -> bool:
        return bool(self.shapes or self.sizes or self.batch_axes)

    def renamed(self, inputs: Mapping[str, TensorSpec]) -> GivenSizes:
        """The same with the file's names: of ``serving_default_images:0``, ``images`` is enough."""
        short = {name.removeprefix("serving_default_").partition(":")[0]: name for name in inputs}

        def full(given: Mapping[str, _Value]) -> dict[str, _Value]:
            return {n if n in inputs else short.get(n, n): value for n, value in given.items()}

        return GivenSizes(full(self.shapes), self.sizes, full(self.batch_axes))

    def check_names(self, inputs: Mapping[str, TensorSpec]) -> None:
        """
        Args:
            inputs: by name; the batch, where it is known, is no free size.

        Raises:
            UserError: there is no such input, axis or free size.
        """
        for option, names in (("--shape", self.shapes), ("--batch-axis", self.batch_axes)):
            for name in names:
                if name not in inputs:
                    raise UserError(f"{option}: no input is called '{name}'", nearest(name, inputs))
        for name, axis in self.batch_axes.items():
            unknown = inputs[name].shape == UNKNOWN_RANK
            if axis is not None and not unknown and axis >= len(inputs[name].shape):
                shape = as_text(inputs[name].shape)
                raise UserError(
                    f"--batch-axis: input '{name}' is {shape}, which has no axis {axis}"
                )
        ranked = [spec for spec in inputs.values() if spec.shape != UNKNOWN_RANK]
        free = {size for spec in ranked for size in spec.free}
        for name in self.sizes:
            if name not in free:
                known = f"Free are: {', '.join(sorted(free))}." if free else "No size is free."
                raise UserError(f"--size: no free size is called '{name}'", known)

    def batch(self, inputs: Mapping[str, TensorSpec]) -> int:
        """The batch size that a shape says; 1 where none does."""
        said = (
            self.shapes[name][spec.batch]
            for name, spec in inputs.items()
            if name in self.shapes and spec.batch is not None
        )
        return next(said, 1)

    def apply(self, card: ModelCard) -> ModelCard:
        """The card with these sizes; itself where none concerns it.

        Raises:
            UserError: a shape has another number of axes than the card's.
        """
        inputs, sizes = dict(card.inputs), dict(card.sizes)
        for name, tensor in card.inputs.items():
            shape = list(tensor.shape)
            axis = tensor.batch_axis
            if name in self.batch_axes:
                axis = self.batch_axes[name]
                if axis is not None and axis >= len(shape):
                    raise UserError(
                        f"--batch-axis: input '{name}' is {as_text(shape)}, without an axis {axis}"
                    )
            if name in self.shapes:
                shape = _replaced(name, shape, self.shapes[name], axis)
            if name in self.batch_axes or name in self.shapes:
                word = "none" if axis is None else axis
                changed = tensor.model_copy(update={"shape": shape, "batch": word})
                inputs[name] = Tensor.model_validate(changed.model_dump())
            sizes |= {n: v for n, v in self.sizes.items() if n in inputs[name].spec().free}
        if inputs == card.inputs and sizes == card.sizes:
            return card
        free = {size for tensor in inputs.values() for size in tensor.spec().free}
        kept = {name: value for name, value in sizes.items() if name in free}
        changed = {"inputs": inputs, "sizes": kept, "expected": None}  # at the card's own sizes
        return card.model_copy(update=changed)


NOTHING_GIVEN = GivenSizes()


def _replaced(
    name: str, shape: list[int | str], given: tuple[int, ...], batch: int | None
) -> list[int | str]:
    if len(shape) != len(given):
        raise UserError(
            f"--shape: input '{name}' has {len(shape)} axes, {as_text(tuple(shape))}; "
            f"{as_text(given)} has {len(given)}"
        )
    return [
        old if axis == batch else new
        for axis, (old, new) in enumerate(zip(shape, given, strict=True))
    ]


def missing_sizes(inputs: Mapping[str, TensorSpec]) -> str:
    """The free sizes without a value, such as ``height and width of 'image', Nx3xheightxwidth``;
    "" if there are none."""
    parts = [
        f"{' and '.join(spec.free)} of '{name}', {as_text(spec.shape)}"
        for name, spec in inputs.items()
        if spec.free
    ]
    return "; ".join(parts)


def shapes_of(card: ModelCard) -> InputShapes:
    """The shapes of the card's inputs, with the values of free sizes."""
    return {
        name: [BATCH if axis == spec.batch else size for axis, size in enumerate(spec.shape)]
        for name, spec in card.input_specs.items()
    }


def as_text(shape: Sequence[int | str]) -> str:
    """Such as ``Nx3x224x224``; ``scalar`` for []."""
    return "x".join(map(str, shape)) or "scalar"


def _pairs(
    option: str,
    given: Sequence[str],
    pattern: str,
    example: str,
    read: Callable[[str], _Value],
) -> Iterator[tuple[str, _Value]]:
    """Yield name and value of each ``name=value``; names may hold ``=``."""
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not re.fullmatch(pattern, value):
            raise UserError(f"{option} {text}: not of the form {example}")
        try:
            yield name, read(value)
        except ValueError as error:
            raise UserError(f"{option} {text}: {error}") from None


def _size(text: str) -> int:
    size = int(text) if len(text) < 12 else LARGEST + 1
    if not 1 <= size <= LARGEST:
        raise ValueError(f"a size is from 1 to {LARGEST}")
    return size


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_size(part) for part in text.split("x") if part)


def _axis(text: str) -> int | None:
    return None if text == "none" else min(int(text[:6]), 10**6)
