"""Model cards and data sets: find, fetch, verify, and preprocess into ``.npy`` files.

A catalogue sees the cards beside the user's suite first and the shipped ones after. Each root is
a folder with ``models/*.yaml`` and ``datasets/*.yaml``; a card's paths are relative to its root.
"""

from __future__ import annotations

from pathlib import Path

from qbench.backend import Model
from qbench.cards import ModelCard
from qbench.data.cards import DatasetCard, Split
from qbench.data.items import Items, make_items
from qbench.errors import UserError, nearest
from qbench.files import Report, locate
from qbench.storage import digest_file
from qbench.yamlfile import Lines, load


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

    def model(self, card: ModelCard, form: str) -> Model:
        """The card's model in format ``form``, as adapters get it."""
        source = card.sources[form]
        path = locate(source, self._folder(card), self._report)
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
            self._items[key] = self._make_items(card, getattr(card, split_name))
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

    def _make_items(self, card: ModelCard, split: Split | None) -> Items | None:
        if split is None:
            return None
        data = self.dataset(split.dataset)
        root = self._root_of(self._datasets[split.dataset])
        files = {name: locate(file, root, self._report) for name, file in data.files.items()}
        return make_items(card, data, files, split, self._report)
