"""The preprocessing vocabulary of model cards. ``qbench.worker.pipeline`` carries it out.

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
from qbench.worker.pipeline import transforms
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


def array_of(steps: Steps) -> str | None:
    """The data set's array that the steps begin with; None if they do not say."""
    return steps[0].array if steps and isinstance(steps[0], Array) else None


def tokenize_options(steps: Steps) -> TokenizeOptions | None:
    """How the steps make numbers of a text; None if they do not."""
    return next((step.tokenize for step in steps if isinstance(step, Tokenize)), None)


def as_json(steps: Steps) -> list[dict[str, Any]]:
    """The steps with all their options, as ``qbench.worker.pipeline.transforms`` takes them."""
    return [step.model_dump(mode="json") for step in steps]


def apply(
    steps: Steps, item: np.ndarray | str, tokenize: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """Run the validated steps of a card on one item: ``transforms.apply``, which says more."""
    return transforms.apply(as_json(steps), item, tokenize)


def moves_pixels(steps: Steps) -> bool:
    """Whether boxes and masks have to follow what the steps do to the picture."""
    return any(isinstance(step, Resize | CenterCrop) for step in steps)


def apply_to_mask(steps: Steps, mask: np.ndarray) -> np.ndarray:
    """A picture's mask where the steps leave the picture: uint8 [H, W] to [h, w].

    Resized to the nearest pixel; the filling of a letterbox is 255, which means ignore.
    """
    result = transforms.as_hwc(mask)
    for step in steps:
        match step:
            case Resize(resize=options):
                how = {"interpolation": "nearest", "fill": IGNORE}
                result = transforms.resize(result, {**options.model_dump(), **how})
            case CenterCrop(center_crop=size):
                result = transforms.center_crop(result, size)
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
            inner, (height, width), (top, left) = transforms.placed(
                height, width, step.resize.model_dump()
            )
            share = np.array([inner[1] / width, inner[0] / height] * 2)
            boxes = boxes * share + np.array([left / width, top / height] * 2)
    return boxes
