"""Run a decoder and check what it gives: a built-in one here, a user's in a process of its own,
which may take time and memory, crash, or never end.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit import apart
from qbench.kit.pipeline.answers import Decode, find_decoder
from qbench.kit.pipeline.detectors import Options, Outputs
from qbench.kit.reasons import explain, short


class DecoderFailed(ValueError):
    """A decoder gave no boxes.

    Attributes:
        status: ``error``, ``timeout``, ``crashed`` or ``oom``.
        log: what it printed, with the traceback; "" for a decoder that ran here.
    """

    def __init__(self, reason: str, status: str = "error", log: str = "") -> None:
        super().__init__(short(reason))
        self.status, self.log = status, log


def decode(function: Decode, outputs: Outputs, options: Options) -> list[np.ndarray]:
    """For each item ``[n, 6]`` float64 of class, score, x1, y1, x2, y2.

    Raises:
        DecoderFailed: it raised an error, or its result has another form.
    """
    items = len(next(iter(outputs.values())))
    try:
        found = [np.asarray(one, np.float64) for one in function(outputs, options)]
    except (Exception, SystemExit) as error:  # a user's code
        status, reason = explain(error)
        raise DecoderFailed(reason, "oom" if status == "oom" else "error") from error
    if len(found) != items:
        raise DecoderFailed(f"it gives {len(found)} items for {items}")
    for one in found:
        if one.ndim != 2 or one.shape[1] != 6 or not np.isfinite(one).all():
            raise DecoderFailed(
                f"it gives an array {list(one.shape)} where finite numbers [n, 6] of class, score, "
                "x1, y1, x2, y2 belong"
            )
    return found


def decode_apart(
    target: str,
    outputs: Outputs,
    options: Options,
    timeout_s: float,
    memory_limit_bytes: int | None,
) -> list[np.ndarray]:
    """:func:`decode` with the function ``module:function`` in a process of its own.

    Raises:
        DecoderFailed: as ``decode``; or it crashed, or reached a limit.
        Ended: the call's batch was ended.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-decoder-") as folder:
        files: dict[str, str] = {}
        for number, (name, array) in enumerate(outputs.items()):
            files[name] = str(Path(folder) / f"output-{number}.npy")
            np.save(files[name], array)
        try:
            answer = apart.call(
                f"{__name__}:serve",
                timeout_s,
                memory_limit_bytes,
                target=target,
                options=dict(options),
                files=files,
                folder=folder,
            )
        except apart.Died as died:
            status = "timeout" if died.hung else "crashed"
            raise DecoderFailed(died.how, status, died.log) from died
        if "reason" in answer:
            raise DecoderFailed(answer["reason"], answer["status"], answer["log"])
        boxes, ends = np.load(Path(folder) / "boxes.npy"), answer["ends"]
    return np.split(boxes, ends[:-1])


def _imported(target: str) -> Decode:
    try:
        return find_decoder(target)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise DecoderFailed(f"{target} cannot be imported: {explain(error).text}") from error


def serve(
    step: apart.Step, target: str, options: Options, files: Mapping[str, str], folder: str
) -> dict[str, Any]:
    """The other process's side of :func:`decode_apart`."""
    step("import")
    try:
        function = _imported(target)
        step("decode")
        outputs = {name: np.load(file, mmap_mode="r") for name, file in files.items()}
        found = decode(function, outputs, options)
    except DecoderFailed as failed:
        return {"status": failed.status, "reason": str(failed), "log": traceback.format_exc()}
    np.save(Path(folder) / "boxes.npy", np.concatenate([np.empty((0, 6)), *found]))
    return {"ends": np.cumsum([len(one) for one in found]).tolist()}
