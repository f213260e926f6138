"""Suites for model files: with their card, or without one on random or given inputs, which show
fidelity only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qbench.data.digests import digest_path
from qbench.data.items import Items
from qbench.data.madeup import kept, made_up
from qbench.errors import UserError, check_known
from qbench.kit.adapter import PrepareError, Ready, Unavailable
from qbench.kit.model import TensorSpec
from qbench.kit.onnxfile.external import external_files
from qbench.kit.precisions import PRECISIONS
from qbench.run.sources.catalog import Catalog, OpenSuite, root_of
from qbench.run.sources.convert import Converters
from qbench.run.workers.isolate import run_job, scratch_folder
from qbench.run.workers.registry import Registry
from qbench.spec.models import DTYPES, ModelCard
from qbench.spec.suite import Suite, suites_dir

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


class Tensors(NamedTuple):
    """A model's tensors, by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


def suite_for_files(
    paths: list[Path],
    backends: list[str] | None,
    precisions: list[str] | None,
    inputs: Path | None,
    rounds: int | None,
    registry: Registry,
    note: Callable[[str], None],
    devices: list[str] | None = None,
) -> OpenSuite:
    """A suite for model files and model cards.

    Args:
        inputs: an ``.npz`` with an array ``[items, ...]`` for each input; the first half of the
            items is for calibration, the rest for evaluation. None: random inputs.
        note: receives a sentence before each long step.
        devices: None: the CPU.

    Raises:
        UserError: a file cannot be read, or a name is wrong.
    """
    check_names(backends or [], precisions or [], registry)
    cards_at = [root_of(path) for path in paths if path.suffix in CARDS]
    catalog = Catalog([*cards_at, suites_dir()] if cards_at else [], note)
    for path in paths:
        if not path.is_file() and not _is_savedmodel(path):
            raise UserError(
                f"there is no model file {path}",
                "Without a suite, --model names a file; with one, a model of the suite.",
            )
    chosen = backends or registry.names
    cards: list[ModelCard] = []
    for path in paths:
        cards.append(_add(catalog, path, inputs, registry, chosen, cards))
    names = [card.name for card in cards]
    suite, text = suite_for_cards(names, chosen, precisions, rounds, devices)
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
) -> tuple[Suite, str]:
    """A suite and its text, for models of a catalogue."""
    content = {
        "name": "files",
        "description": "Models that were given one by one",
        "models": models,
        "precisions": list(precisions or PRECISIONS_TRIED),
        "backends": backends,
        "devices": devices or ["cpu"],
        "rounds": rounds or ROUNDS,
        "timed_s": 0.5,
        "roofline": False,
    }
    return Suite.model_validate(content), json.dumps(content, indent=1) + "\n"


def _add(
    catalog: Catalog,
    path: Path,
    inputs: Path | None,
    registry: Registry,
    backends: list[str],
    added: list[ModelCard],
) -> ModelCard:
    """Add a card to the catalogue: the given one, or a new one that describes the model file."""
    names = {card.name for card in added}
    if path.suffix in CARDS:
        if inputs:
            raise UserError(f"{path} is a model card: it names its own data", "Drop --inputs.")
        if path.stem in names:
            raise UserError(f"two of the model cards are called {path.stem}", ONE_AT_A_TIME)
        return catalog.add_card(path)
    endings = _endings(registry)
    form = "savedmodel" if _is_savedmodel(path) else endings.get(path.suffix)
    if form is None:
        raise UserError(
            f"{path}: its suffix is of no known format",
            f"Known suffixes: {', '.join(endings)}, {', '.join(CARDS)} (a model card); a torch "
            "module needs a card (docs/model-cards.md).",
        )
    ins, outs = _describe(path, form, registry, backends)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-_")[:64] or "model"
    if name in names:
        raise UserError(f"two of the model files are called {name}", ONE_AT_A_TIME)
    sources = {"path": path.name, "sha256": digest_path(path)}
    for kind, specs in (("input", ins), ("output", outs)):
        for tensor, spec in specs.items():
            if spec.dtype not in DTYPES or not spec.shape:
                raise UserError(
                    f"{path}: {kind} '{tensor}' is a {spec.dtype} of shape {list(spec.shape)}",
                    f"qbench takes {', '.join(DTYPES)}, with a batch axis.",
                )
    card = ModelCard.model_validate(
        {
            "name": name,
            "task": "unknown",
            "licence": "unknown",
            "inputs": {n: _tensor(spec) for n, spec in ins.items()},
            "outputs": {n: _tensor(spec) for n, spec in outs.items()},
            "sources": {form: sources},
        }
    )
    splits = ("evaluation", "calibration")
    items = _read_items(inputs, ins) if inputs else {split: made_up(ins, split) for split in splits}
    catalog.add(card, path.parent, items)
    return card


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype, "shape": list(spec.shape)}


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


