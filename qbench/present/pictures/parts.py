"""Parts of charts: marks, bars, lines, and the entries of legends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qbench.analysis.compare.origin import DOUBTED
from qbench.errors import UserError
from qbench.present.pictures.look import DASHES, SHAPES, Look, pick, words
from qbench.present.pictures.shown import Shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Case = Mapping[str, Any]
Entry = tuple["Artist", str]


IN_DOUBT = "in doubt"
"""Meaning of a hollow mark, in legends and notes."""
RING: dict[str, Any] = {"marker": "o", "markersize": 10, "markerfacecolor": "none"}
"""Style of the ring around points of the Pareto front."""


class NoData(UserError):
    """The bundles have no data for this chart."""


def grouped(cases: Iterable[Case], *keys: str) -> list[list[Case]]:
    """Group cases that agree in ``keys``, in their original order."""
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in keys), []).append(case)
    return list(groups.values())


def name_of(case: Case, longest: int) -> str:
    """Return the label of a case's bar, with a mark if it is in doubt."""
    return words(case["name"], longest) + (f" {DOUBTED}" if case["doubt"] else "")


def artist_id(case: Case, *more: object) -> str:
    """Return the id of a case's mark in an SVG: ``case-A-0123456789ab``."""
    return artist_name("-".join(["case", *map(str, (case["run"], case["case_id"], *more))]))


def artist_name(text: str) -> str:
    """Return a valid XML id."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def colour(shown: Shown, look: Look, case: Case) -> str:
    return look.colour(shown.data["backends"].index(case["backend"]))


def shape(shown: Shown, case: Case) -> str:
    return pick(SHAPES, shown.data["precisions"].index(case["precision"]))


def dash(shown: Shown, case: Case) -> Any:
    return pick(DASHES, shown.data["precisions"].index(case["precision"]))


def mark(panel: Axes, x: float, y: float, sign: str, shade: str, hollow: bool, name: str) -> None:
    """Draw a point; ``name``: its id in an SVG."""
    (drawn,) = panel.plot(
        [x], [y], linestyle="", zorder=3, gid=name, **_marked(sign, shade, hollow)
    )
    drawn.set_markerfacecolor(panel.get_facecolor() if hollow else shade)


def _marked(sign: str, shade: str, hollow: bool) -> dict[str, Any]:
    return {
        "marker": sign,
        "markersize": 7 if sign == "*" else 5,
        "markeredgecolor": shade,
        "markeredgewidth": 1.3 if hollow else 0.6,
        "markerfacecolor": "none" if hollow else shade,
    }


def bar(
    panel: Axes, axis: str, at: float, other: float, ends: tuple[float | None, float | None],
    shade: str,
) -> None:  # fmt: skip
    """Draw the interval of a point along ``axis``, "x" or "y", if it has one."""
    low, high = ends
    if low is None or high is None:
        return
    reach: dict[str, Any] = {f"{axis}err": [[max(0.0, at - low)], [max(0.0, high - at)]]}
    place = ([at], [other]) if axis == "x" else ([other], [at])
    panel.errorbar(
        *place, **reach, fmt="none", ecolor=shade, elinewidth=0.7, capsize=1.5,
        zorder=2,
    )  # fmt: skip


def rows(panel: Axes, names: Sequence[str]) -> None:
    """Set up a row for each name, the first at the top."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", visible=False)


# --------------------------------------------------------------------------- legends


def backends(shown: Shown, look: Look, cases: Iterable[Case]) -> list[Entry]:
    from matplotlib.patches import Patch

    here = {case["backend"] for case in cases}
    return [
        (Patch(facecolor=look.colour(index), edgecolor="none"), words(name, 24))
        for index, name in enumerate(shown.data["backends"])
        if name in here
    ]


def precisions(shown: Shown, look: Look, cases: Iterable[Case], shapes: bool) -> list[Entry]:
    """Return legend entries of precisions: by shapes, else by dashes."""
    here = {case["precision"] for case in cases}
    return [
        (
            point_entry(look, pick(SHAPES, index)) if shapes
            else line_entry(look.text, pick(DASHES, index)),
            words(name, 24),
        )
        for index, name in enumerate(shown.data["precisions"])
        if name in here
    ]  # fmt: skip


def point_entry(look: Look, sign: str, hollow: bool = False) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", **_marked(sign, look.text, hollow))


def front_entry(look: Look) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look.quiet, linewidth=1, **RING)


def line_entry(shade: str, style: Any = "-", width: float = 1.2) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=shade, linestyle=style, linewidth=width)


def bar_entry(shade: str, hatch: str, look: Look) -> Artist:
    from matplotlib.patches import Patch

    return Patch(facecolor=shade, edgecolor=look.back, hatch=hatch, linewidth=0)
