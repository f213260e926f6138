"""Items of a data set, preprocessed once into ``.npy`` files that workers memory-map."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from qbench.cards import ModelCard, Tensor
from qbench.data import preprocess
from qbench.data.cards import DatasetCard, Split
from qbench.data.readers import READERS
from qbench.errors import UserError, nearest
from qbench.files import Report
from qbench.storage import cache_dir, digest_file, digest_json, new_folder

PREPARE_VERSION = 1
"""Raise it when the same card and files would be preprocessed to something else."""


@dataclass(frozen=True)
class Items:
    """Preprocessed items of a split.

    Attributes:
        feeds: by canonical input, a ``.npy`` file of ``[items, ...]`` in the card's dtype.
        labels: a ``.npy`` file of ``[items]`` int64; None if the data set has none.
        count: how many items.
        digest: SHA-256 over source files, chosen items and steps.
        source: the data files (a digest) and the indices of the items in them; None if there are
            no files.
        random: made up, not data: says nothing about accuracy.
    """

    feeds: Mapping[str, Path]
    labels: Path | None
    count: int
    digest: str
    random: bool = False
    source: tuple[str, range] | None = None

    def overlap(self, other: Items) -> int:
        """How many items of the same files both hold, whatever the data sets are called."""
        if self.source is None or other.source is None or self.source[0] != other.source[0]:
            return 0
        return len(set(self.source[1]) & set(other.source[1]))


def make_items(
    card: ModelCard, data: DatasetCard, files: Mapping[str, Path], split: Split, report: Report
) -> Items:
    """The items that ``split`` chooses of ``data``, as the model ``card`` wants them; made once,
    then found in the cache.

    Args:
        files: the data set's files, by the names that its card gives them.

    Raises:
        UserError: the files do not fit the cards.
    """
    content = digest_json({name: digest_file(path) for name, path in files.items()})
    chosen = split.range(data.items)
    digest = digest_json(
        [
            PREPARE_VERSION,
            version("pillow"),
            content,
            data.model_dump(mode="json", exclude={"description", "licence", "homepage"}),
            [chosen.start, chosen.stop],
            list(card.inputs),  # their order, which a JSON object does not have
            card.model_dump(mode="json", include={"preprocess", "inputs"}),
        ]
    )
    folder = cache_dir() / "data" / digest[:32]
    if not all(_readable(path) for path in folder.glob("*.npy")):
        shutil.rmtree(folder)  # a damaged cache is made anew
    if not folder.is_dir():
        report(f"preprocessing {card.name}'s items of {data.name}")
        with new_folder(folder) as out:
            _write_items(card, data, files, split, out)
    labels = folder / "labels.npy"
    feeds = {name: folder / f"input-{i}.npy" for i, name in enumerate(card.inputs)}
    count = len(np.load(next(iter(feeds.values())), mmap_mode="r"))
    return Items(
        feeds, labels if labels.exists() else None, count, digest, source=(content, chosen)
    )


def _write_items(
    card: ModelCard,
    data: DatasetCard,
    files: Mapping[str, Path],
    split: Split,
    out: Path,
) -> None:
    with READERS[data.format](data, files) as raw:
        if len(raw) != data.items:
            raise UserError(
                f"data set {data.name}: its card says {data.items} items, its files hold {len(raw)}"
            )
        chosen = split.range(data.items)
        if not chosen:
            raise UserError(
                f"model {card.name}: '{split.items}' chooses no item of {data.name}, "
                f"which has {data.items}"
            )
        for index, (name, tensor) in enumerate(card.inputs.items()):
            if name not in data.arrays:
                raise UserError(
                    f"data set {data.name} has nothing for input '{name}' of {card.name}",
                    nearest(name, data.arrays),
                )
            steps = card.preprocess.get(name, [])
            items = (_item(card, data, steps, tensor, name, raw.get(name, i)) for i in chosen)
            try:
                _save_all(out / f"input-{index}.npy", items, len(chosen))
            except ValueError as error:
                raise UserError(f"model {card.name}, input {name}: {error}") from None
        if data.labels is not None:
            labels = np.asarray([raw.label(i) for i in chosen], dtype=np.int64)
            bad = labels[(labels < 0) | (labels >= (data.classes or labels.max() + 1))]
            if len(bad):
                most = "" if data.classes is None else data.classes - 1
                raise UserError(f"data set {data.name}: label {bad[0]} is outside 0..{most}")
            np.save(out / "labels.npy", labels)


def _readable(path: Path) -> bool:
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    return True


def _item(
    card: ModelCard,
    data: DatasetCard,
    steps: preprocess.Steps,
    tensor: Tensor,
    name: str,
    raw: np.ndarray,
) -> np.ndarray:
    """One item ready to be fed; its shape and dtype are the card's."""
    try:
        item = preprocess.apply(steps, raw)
    except ValueError as error:
        raise UserError(f"model {card.name}, input {name}, data set {data.name}: {error}") from None
    item = item.astype(tensor.dtype, copy=False)
    want = tensor.spec().sized(1)[1:]
    fits = len(item.shape) == len(want) and all(
        not isinstance(size, int) or size == got
        for size, got in zip(tensor.shape[1:], item.shape, strict=True)
    )
    if not fits:
        raise UserError(
            f"model {card.name}: input '{name}' takes items of shape {tensor.shape[1:]}, "
            f"but {data.name} gives {list(item.shape)} after preprocessing",
            "Correct 'inputs' or 'preprocess' in the card, or choose another data set.",
        )
    return item


def _save_all(path: Path, items: Iterator[np.ndarray], count: int) -> None:
    """Write ``count`` equal arrays as one ``.npy`` of ``[count, ...]``, one at a time.

    Raises:
        ValueError: they are of different shapes.
    """
    first = next(items)
    out = np.lib.format.open_memmap(path, "w+", first.dtype, (count, *first.shape))
    out[0] = first
    for index, item in enumerate(items, 1):
        if item.shape != first.shape:
            raise ValueError(
                f"items of different shapes, {list(first.shape)} and {list(item.shape)}; "
                "'preprocess' in the card can make them equal"
            )
        out[index] = item
    out.flush()
