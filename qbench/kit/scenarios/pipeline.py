"""Frames from their stored form to the answer, in succession: decode, preprocess, bind, infer,
read, postprocess, with a reading of the clock between stages.

Frames are in memory as the data set stores them: pictures as encoded bytes, texts as strings, other
items as arrays. Nothing overlaps: a frame begins when the answer of the last one is complete.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qbench.kit.model import Feed, gathered
from qbench.kit.pipeline import answers, pictures, tokens, transforms
from qbench.kit.scenarios.window import MIN_CALLS_FOR_P99, Opened, Timed

STAGES = ("decode", "preprocess", "bind", "infer", "read", "postprocess")
STAGES_FILE = "stages.npy"

Raw = bytes | np.ndarray | str


def drive(opened: Opened) -> Timed:
    """Process all frames in whole passes, so that every frame has the same weight, for ``timed_ns``
    and at least one pass.

    Options: ``frames``, and ``work``, which ``qbench.data.raw`` makes: ``titles`` of the frames;
    ``arrays``: by name ``kind`` (``picture``, ``text``, ``array``), ``file`` and ``ends``;
    ``inputs``: by canonical name ``array``, ``steps``, ``dtype`` and ``vocabulary``; ``answer``,
    see ``qbench.kit.pipeline.answers``.

    Samples are of whole frames. ``stages.npy`` holds int64 ns ``[frames, stages]`` of what
    ``facts["stages"]`` names: without pictures, or without an answer, that stage is missing, and
    its figure is None.

    Raises:
        RuntimeError: preprocessing yields other values than those evaluated, or a frame cannot be
            decoded or preprocessed.
    """
    host = _Host(opened)
    frames = host.frames(opened.options["frames"])
    for number, frame in enumerate(frames):  # this also imports the packages of the stages
        _check(host, opened, frame, number)
        _through(host, opened, frame, array("q"))

    opened.begin()
    marks = array("q")
    clock = time.perf_counter_ns
    cpu_begin, begin = time.process_time_ns(), clock()
    while True:
        for frame in frames:
            _through(host, opened, frame, marks)
        if clock() - begin >= opened.timed_ns:
            break
    wall_ns, cpu_ns = clock() - begin, time.process_time_ns() - cpu_begin
    _through(host, opened, frames[0], array("q"))  # the parent compares its outputs

    times = np.frombuffer(marks, np.int64).reshape(-1, len(STAGES) + 1)
    stages = np.diff(times, axis=1)
    samples = times[:, -1] - times[:, 0]
    there = [host.decodes, True, True, True, True, host.answer is not None]
    kept = [index for index, is_there in enumerate(there) if is_there]
    np.save(STAGES_FILE, stages[:, kept])
    medians = np.median(stages, axis=0) / 1e6
    p50, p99 = np.percentile(samples, [50, 99]) / 1e6
    return Timed(
        samples=samples,
        items=len(samples),
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        figures={
            "decode_ms": float(medians[0]) if host.decodes else None,
            "preprocess_ms": float(medians[1]),
            "postprocess_ms": float(medians[-1]) if host.answer else None,
            "e2e_p50_ms": float(p50),
            "e2e_p99_ms": float(p99) if len(samples) >= MIN_CALLS_FOR_P99 else None,
            "fps": len(samples) / (wall_ns / 1e9),
        },
        facts={"stages": [STAGES[index] for index in kept], "frames": len(frames)},
        files=(STAGES_FILE,),
    )


@dataclass(frozen=True)
class _Input:
    """One input of the model, with its array and preprocessing."""

    name: str
    array: str
    batch: int | None
    steps: transforms.Plain
    dtype: str
    tokenize: Callable[[str], np.ndarray] | None


class _Host:
    """The stages around the inference.

    Attributes:
        decodes: whether there are pictures to decode.
        answer: postprocesses the outputs; None if there is nothing to do.
        titles: titles of the frames, for messages.
    """

    def __init__(self, opened: Opened) -> None:
        work, inputs = opened.options["work"], opened.model.inputs
        self._arrays: Mapping[str, Mapping[str, str]] = work["arrays"]
        made = opened.model.going_on(work["inputs"])
        self._inputs = [_input(name, inputs[name].batch, given) for name, given in made.items()]
        others = {n: a for n, a in opened.model.going_on(opened.items).items() if n not in made}
        self._initial = gathered(others, inputs, [0])  # states that start anew with each frame
        self.decodes = any(one["kind"] == "picture" for one in self._arrays.values())
        self.answer = None if work["answer"] is None else answers.reader(work["answer"])
        self.titles: Sequence[str] = work["titles"]

    def frames(self, count: int) -> list[dict[str, Raw]]:
        """Return each frame as stored, by array."""
        columns = {name: _load(**given) for name, given in self._arrays.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(count)]

    def decode(self, frame: Mapping[str, Raw]) -> Mapping[str, np.ndarray | str]:
        """Decode pictures; other items stay unchanged."""
        return {
            name: pictures.decode(raw, name) if isinstance(raw, bytes) else raw
            for name, raw in frame.items()
        }

    def preprocess(self, items: Mapping[str, np.ndarray | str]) -> Feed:
        """Preprocess an item to a feed, as for the evaluation."""
        feed = dict(self._initial)
        for one in self._inputs:
            item = transforms.apply(one.steps, items[one.array], one.tokenize)
            made = transforms.cast(item, one.dtype)
            feed[one.name] = made if one.batch is None else np.expand_dims(made, one.batch)
        return feed


def _through(host: _Host, opened: Opened, frame: Mapping[str, Raw], marks: array[int]) -> None:
    """Run one frame through all stages; append the clock's readings before, between and after them
    to ``marks``."""
    clock, stream, answer = time.perf_counter_ns, opened.streams[0], host.answer
    start = clock()
    items = host.decode(frame) if host.decodes else frame
    decoded = clock()
    feed = host.preprocess(items)  # type: ignore[arg-type]
    preprocessed = clock()
    stream.bind(feed)
    bound = clock()
    stream.infer()
    inferred = clock()
    outputs = stream.read()
    read = clock()
    if answer is not None:
        answer(outputs)
    marks.extend((start, decoded, preprocessed, bound, inferred, read, clock()))


def _check(host: _Host, opened: Opened, frame: Mapping[str, Raw], number: int) -> None:
    """Check that the frame becomes the evaluated item, bit for bit: else the pipeline does other
    work."""
    try:
        feed = host.preprocess(host.decode(frame))
    except ValueError as error:
        raise RuntimeError(f"{host.titles[number]}: {error}") from None
    evaluated = gathered(opened.items, opened.model.inputs, [number])
    for name, made in feed.items():
        wanted = evaluated[name]
        same = made.dtype == wanted.dtype and made.shape == wanted.shape
        if not same or made.tobytes() != wanted.tobytes():
            raise RuntimeError(
                f"{host.titles[number]}: input '{name}' differs from the evaluated one: decoding "
                "or preprocessing here yields other values, so this would be another pipeline"
            )


def _input(name: str, batch: int | None, given: Mapping[str, Any]) -> _Input:
    steps, file, tokenize = given["steps"], given["vocabulary"], None
    if file is not None:
        options = next(step["tokenize"] for step in steps if "tokenize" in step)
        tokenize = tokens.tokenizer(options, json.loads(Path(file).read_text()), name)
    return _Input(name, given["array"], batch, steps, given["dtype"], tokenize)


def _load(kind: str, file: str, ends: str = "") -> Sequence[Raw]:
    """Load the frames of one array into memory."""
    content = np.load(file)
    if kind == "array":
        return list(content)
    stops = np.load(ends).tolist()
    parts = [content[start:stop].tobytes() for start, stop in zip([0, *stops], stops, strict=False)]
    return [part.decode() for part in parts] if kind == "text" else parts
