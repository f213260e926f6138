"""The sizes and batch axes of a model file that has no card.

Sizes come from the user, the given inputs, or the file; nothing is guessed. Whether an axis is the
batch is tried: the file runs on two items one after the other, and on both at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from qbench.analysis.quality.fidelity import sqnr_db
from qbench.errors import UserError
from qbench.kit.adapter import Description, KnownSize
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import UNKNOWN_RANK, Feed, Shape, TensorSpec, gathered
from qbench.spec.models import BATCH, DTYPES
from qbench.spec.sizes import GivenSizes, as_text

_BATCH_NAME = re.compile(r"(?i)^(n|b|bs|.*batch.*|.*\.0|unk__.*|none)$")
"""Names that exporters give the batch, and those of sizes without a name."""
SAME_DB = 20.0
"""Least agreement of an item's outputs alone and in a batch, dB. Dynamic quantization, whose scales
are of the whole batch, agrees to about 30."""

Specs = Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Ran:
    """Outputs of some inferences, or why the first one failed.

    Attributes:
        outputs: of each inference, by the file's names.
        refusal: one sentence; None if it ran.
    """

    outputs: Sequence[Feed] = ()
    refusal: str | None = None


Runner = Callable[[Specs, int, Sequence[Feed]], Ran]
"""Runs a file: with inputs of these specs, at a batch, once for each feed."""


class Tensors(NamedTuple):
    """A model's tensors, settled.

    Attributes:
        inputs, outputs: as a card has them, by name: ``dtype``, ``shape``, ``batch``.
        sizes: values of free sizes, by name.
        batch: items in one inference, as the user's ``--shape`` or the file has it.
        notes: sentences for the user.
    """

    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    batch: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A model file, what it says, and what the user said about it.

    Attributes:
        title: for messages.
        arrays: shapes of the given inputs' arrays, by name; None: inputs are made up.
        items: makes two items' arrays ``[2, ...]`` for inputs of some specs.
        run: None if nothing here runs this format.
        stays_open: whether sizes without a value stay open, instead of being refused; then the file
            is not tried.
    """

    title: str
    described: Description
    given: GivenSizes
    arrays: Mapping[str, tuple[int, ...]] | None
    items: Callable[[Specs], Feed]
    run: Runner | None
    stays_open: bool = False


def settle(asked: Asked) -> Tensors:
    """Decide sizes and batch axes.

    Raises:
        UserError: a tensor that qbench cannot pass, a free size without a value, or a file that
            does not run.
    """
    described = asked.described
    _check_kinds(asked)
    asked = replace(asked, given=asked.given.renamed(described.inputs))
    asked.given.check_names({n: replace(s, batch=None) for n, s in described.inputs.items()})
    inputs = _with_batch(_ranked(asked), asked.given, described.sizes)
    valued = _valued(asked, inputs)
    if asked.run is None or any(spec.free for spec in valued.specs.values()):
        return _untried(asked, valued)
    trial = _try(asked, valued)
    if trial.why_no_batch is not None:
        if asked.given.batch_axes:
            raise UserError(
                f"{asked.title}: --batch-axis does not fit: {trial.why_no_batch}",
                "Leave it out, or name another axis.",
            )
        alone = {name: replace(spec, batch=None) for name, spec in inputs.items()}
        trial = _try(asked, _valued(asked, alone, trial.why_no_batch))
    return _settled(asked, trial)


# --------------------------------------------------------------------------- inputs


def _check_kinds(asked: Asked) -> None:
    """Refuse tensors that are no arrays of numbers."""
    if not asked.described.inputs:
        raise UserError(
            f"{asked.title} has no inputs, so its outputs are constants: there is nothing to run"
        )
    for kind, specs in (("input", asked.described.inputs), ("output", asked.described.outputs)):
        for name, spec in specs.items():
            if spec.dtype not in DTYPES:
                leave = (
                    "A model card may leave an output out (docs/model-cards.md). "
                    if kind == "output" and len(specs) > 1
                    else ""
                )
                raise UserError(
                    f"{asked.title}: {kind} '{name}' is a {spec.dtype}",
                    f"{leave}qbench feeds and reads {', '.join(DTYPES)}.",
                )


