"""Small data sets made by tests, and their items as a model gets them."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qbench.data.items import Items, make_items
from qbench.errors import UserError
from qbench.spec.datasets import DatasetCard, Split
from qbench.spec.models import ModelCard


def model_card(
    inputs: Mapping[str, list[Any]], preprocess: Any, dtype: str = "float32"
) -> ModelCard:
    """A card with these inputs, by their shapes, and nothing else that matters here."""
    return ModelCard.model_validate(
        {
            "name": "net",
            "task": "image-classification",
            "licence": "CC0-1.0",
            "inputs": {n: {"dtype": dtype, "shape": shape} for n, shape in inputs.items()},
            "outputs": {"scores": {"dtype": "float32", "shape": ["N", 10]}},
            "sources": {"fake": {"path": "net.fake"}},
            "preprocess": preprocess,
            "evaluation": {"dataset": "data"},
        }
    )


def data_card(form: str, files: Mapping[str, str], **more: Any) -> DatasetCard:
    """The shortest card of a data set; ``files`` are paths by the card's names."""
    content = {"name": "data", "format": form, "files": {n: {"path": p} for n, p in files.items()}}
    return DatasetCard.model_validate({**content, **more})


def made(
    root: Path,
    data: DatasetCard,
    shape: list[Any],
    steps: list[dict[str, Any]] | None = None,
    dtype: str = "float32",
    report: Any = lambda text: None,
    **split: Any,
) -> Items:
    """The items of a data set below ``root`` for a model with the one input ``image``."""
    card = model_card({"image": shape}, {"image": steps or []}, dtype)
    files = {name: root / str(file.path) for name, file in data.files.items()}
    return make_items(
        card, data, files, Split.model_validate({"dataset": "data", **split}), report, root
    )


def refused(*args: Any, **more: Any) -> str:
    """The error that ``made`` raises; it must leave nothing in the cache."""
    cache = Path(os.environ["QBENCH_CACHE"])
    before = set(cache.rglob("*"))
    with pytest.raises(UserError) as caught:
        made(*args, **more)
    assert {p for p in cache.rglob("*") if p.is_file()} <= before
    return str(caught.value)


def picture(height: int, width: int, seed: int = 0, form: str = "PNG", mode: str = "RGB") -> bytes:
    """A file with noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise).convert(mode), form)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(path: Path, files: Mapping[Any, bytes]) -> None:
    """Write a zip whose bytes do not depend on the time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
