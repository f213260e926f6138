"""Model cards and data sets: find, fetch, verify, convert, and preprocess into ``.npy`` files.

Cards in the folder of the user's suite take precedence over the shipped ones. Each root is a folder
with ``models/*.yaml`` and ``datasets/*.yaml``; a card's paths are relative to its root.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from qbench.bundle.records.run import Origin, Origins
from qbench.data.digests import digest_path
from qbench.data.download import Report
from qbench.data.files import find, locate, unpacked
from qbench.data.items import Items, make_items
from qbench.data.madeup import made_up
from qbench.data.raw import PipelineRequest, pipeline_request, why_not
from qbench.errors import NoSource, UserError, check_known, nearest
from qbench.kit.adapter import PrepareError
from qbench.kit.converter import Source
from qbench.kit.model import Model, SourceTensor
from qbench.kit.onnxfile.external import external_files
from qbench.kit.tflitefile import several_signatures
from qbench.run.sources.convert import Converters, Route, Verified
from qbench.spec.datasets import DatasetCard, Split
from qbench.spec.files import SourceFile
from qbench.spec.models import Companion, ModelCard, ModelSource, Tensor, TensorName
from qbench.spec.preprocess import tokenize_options
from qbench.spec.sizes import (
    NOTHING_GIVEN,
    GivenSizes,
    InputShapes,
    missing_sizes,
    shapes_of,
)
from qbench.spec.suite import Suite, WorkerLimits, load_suite, suites_dir
from qbench.spec.yamlfile import Lines, load
from qbench.storage import digest_json

_FOR_CONVERTERS = {"callable", "model", "options", "signature"}
"""Keys of a card's source that converters are given."""
_DEFAULT_LIMITS = WorkerLimits()


def root_of(card: Path) -> Path:
    """The base of a card's relative paths: the parent of ``models/`` or ``datasets/``; for a card
    elsewhere, its own folder."""
    folder = card.absolute().parent
    return folder.parent if folder.name in ("models", "datasets") else folder


class _Files(NamedTuple):
    """A source's files.

    Attributes:
        path: the model's file or folder.
        companions: by name.
        digest: SHA-256 of all of them.
    """

    path: Path
    companions: dict[str, Path]
    digest: str


