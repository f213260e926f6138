"""Suites for model files: with their card, or without one on random or given inputs, which show
fidelity only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.data.digests import digest_path
from qbench.data.items import Items
from qbench.data.madeup import kept, made_up
from qbench.errors import UserError, check_known
from qbench.kit.adapter import Description, PrepareError, Ready, Unavailable
from qbench.kit.model import Feed, Model, SourceTensor, TensorSpec
from qbench.kit.onnxfile.external import external_files
from qbench.kit.precisions import PRECISIONS
from qbench.kit.tflitefile import several_signatures
from qbench.run.sources.catalog import Catalog, OpenSuite, root_of
from qbench.run.sources.convert import Converters
from qbench.run.sources.tensors import Asked, Ran, Runner, settle
from qbench.run.workers.isolate import run_job, scratch_folder
from qbench.run.workers.registry import Registry
from qbench.spec.models import ModelCard
from qbench.spec.sizes import NOTHING_GIVEN, GivenSizes, shapes_of
from qbench.spec.suite import Suite, suites_dir

TRY_TIMEOUT_S = 300
PRECISIONS_TRIED = ("fp32", "fp16", "bf16", "int8-dynamic", "int8-static", "as-shipped")
ROUNDS = 5
CARDS = (".yaml", ".yml")
ONE_AT_A_TIME = "Run them one at a time."


def is_model_file(name: str, registry: Registry) -> bool:
    """Whether an argument of ``--model`` is a file, and not the name of a card."""
    path = Path(name)
    return path.suffix in {*_endings(registry), *CARDS} or path.is_file() or _is_savedmodel(path)


def _endings(registry: Registry) -> dict[str, str]:
    """Formats that the installed adapters and converters read, by suffix of a file's name."""
    loaded = [registry.load(name) for name in registry.names]
    formats = {
        f for backend in loaded if not isinstance(backend, Unavailable) for f in backend.formats
    }
    return {f".{form}": form for form in sorted(formats - {"savedmodel"})} | Converters().endings()


