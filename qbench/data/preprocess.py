"""The preprocessing vocabulary of model cards, and its execution.

A card lists, for each input, the steps from a stored item to what the model is fed. Each step is
a mapping with one key:

    - resize: {size: [96, 96]}              # or {shortest: 256}; interpolation: bilinear
    - center_crop: 224                      # or [height, width]
    - color: bgr
    - normalize: {mean: 127.5, std: 127.5}  # numbers, or one number per channel
    - dequantize: {scale: 0.5847, zero_point: 83}
    - layout: NCHW
    - cast: float32

An item is one array without a batch axis. Images are HWC, or HW: an HW item becomes HWC with C=1
as soon as its list holds a step that only makes sense for images (resize, center_crop, color,
layout). Items that are no images (features, tokens) may have any shape and use the other steps.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag, model_validator

Interpolation = Literal["bilinear", "nearest", "bicubic", "lanczos"]
HeightWidth = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
PerChannel = float | Annotated[list[float], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ResizeOptions(_Strict):
    """`size` is [height, width] in pixels; `shortest` scales the shorter side, ratio kept."""

    size: HeightWidth | None = None
    shortest: PositiveInt | None = None
    interpolation: Interpolation = "bilinear"

    @model_validator(mode="after")
    def _one_target(self) -> "ResizeOptions":
        if (self.size is None) == (self.shortest is None):
            raise ValueError("resize takes either size: [height, width] or shortest: pixels")
        return self


class NormalizeOptions(_Strict):
    """(x - mean) / std; numbers, or lists with one number per channel."""

    mean: PerChannel
    std: PerChannel

    @model_validator(mode="after")
    def _no_zero_std(self) -> "NormalizeOptions":
        if np.any(np.asarray(self.std) == 0):
            raise ValueError("normalize divides by std, so std may not be 0")
        return self


class DequantizeOptions(_Strict):
    """(x - zero_point) * scale, for items that are stored quantized."""

    scale: float
    zero_point: int


class Resize(_Strict):
    resize: ResizeOptions


class CenterCrop(_Strict):
    center_crop: PositiveInt | HeightWidth


class Color(_Strict):
    color: Literal["bgr"]


class Normalize(_Strict):
    normalize: NormalizeOptions


class Dequantize(_Strict):
    dequantize: DequantizeOptions


class Layout(_Strict):
    layout: Literal["NCHW", "NHWC"]


class Cast(_Strict):
    cast: Literal["float32"]


def _key(step: Any) -> str | None:
    """The one key of a step, which tells its kind; None (an error that lists the kinds) if none."""
    names = list(step) if isinstance(step, dict) else list(getattr(type(step), "model_fields", ()))
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


Step = Annotated[
    Annotated[Resize, Tag("resize")]
    | Annotated[CenterCrop, Tag("center_crop")]
    | Annotated[Color, Tag("color")]
    | Annotated[Normalize, Tag("normalize")]
    | Annotated[Dequantize, Tag("dequantize")]
    | Annotated[Layout, Tag("layout")]
    | Annotated[Cast, Tag("cast")],
    Discriminator(
        _key,
        custom_error_type="preprocess_step",
        custom_error_message="a step is a mapping with one key, one of: resize, center_crop, "
        "color, normalize, dequantize, layout, cast",
    ),
]
Steps = list[Step]

_IMAGE_STEPS = (Resize, CenterCrop, Color, Layout)


def apply(steps: Steps, item: np.ndarray) -> np.ndarray:
    """Run the steps of a card on one item.

    Args:
        steps: validated steps (`Steps` in a pydantic model, or `TypeAdapter(Steps)`).
        item: one item without a batch axis. Images: uint8 [H, W], [H, W, 1] or [H, W, 3] where
            they are resized, any dtype otherwise. It is not changed.

    Returns:
        A C-contiguous array of its own. Images are [H, W, C], or [C, H, W] after `layout: NCHW`.
        float32 after normalize, dequantize or cast; the dtype of the item before them.

    Raises:
        ValueError: a step does not fit the item's shape or dtype.
    """
    result = np.asarray(item)
    if any(isinstance(step, _IMAGE_STEPS) for step in steps):
        result = _as_hwc(result)
    channels_first = False
    for step in steps:
        if channels_first and isinstance(step, (Resize, CenterCrop, Color)):
            raise ValueError(f"the step {_key(step)} takes HWC images: put it before layout: NCHW")
        match step:
            case Resize(resize=options):
                result = _resize(result, options)
            case CenterCrop(center_crop=size):
                result = _center_crop(result, size)
            case Color():
                result = _swap_red_and_blue(result)
            case Normalize(normalize=options):
                result = _normalize(result, options, channel_axis=0 if channels_first else -1)
            case Dequantize(dequantize=options):
                centred = result.astype(np.float32) - np.float32(options.zero_point)
                result = centred * np.float32(options.scale)
            case Layout(layout=layout):
                if channels_first != (layout == "NCHW"):
                    axes = (1, 2, 0) if channels_first else (2, 0, 1)
                    result, channels_first = result.transpose(axes), not channels_first
            case Cast(cast=dtype):
                result = result.astype(dtype)
    return np.array(result, order="C")


def _as_hwc(image: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] to [H, W, C]."""
    if image.ndim not in (2, 3):
        raise ValueError(f"an image has the shape [H, W] or [H, W, C], not {list(image.shape)}")
    return image[:, :, None] if image.ndim == 2 else image


def _resize(image: np.ndarray, options: ResizeOptions) -> np.ndarray:
    """uint8 [H, W, 1 or 3] to uint8 [h, w, same], by Pillow's `Image.resize`.

    `shortest` sets the shorter side and the other to round(other * shortest / short); torchvision
    truncates there, so its longer side may be a pixel less.
    """
    from PIL import Image

    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in (1, 3):
        raise ValueError(
            f"resize takes uint8 images with 1 or 3 channels, not {image.dtype} with {channels}; "
            "put it before normalize, dequantize and cast"
        )
    if options.size is not None:
        new_height, new_width = options.size
    else:
        short = min(height, width)
        new_height, new_width = (round(n * options.shortest / short) for n in (height, width))
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    resampling = Image.Resampling[options.interpolation.upper()]
    return _as_hwc(np.asarray(picture.resize((new_width, new_height), resampling)))


def _center_crop(image: np.ndarray, size: int | list[int]) -> np.ndarray:
    """[H, W, C] to [h, w, C]; where the margin is odd, the spare pixel is cut below or right."""
    height, width = (size, size) if isinstance(size, int) else size
    if height > image.shape[0] or width > image.shape[1]:
        raise ValueError(
            f"center_crop to {height}x{width} needs an image at least as large, "
            f"not {image.shape[0]}x{image.shape[1]}"
        )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] RGB to [H, W, 3] BGR."""
    if image.shape[2] != 3:
        raise ValueError(f"color: bgr takes images with 3 channels, not {image.shape[2]}")
    return image[:, :, ::-1]


def _normalize(x: np.ndarray, options: NormalizeOptions, channel_axis: int) -> np.ndarray:
    """(x - mean) / std in float32, in that order of operations; shape kept."""

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

    mean, std = along_channels("mean", options.mean), along_channels("std", options.std)
    return (x.astype(np.float32) - mean) / std
