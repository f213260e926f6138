"""Suites for model files: with their card, or without one, on the user's own data, or on made-up or
given inputs, which show fidelity only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qbench.data.digests import digest_path
from qbench.data.items import Items
from qbench.data.madeup import kept, made_up
from qbench.errors import UserError, check_known
from qbench.kit.adapter import Description, Range
from qbench.kit.feeds import fixed_batch
from qbench.kit.model import UNKNOWN_RANK, Feed, TensorSpec
from qbench.kit.precisions import PRECISIONS
from qbench.run.sources.catalog import Catalog, OpenSuite, root_of
from qbench.run.sources.own_data import SCALINGS, OwnData, open_data
from qbench.run.sources.readers import CARDS, Readers, endings, is_savedmodel
from qbench.run.sources.tensors import Asked, settle
from qbench.run.workers.registry import Registry
from qbench.spec.models import ModelCard
from qbench.spec.sizes import NOTHING_GIVEN, GivenSizes, InputShapes, shapes_of
from qbench.spec.suite import Suite, suites_dir
from qbench.storage import digest_json

PRECISIONS_TRIED = ("fp32", "fp16", "bf16", "int8-dynamic", "int8-static", "as-shipped")
ROUNDS = 5
ONE_AT_A_TIME = "Run them one at a time."


def is_model_file(name: str, registry: Registry) -> bool:
    """Whether an argument of ``--model`` is a file, and not the name of a card."""
    path = Path(name)
    return path.suffix in {*endings(registry), *CARDS} or path.is_file() or is_savedmodel(path)


@dataclass(frozen=True)
class Given:
    """What the user gives for models without a suite.

    Attributes:
        sizes: sizes and batch axes of the inputs, which go before the cards' and the files' own.
        inputs: an ``.npz`` with an array ``[items, ...]`` for each input; the first half of the
            items is for calibration, the rest for evaluation. None: made-up inputs.
        data: a folder of pictures or an ``.npz``, see ``qbench.run.sources.own_data``.
        scaling: of the pixels of ``data``.
        signature: key of the signature to run, of files with several.
    """

    sizes: GivenSizes = NOTHING_GIVEN
    inputs: Path | None = None
    data: Path | None = None
    scaling: str | None = None
    signature: str | None = None

    def check(self) -> None:
        """
        Raises:
            UserError: they exclude each other.
        """
        if self.inputs and self.data:
            raise UserError("--inputs and --data exclude each other", "Give one of them.")
        if self.scaling is not None:
            check_known(self.scaling, SCALINGS, f"there is no --preprocess {self.scaling}")
            if self.data is None:
                raise UserError("--preprocess is for the pixels of --data", "Add --data.")


NOTHING = Given()


def suite_for_files(
    paths: list[Path],
    backends: list[str] | None,
    precisions: list[str] | None,
    rounds: int | None,
    registry: Registry,
    note: Callable[[str], None],
    devices: list[str] | None = None,
    given: Given = NOTHING,
) -> OpenSuite:
    """A suite for model files and model cards.

    Args:
        note: receives a sentence before each long step.
        devices: None: the CPU.

    Raises:
        UserError: a file cannot be read, leaves a size open, or a name is wrong.
    """
    check_names(backends or [], precisions or [], registry)
    given.check()
    cards_at = [root_of(path) for path in paths if path.suffix in CARDS]
    catalog = Catalog([*cards_at, suites_dir()] if cards_at else [], note, given=given.sizes)
    for path in paths:
        if not path.is_file() and not is_savedmodel(path):
            raise UserError(
                f"there is no model file {path}",
                "Without a suite, --model names a file; with one, a model of the suite.",
            )
    chosen = backends or registry.names
    added: dict[str, int] = {}
    for path in paths:
        if path.suffix in CARDS:
            name, batch = _add_card(catalog, path, added, given)
        else:
            readers = Readers(registry, chosen, given.signature)
            name, batch = _add_file(catalog, path, added, given, readers)
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
    catalog: Catalog, path: Path, added: Mapping[str, int], given: Given
) -> tuple[str, int]:
    """Add a card to the catalogue; its name and batch size."""
    if given.inputs:
        raise UserError(
            f"{path} is a model card, and --inputs is for files without one",
            "Drop --inputs, or give data by --data.",
        )
    if path.stem in added:
        raise UserError(f"two of the model cards are called {path.stem}", ONE_AT_A_TIME)
    card = catalog.add_card(path)
    given.sizes.check_names(card.open_specs)
    if given.data:
        data = open_data(given.data, list(card.item_specs))
        _add_data(catalog, card, root_of(path), data, given, catalog.given_shapes(card.name))
    fixed = (fixed_batch(spec) for spec in card.input_specs.values())
    asked = given.sizes.batch(card.input_specs)
    return card.name, next(filter(None, fixed), asked)


def _add_file(
    catalog: Catalog, path: Path, added: Mapping[str, int], given: Given, readers: Readers
) -> tuple[str, int]:
    """Add a card that describes a model file to the catalogue; its name and batch size."""
    name = card_name(path)
    if name in added:
        raise UserError(f"two of the model files are called {name}", ONE_AT_A_TIME)
    form = readers.format_of(path)
    described = readers.describe(path, form)
    arrays = _load_arrays(given.inputs, described.inputs) if given.inputs else None
    data = open_data(given.data, list(described.inputs)) if given.data else None
    ready = data.ready(described.inputs) if data else {}

    def two_items(specs: Mapping[str, TensorSpec]) -> Feed:
        if arrays is not None:
            return {n: array[:2] for n, array in _by_item(given.inputs, arrays, specs).items()}
        made = made_up(specs, "evaluation", described.ranges).arrays(2)
        return {**made, **_two(ready, specs, given.data)}

    shapes = {name: array.shape for name, array in (arrays or {}).items()}
    shapes |= {name: (data.items, *two[0].shape) for name, two in ready.items() if data}
    tensors = settle(
        Asked(
            title=str(path),
            described=described,
            given=given.sizes,
            arrays=shapes or None,
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
            "inputs": with_ranges(tensors.inputs, described.ranges),
            "outputs": tensors.outputs,
            "sizes": tensors.sizes,
            "sources": {form: source},
        }
    )
    resolved = shapes_of(card) if _leaves_sizes_open(described, card.input_specs) else {}
    if data is not None:
        quantized = {n: spec.scale is not None for n, spec in described.inputs.items()}
        _add_data(catalog, card, path.parent, data, given, resolved, quantized)
        return name, tensors.batch
    if arrays is not None:
        items = _halves(given.inputs, _by_item(given.inputs, arrays, card.input_specs))
    else:
        splits = ("evaluation", "calibration")
        items = {split: made_up(card.input_specs, split, card.ranges) for split in splits}
    catalog.add(card, path.parent, items, resolved)
    return name, tensors.batch


def _leaves_sizes_open(described: Description, settled: Mapping[str, TensorSpec]) -> bool:
    """Whether the file leaves more open than the batch, so that runs of it may have other sizes."""
    return any(
        spec.shape == UNKNOWN_RANK
        or any(isinstance(s, str) and a != settled[n].batch for a, s in enumerate(spec.shape))
        for n, spec in described.inputs.items()
    )


def with_ranges(
    inputs: Mapping[str, Mapping[str, Any]], ranges: Mapping[str, Range]
) -> dict[str, dict[str, Any]]:
    """A card's inputs with the ranges that their file gives."""
    return {
        name: {**tensor, **({"range": [*ranges[name]]} if name in ranges else {})}
        for name, tensor in inputs.items()
    }


