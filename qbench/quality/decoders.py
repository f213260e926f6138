"""From a detector's raw outputs to its boxes. A card names the decoder:

    decoder: {name: fastestdet, options: {score: 0.01, overlap: 0.45}}

A decoder of one's own is a function in an installed package, offered by an entry point:

    [project.entry-points."qbench.decoders"]
    myhead = "mypackage.heads:decode"

It is called as ``decode(outputs, options)`` with all evaluated items at once. ``outputs`` holds by
the card's output names arrays ``[items, ...]``, ``options`` is what the card says. It returns a
sequence with one array ``[n, 6]`` for each item: class, score, x1, y1, x2, y2. Classes count as the
data set's do; corners are shares of the width and height of the picture that the model was fed, 0
to 1 (so a letterbox is part of the picture). ``ValueError`` says what does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from qbench.errors import nearest
from qbench.quality.boxes import non_maximum_suppression

GROUP = "qbench.decoders"

Outputs = Mapping[str, np.ndarray]
Decode = Callable[[Outputs, Mapping[str, Any]], Sequence[np.ndarray]]
Share = Annotated[float, Field(ge=0, le=1)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SsdOptions(_Options):
    """``class_map``: by the model's class, the data set's, -1 for one that it does not have. Left
    out: they are the same."""

    class_map: Annotated[list[Annotated[int, Field(ge=-1)]], Field(min_length=1)] | None = None


class HeadOptions(_Options):
    """``score``: boxes below it are dropped. ``overlap``: of two boxes of a class that overlap by
    more, the better stays."""

    score: Share = 0.01
    overlap: Share = 0.45


class YoloOptions(HeadOptions):
    """``size``: [height, width] of the model's input, if it gives pixels; left out: it gives
    shares. ``objectness``: a score for "any object" comes before the classes' (YOLOv5, v7).
    ``anchors_last``: the output is [N, 4 + classes, anchors] (YOLOv8 and later), else
    [N, anchors, 4 + classes]."""

    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    objectness: bool = False
    anchors_last: bool = True


def ssd(outputs: Outputs, options: SsdOptions) -> list[np.ndarray]:
    """A detector with suppression built in, such as TFLite's ``Detection_PostProcess``. Outputs:
    ``boxes [N, n, 4]`` of y1, x1, y2, x2 as shares, ``classes [N, n]``, ``scores [N, n]``,
    ``count [N]``."""
    wanted = ("boxes", "classes", "scores", "count")
    if set(outputs) != set(wanted):
        raise ValueError(f"its outputs are {', '.join(wanted)}, the card's {', '.join(outputs)}")
    boxes = outputs["boxes"].astype(np.float64).reshape(len(outputs["boxes"]), -1, 4)
    classes = np.rint(outputs["classes"].reshape(len(boxes), -1)).astype(np.int64)
    scores = outputs["scores"].reshape(len(boxes), -1)
    present = np.arange(boxes.shape[1]) < outputs["count"].reshape(len(boxes), 1)
    if options.class_map is not None:
        if (
            classes[present].max(initial=0) >= len(options.class_map)
            or (classes[present] < 0).any()
        ):
            raise ValueError(f"class_map has {len(options.class_map)} entries, too few")
        known = np.asarray(options.class_map)
        classes = known[np.clip(classes, 0, len(known) - 1)]
        present &= classes >= 0
    found = np.concatenate(
        [classes[..., None], scores[..., None], np.clip(boxes[..., [1, 0, 3, 2]], 0, 1)], axis=2
    )
    return [one[some] for one, some in zip(found, present, strict=True)]


def fastestdet(outputs: Outputs, options: HeadOptions) -> list[np.ndarray]:
    """FastestDet's anchor-free head, one output ``[N, 5 + classes, rows, columns]``: objectness,
    tx, ty, w, h, classes. Score ``obj^0.6 cls^0.4``; centre ``(cell + tanh t) / cells``; size by
    the logistic function (its ``example/onnx-runtime/runtime.cpp``)."""
    head = _only(outputs, 4)
    rows, columns = head.shape[2:]
    score = np.maximum(head[:, 0], 0) ** 0.6 * np.maximum(head[:, 5:].max(axis=1), 0) ** 0.4
    x = (np.arange(columns) + np.tanh(head[:, 1])) / columns
    y = (np.arange(rows)[:, None] + np.tanh(head[:, 2])) / rows
    sizes = (1 + np.tanh(head[:, 3:5] / 2)) / 2  # the logistic function, without overflow
    found = [head[:, 5:].argmax(axis=1), score, x, y, sizes[:, 0], sizes[:, 1]]
    return _suppressed(np.stack(found, axis=-1).reshape(len(head), -1, 6), options)


def yolo(outputs: Outputs, options: YoloOptions) -> list[np.ndarray]:
    """YOLO's exported head, one output of ``x, y, w, h`` (centre and size), objectness if there is
    one, and classes; each box has the class of its highest score."""
    head = _only(outputs, 3)
    if options.anchors_last:
        head = head.transpose(0, 2, 1)
    first = 5 if options.objectness else 4
    if head.shape[2] <= first:
        raise ValueError(
            f"[items, anchors, {head.shape[2]}] has no room for classes: see its options "
            "anchors_last and objectness"
        )
    height, width = options.size or (1, 1)
    classes = head[..., first:]
    score = classes.max(axis=2) * (head[..., 4] if options.objectness else 1)
    boxes = head[..., :4] / np.array([width, height, width, height])
    found = np.concatenate([classes.argmax(axis=2)[..., None], score[..., None], boxes], axis=2)
    return _suppressed(found, options)


def _only(outputs: Outputs, axes: int) -> np.ndarray:
    if len(outputs) != 1:
        raise ValueError(f"it takes one output, the card has {', '.join(outputs)}")
    ((name, head),) = outputs.items()
    if head.ndim != axes:
        raise ValueError(f"output '{name}' has {head.ndim} axes, and not {axes}")
    return head.astype(np.float64)


def _suppressed(found: np.ndarray, options: HeadOptions) -> list[np.ndarray]:
    """Corners from ``[items, n, 6]`` of class, score, centre and size; suppressed and clipped."""
    centre, half = found[..., 2:4], found[..., 4:6] / 2
    found = np.concatenate([found[..., :2], centre - half, centre + half], axis=2)
    kept = []
    for one in found:
        one = non_maximum_suppression(one[one[:, 1] > options.score], options.overlap)
        kept.append(np.concatenate([one[:, :2], np.clip(one[:, 2:], 0, 1)], axis=1))
    return kept


_T = TypeVar("_T", bound=_Options)


def _with_options(
    function: Callable[[Outputs, _T], list[np.ndarray]], kind: type[_T]
) -> tuple[Decode, type[_Options]]:
    return lambda outputs, options: function(outputs, kind.model_validate(options)), kind


_BUILT_IN: Mapping[str, tuple[Decode, type[_Options]]] = {
    "ssd": _with_options(ssd, SsdOptions),
    "fastestdet": _with_options(fastestdet, HeadOptions),
    "yolo": _with_options(yolo, YoloOptions),
}


class Decoder(BaseModel):
    """A decoder by name, with its options."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str
    options: dict[str, Any] = {}

    def check(self) -> None:
        """
        Raises:
            ValueError: there is no such decoder, or its options are others.
        """
        if self.name not in _BUILT_IN:
            _installed(self.name)
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

    def decode(self, outputs: Outputs) -> list[np.ndarray]:
        """For each item ``[n, 6]`` float64 of class, score, x1, y1, x2, y2.

        Raises:
            ValueError: there is no such decoder here, or it fails, or gives something else.
        """
        self.check()
        items = len(next(iter(outputs.values())))
        function = _BUILT_IN[self.name][0] if self.name in _BUILT_IN else _installed(self.name)
        try:
            found = [np.asarray(one, np.float64) for one in function(outputs, self.options)]
        except Exception as error:  # a third party's code
            raise ValueError(f"decoder {self.name}: {error}") from error
        if len(found) != items:
            raise ValueError(f"decoder {self.name} gives {len(found)} items for {items}")
        for one in found:
            if one.ndim != 2 or one.shape[1] != 6 or not np.isfinite(one).all():
                raise ValueError(
                    f"decoder {self.name} gives an array {list(one.shape)} where finite numbers "
                    "[n, 6] of class, score, x1, y1, x2, y2 belong"
                )
        return found


def _installed(name: str) -> Decode:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise ValueError(
            f"there is no decoder '{name}'. {nearest(name, [*_BUILT_IN, *points])} Others come "
            f"with packages that offer an entry point of the group {GROUP}."
        )
    try:
        return points[name].load()
    except Exception as error:  # a third party's module may raise anything
        raise ValueError(
            f"the decoder '{name}' ({points[name].value}) cannot be imported: {error}"
        ) from None