def _ranked(asked: Asked) -> dict[str, TensorSpec]:
    """The inputs; one of unknown rank has the rank that the user gives."""
    result = {}
    for name, spec in asked.described.inputs.items():
        if spec.shape == UNKNOWN_RANK:
            if name not in asked.given.shapes:
                raise UserError(
                    f"{asked.title} does not say how many axes input '{name}' has",
                    f"Give its shape, such as --shape {name}=1x3x224x224.",
                )
            axes = range(len(asked.given.shapes[name]))
            spec = replace(spec, shape=tuple(f"{name}.{axis}" for axis in axes))
        result[name] = spec
    return result


def _with_batch(
    inputs: Specs, given: GivenSizes, known: Mapping[str, KnownSize]
) -> dict[str, TensorSpec]:
    """The inputs with the axes that may be the batch.

    That is axis 0 where it is free, or 1, in all inputs but scalars; else the axes of the free size
    that is axis 0 of one input and an axis of all others. The user's word goes first.
    """

    def may_be_batch(size: int | str) -> bool:
        return size == 1 or (isinstance(size, str) and size not in {*given.sizes, *known})

    others = {n: spec for n, spec in inputs.items() if spec.shape and n not in given.batch_axes}
    axes: dict[str, int | None] = dict(given.batch_axes)
    if all(may_be_batch(spec.shape[0]) for spec in others.values()):
        free = any(isinstance(spec.shape[0], str) for spec in others.values())
        axes |= {n: 0 if spec.shape[0] != 1 or not free else None for n, spec in others.items()}
    elif not given.batch_axes:
        firsts = [spec.shape[0] for spec in others.values() if isinstance(spec.shape[0], str)]
        shared = (s for s in firsts if all(s in spec.shape for spec in others.values()))
        if (symbol := next(shared, None)) is not None and may_be_batch(symbol):
            axes |= {name: spec.shape.index(symbol) for name, spec in others.items()}
    else:
        axes |= {n: 0 for n, spec in others.items() if may_be_batch(spec.shape[0])}
    return {name: replace(spec, batch=axes.get(name)) for name, spec in inputs.items()}


def _valued(asked: Asked, inputs: Specs, why_no_batch: str = "") -> _Valued:
    """The inputs with the values of free sizes.

    Raises:
        UserError: some have none; with the option to type.
    """
    sizes: dict[str, int] = {}
    for name, spec in inputs.items():
        _check_shape(asked, name, spec)
        for axis, size in enumerate(spec.shape):
            if axis == spec.batch or isinstance(size, int):
                continue
            value = None if name in asked.given.shapes else _value(asked, name, spec, axis)
            if value is not None and sizes.setdefault(size, value) != value:
                raise UserError(
                    f"{asked.title}: '{size}' of '{name}' is {value}, and elsewhere "
                    f"{sizes[size]}: the file calls both the same"
                )
    inputs = {name: _shaped(spec, asked.given.shapes.get(name)) for name, spec in inputs.items()}
    missing = [
        (name, spec, free)
        for name, spec in inputs.items()
        if (free := [size for size in spec.free if size not in sizes])
    ]
    if missing and not asked.stays_open:
        name, spec, _ = missing[0]
        names = list(dict.fromkeys(size for _, _, free in missing for size in free))
        raise _refused(asked, names, name, spec, why_no_batch)
    return _Valued({name: spec.sized(sizes) for name, spec in inputs.items()}, inputs, sizes)


