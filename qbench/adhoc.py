"""Running model files without a suite or a card: random or given inputs, fidelity only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qbench.backend import Ready, TensorSpec, Unavailable
from qbench.cards import DTYPES, ModelCard
from qbench.catalog import Catalog
from qbench.data.items import Items
from qbench.data.madeup import kept, made_up
from qbench.errors import UserError, nearest
from qbench.isolate import run_job, scratch_folder
from qbench.precision import PRECISIONS
from qbench.registry import Registry
from qbench.storage import digest_file
from qbench.suite import Suite

PRECISIONS_TRIED = ("fp32", "fp16", "bf16", "int8-dynamic", "int8-static", "as-shipped")
ROUNDS = 5


def is_model_file(name: str, registry: Registry) -> bool:
    """Whether an argument of ``--model`` means a file and not the name of a card."""
    return Path(name).suffix in _endings(registry) or Path(name).is_file()


def _endings(registry: Registry) -> dict[str, str]:
    """Formats by the ending of a file's name: what the installed adapters read."""
    loaded = [registry.load(name) for name in registry.names]
    formats = {
        f for backend in loaded if not isinstance(backend, Unavailable) for f in backend.formats
    }
    return {f".{form}": form for form in sorted(formats)}


def suite_for_files(
    paths: list[Path],
    backends: list[str] | None,
    precisions: list[str] | None,
    inputs: Path | None,
    rounds: int | None,
    registry: Registry,
    note: Callable[[str], None],
) -> tuple[Suite, str, Catalog]:
    """A suite, its text and a catalogue for model files.

    Args:
        inputs: an ``.npz`` with an array ``[items, ...]`` for each input; the first half of the
            items calibrates, the rest is evaluated. None: random inputs.

    Raises:
        UserError: a file cannot be read, or names are wrong.
    """
    for name in backends or []:
        if name not in registry.names:
            raise UserError(f"there is no backend '{name}'", nearest(name, registry.names))
    for name in precisions or []:
        if name not in PRECISIONS:
            raise UserError(f"there is no precision '{name}'", nearest(name, PRECISIONS))
    catalog = Catalog([], note)
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"there is no model file {path}",
                "Without a suite, --model names a file; with one, a model of the suite.",
            )
    chosen = backends or registry.names
    cards = [_add(catalog, path, inputs, registry, chosen) for path in paths]
    content = {
        "name": "files",
        "description": "Model files given on the command line",
        "models": [card.name for card in cards],
        "precisions": list(precisions or PRECISIONS_TRIED),
        "backends": backends or registry.names,
        "rounds": rounds or ROUNDS,
        "timed_s": 0.5,
    }
    suite = Suite.model_validate(content)
    return suite, json.dumps(content, indent=1) + "\n", catalog


def _add(
    catalog: Catalog, path: Path, inputs: Path | None, registry: Registry, backends: list[str]
) -> ModelCard:
    """Describe the file, and add a card for it to the catalogue."""
    endings = _endings(registry)
    if path.suffix not in endings:
        raise UserError(
            f"{path}: cannot tell its format from its name",
            f"Known endings: {', '.join(endings)}.",
        )
    form = endings[path.suffix]
    ins, outs = _describe(path, form, registry, backends)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-_")[:64] or "model"
    if name in catalog.names:
        raise UserError(f"two of the model files are called {name}", "Run them one at a time.")
    sources = {
        "path": path.name,
        "sha256": digest_file(path),
        "inputs": {n: {"name": n} for n in ins},
        "outputs": {n: {"name": n} for n in outs},
    }
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
    items = _given(inputs, ins) if inputs else {split: made_up(ins, split) for split in splits}
    catalog.add(card, path.parent, items)
    return card


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype, "shape": list(spec.shape)}


def _describe(
    path: Path, form: str, registry: Registry, backends: list[str]
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Ask the adapters that read the format, the chosen ones first, until one can tell."""
    reasons, refusals = [], []
    for name in [*backends, *(other for other in registry.names if other not in backends)]:
        backend = registry.load(name)
        if isinstance(backend, Unavailable) or form not in backend.formats:
            continue
        probe = registry.probe([name])[name]
        if not isinstance(probe, Ready):
            reasons.append(f"{name}: {probe.reason}")
            continue
        with scratch_folder() as folder:
            outcome = run_job(
                "describe",
                registry.targets[name],
                {"path": f"model.{form}"},
                folder,
                {f"model.{form}": path},
                timeout_s=120,
            )
        if outcome.status != "ok":
            refusals.append(f"{name}: {outcome.reason}")
            continue
        return (
            {n: TensorSpec.from_json(t) for n, t in outcome.result["inputs"].items()},
            {n: TensorSpec.from_json(t) for n, t in outcome.result["outputs"].items()},
        )
    if refusals:
        raise UserError(f"{path} cannot be read", "; ".join(refusals))
    raise UserError(
        f"no backend here reads {form} files", "; ".join(reasons) or "`qbench backends` lists them."
    )


def _given(path: Path, inputs: Mapping[str, TensorSpec]) -> dict[str, Items]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zlib have a dozen kinds for a damaged file
        raise UserError(f"{path} is not a readable .npz file: {error}") from None
    for name, spec in inputs.items():
        if name not in arrays:
            raise UserError(f"{path} has no array for input '{name}'", nearest(name, arrays))
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
