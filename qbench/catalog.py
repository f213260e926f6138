"""Model cards and data sets: find, fetch, verify, and preprocess into ``.npy`` files.

A catalogue sees the cards beside the user's suite first and the shipped ones after. Each root is
a folder with ``models/*.yaml`` and ``datasets/*.yaml``; a card's paths are relative to its root.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from qbench import preprocess
from qbench.backend import Model
from qbench.cards import DatasetCard, ModelCard, SourceFile, Split, Tensor
from qbench.errors import UserError, nearest
from qbench.readers import READERS
from qbench.storage import cache_dir, digest_file, digest_json, new_folder
from qbench.yamlfile import Lines, load

PREPARE_VERSION = 1
"""Raise it when the same card and files would be preprocessed to something else."""

Report = Callable[[str], None]


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


class Catalog:
    """The cards that can be seen from a suite.

    Args:
        roots: folders to look in, the first wins.
        report: told in a sentence what takes long (downloads, preprocessing).
    """

    def __init__(self, roots: list[Path], report: Report = lambda text: None) -> None:
        self._roots = roots
        self._report = report
        self._models = self._find("models")
        self._datasets = self._find("datasets")
        self._extra: dict[str, tuple[ModelCard, Path, dict[str, Items]]] = {}
        self._cards: dict[str, ModelCard] = {}
        self._lines: dict[str, Lines] = {}
        self._items: dict[tuple[str, str], Items | None] = {}

    def _find(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self._roots:
            for path in sorted((root / kind).glob("*.yaml")):
                found.setdefault(path.stem, path)
        return found

    @property
    def names(self) -> list[str]:
        """Names of all models."""
        return sorted({*self._models, *self._extra})

    def add(self, card: ModelCard, folder: Path, items: dict[str, Items]) -> None:
        """Add a model that has no card file, with its ready-made items by split name."""
        self._extra[card.name] = (card, folder, items)

    def card(self, name: str) -> ModelCard:
        """The model card ``name``."""
        if name in self._extra:
            return self._extra[name][0]
        if name not in self._cards:
            self._cards[name] = self._read_card(name)
        return self._cards[name]

    def _read_card(self, name: str) -> ModelCard:
        if name not in self._models:
            raise UserError(f"there is no model '{name}'", nearest(name, self.names))
        path = self._models[name]
        card, lines = load(path, ModelCard)
        self._lines[name] = lines
        if card.name != name:
            raise UserError(
                f"{lines.at('name')}: the card in {path.name} calls itself '{card.name}'",
                "Give both the same name.",
            )
        for name in ("evaluation", "calibration"):
            split = getattr(card, name)
            if split is not None and split.dataset not in self._datasets:
                raise UserError(
                    f"{lines.at(name, 'dataset')}: unknown data set '{split.dataset}'",
                    nearest(split.dataset, self._datasets),
                )
        return card

    def dataset(self, name: str) -> DatasetCard:
        """The data set card ``name``."""
        if name not in self._datasets:
            raise UserError(f"there is no data set '{name}'", nearest(name, self._datasets))
        card, lines = load(self._datasets[name], DatasetCard)
        if card.name != name:
            raise UserError(
                f"{lines.at('name')}: the card in {self._datasets[name].name} calls itself "
                f"'{card.name}'",
                "Give both the same name.",
            )
        return card

    def _root_of(self, path: Path) -> Path:
        return path.parent.parent

    # ------------------------------------------------------------------ files

    def locate(self, file: SourceFile, root: Path) -> Path:
        """The verified local file: below ``root``, in ``$QBENCH_ASSETS``, in the cache, or
        downloaded now.

        Raises:
            UserError: it cannot be had, or its SHA-256 is another.
        """
        assets = os.environ.get("QBENCH_ASSETS")
        for folder in [root, *([Path(assets)] if assets else [])]:
            path = folder / file.path if file.path else None
            if path and path.is_file():
                return _verified(path, file)
        if file.url is None:
            raise UserError(
                f"cannot find {file.path}, neither in {root.absolute()} nor in "
                + (f"$QBENCH_ASSETS ({assets})" if assets else "$QBENCH_ASSETS, which is not set"),
                "It has no download address: put the file there.",
            )
        return self._download(file)

    def _download(self, file: SourceFile) -> Path:
        import pooch
        import requests

        folder = cache_dir() / "downloads"
        assert file.url and file.sha256
        name = f"{file.sha256[:16]}-{file.url.rsplit('/', 1)[-1]}"
        if not (folder / name).exists():
            self._report(f"downloading {file.url}")
        try:
            path = pooch.retrieve(
                file.url,
                known_hash=f"sha256:{file.sha256}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=30),  # type: ignore[arg-type]
            )
        except (requests.RequestException, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise UserError(
                f"cannot download {file.url}: {error}",
                f"Put the file at {file.path or name} in a folder and set QBENCH_ASSETS to it.",
            ) from None
        except ValueError:
            raise UserError(
                f"{file.url} is not the expected file: its SHA-256 is not {file.sha256}",
                "The file was replaced upstream, or the card is wrong.",
            ) from None
        return Path(path)

    def model(self, card: ModelCard, form: str) -> Model:
        """The card's model in format ``form``, as adapters get it."""
        source = card.sources[form]
        path = self.locate(source, self._folder(card))
        return Model(
            name=card.name,
            format=form,
            path=path,
            digest=source.sha256 or digest_file(path),
            task=card.task,
            inputs={n: t.spec() for n, t in card.inputs.items()},
            outputs={n: t.spec() for n, t in card.outputs.items()},
            source_inputs={n: source.inputs[n].source(t) for n, t in card.inputs.items()},
            source_outputs={n: source.outputs[n].source(t) for n, t in card.outputs.items()},
        )

    def _folder(self, card: ModelCard) -> Path:
        if card.name in self._extra:
            return self._extra[card.name][1]
        return self._root_of(self._models[card.name])

    # ------------------------------------------------------------------ items

    def items(self, card: ModelCard, split_name: str) -> Items | None:
        """The preprocessed items of ``evaluation`` or ``calibration``; None if the card has no
        such split. Made once, then read from the cache.

        Raises:
            UserError: files cannot be had, do not fit the card, or hold items of both splits.
        """
        if card.name in self._extra:
            return self._extra[card.name][2].get(split_name)
        key = (card.name, split_name)
        if key not in self._items:
            self._items[key] = self._make_items(card, split_name)
            if split_name == "calibration":
                self._refuse_overlap(card)
        return self._items[key]

    def _refuse_overlap(self, card: ModelCard) -> None:
        calibration, evaluation = self.items(card, "calibration"), self.items(card, "evaluation")
        both = calibration.overlap(evaluation) if calibration and evaluation else 0
        if both:
            raise UserError(
                f"{self._lines[card.name].at('calibration')}: {both} items are both calibrated and "
                "evaluated on",
                "Accuracy would look better than it is: choose disjoint items.",
            )

    def _make_items(self, card: ModelCard, split_name: str) -> Items | None:
        split: Split | None = getattr(card, split_name)
        if split is None:
            return None
        data = self.dataset(split.dataset)
        root = self._root_of(self._datasets[split.dataset])
        files = {name: self.locate(file, root) for name, file in data.files.items()}
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
            self._report(f"preprocessing {card.name}'s {split_name} items")
            with new_folder(folder) as out:
                self._write_items(card, data, files, split, out)
        labels = folder / "labels.npy"
        feeds = {name: folder / f"input-{i}.npy" for i, name in enumerate(card.inputs)}
        count = len(np.load(next(iter(feeds.values())), mmap_mode="r"))
        return Items(
            feeds, labels if labels.exists() else None, count, digest, source=(content, chosen)
        )

    def _write_items(
        self,
        card: ModelCard,
        data: DatasetCard,
        files: Mapping[str, Path],
        split: Split,
        out: Path,
    ) -> None:
        with READERS[data.format](data, files) as raw:
            if len(raw) != data.items:
                raise UserError(
                    f"data set {data.name}: its card says {data.items} items, its files hold "
                    f"{len(raw)}"
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


def _verified(path: Path, file: SourceFile) -> Path:
    if file.sha256 is not None:
        found = digest_file(path)
        if found != file.sha256:
            raise UserError(
                f"{path} is not the file that the card means: its SHA-256 is {found}, "
                f"expected {file.sha256}",
                "Restore the file, or correct the card if the file was meant to change.",
            )
    return path


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
