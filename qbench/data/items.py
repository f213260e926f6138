"""Preprocess a data set's items once, into ``.npy`` files that workers memory-map."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from qbench.data.digests import digest_path
from qbench.data.download import Report
from qbench.data.files import locate
from qbench.data.labels import make_labels
from qbench.data.readers import Reader, open_reader
from qbench.data.tokens import tokenizer
from qbench.errors import UserError, nearest
from qbench.kit.model import TensorSpec
from qbench.kit.pipeline import transforms
from qbench.spec import preprocess
from qbench.spec.datasets import DatasetCard, Split
from qbench.spec.models import ModelCard
from qbench.storage import cache_dir, digest_file, digest_json, new_folder

PREPARE_VERSION = 4
"""Raise it when preprocessing of the same card and files yields other values."""
REPORT_EVERY_S = 5.0
DIGEST = "digest.txt"


@dataclass(frozen=True)
class Items:
    """Preprocessed items of a split.

    Attributes:
        feeds: ``.npy`` files of ``[items, ...]`` in the card's dtype, by canonical input.
        labels: a ``.npy`` file, see ``qbench.data.labels``; None without labels.
        count: number of items.
        digest: SHA-256 over the preprocessed items and labels, whatever form they were stored in.
        random: made up; accuracy on them means nothing.
        source: digest of the data set's main file, and the items' positions in it; None without
            files.
        classes: number of the data set's classes, from its card or files; None if unknown.
        chosen: a ``.npy`` file of int64 ``[items]``, the items' indices in the data set; None
            without a data set.
        made_of: SHA-256 over source files, chosen items and steps; None without a data set.
    """

    feeds: Mapping[str, Path]
    labels: Path | None
    count: int
    digest: str
    random: bool = False
    source: tuple[str, tuple[int, ...]] | None = None
    chosen: Path | None = None
    classes: int | None = None
    made_of: str | None = None

    def arrays(self, count: int) -> dict[str, np.ndarray]:
        """The first ``count`` items by canonical input, ``[count, ...]``."""
        return {name: np.load(file, mmap_mode="r")[:count] for name, file in self.feeds.items()}

    def overlap(self, other: Items) -> int:
        """Count the items that both take from the same file, whatever the data sets' names."""
        if self.source is None or other.source is None or self.source[0] != other.source[0]:
            return 0
        return len(set(self.source[1]) & set(other.source[1]))


def make_items(
    card: ModelCard,
    data: DatasetCard,
    files: Mapping[str, Path],
    split: Split,
    report: Report,
    root: Path = Path(),
) -> Items:
    """Preprocess the items that ``split`` chooses of ``data`` for the model ``card``, or return
    them from the cache.

    Args:
        files: the data set's files, by the names in its card.
        report: receives the progress from time to time.
        root: the folder of the model's card, searched first for its vocabularies.

    Raises:
        UserError: the files do not match the cards.
    """
    contents = {name: digest_path(path) for name, path in files.items()}
    vocabularies = find_vocabularies(card, root, report)
    made_of = [
        PREPARE_VERSION,
        version("pillow"),
        contents,
        data.model_dump(
            mode="json",
            exclude={"name", "description", "licence", "homepage", "part_of", "files", "local"},
        ),
        list(card.inputs),  # their order, which JSON objects lose
        card.model_dump(mode="json", include={"preprocess", "inputs"}),
        *([card.sizes] if card.sizes else []),
        *([sorted(card.states)] if card.states else []),
        {name: [digest_path(path), _tokenizers()] for name, path in vocabularies.items()},
    ]
    key = digest_json([made_of, split.model_dump(mode="json", exclude={"dataset"})])
    folder = cache_dir() / "data" / key[:32]
    if not all(readable(path) for path in folder.glob("*.npy")):
        shutil.rmtree(folder)  # it is damaged
    if not folder.is_dir():
        report(f"preprocessing {card.name}'s items of {data.name}")
        with new_folder(folder) as out, open_reader(data, files) as reader:
            _Writer(card, data, reader, split, vocabularies, report, out).write()
    chosen = np.load(folder / "chosen.npy").tolist()
    origins = np.load(folder / "origins.npy").tolist()
    labels = folder / "labels.npy"
    number = folder / "classes.npy"
    classes = int(np.load(number)) if number.exists() else data.classes
    return Items(
        feeds={
            name: file
            for i, name in enumerate(card.inputs)
            if (file := folder / f"input-{i}.npy").exists()  # a state need not have one
        },
        labels=labels if labels.exists() else None,
        count=len(chosen),
        digest=(folder / DIGEST).read_text(),
        made_of=digest_json([made_of, chosen]),
        source=(contents.get("data") or contents["images"], tuple(origins)),
        chosen=folder / "chosen.npy",
        classes=classes,
    )


