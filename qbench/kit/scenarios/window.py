"""What a scenario is given, and what it gives back. See ``qbench.kit.scenarios``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import Stream
from qbench.kit.model import Model, RunConfig

if TYPE_CHECKING:
    import numpy as np

FEWEST_FOR_P99 = 100
"""Of fewer calls no 99th percentile is told: it would be their maximum."""


@dataclass(frozen=True)
class Opened:
    """A program that is open, bound to its first items, and warm.

    Attributes:
        model: the artifact's, with the canonical names and layouts of a feed.
        streams: as many as ``config.streams``, all bound.
        items: by canonical input, ``[items, ...]`` in the card's dtype, memory-mapped.
        options: the scenario's own, all of them, as ``qbench.spec.scenarios`` completes them.
        timed_ns: how long a timed window is, where the options say nothing else.
        begin: the window begins now, for what is read around it; called by a scenario that makes
            ready first.
    """

    model: Model
    config: RunConfig
    streams: Sequence[Stream]
    items: Mapping[str, np.ndarray]
    options: Mapping[str, Any]
    timed_ns: int
    begin: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Timed:
    """What a scenario measured.

    Attributes:
        samples: ``[calls]`` or ``[queries]`` int64, nanoseconds of each.
        items: how many items were done in the window.
        wall_ns: length of the window.
        cpu_ns: processor time of the whole process in it.
        figures: what only this scenario measures, by columns of the case table.
        facts: what else is known of the window, for the journal.
        files: names of files in the working folder that belong to the trial.
    """

    samples: np.ndarray
    items: int
    wall_ns: int
    cpu_ns: int
    figures: Mapping[str, float | int | bool | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