def _refused(
    asked: Asked, names: Sequence[str], name: str, spec: TensorSpec, why_no_batch: str
) -> UserError:
    """The error that names open sizes, and the options to type.

    Args:
        name, spec: of the first input with an open size.
    """
    batch = None if spec.batch is None else str(spec.shape[spec.batch])
    sure = batch is not None and (batch.isdigit() or _BATCH_NAME.search(batch) is not None)
    shape = as_text(
        [
            size if isinstance(size, int) else 1 if sure and axis == spec.batch else "VALUE"
            for axis, size in enumerate(spec.shape)
        ]
    )
    why = f"; {why_no_batch}" if why_no_batch else ""
    if batch is not None and not sure:
        why += f"; {batch} would be the batch"
    fix = f"Add --size {','.join(f'{n}=VALUE' for n in names)}, or --shape {name}={shape}."
    if not sure:
        fix += f" If an axis is the batch, name it: --batch-axis {name}=AXIS."
    return UserError(
        f"{asked.title} leaves sizes open: {', '.join(names)} of input '{name}' "
        f"[{', '.join(map(str, spec.shape))}]{why}",
        fix,
    )


class _Valued(NamedTuple):
    """Inputs with their sizes.

    Attributes:
        specs: with values in place of free sizes.
        named: with the names of free sizes.
        sizes: the values by name.
    """

    specs: dict[str, TensorSpec]
    named: Specs
    sizes: dict[str, int]


def _check_shape(asked: Asked, name: str, spec: TensorSpec) -> None:
    """Refuse a ``--shape`` of another rank, or with other sizes than the file's."""
    shape = asked.given.shapes.get(name)
    if shape is None:
        return
    where = f"{asked.title}: --shape {name}={as_text(shape)}: "
    if len(shape) != len(spec.shape):
        raise UserError(f"{where}the input has {len(spec.shape)} axes, {as_text(spec.shape)}")
    for axis, (size, wanted) in enumerate(zip(spec.shape, shape, strict=True)):
        if isinstance(size, int) and size != wanted and axis != spec.batch:
            raise UserError(f"{where}the file fixes axis {axis} at {size}")


def _shaped(spec: TensorSpec, shape: tuple[int, ...] | None) -> TensorSpec:
    """The input with the user's sizes in place of free ones, but for the batch."""
    if shape is None:
        return spec
    sizes = zip(spec.shape, shape, strict=True)
    return replace(
        spec, shape=tuple(a if axis == spec.batch else b for axis, (a, b) in enumerate(sizes))
    )


def _value(asked: Asked, name: str, spec: TensorSpec, axis: int) -> int | None:
    """The value of a free size of an input, by order of precedence; None if there is none."""
    size = str(spec.shape[axis])
    if size in asked.given.sizes:
        return asked.given.sizes[size]
    array = (asked.arrays or {}).get(name, ())
    if len(array) == len(spec.shape) + (spec.batch is None):  # the items are the first axis
        return array[1 + axis - (spec.batch is not None and axis > spec.batch)]
    if len(array) == len(spec.shape) and spec.batch is None:  # one value for all items
        return array[axis]
    known = asked.described.sizes.get(size)
    return known.value if known is not None else None


# --------------------------------------------------------------------------- the batch


class _Trial(NamedTuple):
    """What the file did with two items.

    Attributes:
        alone: outputs of each item alone, at batch 1 or at the file's fixed batch.
        axes: by output, its batch axis; None: none.
        fixed: the batch that the file is fixed at; None if it is free, or there is none.
        why_no_batch: why the axes that were tried are not the batch; None if they are.
    """

    inputs: _Valued
    alone: Sequence[Feed]
    axes: Mapping[str, int | None]
    fixed: int | None = None
    why_no_batch: str | None = None