class Catalog:
    """The cards available to a suite.

    Args:
        roots: folders to search; the first one takes precedence.
        given: sizes that replace the cards' own.
        report: receives a sentence before each long step (download, preprocessing, conversion).
        converters: None: the installed ones.
    """

    def __init__(
        self,
        roots: list[Path],
        report: Report = lambda text: None,
        converters: Converters | None = None,
        given: GivenSizes = NOTHING_GIVEN,
    ) -> None:
        self._roots, self._given = roots, given
        self.report = report
        self._converters = converters or Converters(report)
        self._quantized: dict[tuple[str, str], bool] = {}
        self._converted: dict[tuple[str, str, bool], Model | NoSource] = {}
        self._models = self._find("models")
        self._datasets = self._find("datasets")
        self._given_models: dict[str, tuple[ModelCard, Path]] = {}
        self._given_data: dict[str, tuple[DatasetCard, Path]] = {}
        self._shapes: dict[str, InputShapes] = {}
        self._keep_sizes: set[str] = set()
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
        return sorted({*self._models, *self._given_models})

    def add(
        self, card: ModelCard, folder: Path, items: dict[str, Items], shapes: InputShapes
    ) -> None:
        """Add a model without a card file, or another card in place of its file's.

        Args:
            folder: the base of its paths.
            items: its preprocessed items by split name; empty if it names a data set.
            shapes: of its inputs, where the file leaves sizes open; else empty.
        """
        self._given_models[card.name] = (card, folder)
        self._shapes[card.name] = shapes
        self._items |= {(card.name, split): made for split, made in items.items()}

    def add_dataset(self, card: DatasetCard, folder: Path) -> None:
        """Add a data set without a card file; it replaces others of its name.

        Args:
            folder: the base of its paths.
        """
        self._given_data[card.name] = (card, folder)

    def given_shapes(self, name: str) -> InputShapes:
        """Shapes of the model's inputs where they are not its card's own; else empty."""
        self.card(name)
        return self._shapes.get(name, {})

    def add_card(self, path: Path, keeps_sizes: bool = False) -> ModelCard:
        """Add the card in the file ``path``; it replaces others of its name.

        Args:
            keeps_sizes: whether given sizes do not concern it, as those of a yardstick.
        """
        self._models[path.stem] = path
        if keeps_sizes:
            self._keep_sizes.add(path.stem)
        return self.card(path.stem)

    def card(self, name: str) -> ModelCard:
        """The model card ``name``."""
        if name in self._given_models:
            return self._given_models[name][0]
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
        return self._sized(self._on_own_data(card))

    def _on_own_data(self, card: ModelCard) -> ModelCard:
        """The card, evaluated on all items of the official data set where the user has them."""
        split = card.evaluation
        whole = self.dataset(split.dataset).whole if split else None
        if whole is None or whole not in self._given_data:
            return card
        return card.model_copy(update={"evaluation": Split(dataset=whole), "expected": None})

    def _sized(self, card: ModelCard) -> ModelCard:
        """The card with the given sizes.

        Raises:
            UserError: a size of an input is left open.
        """
        given = NOTHING_GIVEN if card.name in self._keep_sizes else self._given
        sized = given.apply(card)
        if sized is not card:
            self._shapes[card.name] = shapes_of(sized)
        if fault := sized.states_fault:
            raise UserError(
                f"model {card.name}: states: with the given sizes, {fault}",
                "Call sizes of both the same in the card, and give their values by --size.",
            )
        if missing := missing_sizes(sized.input_specs):
            raise UserError(
                f"model {card.name}: the card leaves open {missing}",
                "Give them by --size NAME=VALUE, or as 'sizes' in the card.",
            )
        return sized

    def use_data(self, given: Mapping[str, Path]) -> None:
        """Read data sets from the user's own copies, by name.

        Raises:
            UserError: an unknown data set, one of several files, or no such file or folder.
        """
        for name, path in given.items():
            card = self.dataset(name)
            if len(card.files) != 1:
                raise UserError(
                    f"data set {name} has several files", "Put them where its card's paths say."
                )
            if not path.exists():
                raise UserError(f"there is no {path} for the data set {name}", "Check --data.")
            path = path.resolve()
            ((key, file),) = card.files.items()
            here = SourceFile(path=path.name, sha256=file.sha256, member=file.member)
            own = card.model_copy(update={"files": {key: here}, "local": None})
            self.add_dataset(own, path.parent)

    def dataset(self, name: str) -> DatasetCard:
        """The data set card ``name``."""
        if name in self._given_data:
            return self._given_data[name][0]
        check_known(name, self._datasets, f"there is no data set '{name}'")
        card, lines = load(self._datasets[name], DatasetCard)
        if card.name != name:
            raise UserError(
                f"{lines.at('name')}: the card in {self._datasets[name].name} calls itself "
                f"'{card.name}'",
                "Give both the same name.",
            )
        return card

    def origins(self, name: str) -> Origins:
        """Licence and source of the model ``name`` and of its evaluation's data set, from their
        cards."""
        card = self.card(name)
        data = None
        if card.evaluation is not None:
            dataset = self.dataset(card.evaluation.dataset)
            path = self._datasets.get(dataset.name)
            data = _origin(dataset, dataset.files.values(), path)
        model = _origin(card, card.sources.values(), self._models.get(name))
        return Origins(model=model, data=data)

    def can_give(self, card: ModelCard, form: str) -> bool:
        """Whether the card has the model in format ``form``, or a converter makes that."""
        return self.has(card, form) or self._converters.route(card, form) is not None

    def has(self, card: ModelCard, form: str) -> bool:
        """Whether the model comes from the card's source ``form``: it is here, can be downloaded,
        or there is no other way to it."""
        source = card.sources.get(form)
        if source is None:
            return False
        here = source.remote or find(source, self._folder(card)) is not None
        return here or self._converters.route(card, form) is None

    def route(self, card: ModelCard, form: str) -> Route | None:
        """The conversion of the card's model to format ``form``; None if there is none."""
        return self._converters.route(card, form)

    def files_of(self, card: ModelCard) -> Iterator[tuple[SourceFile, Path]]:
        """The files that a model and its data sets need, each with the folder of its card."""
        folder = self._folder(card)
        for form, source in card.sources.items():
            if self.has(card, form):
                yield source, folder
                for companion in source.companions:
                    yield source.companion_file(companion), folder
                if source.weights is not None:
                    yield source.weights, folder
        for steps in card.preprocess.values():
            if options := tokenize_options(steps):
                yield options.vocab, folder
        for split in filter(None, (card.evaluation, card.calibration)):
            for file in self._form(split.dataset).files.values():
                yield file, self._data_folder(split.dataset)

    def fetch(self, file: SourceFile, root: Path) -> Path:
        """Make a file of a card available.

        Raises:
            UserError: it cannot be obtained.
        """
        return locate(file, root, self.report)

    def model(self, card: ModelCard, form: str, limits: WorkerLimits = _DEFAULT_LIMITS) -> Model:
        """The card's model in format ``form`` for adapters, converted if necessary.

        Args:
            limits: of a conversion's workers.

        Raises:
            NoSource: the conversion is impossible here, or failed.
            UserError: a file cannot be obtained.
        """
        if self.has(card, form):
            return self._own_model(card, form)
        return self._once(card, form, True, limits)

    def outline(self, card: ModelCard, form: str, limits: WorkerLimits = _DEFAULT_LIMITS) -> Model:
        """A converted model, as ``model``; but if it was not converted before, it is not now, and
        the result has all but the converted file (``Converters.outline``).

        Raises:
            NoSource, UserError: as ``model``; NoSource also if the conversion failed before.
        """
        return self._once(card, form, False, limits)

    def converts_quantized(self, card: ModelCard, form: str) -> bool:
        """Whether the model in format ``form``, which is converted, comes from a quantized file.

        Raises:
            NoSource, UserError: as ``model``.
        """
        key = (card.name, form)
        if key not in self._quantized:
            route = self._converters.open_route(card, form)
            verified = self._verified(card, route.source)
            self._quantized[key] = self._converters.is_quantized(route, verified)
        return self._quantized[key]

    def _once(self, card: ModelCard, form: str, convert: bool, limits: WorkerLimits) -> Model:
        """``_converted_model``, asked once for all cases."""
        key = (card.name, form, convert)
        if key not in self._converted:
            try:
                self._converted[key] = self._converted_model(card, form, convert, limits)
            except NoSource as no:
                self._converted[key] = no
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
            inputs=card.input_specs,
            outputs=card.output_specs,
            source_inputs=_names(card.inputs, source.inputs, default=True),
            source_outputs=_names(card.outputs, source.outputs, default=True),
            companions=companions,
            signature=source.signature,
            states=card.fed_back,
        )

    def _converted_model(
        self, card: ModelCard, form: str, convert: bool, limits: WorkerLimits
    ) -> Model:
        route = self._converters.open_route(card, form)
        verified = self._verified(card, route.source)
        samples = self.items(card, "evaluation")
        assert samples  # made up for a card without data
        if convert:
            model = self._converters.convert(route, verified, samples, limits)
        else:
            found = self._converters.find(route, verified, samples, limits)
            model = found or self._converters.outline(route, verified, samples)
        return replace(model, states=card.fed_back)

    def _verified(self, card: ModelCard, form: str) -> Verified:
        """The converter's input from the source ``form``."""
        source = card.sources[form]
        path, weights, digests = None, None, []
        if source.model is None:
            path, _, digest = self._files(card, form)
            digests.append(digest)
        if source.weights is not None:
            weights = locate(source.weights, self._folder(card), self.report)
            digests.append(digest_path(weights))
        return Verified(
            Source(
                format=form,
                path=path,
                inputs=card.input_specs,
                outputs=card.output_specs,
                source_inputs=_names(card.inputs, source.inputs, default=False),
                source_outputs=_names(card.outputs, source.outputs, default=False),
                options=source.model_dump(mode="json", include=_FOR_CONVERTERS),
                weights=weights,
            ),
            card.name,
            card.task,
            digest_json([form, digests]),
        )

    def _files(self, card: ModelCard, form: str) -> _Files:
        """Obtain and verify a source's files.

        Raises:
            UserError: one cannot be obtained, or leaves open which of its signatures is meant.
        """
        source, root = card.sources[form], self._folder(card)
        path = locate(source, root, self.report)
        keys = several_signatures(path) if form == "tflite" else []
        if keys and source.signature is None:
            raise UserError(
                f"model {card.name}: its TFLite file has the signatures {', '.join(keys)}",
                "Name one as sources.tflite.signature in its card.",
            )
        companions = {
            companion.name: locate(source.companion_file(companion), root, self.report)
            for companion in [*source.companions, *_unnamed(path, form, source)]
        }
        digest = source.sha256 or digest_path(path)
        if companions:
            digest = digest_json([digest, {n: digest_path(p) for n, p in companions.items()}])
        if form == "savedmodel":
            path = unpacked(path)
        return _Files(path, companions, digest)

    def _folder(self, card: ModelCard) -> Path:
        if card.name in self._given_models:
            return self._given_models[card.name][1]
        return root_of(self._models[card.name])

    # ------------------------------------------------------------------ items

    def items(self, card: ModelCard, split_name: str) -> Items | None:
        """The preprocessed items of ``evaluation`` or ``calibration``, from the cache if possible;
        None if the card lacks the split. Random for a card without data.

        Raises:
            UserError: files cannot be obtained, do not fit the card, or the splits share items.
        """
        key = (card.name, split_name)
        if key not in self._items:
            if card.evaluation is None and card.calibration is None:
                self._items[key] = made_up(card.item_specs, split_name, card.ranges)
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
                f"{self._lines[card.name].at('calibration')}: {both} items are used for both "
                "calibration and evaluation",
                "Accuracy would look better than it is: choose disjoint items.",
            )

    def no_pipeline(
        self, card: ModelCard, batch_size: int, packages: Container[str] | None = None
    ) -> str | None:
        """Return why the model's pipeline cannot be timed; None if it can.

        Args:
            packages: of the case's environment, see ``qbench.data.raw.why_not``.
        """
        data = self.dataset(card.evaluation.dataset) if card.evaluation else None
        return why_not(card, data, batch_size, packages)

    def pipeline(self, card: ModelCard, frames: int) -> PipelineRequest:
        """The first ``frames`` evaluation items, raw as in their data set. The card has a pipeline
        (``no_pipeline`` is None)."""
        split, items = card.evaluation, self.items(card, "evaluation")
        assert split and items
        data, files = self.data(split.dataset)
        folder = self._folder(card)
        return pipeline_request(card, data, files, items, frames, folder, self.report)

    def data(self, name: str) -> tuple[DatasetCard, dict[str, Path]]:
        """A data set in the form that is here or can be downloaded, and its files by name."""
        data, root = self._form(name), self._data_folder(name)
        return data, {name: locate(file, root, self.report) for name, file in data.files.items()}

    def _data_folder(self, name: str) -> Path:
        """The base of a data set's paths."""
        if name in self._given_data:
            return self._given_data[name][1]
        return root_of(self._datasets[name])

    def _form(self, name: str) -> DatasetCard:
        """The card of a data set in its local form, if that is here."""
        data, root = self.dataset(name), self._data_folder(name)
        here = data.local is not None and all(find(f, root) for f in data.local.files.values())
        return data.as_local() if here else data

    def _make_items(self, card: ModelCard, split: Split | None) -> Items | None:
        if split is None:
            return None
        data, files = self.data(split.dataset)
        return make_items(card, data, files, split, self.report, self._folder(card))


