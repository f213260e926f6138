"""Data set cards, and which items of a data set are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qbench.files import SourceFile
from qbench.suite import Name, PositiveInt
from qbench.yamlfile import Strict


class Split(Strict):
    """Some items of a data set.

    Attributes:
        items: ``"first:end"`` as in Python; all items when it is left out.
    """

    dataset: Name
    items: Annotated[str, Field(pattern=r"^\d*:\d*$")] = ":"

    def range(self, total: int) -> range:
        """The indices of the chosen items of a data set of ``total``."""
        first, _, end = self.items.partition(":")
        return range(total)[slice(int(first) if first else None, int(end) if end else None)]


class DatasetCard(Strict):
    """A labelled data set.

    Formats and what they need:

    - ``npz``: ``files.data``; ``arrays`` maps canonical inputs to array names, ``labels`` names
      the array of labels.
    - ``image-zip``: ``files.images`` (a zip of pictures) and ``files.labels`` (CSV); ``arrays``
      maps the one image input to the CSV's column of file names, ``labels`` names its column of
      labels.
    """

    name: Name
    description: str = ""
    licence: str
    homepage: str | None = None
    format: Literal["npz", "image-zip"]
    files: dict[str, SourceFile]
    arrays: Annotated[dict[str, str], Field(min_length=1)]
    labels: str | None = None
    items: PositiveInt
    classes: PositiveInt | None = None

    @model_validator(mode="after")
    def _files_fit(self) -> DatasetCard:
        wanted = {"npz": {"data"}, "image-zip": {"images", "labels"}}[self.format]
        if set(self.files) != wanted:
            raise ValueError(f"format {self.format} needs files {sorted(wanted)}")
        if self.format == "image-zip" and len(self.arrays) != 1:
            raise ValueError("format image-zip has one array: its column of file names")
        return self