def _describe(path: Path, form: str, registry: Registry, backends: list[str]) -> Tensors:
    """Describe a model file: with the first adapter that reads the format, the chosen ones first,
    else with a converter.

    Raises:
        UserError: none can read the file.
    """
    reasons, refusals = [], []
    name = f"source/model{path.suffix}"
    companions = {f"source/{n}": file for n, file in _companions(path, form).items()}
    for reader, target in _readers(form, registry, backends, reasons):
        with scratch_folder() as folder:
            files = {name: path, **companions}
            request = {"path": name, "companions": list(companions)}
            outcome = run_job("describe", target, request, folder, files, timeout_s=120)
        if outcome.status == "ok":
            return Tensors(
                {n: TensorSpec.from_json(t) for n, t in outcome.result["inputs"].items()},
                {n: TensorSpec.from_json(t) for n, t in outcome.result["outputs"].items()},
            )
        refusals.append(f"{reader}: {outcome.reason}")
    if refusals:
        raise UserError(f"{path} cannot be read", "; ".join(refusals))
    raise UserError(
        f"no backend here reads {form} files", "; ".join(reasons) or "`qbench backends` lists them."
    )


def _readers(
    form: str, registry: Registry, backends: list[str], reasons: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield name and ``module:Class`` of the readers of a format; append to ``reasons`` why others
    cannot read it."""
    for name in dict.fromkeys([*backends, *registry.names]):
        backend = registry.load(name)
        if isinstance(backend, Unavailable) or form not in backend.formats:
            continue
        probe = registry.probe([name])[name]
        if isinstance(probe, Ready):
            yield name, registry.targets[name]
        else:
            reasons.append(f"{name}: {probe.reason}")
    if form in (converters := Converters().readers()):
        yield "the converter", converters[form]


def _read_items(path: Path, inputs: Mapping[str, TensorSpec]) -> dict[str, Items]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zlib have a dozen kinds for a damaged file
        raise UserError(f"{path} is not a readable .npz file: {error}") from None
    for name, spec in inputs.items():
        check_known(name, arrays, f"{path} has no array for input '{name}'")
        want, array = spec.sized(1)[1:], arrays[name]
        free = [isinstance(size, str) for size in spec.shape[1:]]
        fits = array.ndim == len(spec.shape) and all(
            f or a == w for f, a, w in zip(free, array.shape[1:], want, strict=True)
        )
        if not fits or array.dtype != np.dtype(spec.dtype) or len(array) < 2:
            raise UserError(
                f"{path}: array '{name}' is {array.dtype} {list(array.shape)}; the model wants "
                f"{spec.dtype} [2 or more, {', '.join(map(str, spec.shape[1:]))}]"
            )
    counts = {name: len(arrays[name]) for name in inputs}
    if len(set(counts.values())) != 1:
        raise UserError(f"{path}: the inputs have different numbers of items: {counts}")
    half = next(iter(counts.values())) // 2
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "calibration": kept({n: arrays[n][:half] for n in inputs}, f"{digest}-calibration"),
        "evaluation": kept({n: arrays[n][half:] for n in inputs}, f"{digest}-evaluation"),
    }