def _try(asked: Asked, inputs: _Valued) -> _Trial:
    """Run two items alone, then both at once."""
    assert asked.run is not None
    specs = inputs.specs
    batches = {fixed_batch(spec) for spec in specs.values()} - {None, 1}
    fixed = batches.pop() if batches else None
    items = asked.items(specs)
    for name, spec in specs.items():
        if spec.batch is None:  # a batch shares it
            items[name] = np.repeat(items[name][:1], len(items[name]), axis=0)
    rows = (0, 1, 0)  # the first one twice
    firsts = [[0] * (fixed - 1) + [row] for row in rows] if fixed else [[row] for row in rows]
    ran = asked.run(specs, fixed or 1, [gathered(items, specs, rows) for rows in firsts])
    if ran.refusal is not None:
        shapes = ", ".join(f"{n} {as_text(spec.at(fixed or 1))}" for n, spec in specs.items())
        made_up = "" if asked.arrays else "on made-up inputs "
        raise UserError(
            f"{asked.title} does not run {made_up}({shapes}): {ran.refusal}",
            "Give real inputs by --inputs FILE.npz, or other sizes by --shape or --size.",
        )
    _check_finite(asked, ran.outputs)
    *alone, again = ran.outputs
    for name, array in alone[0].items():
        if not _same(array, again[name]):
            raise UserError(
                f"{asked.title}: output '{name}' differs from call to call for the same input, so "
                "no two programs of it can be compared",
                "Remove what is random from the model, or what it keeps between calls.",
            )
    none = dict.fromkeys(asked.described.outputs)
    if all(spec.batch is None for spec in specs.values()):
        return _Trial(inputs, alone, none)
    if fixed is not None:
        return _Trial(inputs, alone, _of_length(alone, fixed), fixed)
    both = asked.run(specs, 2, [gathered(items, specs, [0, 1])])
    if both.refusal is not None:
        return _Trial(inputs, alone, _of_length(alone, 1), 1)
    together = both.outputs[0]
    grown = {n: _grown(array, together[n]) for n, array in alone[0].items()}
    axes = {n: axis if _is_item(alone, n, axis) else None for n, axis in grown.items()}
    return _Trial(
        inputs,
        alone,
        axes,
        None,
        _why_no_batch(inputs.named, alone, together, grown),
    )


def _of_length(alone: Sequence[Feed], batch: int) -> dict[str, int | None]:
    """By output, axis 0 where it has the length of the batch for every item; else None."""
    return {
        name: 0 if all(one[name].shape[:1] == (batch,) for one in alone) else None
        for name in alone[0]
    }


def _check_finite(asked: Asked, outputs: Sequence[Feed]) -> None:
    for one in outputs:
        for name, array in one.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                origin = "the given inputs" if asked.arrays else "made-up inputs"
                raise UserError(
                    f"{asked.title}: output '{name}' holds NaN or infinity for {origin}",
                    "Give real inputs by --inputs FILE.npz: arrays [items, ...] by input.",
                )


def _grown(alone: np.ndarray, together: np.ndarray) -> int | None:
    """The only axis that is twice as long for two items; None if there is none."""
    if alone.ndim != together.ndim:
        return None
    sizes = zip(alone.shape, together.shape, strict=True)
    changed = [(axis, one, two) for axis, (one, two) in enumerate(sizes) if one != two]
    if len(changed) != 1:
        return None
    axis, one, two = changed[0]
    return axis if two == 2 * one else None


def _is_item(alone: Sequence[Feed], name: str, axis: int | None) -> bool:
    """Whether the axis has one row for each item."""
    return axis is not None and alone[0][name].shape[axis] == 1


def _why_no_batch(
    inputs: Specs, alone: Sequence[Feed], together: Feed, grown: Mapping[str, int | None]
) -> str | None:
    """Why the axes that were tried are not the batch; None if they are."""
    tried = " and ".join(
        f"axis {s.batch} of '{n}'" for n, s in inputs.items() if s.batch is not None
    )
    if all(axis is None for axis in grown.values()):
        return f"{tried} is not the batch, since no output grows with it"
    for name, axis in grown.items():
        if axis is None or not _is_item(alone, name, axis):
            continue
        for row, one in enumerate(alone):
            if not _same(one[name], np.take(together[name], [row], axis)):
                return f"{tried} is not the batch, since items change each other's outputs"
    return None


def _same(alone: np.ndarray, together: np.ndarray) -> bool:
    if alone.shape != together.shape:
        return False
    if alone.dtype.kind != "f":
        return not alone.size or bool(np.mean(alone == together) >= 0.5)
    return sqnr_db(np.atleast_1d(alone), np.atleast_1d(together)) >= SAME_DB


# --------------------------------------------------------------------------- the card's tensors