class OpenSuite(NamedTuple):
    """A suite ready to run.

    Attributes:
        text: its file, verbatim.
        catalog: the cards of its models and data sets.
        folder: base of its relative paths.
    """

    suite: Suite
    text: str
    catalog: Catalog
    folder: Path


def open_suite(
    path: Path,
    backends: Collection[str],
    report: Report,
    given: GivenSizes = NOTHING_GIVEN,
    data: Mapping[str, Path] = {},
) -> OpenSuite:
    """Read the suite in ``path``, with the cards in its folder and the shipped ones.

    Args:
        backends: names of the installed adapters.
        report: receives a sentence before each long step.
        given: sizes that replace the cards' own.
        data: the user's own copies of data sets, by name.

    Raises:
        UserError: the suite is wrong; with the line.
    """
    catalog = Catalog([path.parent, suites_dir()], report, given=given)
    catalog.use_data(data)
    suite = load_suite(path, backends, catalog.names)
    if given:
        cards = [catalog.card(name) for name in suite.models]
        given.check_names({n: spec for card in cards for n, spec in card.open_specs.items()})
    for name in suite.models:
        if untried := catalog.card(name).untried:
            report(f"{name} is untried: {untried}")
    return OpenSuite(suite, path.read_text(encoding="utf-8"), catalog, path.parent)


