"""The preprocessing vocabulary of model cards, and its execution.

A card lists, for each input, the steps from a stored item to what the model is fed. Each step is
a mapping with one key:

    - array: image                          # the data set's array, if the input has another name
    - tokenize: {kind: wordpiece, vocab: {path: vocab.txt}, length: 128, give: ids}
    - resize: {size: [96, 96]}              # or {shortest: 256}, {letterbox: [640, 640]}
    - center_crop: 224                      # or [height, width]
    - color: bgr                            # or gray, rgb (of a gray image)
    - scale: 0.00392156862745098            # x * factor
    - normalize: {mean: 127.5, std: 127.5}  # numbers, or one number per channel
    - dequantize: {scale: 0.5847, zero_point: 83}
    - layout: NCHW
    - flatten: true
    - cast: uint8

An item is one array without a batch axis, or a text until it is tokenized. Images are HWC, or HW:
an HW item becomes HWC with C=1 as soon as its list holds a step that only makes sense for images
(resize, center_crop, color, layout). Items that are no images (features, tokens) may have any
shape and use the other steps.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from qbench.data.cards import IGNORE
from qbench.data.tokens import TokenizeOptions
from qbench.yamlfile import Strict

Interpolation = Literal["bilinear", "nearest", "bicubic", "lanczos"]
Pixels = Annotated[int, Field(ge=1, le=16384)]
HeightWidth = Annotated[list[Pixels], Field(min_length=2, max_length=2)]
PerChannel = float | Annotated[list[float], Field(min_length=1)]


class ResizeOptions(Strict):
    """`size` is [height, width] in pixels; `shortest` scales the shorter side, ratio kept;
    `letterbox` is [height, width] into which the image is fitted, ratio kept, the rest filled
    evenly on both sides with `fill` (114, as Ultralytics' YOLO has it)."""

    size: HeightWidth | None = None
    shortest: Pixels | None = None
    letterbox: HeightWidth | None = None
    fill: Annotated[int, Field(ge=0, le=255)] = 114
    interpolation: Interpolation = "bilinear"

    @model_validator(mode="after")
    def _one_target(self) -> "ResizeOptions":
        if sum(target is not None for target in (self.size, self.shortest, self.letterbox)) != 1:
            raise ValueError(
                "resize takes one of size: [height, width], shortest: pixels and "
                "letterbox: [height, width]"
            )
        if "fill" in self.model_fields_set and self.letterbox is None:
            raise ValueError("fill is for letterbox")
        return self


class NormalizeOptions(Strict):
    """(x - mean) / std; numbers, or lists with one number per channel."""

    mean: PerChannel
    std: PerChannel

    @model_validator(mode="after")
    def _no_zero_std(self) -> "NormalizeOptions":
        if np.any(np.asarray(self.std) == 0):
            raise ValueError("normalize divides by std, so std may not be 0")
        return self


class DequantizeOptions(Strict):
    """(x - zero_point) * scale, for items that are stored quantized."""

    scale: float
    zero_point: int


class Array(Strict):
    array: Annotated[str, Field(min_length=1)]


class Tokenize(Strict):
    tokenize: TokenizeOptions


class Resize(Strict):
    resize: ResizeOptions


class CenterCrop(Strict):
    center_crop: Pixels | HeightWidth


class Color(Strict):
    color: Literal["bgr", "gray", "rgb"]


class Scale(Strict):
    scale: float


class Normalize(Strict):
    normalize: NormalizeOptions


class Dequantize(Strict):
    dequantize: DequantizeOptions


class Layout(Strict):
    layout: Literal["NCHW", "NHWC"]


class Flatten(Strict):
    flatten: Literal[True]


class Cast(Strict):
    cast: Literal["float16", "float32", "uint8", "int8", "int16", "uint16", "int32", "int64"]


def _key(step: Any) -> str | None:
    """The one key of a step, which tells its kind; None (an error that lists the kinds) if none."""
    names = list(step) if isinstance(step, dict) else list(getattr(type(step), "model_fields", ()))
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


Step = Annotated[
    Annotated[Array, Tag("array")]
    | Annotated[Tokenize, Tag("tokenize")]
    | Annotated[Resize, Tag("resize")]
    | Annotated[CenterCrop, Tag("center_crop")]
    | Annotated[Color, Tag("color")]
    | Annotated[Scale, Tag("scale")]
    | Annotated[Normalize, Tag("normalize")]
    | Annotated[Dequantize, Tag("dequantize")]
    | Annotated[Layout, Tag("layout")]
    | Annotated[Flatten, Tag("flatten")]
    | Annotated[Cast, Tag("cast")],
    Discriminator(
        _key,
        custom_error_type="preprocess_step",
        custom_error_message="a step is a mapping with one key, one of: array, tokenize, resize, "
        "center_crop, color, scale, normalize, dequantize, layout, flatten, cast",
    ),
]


def _in_order(steps: list[Step]) -> list[Step]:
    """`array` comes first, `tokenize` before all that takes numbers; each once."""
    for index, step in enumerate(steps):
        if isinstance(step, Array) and index > 0:
            raise ValueError("the step array comes first: it says what the others are for")
        if isinstance(step, Tokenize) and any(not isinstance(s, Array) for s in steps[:index]):
            raise ValueError(
                "the step tokenize comes before the others: it makes numbers of a text"
            )
    return steps


Steps = Annotated[list[Step], AfterValidator(_in_order)]

_IMAGE_STEPS = (Resize, CenterCrop, Color, Layout)


def array_of(steps: Steps) -> str | None:
    """The data set's array that the steps begin with; None if they do not say."""
    return steps[0].array if steps and isinstance(steps[0], Array) else None


def tokenize_options(steps: Steps) -> TokenizeOptions | None:
    """How the steps make numbers of a text; None if they do not."""
    return next((step.tokenize for step in steps if isinstance(step, Tokenize)), None)


def apply(
    steps: Steps, item: np.ndarray | str, tokenize: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Run the steps of a card on one item.

    Args:
        steps: validated steps (`Steps` in a pydantic model, or `TypeAdapter(Steps)`).
        item: one item without a batch axis. Images: uint8 [H, W], [H, W, 1] or [H, W, 3] where
            they are resized, any dtype otherwise. It is not changed. Or a text.
        tokenize: carries out the step `tokenize` (`qbench.data.tokens.tokenizer` makes it).

    Returns:
        A C-contiguous array of its own. Images are [H, W, C], or [C, H, W] after `layout: NCHW`.
        float32 after scale, normalize or dequantize, what cast says, else the item's dtype.

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
            case Color(color=color):
                result = _recolor(result, color)
            case Scale(scale=factor):
                result = result.astype(np.float32) * np.float32(factor)
            case Normalize(normalize=options):
                result = _normalize(result, options, channel_axis=0 if channels_first else -1)
            case Dequantize(dequantize=options):
                centred = result.astype(np.float32) - np.float32(options.zero_point)
                result = centred * np.float32(options.scale)
            case Layout(layout=layout):
                if channels_first != (layout == "NCHW"):
                    axes = (1, 2, 0) if channels_first else (2, 0, 1)
                    result, channels_first = result.transpose(axes), not channels_first
            case Flatten():
                result = result.reshape(-1)
            case Cast(cast=dtype):
                result = cast(result, dtype)
    return np.array(result, order="C")


def moves_pixels(steps: Steps) -> bool:
    """Whether boxes and masks have to follow what the steps do to the picture."""
    return any(isinstance(step, Resize | CenterCrop) for step in steps)


def apply_to_mask(steps: Steps, mask: np.ndarray) -> np.ndarray:
    """A picture's mask where the steps leave the picture: uint8 [H, W] to [h, w].

    Resized to the nearest pixel; the filling of a letterbox is 255, which means ignore.
    """
    result = _as_hwc(mask)
    for step in steps:
        match step:
            case Resize(resize=options):
                how = {"interpolation": "nearest", "fill": IGNORE}
                result = _resize(result, options.model_copy(update=how))
            case CenterCrop(center_crop=size):
                result = _center_crop(result, size)
    return result[:, :, 0]


def apply_to_boxes(steps: Steps, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes where the steps leave the picture.

    Args:
        boxes: [boxes, 4] of x1, y1, x2, y2 as shares of the picture of ``height`` x ``width``.

    Returns:
        The same as shares of the picture that the model is fed: only a letterbox changes them.

    Raises:
        ValueError: a crop would cut boxes.
    """
    for step in steps:
        if isinstance(step, CenterCrop):
            raise ValueError("center_crop would cut boxes off: resize the pictures instead")
        if isinstance(step, Resize):
            inner, (height, width), (top, left) = _placed(height, width, step.resize)
            share = np.array([inner[1] / width, inner[0] / height] * 2)
            boxes = boxes * share + np.array([left / width, top / height] * 2)
    return boxes


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """``x`` in another dtype; to integers, real numbers are rounded half to even.

    Raises:
        ValueError: an integer type cannot hold its values.
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


def _as_hwc(image: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] to [H, W, C]."""
    if image.ndim not in (2, 3):
        raise ValueError(f"an image has the shape [H, W] or [H, W, C], not {list(image.shape)}")
    return image[:, :, None] if image.ndim == 2 else image


def _placed(
    height: int, width: int, options: ResizeOptions
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Where a resized picture comes to lie: its own [height, width], that of the canvas, and the
    [top, left] corner on it.

    `shortest` sets the shorter side and the other to round(other * shortest / short); torchvision
    truncates there, so its longer side may be a pixel less. `letterbox` rounds both sides and puts
    a spare row or column below or right, as Ultralytics does.
    """
    if options.size is not None:
        inner = (options.size[0], options.size[1])
        return inner, inner, (0, 0)
    if options.shortest is not None:
        short = min(height, width)
        inner = (round(height * options.shortest / short), round(width * options.shortest / short))
        return inner, inner, (0, 0)
    assert options.letterbox is not None
    canvas = (options.letterbox[0], options.letterbox[1])
    ratio = min(canvas[0] / height, canvas[1] / width)
    inner = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    return inner, canvas, ((canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2)


def _resize(image: np.ndarray, options: ResizeOptions) -> np.ndarray:
    """uint8 [H, W, 1 or 3] to uint8 [h, w, same], by Pillow's `Image.resize`."""
    from PIL import Image

    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in (1, 3):
        raise ValueError(
            f"resize takes uint8 images with 1 or 3 channels, not {image.dtype} with {channels}; "
            "put it before scale, normalize, dequantize and cast"
        )
    inner, canvas, (top, left) = _placed(height, width, options)
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    resampling = Image.Resampling[options.interpolation.upper()]
    resized = _as_hwc(np.asarray(picture.resize((inner[1], inner[0]), resampling)))
    if inner == canvas:
        return resized
    result = np.full((*canvas, channels), options.fill, np.uint8)
    result[top : top + inner[0], left : left + inner[1]] = resized
    return result


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


def _recolor(image: np.ndarray, color: str) -> np.ndarray:
    """To bgr or gray from [H, W, 3] RGB; to rgb from [H, W, 1] gray, the channel three times.

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
    return _as_hwc(np.asarray(Image.fromarray(image).convert("L")))


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
