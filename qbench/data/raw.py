"""Items as their data set holds them, for the scenario ``pipeline``: its worker decodes and
preprocesses them itself, while the clock runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qbench.data.files import Report
from qbench.data.items import Items, array_for, find_vocabularies, readable
from qbench.data.readers import READERS, Reader
from qbench.data.tokens import vocabulary
from qbench.errors import UserError
from qbench.spec import preprocess
from qbench.spec.datasets import FORMATS, DatasetCard
from qbench.spec.models import ModelCard
from qbench.storage import cache_dir, digest_json, new_folder, save_array

RAW_VERSION = 1
"""Raise it when the same items would be kept differently."""
_RECORD = "raw.json"


@dataclass(frozen=True)
class PipelineRequest:
    """What the scenario ``pipeline`` needs beside a case's own options.

    Attributes:
        options: to be added to the scenario's options, see
            ``qbench.kit.scenarios.pipeline``.
        files: to be put into the worker's folder, by the names that ``options`` has for them.
    """

    options: Mapping[str, Any]
    files: Mapping[str, Path]


def why_not(card: ModelCard, data: DatasetCard | None, batch_size: int) -> str | None:
    """Why there is no pipeline to be timed, in a sentence; None if there is one.

    Args:
        data: of the model's evaluation items; None if it has none.
    """
    if batch_size != 1:
        return f"a frame of a pipeline is one item: batch_size is 1, and not {batch_size}"
    if data is None:
        return "its inputs are made up or given ready, so there is no pipeline that makes them"
    if not any(card.preprocess.values()) and not FORMATS[data.format].encoded:
        return (
            f"the items of {data.name} are fed as they are: the card has no 'preprocess', and "
            "there is nothing to decode"
        )
    return None


def pipeline_request(
    card: ModelCard,
    data: DatasetCard,
    files: Mapping[str, Path],
    items: Items,
    frames: int,
    root: Path,
    report: Report,
) -> PipelineRequest:
    """The first ``frames`` evaluation items before anything was done to them, what is to be done,
    and what is read of the outputs. Kept in the cache.

    Args:
        card: for which ``why_not`` found nothing.
        data, files: the data set of ``items``, as ``make_items`` takes them.
        items: the preprocessed evaluation items.
        root: the folder of the model's card, where its vocabularies are looked for first.

    Raises:
        UserError: a file cannot be read, or the model's decoder is not installed here.
    """
    count = min(frames, items.count)
    key = digest_json(["raw", RAW_VERSION, items.digest, count])
    folder = cache_dir() / "data" / key[:32]
    if not all(readable(path) for path in folder.glob("*.npy")):
        shutil.rmtree(folder)  # a damaged cache is made anew
    if not folder.is_dir():
        assert items.chosen is not None  # it has a data set
        chosen = np.load(items.chosen)[:count].tolist()
        with new_folder(folder) as out, READERS[data.format](data, files) as reader:
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
    """``arrays``, whose items are written to ``out``, and the ``inputs`` that are made of them."""
    arrays: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for number, (name, tensor) in enumerate(card.inputs.items()):
        steps = card.preprocess.get(name, [])
        array = array_for(card, reader, name)
        if array not in arrays:
            stored = [reader.stored(array, index) for index in chosen]
            arrays[array] = _write(stored, f"raw-{len(arrays)}", out)
        inputs[name] = {
            "array": array,
            "steps": preprocess.as_json(steps),
            "dtype": tensor.dtype,
            "vocabulary": None,
        }
        options = preprocess.tokenize_options(steps)
        if options is not None:
            file = f"vocabulary-{number}.json"
            (out / file).write_text(json.dumps(vocabulary(options, vocabularies[name])))
            inputs[name]["vocabulary"] = file
    return {"arrays": arrays, "inputs": inputs}


def _write(stored: Sequence[bytes | np.ndarray | str], name: str, out: Path) -> dict[str, str]:
    """The items of an array in one ``.npy``: stacked, or end to end with another of their ends."""
    first = stored[0]
    if isinstance(first, (bytes, str)):
        parts = [item.encode() if isinstance(item, str) else bytes(item) for item in stored]
        save_array(out / f"{name}.npy", np.frombuffer(b"".join(parts), np.uint8))
        save_array(out / f"{name}-ends.npy", np.cumsum([len(part) for part in parts]))
        kind = "text" if isinstance(first, str) else "picture"
        return {"kind": kind, "file": f"{name}.npy", "ends": f"{name}-ends.npy"}
    save_array(out / f"{name}.npy", np.stack([np.asarray(item) for item in stored]))
    return {"kind": "array", "file": f"{name}.npy"}
