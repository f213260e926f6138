"""Items as the data set stores them, for the scenario ``pipeline``: its worker decodes and
preprocesses them within the timed window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qbench.data.download import Report
from qbench.data.items import Items, array_for, find_vocabularies, has_array, readable
from qbench.data.readers import Reader, open_reader
from qbench.data.tokens import vocabulary
from qbench.errors import UserError
from qbench.spec.datasets import FORMATS, DatasetCard
from qbench.spec.models import ModelCard
from qbench.spec.preprocess import Color, Resize, Tokenize, as_json, tokenize_options
from qbench.storage import cache_dir, digest_json, new_folder, save_array

RAW_VERSION = 1
"""Raise it when the cached form of the same items changes."""
_RECORD = "raw.json"


@dataclass(frozen=True)
class PipelineRequest:
    """Input of the scenario ``pipeline``, in addition to the case's options.

    Attributes:
        options: added to the scenario's options, see ``qbench.kit.scenarios.pipeline``.
        files: put into the worker's folder, by the names that ``options`` refers to.
    """

    options: Mapping[str, Any]
    files: Mapping[str, Path]


def why_not(
    card: ModelCard,
    data: DatasetCard | None,
    batch_size: int,
    packages: Container[str] | None = None,
) -> str | None:
    """Return why a model's pipeline cannot be timed, as a sentence; None if it can.

    Args:
        data: the data set of the model's evaluation items; None if it has none.
        packages: canonical names of the packages in the case's environment; None for the
            environment that qbench runs in.
    """
    if batch_size != 1:
        return f"a frame of a pipeline is one item: batch_size must be 1, not {batch_size}"
    if data is None:
        return "its inputs are made up or given as arrays, so no pipeline makes them"
    if not any(card.preprocess.values()) and not FORMATS[data.format].encoded:
        return (
            f"the items of {data.name} are the model's inputs: the card has no 'preprocess', and "
            "there is nothing to decode"
        )
    missing = [] if packages is None else [p for p in _needed(card, data) if p not in packages]
    if missing:
        return (
            f"its pipeline needs {' and '.join(missing)}: add it to the environment's requirements"
        )
    return None


def _needed(card: ModelCard, data: DatasetCard) -> list[str]:
    """Return the packages that a model's pipeline needs in addition to NumPy."""
    steps = [step for steps in card.preprocess.values() for step in steps]
    needed = []
    if FORMATS[data.format].encoded or any(
        isinstance(step, Resize) or (isinstance(step, Color) and step.color == "gray")
        for step in steps
    ):
        needed.append("pillow")
    if any(isinstance(step, Tokenize) and step.tokenize.kind != "words" for step in steps):
        needed.append("tokenizers")
    decoder = card.decoder.package() if card.decoder else None
    return [*needed, decoder] if decoder else needed


def pipeline_request(
    card: ModelCard,
    data: DatasetCard,
    files: Mapping[str, Path],
    items: Items,
    frames: int,
    root: Path,
    report: Report,
) -> PipelineRequest:
    """Return the first ``frames`` evaluation items as stored, their preprocessing steps and the
    postprocessing of the outputs. Cached.

    Args:
        card: a card for which ``why_not`` returns None.
        data, files: the data set of ``items``, as for ``make_items``.
        items: the preprocessed evaluation items.
        root: the folder of the model's card, searched first for its vocabularies.

    Raises:
        UserError: a file cannot be read, or the model's decoder is not installed here.
    """
    count = min(frames, items.count)
    key = digest_json(["raw", RAW_VERSION, items.made_of, count])
    folder = cache_dir() / "data" / key[:32]
    if not all(readable(path) for path in folder.glob("*.npy")):
        shutil.rmtree(folder)  # it is damaged
    if not folder.is_dir():
        assert items.chosen is not None  # it has a data set
        chosen = np.load(items.chosen)[:count].tolist()
        with new_folder(folder) as out, open_reader(data, files) as reader:
            record = {
                "titles": [reader.title(index) for index in chosen],
                **_inputs(card, reader, chosen, find_vocabularies(card, root, report), out),
            }
            (out / _RECORD).write_text(json.dumps(record))
    try:
        answer = card.judging().answer()
    except ValueError as error:
        raise UserError(f"model {card.name}: {error}") from None
    record = json.loads((folder / _RECORD).read_text())
    return PipelineRequest(
        {"frames": count, "work": {**record, "answer": answer}},
        {path.name: path for path in sorted(folder.iterdir()) if path.name != _RECORD},
    )


def _inputs(
    card: ModelCard,
    reader: Reader,
    chosen: Sequence[int],
    vocabularies: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    """Write the items of each array to ``out``; return ``arrays`` and the ``inputs`` made of
    them."""
    arrays: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for number, (name, tensor) in enumerate(card.inputs.items()):
        if not has_array(card, reader, name):
            continue
        steps = card.preprocess.get(name, [])
        array = array_for(card, reader, name)
        if array not in arrays:
            stored = [reader.stored(array, index) for index in chosen]
            arrays[array] = _write(stored, f"raw-{len(arrays)}", out)
        inputs[name] = {
            "array": array,
            "steps": as_json(steps),
            "dtype": tensor.dtype,
            "vocabulary": None,
        }
        options = tokenize_options(steps)
        if options is not None:
            file = f"vocabulary-{number}.json"
            (out / file).write_text(json.dumps(vocabulary(options, vocabularies[name])))
            inputs[name]["vocabulary"] = file
    return {"arrays": arrays, "inputs": inputs}


def _write(stored: Sequence[bytes | np.ndarray | str], name: str, out: Path) -> dict[str, str]:
    """Write an array's items as one ``.npy``: stacked, or concatenated with a second file of their
    ends."""
    first = stored[0]
    if isinstance(first, (bytes, str)):
        parts = [item.encode() if isinstance(item, str) else bytes(item) for item in stored]
        save_array(out / f"{name}.npy", np.frombuffer(b"".join(parts), np.uint8))
        save_array(out / f"{name}-ends.npy", np.cumsum([len(part) for part in parts]))
        kind = "text" if isinstance(first, str) else "picture"
        return {"kind": kind, "file": f"{name}.npy", "ends": f"{name}-ends.npy"}
    save_array(out / f"{name}.npy", np.stack([np.asarray(item) for item in stored]))
    return {"kind": "array", "file": f"{name}.npy"}
