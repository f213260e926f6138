"""Decode the raw outputs of a detector into boxes. A card names the decoder:

    decoder: {name: fastestdet, options: {score: 0.01, overlap: 0.45}}

Further decoders are functions of installed packages, registered by an entry point:

    [project.entry-points."qbench.decoders"]
    myhead = "mypackage.heads:decode"

It is called as ``decode(outputs, options)`` with all evaluated items at once: ``outputs`` are
arrays ``[items, ...]`` by the card's output names, ``options`` the card's. It returns a sequence
with one array ``[n, 6]`` for each item: class, score, x1, y1, x2, y2. Classes are numbered as in
the data set; corners are shares (0 to 1) of the width and height of the model's input picture,
letterbox included. It raises ``ValueError`` if the outputs do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import numpy as np
from packaging.utils import canonicalize_name
from pydantic import Field, PositiveInt, ValidationError

from qbench.errors import nearest
from qbench.kit.pipeline import decoding, detectors
from qbench.kit.pipeline.answers import Decode
from qbench.spec.yamlfile import Strict

GROUP = "qbench.decoders"

DECODE_TIMEOUT_S = 600.0
"""Default limit for the decoder of another package, for all items together."""
Share = Annotated[float, Field(ge=0, le=1)]


class SsdOptions(Strict):
    """``class_map``: the data set's class for each class of the model, -1 where it has none; None:
    they are the same."""

    class_map: Annotated[list[Annotated[int, Field(ge=-1)]], Field(min_length=1)] | None = None


class HeadOptions(Strict):
    """``score``: boxes below it are dropped. ``overlap``: of two boxes of a class that overlap by
    more, the better stays."""

    score: Share = 0.01
    overlap: Share = 0.45


class YoloOptions(HeadOptions):
    """``size``: [height, width] of the model's input, if boxes are in pixels; None: in shares.
    ``objectness``: a score for "any object" precedes those of the classes (YOLOv5, v7).
    ``anchors_last``: the output is [N, 4 + classes, anchors] (YOLOv8 and later), else
    [N, anchors, 4 + classes]."""

    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    objectness: bool = False
    anchors_last: bool = True


_BUILT_IN: Mapping[str, tuple[Decode, type[Strict]]] = {
    "ssd": (detectors.ssd, SsdOptions),
    "fastestdet": (detectors.fastestdet, HeadOptions),
    "yolo": (detectors.yolo, YoloOptions),
}


class Decoder(Strict):
    """A decoder by name, with its options."""

    name: str
    options: dict[str, Any] = {}

    def check(self) -> None:
        """Check the decoder without importing it, since that would run its package's code here.

        Raises:
            ValueError: there is no such decoder, or it does not take these options.
        """
        if self.name not in _BUILT_IN:
            _point(self.name)
            return
        try:
            _BUILT_IN[self.name][1].model_validate(self.options)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            known = ", ".join(_BUILT_IN[self.name][1].model_fields)
            raise ValueError(
                f"decoder {self.name}: options.{place}: {first['msg']}. It takes {known}."
            ) from None

    def complete(self) -> dict[str, Any]:
        """All options, with defaults; for decoders of other packages only those of the card."""
        if self.name not in _BUILT_IN:
            return self.options
        return _BUILT_IN[self.name][1].model_validate(self.options).model_dump(mode="json")

    def target(self) -> str:
        """``module:function``: workers do not search entry points.

        Raises:
            ValueError: there is no such decoder here.
        """
        if self.name not in _BUILT_IN:
            point = _point(self.name)
            return f"{point.module}:{point.attr}"
        return f"{detectors.__name__}:{_BUILT_IN[self.name][0].__name__}"

    def package(self) -> str | None:
        """Return the canonical name of the package that provides the decoder; None if built in."""
        if self.name in _BUILT_IN:
            return None
        distribution = _point(self.name).dist
        return canonicalize_name(distribution.name) if distribution else None

    def decode(
        self,
        outputs: detectors.Outputs,
        timeout_s: float = DECODE_TIMEOUT_S,
        memory_limit_bytes: int | None = None,
    ) -> list[np.ndarray]:
        """For each item ``[n, 6]`` float64 of class, score, x1, y1, x2, y2.

        A decoder of another package runs in a process of its own, within the limits.

        Raises:
            ValueError: there is no such decoder here.
            DecoderFailed: a ValueError: it fails, reaches a limit, or its result has another form.
        """
        self.check()
        options = self.complete()
        try:
            if self.name in _BUILT_IN:
                return decoding.decode(_BUILT_IN[self.name][0], outputs, options)
            return decoding.decode_apart(
                self.target(), outputs, options, timeout_s, memory_limit_bytes
            )
        except decoding.DecoderFailed as failed:
            raise decoding.DecoderFailed(
                f"decoder {self.name}: {failed}", failed.status, failed.log
            ) from failed


def _point(name: str) -> EntryPoint:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise ValueError(
            f"there is no decoder '{name}'. {nearest(name, [*_BUILT_IN, *points])} Others come "
            f"with packages that offer an entry point of the group {GROUP}."
        )
    return points[name]
