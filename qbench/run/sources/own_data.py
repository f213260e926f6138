"""Data of the user's own, without a card: ``--data FOLDER|NPZ``.

It becomes a data set's card in memory. Half of its items, but no more than quantizers use, are for
calibration, all others for evaluation; both are drawn at random, by ``Sample``'s rule and seed 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from qbench.data.readers import open_reader
from qbench.data.readers.archive import open_files
from qbench.data.readers.arrays import array_names
from qbench.data.readers.base import Reader
from qbench.data.readers.pictures import ENDINGS
from qbench.errors import UserError, check_known
from qbench.kit.model import Shape, TensorSpec
from qbench.kit.precisions import PRECISIONS
from qbench.spec.datasets import DatasetCard, Sample, Split
from qbench.spec.models import ModelCard, Tensor
from qbench.spec.preprocess import Steps
from qbench.spec.tasks import TASKS

SCALINGS: Mapping[str, list[dict[str, Any]]] = {
    "imagenet": [
        {"normalize": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}}
    ],
    "0-1": [{"scale": 1 / 255}],
    "none": [],
}
"""Steps for pixels of 0..255, by ``--preprocess``."""
CHOICES = (
    "Add --preprocess imagenet (ImageNet's mean and deviation), 0-1 (divided by 255) or none (as "
    "they are), or write a card: qbench init --model FILE."
)
BY_CARD = "Write a card with its preprocess: qbench init --model FILE."
CALIBRATION_ITEMS = int(PRECISIONS["int8-static"].options["calibration_items"].default)
LABELS = ("y", "labels")
ONLY_INPUT = ("x", "images")
_STEPS = TypeAdapter[Steps](Steps)


@dataclass(frozen=True)
class OwnData:
    """A data set without a card file.

    Attributes:
        path: as the user gave it, for messages.
        card, folder: its card, and the folder that the card's paths start from.
        items: their number.
        classes: number of classes by its labels; None without labels.
        samples: the first two items as they are stored, by array.
        pictures: whether its items are picture files.
        notes: sentences for the user.
    """

    path: Path
    card: DatasetCard
    folder: Path
    items: int
    classes: int | None
    samples: Mapping[str, Sequence[np.ndarray]]
    pictures: bool
    notes: tuple[str, ...]

    def ready(self, inputs: Mapping[str, TensorSpec]) -> dict[str, Sequence[np.ndarray]]:
        """The first two items of the inputs that the data has ready, not as pixels."""
        samples = {name: self._samples(name) for name in inputs}
        return {
            name: two
            for name, two in samples.items()
            if not self.pictures and not _is_scaled(two[0], inputs[name].dtype)
        }

    def fitted(
        self, card: ModelCard, scaling: str | None, quantized: Mapping[str, bool]
    ) -> tuple[ModelCard, list[str]]:
        """The card with this data for evaluation and calibration, and sentences for the user.

        Args:
            scaling: a key of ``SCALINGS``; None: not given.
            quantized: by input, whether the file says its scale, so that qbench can quantize.

        Raises:
            UserError: the data does not fit the inputs, or a choice is missing.
        """
        if scaling is not None and card.preprocess:
            raise UserError(
                f"the card of {card.name} has its own preprocess", "Leave out --preprocess."
            )
        for name, state in card.fed_back.items():
            if state.carried:
                raise UserError(
                    f"{card.name} carries the state '{name}' from one item to the next, and items "
                    "of --data are drawn at random",
                    "Name the sequence in the card's evaluation (docs/model-cards.md).",
                )
        inputs, preprocess, notes = dict(card.inputs), dict(card.preprocess), [*self.notes]
        for name, spec in card.item_specs.items():
            if not card.preprocess:
                fit = _Fit(self, name, card.inputs[name], spec, quantized.get(name, False))
                inputs[name], preprocess[name], note = fit.steps(scaling, self._samples(name)[0])
                notes += [note] if note else []
        if scaling is not None and not any(preprocess.values()) and scaling != "none":
            raise UserError(
                f"{self.path} holds no pixels (uint8), so --preprocess has nothing to scale",
                "Leave out --preprocess: arrays are taken as they are.",
            )
        calibrated = min(self.items // 2, CALIBRATION_ITEMS)
        rest = self.items - calibrated
        dataset = self.card.name
        task, outputs, metric = self._judged(card, notes)
        notes.append(
            f"{self.path}: {calibrated} of {self.items} items for calibration, {rest} others for "
            "evaluation, drawn at random (seed 0)"
        )
        changed: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "task": task,
            "metric": metric,
            "preprocess": preprocess,
            "calibration": Split(dataset=dataset, sample=Sample(count=calibrated)),
            "evaluation": Split(dataset=dataset, sample=Sample(count=rest, skip=calibrated)),
            "expected": None,
        }
        return card.model_copy(update=changed), notes

    def _samples(self, name: str) -> Sequence[np.ndarray]:
        return self.samples[name if name in self.samples else next(iter(self.samples))]

    def _judged(
        self, card: ModelCard, notes: list[str]
    ) -> tuple[str, dict[str, Tensor], str | None]:
        """The card's task, outputs and metric; those of a classifier, its scores first, where no
        card says so but labels and an output agree."""
        if self.classes is None or TASKS[card.task].labels == "classes":
            return card.task, card.outputs, card.metric
        sizes = {name: _classes(spec) for name, spec in card.output_specs.items()}
        fitting = [name for name, size in sizes.items() if size and size >= self.classes]
        if card.task != "unknown" or not fitting:
            why = "no output has one score for each class" if not fitting else "of another kind"
            notes.append(
                f"the labels of {self.path} are not used ({why}, {self.classes} classes): "
                "fidelity only"
            )
            return card.task, card.outputs, "none"
        scores = fitting[0]
        notes.append(f"top1 is of output '{scores}', {sizes[scores]} classes")
        if len(fitting) > 1:
            notes[-1] += f"; for {' or '.join(fitting[1:])} instead, write a card"
        if sizes[scores] == self.classes + 1:
            notes[-1] += (
                ", one more than the labels': if the first is a background, write 'background: 1' "
                "in a card"
            )
        return "image-classification", {scores: card.outputs[scores], **card.outputs}, None


def open_data(path: Path, inputs: Sequence[str]) -> OwnData:
    """Read the data's names and labels.

    Args:
        inputs: names of the model's inputs.

    Raises:
        UserError: it is neither a folder of pictures nor an ``.npz``, or cannot be read.
    """
    path = path if path.exists() else _missing(path)
    whole = path.resolve()
    if path.is_dir():
        card, names = _folder_card(path, whole, inputs)
    else:
        card, names = _npz_card(path, whole, inputs), []
    files = {name: whole.parent / str(file.path) for name, file in card.files.items()}
    with open_reader(card, files) as reader:
        if len(reader) < 2:
            raise UserError(
                f"{path} has {len(reader)} items; two or more are needed",
                "Half of them is for calibration, the other for evaluation.",
            )
        samples = {name: [_item(reader, name, i) for i in (0, 1)] for name in reader.arrays}
        classes = _number_of_classes(path, reader)
        return OwnData(
            path=path,
            card=card,
            folder=whole.parent,
            items=len(reader),
            classes=classes,
            samples=samples,
            pictures=path.is_dir(),
            notes=_about_classes(path, names),
        )


def _missing(path: Path) -> Path:
    raise UserError(
        f"there is no {path}", "--data names a folder of pictures or an .npz file of arrays."
    )


# --------------------------------------------------------------------------- the data set's card


def _folder_card(path: Path, whole: Path, inputs: Sequence[str]) -> tuple[DatasetCard, list[str]]:
    """A card for a folder of pictures, and the names of the sub-folders that are its classes."""
    if len(inputs) != 1:
        raise UserError(
            f"{path} is a folder of pictures, and the model has {len(inputs)} inputs",
            f"Give an .npz with an array for each ({', '.join(inputs)}), or write a card.",
        )
    content: dict[str, Any] = {"format": "image-folder", "files": {"images": {"path": whole.name}}}
    names = [n for n in open_files(whole).names if Path(n).suffix.lower() in ENDINGS]
    tables = sorted(file.name for file in whole.glob("*.csv"))
    if len(tables) > 1:
        raise UserError(
            f"{path} holds several CSV files: {', '.join(tables[:3])}", "Leave one: file,label."
        )
    classes = sorted({Path(name).parts[0] for name in names if len(Path(name).parts) > 1})
    if tables:
        content["files"]["labels"] = {"path": f"{whole.name}/{tables[0]}"}
        content |= {"arrays": {"image": "file"}, "labels": "label"}
        classes = []
    elif not classes:
        content["truth"] = "none"
    elif len(classes) == 1 and not any(len(Path(name).parts) > 2 for name in names):
        raise UserError(
            f"{path} holds one sub-folder of pictures, '{classes[0]}', so all are of one class",
            f"Give --data {path / classes[0]} for pictures without classes.",
        )
    return _card(whole, content), classes


def _npz_card(path: Path, whole: Path, inputs: Sequence[str]) -> DatasetCard:
    names = array_names(path)
    arrays = {name: name for name in inputs if name in names}
    only = next((name for name in ONLY_INPUT if name in names), None)
    if not arrays and len(inputs) == 1 and only is not None:
        arrays = {inputs[0]: only}
    for name in inputs:
        if name not in arrays:
            check_known(name, names, f"{path} has no array for input '{name}'")
    labels = next((n for n in LABELS if n in names and n not in arrays.values()), None)
    content: dict[str, Any] = {"format": "npz", "files": {"data": {"path": whole.name}}}
    return _card(whole, {**content, "arrays": arrays, **({"labels": labels} if labels else {})})


def _card(whole: Path, content: Mapping[str, Any]) -> DatasetCard:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", whole.stem).lstrip(".-_")[:64] or "data"
    try:
        return DatasetCard.model_validate({"name": name, "licence": "unknown", **content})
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise UserError(
            f"{whole}: {problem}", "Rename it: letters, digits, dots, dashes."
        ) from None


def _item(reader: Reader, name: str, index: int) -> np.ndarray:
    item = reader.get(name, index)
    if isinstance(item, str) or item.dtype.kind not in "fiub":
        raise reader.error(f"array '{name}' holds no numbers", "Texts need a card with tokenize.")
    return item


def _number_of_classes(path: Path, reader: Reader) -> int | None:
    if not reader.labelled:
        return None
    if reader.classes is not None:
        return reader.classes
    labels = [int(np.asarray(reader.label(index)).item()) for index in range(len(reader))]
    if min(labels) < 0:
        raise UserError(f"{path}: label {min(labels)} is negative", "Classes count from 0.")
    return max(labels) + 1


def _about_classes(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """How sub-folders became classes."""
    if not names:
        return ()
    listed = [f"{number} {name}" for number, name in enumerate(names)]
    shown = listed if len(listed) <= 6 else [*listed[:3], "...", listed[-1]]
    note = f"{path}: classes are the sub-folders in the order of their names: {', '.join(shown)}"
    wrong = [n for number, n in enumerate(names) if n.isdigit() and int(n) != number]
    if wrong:
        note += (
            f". '{wrong[0]}' is class {names.index(wrong[0])}: if its number is meant, give a CSV "
            "file,label"
        )
    return (note,)


# --------------------------------------------------------------------------- the inputs


def _is_scaled(sample: np.ndarray, dtype: str) -> bool:
    """Whether a stored item is pixels, which an input of this dtype does not take as they are."""
    return sample.dtype == np.uint8 and (np.dtype(dtype).kind == "f" or dtype in ("uint8", "int8"))


@dataclass(frozen=True)
class _Fit:
    """One input of the model, and how the data's items become it."""

    data: OwnData
    name: str
    tensor: Tensor
    spec: TensorSpec
    quantized: bool
    title: str = field(init=False)

    def __post_init__(self) -> None:
        shape = "x".join(map(str, self.spec.item))
        object.__setattr__(self, "title", f"input '{self.name}' ({self.spec.dtype} {shape})")

    def steps(self, scaling: str | None, sample: np.ndarray) -> tuple[Tensor, Steps, str]:
        """The input as the card has it, its steps, and a sentence about them."""
        if not _is_scaled(sample, self.spec.dtype):
            if self.data.pictures:
                raise UserError(f"{self.title} takes no pictures", BY_CARD)
            return self.tensor, [], ""
        dtype, scaled = self._scaled(scaling)
        moved, layout = self._moved(sample)
        if scaling == "imagenet" and (layout is None or self._channels(layout) != 3):
            raise UserError(
                f"--preprocess imagenet is for three colours; {self.title} has not three", BY_CARD
            )
        steps = [*moved, *scaled, *([{"layout": "NCHW"}] if layout == "NCHW" else [])]
        tensor = self.tensor.model_copy(update={"dtype": dtype, "layout": layout})
        rule = {None: "as stored", "none": "as stored"}.get(scaling, str(scaling))
        size = f"resized to {' x '.join(map(str, self._size(layout)))}, " if layout else ""
        note = f"input '{self.name}': {size}{layout or 'shape as stored'}, values {rule}"
        return tensor, _STEPS.validate_python(steps), note

    def _scaled(self, scaling: str | None) -> tuple[str, list[dict[str, Any]]]:
        """The dtype of the input in the card, and the steps that scale pixels."""
        dtype = self.spec.dtype
        if dtype == "uint8" and scaling in (None, "none"):
            return dtype, []
        if scaling is None:
            raise UserError(f"{self.title}: its pictures hold 0..255, to be scaled", CHOICES)
        if np.dtype(dtype).kind != "f":
            if not self.quantized:
                raise UserError(f"{self.title} has no scale that its file says", BY_CARD)
            dtype = "float32"
        return dtype, SCALINGS[scaling]

    def _moved(self, sample: np.ndarray) -> tuple[list[dict[str, Any]], str | None]:
        """The steps that bring a picture to the input's size and colours, and the input's layout;
        none for an array that has its shape already, and is no picture."""
        is_picture = sample.ndim == 2 or (sample.ndim == 3 and sample.shape[2] in (1, 3))
        if not is_picture or len(self.spec.item) != 3:
            if self.data.pictures or sample.shape != self.spec.item:
                raise UserError(
                    f"{self.title} does not take items {list(sample.shape)} of {self.data.path}",
                    BY_CARD,
                )
            return [], None
        layout = self._layout()
        steps: list[dict[str, Any]] = [{"resize": {"size": self._size(layout)}}]
        stored = sample.shape[2] if sample.ndim == 3 else 1
        if stored != self._channels(layout):
            steps.append({"color": "rgb" if stored == 1 else "gray"})
        return steps, layout

    def _layout(self) -> str:
        """
        Raises:
            UserError: it is not evident.
        """
        if self.spec.layout is not None:
            return self.spec.layout
        found = evident_layouts(self.spec.item)
        if len(found) != 1:
            raise UserError(f"{self.title}: which axis holds the colours is not evident", BY_CARD)
        return found[0]

    def _channels(self, layout: str) -> int:
        return int(self.spec.item[0 if layout == "NCHW" else 2])

    def _size(self, layout: str) -> list[int]:
        """Height and width."""
        height, width = self.spec.item[1:] if layout == "NCHW" else self.spec.item[:2]
        return [int(height), int(width)]


def evident_layouts(item: Shape) -> list[str]:
    """The layouts that a picture of this shape may have: 1 or 3 channels on their axis."""
    axes = {"NCHW": 0, "NHWC": 2} if len(item) == 3 else {}
    return [layout for layout, axis in axes.items() if item[axis] in (1, 3)]


def _classes(spec: TensorSpec) -> int | None:
    """The number of scores of an item; None if the output holds more than one score a class."""
    sizes = spec.item
    if any(isinstance(size, str) for size in sizes):
        return None
    total = prod(int(size) for size in sizes)
    return total if total > 1 and total in sizes else None
