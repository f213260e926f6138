"""A stream that is fed from items in memory, and times whole queries or frames."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.model import Feed, TensorSpec, first_batch, gathered
from qbench.kit.scenarios.window import Opened

MAX_ITEMS, MAX_BYTES = 1024, 256 * 2**20
"""Maximum of the items kept in memory; MLPerf requires as many for image models."""


class Library:
    """Items in memory, so that no query waits for a disk.

    Attributes:
        total: number of all items.
        size: number of items kept in memory at a time.
    """

    def __init__(
        self, items: Mapping[str, np.ndarray], inputs: Mapping[str, TensorSpec], batch: int
    ) -> None:
        self._items, self._inputs = items, inputs
        self._batch = batch
        self._batch_first = all(inputs[name].batch == 0 for name in items)
        self.total = min(len(array) for array in items.values())
        bytes_each = sum(array[:1].nbytes for array in items.values())
        self.size = max(1, min(self.total, MAX_ITEMS, MAX_BYTES // max(1, bytes_each)))
        self.load(range(self.size))

    def load(self, indices: Iterable[int]) -> None:
        """Replace the items in memory by these, in this order."""
        order = list(indices)
        self._place = {index: place for place, index in enumerate(order)}
        self._kept = {name: np.ascontiguousarray(all_[order]) for name, all_ in self._items.items()}

    def feed(self, indices: Sequence[int]) -> Feed:
        """Return a batch of these items; the last one is repeated if there are fewer. Items that
        were loaded in succession are not copied."""
        places = [self._place[index] for index in indices]
        places += places[-1:] * (self._batch - len(places))
        if not self._batch_first:
            return gathered(self._kept, self._inputs, places)
        first = places[0]
        if places == list(range(first, first + len(places))):
            return {name: kept[first : first + len(places)] for name, kept in self._kept.items()}
        return {name: kept[places] for name, kept in self._kept.items()}

    def some(self) -> list[int]:
        """Return the first items in memory, at most a batch."""
        return list(self._place)[: self._batch]


def library_of(opened: Opened) -> Library:
    """Return the library of a program's items, without carried states, which go on from call to
    call."""
    model = opened.model
    return Library(model.going_on(opened.items), model.inputs, opened.config.batch)


class Lane:
    """A stream with the library that feeds it.

    Attributes:
        call_ns: time of binding, inference and reading of each call.
        infer_ns: time of the inference alone.
    """

    def __init__(self, stream: Stream, library: Library) -> None:
        self._stream = stream
        self._library = library
        self.call_ns = array("q")
        self.infer_ns = array("q")

    def run(self, indices: Sequence[int]) -> None:
        """Bind these items, infer, read the outputs."""
        clock = time.perf_counter_ns
        begin = clock()
        self._stream.bind(self._library.feed(indices))
        bound = clock()
        self._stream.infer()
        inferred = clock()
        self._stream.read()
        self.call_ns.append(clock() - begin)
        self.infer_ns.append(inferred - bound)


def describe(lanes: Sequence[Lane]) -> dict[str, float | None]:
    """Return medians of the calls' parts, in milliseconds; None without calls."""
    calls = np.concatenate([np.asarray(lane.call_ns) for lane in lanes])
    infers = np.concatenate([np.asarray(lane.infer_ns) for lane in lanes])
    if not len(calls):
        return {"call_p50_ms": None, "infer_p50_ms": None, "place_and_read_p50_ms": None}
    return {
        "call_p50_ms": float(np.median(calls)) / 1e6,
        "infer_p50_ms": float(np.median(infers)) / 1e6,
        "place_and_read_p50_ms": float(np.median(calls - infers)) / 1e6,
    }


def put_back(opened: Opened) -> None:
    """Bind the first batch again and infer: its outputs are compared with the evaluation's."""
    opened.streams[0].bind(first_batch(opened.items, opened.model.inputs, opened.config.batch))
    opened.streams[0].infer()
