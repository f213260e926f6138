"""Input and result of a scenario. See ``qbench.kit.scenarios``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qbench.kit.adapter import Stream
from qbench.kit.model import Model, RunConfig

if TYPE_CHECKING:
    import numpy as np

MIN_CALLS_FOR_P99 = 100
"""Below this many calls no p99 is reported: it would equal the maximum."""


@dataclass(frozen=True)
class Opened:
    """An open program, bound to its first items and warmed up.

    Attributes:
        model: the artifact's model, with the canonical names and layouts of a feed.
        streams: ``config.streams`` bound streams.
        items: ``[items, ...]`` by canonical input, in the card's dtype, memory-mapped.
        options: the scenario's options, with defaults (``qbench.spec.scenarios``).
        timed_ns: length of the timed window, unless the options define it.
        begin: marks the beginning of the window, for the readings around it; called by scenarios
            with preparations of their own.
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
    """Result of a scenario.

    Attributes:
        samples: ``[calls]`` or ``[queries]`` int64, nanoseconds of each.
        items: number of items inferred in the window.
        wall_ns: length of the window.
        cpu_ns: processor time of the whole process in the window.
        figures: this scenario's own values, by column of the case table.
        facts: further values for the journal.
        files: names of files in the working folder that belong to the trial.
    """

    samples: np.ndarray
    items: int
    wall_ns: int
    cpu_ns: int
    figures: Mapping[str, float | int | bool | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
