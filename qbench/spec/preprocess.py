"""Preprocessing steps, as model cards list them. ``qbench.data.apply`` runs them.

A card lists, for each input, the steps from a stored item to the model's input. Each step is a
mapping with one key:

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

An item is one array without a batch axis, or a text until it is tokenized. Images are HWC or HW; an
HW item becomes HWC with C=1 if its list holds an image step (resize, center_crop, color, layout).
Other items (features, tokens) may have any shape and use the other steps.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from qbench.spec.files import SourceFile
from qbench.spec.suite import PositiveInt
from qbench.spec.yamlfile import Strict

Interpolation = Literal["bilinear", "nearest", "bicubic", "lanczos"]
Pixels = Annotated[int, Field(ge=1, le=16384)]
HeightWidth = Annotated[list[Pixels], Field(min_length=2, max_length=2)]
PerChannel = float | Annotated[list[float], Field(min_length=1)]


class TokenizeOptions(Strict):
    """How a text becomes ``length`` integers; longer texts are truncated, shorter ones padded.

    Attributes:
        kind: ``words``: split at all characters except letters, digits, ``_`` and ``'``; whole
            words are looked up, after <START> if the vocabulary has it (TFLite's RegexTokenizer);
            ``wordpiece``: BERT's tokenizer;
            ``json``: the tokenizer that a Hugging Face ``tokenizer.json`` describes.
        vocab: words, wordpiece: one token a line, with its id after a space, else its id is the
            line's number from 0; json: the ``tokenizer.json``.
        lowercase: words, wordpiece: lowercase the text first (wordpiece: and strip accents).
        give: ``ids``: the tokens' ids; ``mask``: 1 for a token, 0 for padding; ``types``: segment
            ids.
    """

    kind: Literal["words", "wordpiece", "json"]
    vocab: SourceFile
    length: PositiveInt
    lowercase: bool = True
    give: Literal["ids", "mask", "types"] = "ids"


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
        if 0 in (self.std if isinstance(self.std, list) else [self.std]):
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
    """Return the key of a step; None, which is an error that lists the keys, if it is not one."""
    fields: dict[Any, Any] = getattr(type(cast("object", step)), "model_fields", {})
    names = list(cast("dict[Any, Any]", step) if isinstance(step, dict) else fields)
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
    """Check that `array` comes first and `tokenize` before all other steps, each at most once."""
    for index, step in enumerate(steps):
        if isinstance(step, Array) and index > 0:
            raise ValueError("the step array comes first: it names the data of the others")
        if isinstance(step, Tokenize) and any(not isinstance(s, Array) for s in steps[:index]):
            raise ValueError(
                "the step tokenize comes before the others: it turns a text into numbers"
            )
    return steps


Steps = Annotated[list[Step], AfterValidator(_in_order)]


def array_of(steps: Steps) -> str | None:
    """Return the name of the data set's array that the steps begin with; None if they name none."""
    return steps[0].array if steps and isinstance(steps[0], Array) else None


def tokenize_options(steps: Steps) -> TokenizeOptions | None:
    """Return the options of the step `tokenize`; None if there is none."""
    return next((step.tokenize for step in steps if isinstance(step, Tokenize)), None)


def as_json(steps: Steps) -> list[dict[str, Any]]:
    """Return the steps with all options, for ``qbench.kit.pipeline.transforms``."""
    return [step.model_dump(mode="json") for step in steps]


def moves_pixels(steps: Steps) -> bool:
    """Return whether the steps move pixels, so that boxes and masks have to be moved as well."""
    return any(isinstance(step, Resize | CenterCrop) for step in steps)
