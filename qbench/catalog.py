"""Model cards and data sets: find, fetch, verify, convert, and preprocess into ``.npy`` files.

A catalogue sees the cards beside the user's suite first and the shipped ones after. Each root is
a folder with ``models/*.yaml`` and ``datasets/*.yaml``; a card's paths are relative to its root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qbench.backend import Model, SourceTensor
from qbench.cards import ModelCard, Tensor, TensorName
from qbench.convert import Converters, Origin
from qbench.converter import Source
from qbench.data.cards import DatasetCard, Split
from qbench.data.items import Items, make_items
from qbench.data.madeup import made_up
from qbench.data.raw import PipelineRequest, pipeline_request, why_not
from qbench.errors import NoSource, UserError, nearest
from qbench.files import Report, digest_path, locate, unpacked
from qbench.spec.files import SourceFile
from qbench.storage import digest_json
from qbench.suite import suites_dir
from qbench.yamlfile import Lines, load


def root_of(card: Path) -> Path:
    """The folder that a card's paths are relative to: the one that holds ``models/`` or
    ``datasets/``; for a card that lies elsewhere, its own."""
    folder = card.absolute().parent
    return folder.parent if folder.name in ("models", "datasets") else folder


class Catalog:
    """The cards that can be seen from a suite.

    Args:
        roots: folders to look in, the first wins.
        report: told in a sentence what takes long (downloads, preprocessing, conversions).
        converters: the installed ones if left out.
    """

    def __init__(
        self,
        roots: list[Path],
        report: Report = lambda text: None,
        converters: Converters | None = None,
    ) -> None:
        self._roots = roots
        self._report = report
        self._converters = converters or Converters(report)
        self._converted: dict[tuple[str, str], Model | NoSource] = {}
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

    def add_card(self, path: Path) -> ModelCard:
        """Add the card in the file ``path``; it goes before others of its name."""
        self._models[path.stem] = path
        return self.card(path.stem)

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

    def origin(self, name: str) -> dict[str, dict[str, str | None] | None]:
        """Licence and source of the model ``name``, and of the ``data`` that it is evaluated on
        (None if that is made up), as their cards tell them."""
        card = self.card(name)
        data = None
        if card.evaluation is not None and name not in self._extra:
            dataset = self.dataset(card.evaluation.dataset)
            path = self._datasets[dataset.name]
            data = _origin(dataset, dataset.files.values(), path)
        return {
            "model": _origin(card, card.sources.values(), self._models.get(name)),
            "data": data,
        }

    def can_give(self, card: ModelCard, form: str) -> bool:
        """Whether the card has the model in format ``form``, or a converter leads there."""
        return form in card.sources or self._converters.route(card, form) is not None

    def model(self, card: ModelCard, form: str) -> Model:
        """The card's model in format ``form``, as adapters get it; converted if need be.

        Raises:
            NoSource: it would have to be converted, and that cannot be done here or failed.
            UserError: a file cannot be had.
        """
        if form in card.sources:
            return self._own_model(card, form)
        key = (card.name, form)
        if key not in self._converted:
            try:
                self._converted[key] = self._converted_model(card, form)
            except NoSource as no:
                self._converted[key] = no  # not to be tried again for every case
        found = self._converted[key]
        if isinstance(found, NoSource):
            raise found
        return found

    def _own_model(self, card: ModelCard, form: str) -> Model:
        source = card.sources[form]
        path, companions, digest = self._files(card, form)
        return Model(
            name=card.name,
            format=form,
            path=path,
            digest=digest,
            task=card.task,
            inputs={n: t.spec() for n, t in card.inputs.items()},
            outputs={n: t.spec() for n, t in card.outputs.items()},
            source_inputs=_names(card.inputs, source.inputs, default=True),
            source_outputs=_names(card.outputs, source.outputs, default=True),
            companions=companions,
        )

    def _converted_model(self, card: ModelCard, form: str) -> Model:
        route = self._converters.open_route(card, form)
        origin = self._origin(card, route.source)
        samples = self.items(card, "evaluation") or made_up(origin.source.inputs, "evaluation")
        return self._converters.convert(route, origin, samples)

    def _origin(self, card: ModelCard, form: str) -> Origin:
        """A source for a converter."""
        source = card.sources[form]
        path, weights, digests = None, None, []
        if source.model is None:
            path, _, digest = self._files(card, form)
            digests.append(digest)
        if source.weights is not None:
            weights = locate(source.weights, self._folder(card), self._report)
            digests.append(digest_path(weights))
        return Origin(
            Source(
                format=form,
                path=path,
                inputs={n: t.spec() for n, t in card.inputs.items()},
                outputs={n: t.spec() for n, t in card.outputs.items()},
                source_inputs=_names(card.inputs, source.inputs, default=False),
                source_outputs=_names(card.outputs, source.outputs, default=False),
                options=source.model_dump(mode="json", include={"callable", "model", "options"}),
                weights=weights,
            ),
            card.name,
            card.task,
            digest_json([form, digests]),
        )

    def _files(self, card: ModelCard, form: str) -> tuple[Path, dict[str, Path], str]:
        """The source's file or folder, its companions by name, and the digest of all of it."""
        source, root = card.sources[form], self._folder(card)
        path = locate(source, root, self._report)
        companions = {
            companion.name: locate(source.companion_file(companion), root, self._report)
            for companion in source.companions
        }
        digest = source.sha256 or digest_path(path)
        if companions:
            digest = digest_json([digest, {n: digest_path(p) for n, p in companions.items()}])
        if form == "savedmodel":
            path = unpacked(path)
        return path, companions, digest

    def _folder(self, card: ModelCard) -> Path:
        if card.name in self._extra:
            return self._extra[card.name][1]
        return root_of(self._models[card.name])

    # ------------------------------------------------------------------ items

    def items(self, card: ModelCard, split_name: str) -> Items | None:
        """The preprocessed items of ``evaluation`` or ``calibration``; None if the card has no
        such split. Made once, then read from the cache. For a card without data they are made up.

        Raises:
            UserError: files cannot be had, do not fit the card, or hold items of both splits.
        """
        if card.name in self._extra:
            return self._extra[card.name][2].get(split_name)
        key = (card.name, split_name)
        if key not in self._items:
            if card.evaluation is None and card.calibration is None:
                inputs = {name: tensor.spec() for name, tensor in card.inputs.items()}
                self._items[key] = made_up(inputs, split_name)
            else:
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

    def no_pipeline(self, card: ModelCard, batch_size: int) -> str | None:
        """Why there is no pipeline of the model to be timed; None if there is one."""
        split = None if card.name in self._extra else card.evaluation
        return why_not(card, self.dataset(split.dataset) if split else None, batch_size)

    def pipeline(self, card: ModelCard, frames: int) -> PipelineRequest:
        """The first ``frames`` evaluation items as their data set holds them, for a card that
        ``no_pipeline`` says nothing against."""
        split, items = card.evaluation, self.items(card, "evaluation")
        assert split and items
        data, files = self._data(split)
        folder = self._folder(card)
        return pipeline_request(card, data, files, items, frames, folder, self._report)

    def _data(self, split: Split) -> tuple[DatasetCard, dict[str, Path]]:
        """The data set of a split, and its files."""
        data = self.dataset(split.dataset)
        root = root_of(self._datasets[split.dataset])
        return data, {name: locate(file, root, self._report) for name, file in data.files.items()}

    def _make_items(self, card: ModelCard, split: Split | None) -> Items | None:
        if split is None:
            return None
        data, files = self._data(split)
        return make_items(card, data, files, split, self._report, self._folder(card))


def _names(
    tensors: Mapping[str, Tensor], names: Mapping[str, TensorName], default: bool
) -> dict[str, SourceTensor]:
    """What a source calls the canonical tensors. Where the card gives no name: the canonical one
    by ``default``, else none, for converters to find out."""
    result = {}
    for canonical, tensor in tensors.items():
        given = names.get(canonical, TensorName())
        name = given.name or (canonical if default else "")
        result[canonical] = SourceTensor(name, given.layout or tensor.layout)
    return result


def _origin(
    card: ModelCard | DatasetCard, files: Iterable[SourceFile], path: Path | None
) -> dict[str, str | None]:
    """``licence`` and ``source``: the card's page, or else where its files come from."""
    told = [card.homepage]
    for file in files:
        told += [file.hub and f"https://huggingface.co/{file.hub.repo}", file.url]
        library = getattr(file, "model", None)
        told += [f"keras.applications.{library}" if library else None]
    if path is not None and path.is_relative_to(suites_dir()):
        told.append("shipped with qbench")
    return {"licence": card.licence, "source": next(filter(None, told), None)}