def card_name(path: Path) -> str:
    """The name of a card for a model file."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-_")[:64] or "model"


# --------------------------------------------------------------------------- given data


def _add_data(
    catalog: Catalog,
    card: ModelCard,
    folder: Path,
    data: OwnData,
    given: Given,
    shapes: InputShapes,
    quantized: Mapping[str, bool] | None = None,
) -> None:
    """Add a card with the user's data to the catalogue; see ``Catalog.add``."""
    fitted, notes = data.fitted(card, given.scaling, quantized or {})
    for sentence in notes:
        catalog.report(sentence)
    catalog.add_dataset(data.card, data.folder)
    catalog.add(fitted, folder, {}, shapes)


def _two(
    ready: Mapping[str, Sequence[np.ndarray]], specs: Mapping[str, TensorSpec], path: Path | None
) -> Feed:
    """The first two items of the inputs that the user's data has ready, ``[2, ...]``."""
    for name, two in ready.items():
        if two[0].shape != specs[name].item:
            raise UserError(
                f"{path}: items for input '{name}' are {list(two[0].shape)}; the model wants "
                f"{list(specs[name].item)}"
            )
    return {name: np.stack(two).astype(specs[name].dtype) for name, two in ready.items()}


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
    for name, spec in inputs.items():
        if spec.shape and not arrays[name].ndim:
            raise UserError(
                f"{path}: array '{name}' is a scalar; the model wants {spec.dtype} items"
            )
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
    shapes = {n: list(array.shape) for n, array in arrays.items()}  # one array may be for all items
    digest = digest_json([hashlib.sha256(path.read_bytes()).hexdigest(), shapes])
    return {
        "calibration": kept({n: a[:half] for n, a in arrays.items()}, f"{digest}-calibration"),
        "evaluation": kept({n: a[half:] for n, a in arrays.items()}, f"{digest}-evaluation"),
    }
