"""Run preprocessing steps on one item, with NumPy and Pillow.

A step is a JSON object with one key and all options, made from a card by
``qbench.spec.preprocess``, which documents the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Plain = Sequence[Mapping[str, Any]]
"""Steps, in order: ``[{"resize": {"size": [96, 96], ...}}, {"layout": "NCHW"}]``."""

_OF_IMAGES = ("resize", "center_crop", "color", "layout")


def apply(
    steps: Plain, item: np.ndarray | str, tokenize: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Run steps on one item.

    Args:
        item: one item without a batch axis, not modified, or a text. Images: [H, W], [H, W, 1] or
            [H, W, 3]; uint8 if they are resized, else any dtype.
        tokenize: runs the step `tokenize` (from `qbench.kit.pipeline.tokens.tokenizer`).

    Returns:
        A new C-contiguous array. Images are [H, W, C], or [C, H, W] after `layout: NCHW`. The dtype
        is float32 after scale, normalize or dequantize, that of `cast`, else the item's.

    Raises:
        ValueError: a step does not fit the item's shape or dtype.
    """
    if isinstance(item, str):
        if tokenize is None:
            raise ValueError("the items are texts: 'preprocess' in the card needs a step tokenize")
        item = tokenize(item)
    elif tokenize is not None:
        raise ValueError(f"the step tokenize takes texts, not {item.dtype} {list(item.shape)}")
    result = np.asarray(item)
    if any(kind in _OF_IMAGES for step in steps for kind in step):
        result = as_hwc(result)
    channels_first = False
    for step in steps:
        ((kind, options),) = step.items()
        if channels_first and kind in ("resize", "center_crop", "color"):
            raise ValueError(f"the step {kind} takes HWC images: put it before layout: NCHW")
        if kind == "resize":
            result = resize(result, options)
        elif kind == "center_crop":
            result = center_crop(result, options)
        elif kind == "color":
            result = _recolor(result, options)
        elif kind == "scale":
            result = result.astype(np.float32) * np.float32(options)
        elif kind == "normalize":
            result = _normalize(result, options, channel_axis=0 if channels_first else -1)
        elif kind == "dequantize":
            centred = result.astype(np.float32) - np.float32(options["zero_point"])
            result = centred * np.float32(options["scale"])
        elif kind == "layout":
            if channels_first != (options == "NCHW"):
                axes = (1, 2, 0) if channels_first else (2, 0, 1)
                result, channels_first = result.transpose(axes), not channels_first
        elif kind == "flatten":
            result = result.reshape(-1)
        elif kind == "cast":
            result = cast(result, options)
        elif kind not in ("array", "tokenize"):  # these are done
            raise ValueError(f"there is no step {kind}")
    return np.array(result, order="C")


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """Cast ``x`` to another dtype; real numbers are rounded half to even to integers.

    Raises:
        ValueError: a value is out of the integer type's range.
    """
    want = np.dtype(dtype)
    if want.kind not in "iu" or x.dtype == want or x.size == 0:
        return x.astype(want, copy=False)
    limits = np.iinfo(want)
    whole = np.rint(x) if x.dtype.kind == "f" else x
    low, high = whole.min(), whole.max()
    if not (low >= limits.min and high <= limits.max):  # so is NaN
        raise ValueError(f"{dtype} holds {limits.min}..{limits.max}, not {low}..{high}")
    return whole.astype(want)


def as_hwc(image: np.ndarray) -> np.ndarray:
    """Return [H, W] or [H, W, C] as [H, W, C]."""
    if image.ndim not in (2, 3):
        raise ValueError(f"an image has the shape [H, W] or [H, W, C], not {list(image.shape)}")
    return image[:, :, None] if image.ndim == 2 else image


class Placement(NamedTuple):
    """A resized picture on its canvas, in pixels.

    Attributes:
        inner: [height, width] of the picture.
        canvas: [height, width] of the canvas.
        corner: [top, left] of the picture on the canvas.
    """

    inner: tuple[int, int]
    canvas: tuple[int, int]
    corner: tuple[int, int]