def _settled(asked: Asked, trial: _Trial) -> Tensors:
    inputs, notes = {}, list(asked.described.notes)
    batches = []
    for name, spec in trial.inputs.named.items():
        inputs[name] = _as_card(spec, spec.shape, trial.fixed)
        if name in asked.given.shapes and spec.batch is not None:
            batches.append(asked.given.shapes[name][spec.batch])
    outputs = {}
    for name, spec in asked.described.outputs.items():
        ran = [one[name].shape for one in trial.alone]
        shape = spec.shape if len(spec.shape) == len(ran[0]) else _observed(name, ran)
        outputs[name] = _as_card(replace(spec, batch=trial.axes[name]), shape, trial.fixed)
    if all(spec["batch"] == "none" for spec in inputs.values()):
        notes.append(f"{asked.title} has no batch axis: an inference takes one item")
    if trial.fixed is not None:
        notes.append(f"{asked.title} is fixed at batch {trial.fixed}")
    if states := _paired_states(trial):
        pairs = ", ".join(f"{name}: {output}" for name, output in states.items())
        notes.append(
            f"{asked.title} looks stateful, but is fed new inputs in each inference; a card with "
            f"`states: {{{pairs}}}` feeds its outputs back (docs/model-cards.md)"
        )
    for size in trial.inputs.sizes:
        known = asked.described.sizes.get(size)
        if known is not None and size not in asked.given.sizes:
            notes.append(f"{size} is {known.value}, by {known.source}")
    batch = trial.fixed or (batches[0] if batches else 1)
    return Tensors(inputs, outputs, trial.inputs.sizes, batch, tuple(notes))


_OF_INPUTS = frozenset({"in", "input", "prev", "previous", "old", "initial", "0"})
_OF_OUTPUTS = frozenset({"out", "output", "new", "next", "n"})
"""Words in the names of states that tell an input from its output."""


def _paired_states(trial: _Trial) -> dict[str, str]:
    """Outputs that by name, dtype and shape are the next value of an input, by input."""
    found: dict[str, str] = {}
    for name, spec in trial.inputs.specs.items():
        shape = spec.at(trial.fixed or 1)
        for output, array in trial.alone[0].items():
            alike = array.dtype == np.dtype(spec.dtype) and array.shape == shape
            if spec.shape and alike and _same_state(name, output) and output not in found.values():
                found[name] = output
                break
    return found


def _same_state(name: str, output: str) -> bool:
    """Whether names are of the kind of ``state`` and ``state_out``, ``h0`` and ``hn``."""
    taken = [word for word in _words(name) if word not in _OF_INPUTS]
    given = [word for word in _words(output) if word not in _OF_OUTPUTS]
    named = any(not word.isdigit() for word in taken)
    return named and (taken == given or output.lower() == name.lower().rstrip("0") + "n")


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


def _untried(asked: Asked, inputs: _Valued) -> Tensors:
    """For a format that no runtime here reads as it is: axis 0 of outputs is the batch where the
    inputs have one."""
    batched = any(spec.batch is not None for spec in inputs.named.values())
    outputs = {
        name: _as_card(replace(spec, batch=0 if batched else None), spec.shape, None)
        for name, spec in asked.described.outputs.items()
    }
    ins = {name: _as_card(spec, spec.shape, None) for name, spec in inputs.named.items()}
    return Tensors(ins, outputs, inputs.sizes, 1, asked.described.notes)


def _observed(name: str, shapes: Sequence[tuple[int, ...]]) -> Shape:
    """The shape of an output whose rank the file does not say; sizes that differ are free."""
    return tuple(
        sizes[0] if len(set(sizes)) == 1 else f"{name}.{axis}"
        for axis, sizes in enumerate(zip(*shapes, strict=False))
    )


def _as_card(spec: TensorSpec, shape: Shape, fixed: int | None) -> dict[str, Any]:
    batch = fixed or BATCH
    sizes = [batch if axis == spec.batch else size for axis, size in enumerate(shape)]
    word = "none" if spec.batch is None else spec.batch
    return {"dtype": spec.dtype, "shape": sizes, "batch": word}