def array_for(card: ModelCard, reader: Reader, name: str) -> str:
    """Return the array for the input ``name``: the one that its steps name, the one of the same
    name, or the data set's only one if that is unambiguous.

    Raises:
        UserError: there is none.
    """
    steps, arrays = card.preprocess.get(name, []), reader.arrays
    named = preprocess.array_of(steps)
    wanted = named or name
    if wanted in arrays:
        return wanted
    alone = len(card.item_specs) == 1 or preprocess.tokenize_options(steps) is not None
    if named is None and len(arrays) == 1 and alone:
        return arrays[0]
    raise UserError(
        f"data set {reader.card.name} has no array '{wanted}' for input '{name}' of {card.name}",
        nearest(wanted, arrays) + " A step 'array' in the card's preprocess can name it.",
    )


def has_array(card: ModelCard, reader: Reader, name: str) -> bool:
    """Return whether the items have the input ``name``; else it is a state, and starts from
    zeros."""
    if name not in card.states or preprocess.array_of(card.preprocess.get(name, [])):
        return True
    return name in reader.arrays


def find_vocabularies(card: ModelCard, root: Path, report: Report) -> dict[str, Path]:
    """Return the vocabulary file of each input that has one; verified, downloaded if necessary."""
    options = {name: preprocess.tokenize_options(steps) for name, steps in card.preprocess.items()}
    return {name: locate(choice.vocab, root, report) for name, choice in options.items() if choice}


def _tokenizers() -> str:
    try:
        return version("tokenizers")
    except PackageNotFoundError:
        return "none"