def placed(height: int, width: int, options: Mapping[str, Any]) -> Placement:
    """Compute the placement of a resized picture.

    `shortest` sets the shorter side, and the other to round(other * shortest / short); torchvision
    truncates it, so its longer side may be a pixel less. `letterbox` rounds both sides and puts an
    odd row or column below or right, as Ultralytics does.
    """
    size, shortest, letterbox = options["size"], options["shortest"], options["letterbox"]
    if size is not None:
        inner = (size[0], size[1])
        return Placement(inner, inner, (0, 0))
    if shortest is not None:
        short = min(height, width)
        inner = (round(height * shortest / short), round(width * shortest / short))
        return Placement(inner, inner, (0, 0))
    canvas = (letterbox[0], letterbox[1])
    ratio = min(canvas[0] / height, canvas[1] / width)
    inner = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    corner = (canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2
    return Placement(inner, canvas, corner)


def resize(image: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Resize uint8 [H, W, 1 or 3] to uint8 [h, w, same], by Pillow's `Image.resize`."""
    from PIL import Image

    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in (1, 3):
        raise ValueError(
            f"resize takes uint8 images with 1 or 3 channels, not {image.dtype} with {channels}; "
            "put it before scale, normalize, dequantize and cast"
        )
    inner, canvas, (top, left) = placed(height, width, options)
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    resampling = Image.Resampling[options["interpolation"].upper()]
    resized = as_hwc(np.asarray(picture.resize((inner[1], inner[0]), resampling)))
    if inner == canvas:
        return resized
    result = np.full((*canvas, channels), options["fill"], np.uint8)
    result[top : top + inner[0], left : left + inner[1]] = resized
    return result


def center_crop(image: np.ndarray, size: int | list[int]) -> np.ndarray:
    """Crop [H, W, C] to [h, w, C]; an odd pixel of the margin is cut below or right."""
    height, width = (size, size) if isinstance(size, int) else size
    if height > image.shape[0] or width > image.shape[1]:
        raise ValueError(
            f"center_crop to {height}x{width} needs an image at least as large, "
            f"not {image.shape[0]}x{image.shape[1]}"
        )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _recolor(image: np.ndarray, color: str) -> np.ndarray:
    """Convert [H, W, 3] RGB to bgr or gray, or repeat the channel of [H, W, 1] gray for rgb.

    gray is Pillow's luma (ITU-R 601-2): 0.299 R + 0.587 G + 0.114 B, of uint8 images.
    """
    want = 1 if color == "rgb" else 3
    if image.shape[2] != want:
        plural = "channels" if want > 1 else "channel"
        raise ValueError(f"color: {color} takes images with {want} {plural}, not {image.shape[2]}")
    if color == "bgr":
        return image[:, :, ::-1]
    if color == "rgb":
        return image.repeat(3, axis=2)
    from PIL import Image

    if image.dtype != np.uint8:
        raise ValueError(f"color: gray takes uint8 images, not {image.dtype}")
    return as_hwc(np.asarray(Image.fromarray(image).convert("L")))


def _normalize(x: np.ndarray, options: Mapping[str, Any], channel_axis: int) -> np.ndarray:
    """Return (x - mean) / std in float32, computed in this order; the shape is kept."""

    def along_channels(name: str, value: float | list[float]) -> np.ndarray:
        if not isinstance(value, list):
            return np.asarray(value, np.float32)
        channels = x.shape[channel_axis] if x.ndim else 0
        if len(value) != channels:
            raise ValueError(
                f"normalize: {name} has {len(value)} values, but the item {channels} channels"
            )
        shape = [1] * x.ndim
        shape[channel_axis] = channels
        return np.asarray(value, np.float32).reshape(shape)

    mean, std = along_channels("mean", options["mean"]), along_channels("std", options["std"])
    return (x.astype(np.float32) - mean) / std
