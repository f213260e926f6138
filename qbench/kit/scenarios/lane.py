"""A stream that is fed from items in memory: what a query or a frame costs in all."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.model import Feed
from qbench.kit.scenarios.window import Opened

MOST_ITEMS, MOST_BYTES = 1024, 256 * 2**20
"""So many items are kept in memory at the most: as many as MLPerf asks for of image models."""


class Library:
    """Items in memory, so that no query waits for a disk.

    Attributes:
        total: items that there are.
        size: items that are kept in memory at a time.
    """

    def __init__(self, items: Mapping[str, np.ndarray], batch: int) -> None:
        self._items = items
        self._batch = batch
        self.total = min(len(array) for array in items.values())
        bytes_each = sum(array[:1].nbytes for array in items.values())
        self.size = max(1, min(self.total, MOST_ITEMS, MOST_BYTES // max(1, bytes_each)))
        self.load(range(self.size))

    def load(self, indices: Iterable[int]) -> None:
        """Keep these items instead of others, in this order."""
        order = list(indices)
        self._place = {index: place for place, index in enumerate(order)}
        self._kept = {name: np.ascontiguousarray(all_[order]) for name, all_ in self._items.items()}

    def feed(self, indices: Sequence[int]) -> Feed:
        """A batch of these items; where there are fewer, the last is repeated. Items that were
        loaded one after the other are not copied."""
        places = [self._place[index] for index in indices]
        places += places[-1:] * (self._batch - len(places))
        first = places[0]
        if places == list(range(first, first + len(places))):
            return {name: kept[first : first + len(places)] for name, kept in self._kept.items()}
        return {name: kept[places] for name, kept in self._kept.items()}

    def some(self) -> list[int]:
        """The first items that are in memory, at most a batch of them."""
        return list(self._place)[: self._batch]


class Lane:
    """One stream of a library.

    Attributes:
        call_ns: of each call, the time of placing, inference and reading together.
        infer_ns: of each call, the inference alone.
    """

    def __init__(self, stream: Stream, library: Library) -> None:
        self._stream = stream
        self._library = library
        self.call_ns = array("q")
        self.infer_ns = array("q")

    def run(self, indices: Sequence[int]) -> None:
        """Place these items, infer, read the outputs."""
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
    """Medians of the calls' parts, in milliseconds; None where nothing was called."""
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
    """Bind the first batch again and infer: what a trial computes for it is compared with the
    evaluation's."""
    stream, batch = opened.streams[0], opened.config.batch
    stream.bind(
        {n: np.ascontiguousarray(a[np.arange(batch) % len(a)]) for n, a in opened.items.items()}
    )
    stream.infer()