def _unnamed(path: Path, form: str, source: ModelSource) -> list[Companion]:
    """Files with weights that an ONNX file names and its card does not.

    Raises:
        UserError: they would be downloaded, and nothing says what they must hold.
    """
    if form != "onnx":
        return []
    try:
        found = external_files(path)
    except PrepareError:  # the adapter that prepares it says so
        return []
    missing = sorted(set(found) - {companion.name for companion in source.companions})
    if missing and source.url:
        raise UserError(
            f"{path} keeps weights in {', '.join(missing[:3])}, which its card does not name",
            "List its files under sources.onnx.companions, each with its sha256.",
        )
    return [Companion(name=name) for name in missing]


def _names(
    tensors: Mapping[str, Tensor], names: Mapping[str, TensorName], default: bool
) -> dict[str, SourceTensor]:
    """A source's names for the canonical tensors.

    Args:
        default: where the card gives no name, take the canonical one; else "", and the converter
            finds it.
    """
    result = {}
    for canonical, tensor in tensors.items():
        given = names.get(canonical, TensorName())
        name = given.name or (canonical if default else "")
        result[canonical] = SourceTensor(name, given.layout or tensor.layout)
    return result


def _origin(
    card: ModelCard | DatasetCard, files: Iterable[SourceFile], path: Path | None
) -> Origin:
    """The card's licence, and as the source its home page, else the origin of its files."""
    sources = [card.homepage]
    for file in files:
        sources += [file.hub and f"https://huggingface.co/{file.hub.repo}", file.url]
        library = file.model if isinstance(file, ModelSource) else None
        sources += [f"keras.applications.{library}" if library else None]
    if path is not None and path.is_relative_to(suites_dir()):
        sources.append("shipped with qbench")
    return Origin(licence=card.licence, source=next(filter(None, sources), None))
