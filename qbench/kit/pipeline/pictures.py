"""Decode pictures."""

from __future__ import annotations

import io
import warnings

import numpy as np

from qbench.kit.reasons import sentence


def decode(content: bytes, name: str, modes: tuple[str, ...] = ("RGB",)) -> np.ndarray:
    """Return a picture's pixels, uint8 ``[H, W, 3]`` or ``[H, W]``.

    Args:
        content: the untrusted file (JPEG, PNG, ...).
        name: name of the file, for messages.
        modes: Pillow's modes: the picture is converted to a single one, or has to have one of
            several.

    Raises:
        ValueError: it is damaged, not a picture, of another mode, of more than 8 bits per channel,
            or has more than 89 million pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow only warns of pictures with more than 89 million pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                mode = image.mode
                deep = mode in ("I", "F") or mode.startswith("I;")
                if not deep and (len(modes) == 1 or mode in modes):
                    return np.asarray(image.convert(*modes) if len(modes) == 1 else image)
    except Exception as error:  # a damaged picture can raise anything: zlib.error, ...
        raise ValueError(f"cannot read {name}: {sentence(error)}") from error
    if deep:
        raise ValueError(f"{name} has more than 8 bits per channel ({mode})")
    raise ValueError(f"{name} has the mode {mode}, not {modes}")