def _is_savedmodel(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def suite_for_files(
    paths: list[Path],
    backends: list[str] | None,
    precisions: list[str] | None,
    inputs: Path | None,
    rounds: int | None,
    registry: Registry,
    note: Callable[[str], None],
    devices: list[str] | None = None,
    given: GivenSizes = NOTHING_GIVEN,
    signature: str | None = None,
) -> OpenSuite:
    """A suite for model files and model cards.

    Args:
        inputs: an ``.npz`` with an array ``[items, ...]`` for each input; the first half of the
            items is for calibration, the rest for evaluation. None: random inputs.
        note: receives a sentence before each long step.
        devices: None: the CPU.
        given: sizes and batch axes of the inputs, which go before the cards' and the files' own.
        signature: key of the signature to run, of files with several.

    Raises:
        UserError: a file cannot be read, leaves a size open, or a name is wrong.
    """
    check_names(backends or [], precisions or [], registry)
    cards_at = [root_of(path) for path in paths if path.suffix in CARDS]
    catalog = Catalog([*cards_at, suites_dir()] if cards_at else [], note, given=given)
    for path in paths:
        if not path.is_file() and not _is_savedmodel(path):
            raise UserError(
                f"there is no model file {path}",
                "Without a suite, --model names a file; with one, a model of the suite.",
            )
    chosen = backends or registry.names
    added: dict[str, int] = {}
    for path in paths:
        if path.suffix in CARDS:
            name, batch = _add_card(catalog, path, inputs, added)
        else:
            readers = Readers(registry, chosen, signature)
            name, batch = _add_file(catalog, path, inputs, added, given, readers)
        added[name] = batch
    batches = sorted(set(added.values()))
    suite, text = suite_for_cards(list(added), chosen, precisions, rounds, devices, batches)
    return OpenSuite(suite, text, catalog, Path())


def check_names(backends: Sequence[str], precisions: Sequence[str], registry: Registry) -> None:
    """
    Raises:
        UserError: there is no such backend or precision.
    """
    for name in backends:
        check_known(name, registry.names, f"there is no backend '{name}'")
    for name in precisions:
        check_known(name, PRECISIONS, f"there is no precision '{name}'")


def suite_for_cards(
    models: list[str],
    backends: list[str],
    precisions: list[str] | None,
    rounds: int | None,
    devices: list[str] | None = None,
    batch_sizes: list[int] | None = None,
) -> tuple[Suite, str]:
    """A suite and its text, for models of a catalogue."""
    content = {
        "name": "files",
        "description": "Models that were given one by one",
        "models": models,
        "precisions": list(precisions or PRECISIONS_TRIED),
        "backends": backends,
        "devices": devices or ["cpu"],
        "batch_sizes": batch_sizes or [1],
        "rounds": rounds or ROUNDS,
        "timed_s": 0.5,
        "roofline": False,
    }
    return Suite.model_validate(content), json.dumps(content, indent=1) + "\n"


def _add_card(
    catalog: Catalog, path: Path, inputs: Path | None, added: Mapping[str, int]
) -> tuple[str, int]:
    """Add a card to the catalogue; its name and batch size."""
    if inputs:
        raise UserError(f"{path} is a model card: it names its own data", "Drop --inputs.")
    if path.stem in added:
        raise UserError(f"two of the model cards are called {path.stem}", ONE_AT_A_TIME)
    return catalog.add_card(path).name, 1


def _add_file(
    catalog: Catalog,
    path: Path,
    inputs: Path | None,
    added: Mapping[str, int],
    given: GivenSizes,
    readers: Readers,
) -> tuple[str, int]:
    """Add a card that describes a model file to the catalogue; its name and batch size."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-_")[:64] or "model"
    if name in added:
        raise UserError(f"two of the model files are called {name}", ONE_AT_A_TIME)
    form = readers.format_of(path)
    described = readers.describe(path, form)
    arrays = _load_arrays(inputs, described.inputs) if inputs else None

    def two_items(specs: Mapping[str, TensorSpec]) -> Feed:
        if arrays is not None:
            return {n: array[:2] for n, array in _by_item(inputs, arrays, specs).items()}
        return made_up(specs, "evaluation", described.rows, described.values).arrays(2)

    tensors = settle(
        Asked(
            title=str(path),
            described=described,
            given=given,
            arrays=None if arrays is None else {n: array.shape for n, array in arrays.items()},
            items=two_items,
            run=readers.runner(path, form, described),
        )
    )
    for sentence in tensors.notes:
        catalog.report(sentence)
    source = {"path": path.name, "sha256": digest_path(path)}
    if readers.signature is not None:
        source["signature"] = readers.signature
    card = ModelCard.model_validate(
        {
            "name": name,
            "task": "unknown",
            "licence": "unknown",
            "inputs": tensors.inputs,
            "outputs": tensors.outputs,
            "sizes": tensors.sizes,
            "sources": {form: source},
        }
    )
    if arrays is not None:
        items = _halves(inputs, _by_item(inputs, arrays, card.input_specs))
    else:
        splits = ("evaluation", "calibration")
        specs, rows, values = card.input_specs, described.rows, described.values
        items = {split: made_up(specs, split, rows, values) for split in splits}
    open_sizes = any(replace(spec, batch=0).free for spec in described.inputs.values())
    catalog.add(card, path.parent, items, shapes_of(card) if open_sizes else {})
    return name, tensors.batch


# --------------------------------------------------------------------------- model files


def _companions(path: Path, form: str) -> dict[str, Path]:
    """Files with an ONNX file's weights, by their path from its folder.

    Raises:
        UserError: it is no ONNX file, or one of them is not there.
    """
    if form != "onnx":
        return {}
    try:
        names = external_files(path)
    except PrepareError as error:
        raise UserError(f"{path} cannot be read", str(error)) from None
    found = {name: path.parent / name for name in names}
    for name, file in found.items():
        if not file.is_file():
            raise UserError(
                f"{path} keeps weights in {name}, which is missing", f"Put it at {file}."
            )
    return found


@dataclass(frozen=True)
class Readers:
    """The adapters and converters that read model files, the chosen backends' first.

    Attributes:
        signature: the one to read, of files with several; None: files have one.
    """

    registry: Registry
    chosen: list[str]
    signature: str | None = None

    def format_of(self, path: Path) -> str:
        """
        Raises:
            UserError: unknown.
        """
        endings = _endings(self.registry)
        form = "savedmodel" if _is_savedmodel(path) else endings.get(path.suffix)
        if form is None:
            raise UserError(
                f"{path}: its suffix is of no known format",
                f"Known suffixes: {', '.join(endings)}, {', '.join(CARDS)} (a model card); a torch "
                "module needs a card (docs/model-cards.md).",
            )
        return form

    def describe(self, path: Path, form: str) -> Description:
        """Describe a file with the first adapter that reads the format, else with a converter.

        Raises:
            UserError: none can read the file, or its signature is not known.
        """
        if self.signature is not None and form != "tflite":
            raise UserError(
                f"{path}: --signature is for TFLite files", "A card names a SavedModel's signature."
            )
        keys = several_signatures(path) if form == "tflite" else []
        if keys and self.signature is None:
            raise UserError(
                f"{path} has the signatures {', '.join(keys)}", "Choose one by --signature KEY."
            )
        reasons: list[str] = []
        refusals: list[str] = []
        adapters = self._adapters(form, reasons)
        converter = Converters().readers().get(form)
        for reader, target in [*adapters, *([("the converter", converter)] if converter else [])]:
            with scratch_folder() as folder:
                name, files = _source(path, form)
                request = {
                    "path": name,
                    "companions": [n for n in files if n != name],
                    "signature": self.signature,
                }
                outcome = run_job("describe", target, request, folder, files, timeout_s=120)
            if outcome.status == "ok":
                return Description.from_json(outcome.result)
            refusals.append(f"{reader}: {outcome.reason}")
        if refusals:
            raise UserError(f"{path} cannot be read", "; ".join(refusals))
        raise UserError(
            f"no backend here reads {form} files",
            "; ".join(reasons) or "`qbench backends` lists them.",
        )

    def runner(self, path: Path, form: str, described: Description) -> Runner | None:
        """Runs the file in the first adapter that can; None if no adapter here reads the format."""
        adapters = list(self._adapters(form, []))
        if not adapters:
            return None

        def run(specs: Mapping[str, TensorSpec], batch: int, feeds: Sequence[Feed]) -> Ran:
            model = _as_file(path, form, specs, described.outputs)
            model = replace(model, signature=self.signature)
            first = None
            for _, target in adapters:
                ran = _run_in(target, model, batch, feeds)
                if ran.refusal is None:
                    return ran
                first = first or ran
            assert first is not None
            return first

        return run

    def _adapters(self, form: str, reasons: list[str]) -> Iterator[tuple[str, str]]:
        """Yield name and ``module:Class`` of the adapters that read a format and work here; append
        to ``reasons`` why others do not."""
        for name in dict.fromkeys([*self.chosen, *self.registry.names]):
            backend = self.registry.load(name)
            if isinstance(backend, Unavailable) or form not in backend.formats:
                continue
            probe = self.registry.probe([name])[name]
            if isinstance(probe, Ready):
                yield name, self.registry.targets[name]
            else:
                reasons.append(f"{name}: {probe.reason}")


def _source(path: Path, form: str) -> tuple[str, dict[str, Path]]:
    """A file's name in a worker's folder, and all files by their names there."""
    name = f"source/model{path.suffix}"
    return name, {name: path, **{f"source/{n}": f for n, f in _companions(path, form).items()}}


def _as_file(
    path: Path, form: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Model:
    """The model with the file's own names; outputs without a batch axis."""
    return Model(
        name=path.stem,
        format=form,
        path=path,
        digest="",
        task="unknown",
        inputs=inputs,
        outputs={name: replace(spec, batch=None) for name, spec in outputs.items()},
        source_inputs={name: SourceTensor(name) for name in inputs},
        source_outputs={name: SourceTensor(name) for name in outputs},
        companions=_companions(path, form),
    )


def _run_in(target: str, model: Model, batch: int, feeds: Sequence[Feed]) -> Ran:
    """Run the file in one adapter."""
    with scratch_folder() as folder, scratch_folder() as given:
        name, files = _source(model.path, model.format)
        companions = {n: f"source/{n}" for n in model.companions}
        request: dict[str, Any] = {
            "model": {**model.to_json(), "path": name, "companions": companions},
            "batch": batch,
            "feeds": [],
        }
        for number, feed in enumerate(feeds):
            names = {n: f"feed-{number}-{index}.npy" for index, n in enumerate(feed)}
            for n, array in feed.items():
                np.save(given / names[n], array)
                files[names[n]] = given / names[n]
            request["feeds"].append(names)
        outcome = run_job("tryout", target, request, folder, files, timeout_s=TRY_TIMEOUT_S)
        if outcome.status != "ok":
            return Ran(refusal=outcome.reason)
        found = outcome.result["outputs"]
        return Ran([{n: np.load(folder / file) for n, file in one.items()} for one in found])


# --------------------------------------------------------------------------- given inputs


def _load_arrays(path: Path, inputs: Mapping[str, TensorSpec]) -> Feed:
    """The arrays of an ``.npz``, one for each input.

    Raises:
        UserError: it is no such file, or lacks an input.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zlib have a dozen kinds for a damaged file
        raise UserError(f"{path} is not a readable .npz file: {error}") from None
    for name in inputs:
        check_known(name, arrays, f"{path} has no array for input '{name}'")
    return {name: arrays[name] for name in inputs}


def _by_item(path: Path | None, arrays: Feed, inputs: Mapping[str, TensorSpec]) -> Feed:
    """The arrays as ``[items, *item]``. An input without a batch axis may have one value for all.

    Raises:
        UserError: another dtype or shape, or different numbers of items.
    """
    shared = {n for n, s in inputs.items() if s.batch is None and arrays[n].ndim == len(s.shape)}
    counts = {name: len(array) for name, array in arrays.items() if name not in shared}
    if len(set(counts.values())) != 1:
        raise UserError(
            f"{path}: the inputs have different numbers of items: {counts}"
            if counts
            else f"{path}: no array has items: give [items, ...]"
        )
    count = next(iter(counts.values()))
    result = {}
    for name, spec in inputs.items():
        array = arrays[name]
        if name in shared:
            array = np.broadcast_to(array, (count, *array.shape))
        if array.shape[1:] != spec.item or array.dtype != np.dtype(spec.dtype) or count < 2:
            want = ", ".join(["2 or more", *map(str, spec.item)])
            raise UserError(
                f"{path}: array '{name}' is {array.dtype} {list(arrays[name].shape)}; the model "
                f"wants {spec.dtype} [{want}]"
            )
        result[name] = array
    return result


def _halves(path: Path | None, arrays: Feed) -> dict[str, Items]:
    """The first half of the items for calibration, the rest for evaluation."""
    assert path is not None
    half = len(next(iter(arrays.values()))) // 2
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "calibration": kept({n: a[:half] for n, a in arrays.items()}, f"{digest}-calibration"),
        "evaluation": kept({n: a[half:] for n, a in arrays.items()}, f"{digest}-evaluation"),
    }
