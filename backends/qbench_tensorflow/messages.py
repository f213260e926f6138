"""What messages of TensorFlow, Keras and their converters mean."""

from __future__ import annotations

from qbench.kit.reasons import Known

_FAILED = "prepare_failed"

MESSAGES = (
    Known(
        r"Could not locate class '(\w+)'",
        _FAILED,
        "the Keras model has a layer of its own, {0}, whose code is not in the file: export the "
        "model as a SavedModel",
    ),
    Known(
        r"File is not a zip file|file signature not found",
        _FAILED,
        "not a readable Keras model: truncated, or of another format",
    ),
    Known(
        r"of layer '([^']*)' is incompatible with the layer: ([^\n\x1b]+)",
        _FAILED,
        "the Keras layer '{0}' cannot take the card's inputs: {1}",
    ),
    Known(
        r"Exception encountered when calling (\w+)\.call\(\)\.\s*(?:\x1b\[1m)?([^\n\x1b]+)",
        _FAILED,
        "{0} of the Keras model cannot take the card's inputs: {1}",
    ),
)