def readable(path: Path) -> bool:
    """Return whether a ``.npy`` file of the cache is complete."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    return True


@dataclass
class _Writer:
    """Writes the files of one folder of items.

    Attributes:
        sizes: shapes of the stored items, by input.
    """

    card: ModelCard
    data: DatasetCard
    reader: Reader
    split: Split
    vocabularies: Mapping[str, Path]
    report: Report
    out: Path
    sizes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def write(self) -> None:
        """Write ``input-<n>.npy`` for every input that items have, ``labels.npy`` if there are
        labels, ``chosen.npy``, ``origins.npy``, ``digest.txt`` and, if known, ``classes.npy``."""
        self._check_card()
        chosen = self._chosen()
        for number, (name, tensor) in enumerate(self.card.input_specs.items()):
            if not has_array(self.card, self.reader, name):
                continue
            array = array_for(self.card, self.reader, name)
            items = self._items(name, tensor, array, chosen)
            try:
                _save_all(self.out / f"input-{number}.npy", items, len(chosen))
            except ValueError as error:
                raise UserError(f"model {self.card.name}, input {name}: {error}") from None
        if self.reader.labelled:
            # boxes and masks move with the first input whose steps move pixels: the picture
            steps = {name: self.card.preprocess.get(name, []) for name in self.sizes}
            moved = (n for n, s in steps.items() if preprocess.moves_pixels(s))
            picture = next(moved, next(iter(steps)))
            try:
                labels = make_labels(self.reader, chosen, steps[picture], self.sizes[picture])
            except ValueError as error:
                raise UserError(
                    f"model {self.card.name}, data set {self.data.name}: {error}"
                ) from None
            np.save(self.out / "labels.npy", labels)
        (self.out / DIGEST).write_text(self._digest())
        np.save(self.out / "chosen.npy", np.asarray(chosen, np.int64))
        if self.reader.classes is not None:
            np.save(self.out / "classes.npy", self.reader.classes)
        origins = [self.reader.origin(index) for index in chosen]
        np.save(self.out / "origins.npy", np.asarray(origins, np.int64))

    def _digest(self) -> str:
        files = (self.out / f"input-{n}.npy" for n in range(len(self.card.inputs)))
        inputs = [digest_file(file) for file in files if file.exists()]
        labels = self.out / "labels.npy"
        return digest_json([inputs, digest_file(labels) if labels.exists() else None])

    def _check_card(self) -> None:
        """Check the card's numbers of items and classes."""
        found = len(self.reader)
        if self.data.items is not None and found != self.data.items:
            raise self.reader.error(
                f"its card says {self.data.items} items, its files hold {found}"
            )
        if found == 0:
            raise self.reader.error("its files hold no item")
        stored, classes = self.reader.classes, self.data.classes
        if stored is not None and classes is not None and stored != classes:
            raise self.reader.error(f"its card says {classes} classes, its files hold {stored}")

    def _chosen(self) -> list[int]:
        total = len(self.reader)
        pairs = self.reader.labelled and self.data.truth == "scores"
        try:
            chosen = self.split.choose(total, pairs)
        except ValueError as error:
            raise UserError(f"model {self.card.name}, data set {self.data.name}: {error}") from None
        if not chosen:
            raise UserError(
                f"model {self.card.name}: '{self.split.items}' chooses no item of "
                f"{self.data.name}, which has {total}"
            )
        return chosen

    def _items(
        self, name: str, tensor: TensorSpec, array: str, chosen: list[int]
    ) -> Iterator[np.ndarray]:
        """Yield an input's chosen items, preprocessed to the card's shape and dtype."""
        steps = self.card.preprocess.get(name, [])
        options, plain = preprocess.tokenize_options(steps), preprocess.as_json(steps)
        tokenize = tokenizer(options, self.vocabularies[name]) if options else None
        sizes = self.sizes.setdefault(name, [])
        reported = time.monotonic()
        for done, index in enumerate(chosen):
            if time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                self.report(f"preprocessing {self.data.name}: {done} of {len(chosen)} items")
            raw = self.reader.get(array, index)
            sizes.append(() if isinstance(raw, str) else raw.shape)
            yield self._item(name, tensor, plain, tokenize, raw, index)

    def _item(
        self,
        name: str,
        tensor: TensorSpec,
        steps: transforms.Plain,
        tokenize: Callable[[str], np.ndarray] | None,
        raw: np.ndarray | str,
        index: int,
    ) -> np.ndarray:
        where = (
            f"model {self.card.name}, input {name}, data set {self.data.name}, "
            f"{self.reader.title(index)}"
        )
        try:
            item = transforms.apply(steps, raw, tokenize)
            if item.dtype.kind not in "fiub":
                raise ValueError(f"{item.dtype} is not a numeric type")
            if item.dtype.kind == "f" and np.dtype(tensor.dtype).kind != "f":
                raise ValueError(
                    f"the input takes {tensor.dtype}, but preprocessing ends with {item.dtype}: "
                    f"end it with a step cast: {tensor.dtype}"
                )
            item = transforms.cast(item, tensor.dtype)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        want = tensor.item
        fits = item.ndim == len(want) and all(
            not isinstance(size, int) or size == got
            for size, got in zip(want, item.shape, strict=True)
        )
        if not fits:
            raise UserError(
                f"model {self.card.name}: input '{name}' takes items of shape {list(want)}, "
                f"but {self.data.name} gives {list(item.shape)} after preprocessing "
                f"({self.reader.title(index)})",
                "Correct 'inputs' or 'preprocess' in the card, or choose another data set.",
            )
        if item.dtype.kind == "f" and not np.isfinite(item).all():
            raise UserError(f"{where}: it holds NaN or infinity")
        return item


def _save_all(path: Path, items: Iterator[np.ndarray], count: int) -> None:
    """Write ``count`` arrays of one shape as one ``.npy`` of ``[count, ...]``, one at a time.

    Raises:
        ValueError: their shapes differ.
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
