"""Static pictures of a report's charts, for papers and slides: SVG, PDF and PNG, by matplotlib.

The page's charts are plotly's, whose static pictures (kaleido) take a browser and two to three
seconds each, and differ with its version; matplotlib takes 0.3 s and nothing else, and makes the
same bytes of the same bundle. So there is this one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, nearest
from qbench.present.pictures import charts, series
from qbench.present.pictures.look import ENDINGS, Look, Picture, drawing
from qbench.present.pictures.parts import NoData
from qbench.present.pictures.shown import Shown, shown


class Chart(NamedTuple):
    """A chart's title, and what draws it."""

    title: str
    draw: Callable[[Shown, Look], Picture]


CHARTS: Mapping[str, Chart] = {
    "accuracy": Chart("Accuracy against latency", charts.accuracy),
    "speedup": Chart("Speed-up over fp32", charts.speedup),
    "distributions": Chart("Latency distributions", series.distributions),
    "throughput": Chart("Throughput", series.throughput),
    "memory": Chart("Peak memory", charts.memory),
    "startup": Chart("Start-up", charts.startup),
    "energy": Chart("Energy of an inference", charts.energy),
    "roofline": Chart("Roofline", series.roofline),
    "sustained": Chart("Sustained load", series.sustained),
}
PLAIN = Look()


def figures(
    bundles: Sequence[Bundle],
    names: Sequence[str],
    ending: str,
    model: str | None = None,
    condition: str | None = None,
    look: Look = PLAIN,
) -> dict[str, bytes | NoData]:
    """By name of ``CHARTS``, its picture as a file's content, or why there is none.

    Args:
        ending: one of ``ENDINGS``.
        model: only its cases; None: all models'.
        condition: of charts that show cases side by side; None: that of most cases.

    Raises:
        UserError: there is no such chart, ending, model or condition; nothing went well; or
            matplotlib is not installed.
    """
    for name in names:
        if name not in CHARTS:
            raise UserError(f"there is no chart '{name}'", nearest(name, CHARTS))
    if ending not in ENDINGS:
        raise UserError(f"there are no pictures of the kind '{ending}'", nearest(ending, ENDINGS))
    found: dict[str, bytes | NoData] = {}
    with drawing(look):
        cases = shown(bundles, model, condition)
        for name in names:
            try:
                found[name] = CHARTS[name].draw(cases, look).content(ending, CHARTS[name].title)
            except NoData as reason:
                found[name] = reason
    return found
