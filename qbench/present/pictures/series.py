"""Charts of lines: distributions, sweeps, ceilings, and loads over time."""

# Pictures read cases as dicts whose items are attributes (`picture_case`).
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qbench.present.pictures.look import (
    DASHES,
    SHAPES,
    SMALL,
    Look,
    Picture,
    logarithmic,
    pick,
    title,
    words,
)
from qbench.present.pictures.parts import (
    IN_DOUBT,
    Case,
    Entry,
    NoData,
    artist_id,
    artist_name,
    backends,
    bar,
    colour,
    dash,
    grouped,
    line_entry,
    mark,
    point_entry,
    precisions,
    shape,
)
from qbench.present.pictures.shown import Shown
from qbench.present.words import cells
from qbench.present.words.sweeps import SHORT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_STEPS = 120
"""Points of a distribution's line."""
MOST_LOADS = 12
TAIL = 0.99
"""Share of the slowest line that an axis of latencies reaches to."""
MOST_ABREAST = 3
CURVES = {
    "latency, ms": [("p50_ms", "p50"), ("p99_ms", "p99")],
    "clock, GHz": [("clock_ghz", "clock")],
    "temperature, °C": [("temperature_c", "temperature")],
}
"""Curves of a sustained load: fields of its series, and their names."""
AXES = {"batch_size": "batch size", "threads": "threads", "streams": "streams"}


def distributions(shown: Shown, look: Look) -> Picture:
    """Cumulative distributions of latency, a line for each round: a row of panels for each model,
    with the same axis, and a panel for each backend."""
    cases = shown.by_model([case for case in shown.alike if case["trials"]])
    rows = grouped(cases, "model", "run")
    if not rows:
        raise NoData("no case has timed calls", "`qbench show` says why.")
    panels = [(row, group) for row in rows for group in grouped(row, "backend")]
    several = max(len(grouped(row, "backend")) for row in rows)
    picture = Picture.grid(look, len(panels), 4.6, columns=min(MOST_ABREAST, several))
    for panel, (row, group) in zip(picture.panels, panels, strict=True):
        for case in group:
            for trial in case["trials"]:
                ms = _thinned(trial["ms"])
                panel.plot(
                    ms, [(index + 1) / len(ms) for index in range(len(ms))], linewidth=0.7,
                    color=colour(shown, look, case), linestyle=dash(shown, case), alpha=0.8,
                    drawstyle="steps-post", gid=artist_id(case, "round", trial["round"]),
                )  # fmt: skip
        lines = [trial["ms"] for case in row for trial in case["trials"]]
        last = max(ms[int(TAIL * (len(ms) - 1))] for ms in lines)
        logarithmic(panel, "x", min(ms[0] for ms in lines), last, labels=5)
        panel.set_xlabel("latency of a call, ms")
        panel.set_ylabel("share of calls")
        panel.set_ylim(0, 1.02)
        title(panel, shown.titled(group[0], "model", "backend"), picture.title_width)
    legend = [*backends(shown, look, cases), *precisions(shown, look, cases, shapes=False)]
    told = (
        "Each line is one round, in a process of its own. The slowest 1 % may lie beyond the axis."
    )
    picture.finish(legend, shown.notes(cases, told, sign=""))
    return picture


def _thinned(ms: Sequence[float]) -> list[float]:
    """Evenly spaced in rank, both ends included."""
    count = min(MOST_STEPS, len(ms))
    return [ms[round(index * (len(ms) - 1) / max(1, count - 1))] for index in range(count)]


# --------------------------------------------------------------------------- throughput


def throughput(shown: Shown, look: Look) -> Picture:
    """Throughput against batch size, threads or streams: a panel for each of the others."""
    lines = shown.by_model([one for one in shown.data["sweeps"] if one["model"] in shown.models])
    panels = grouped(
        [{**line, "fixed": _fixed(line)} for line in lines],
        "model", "run", "scenario", "axis", "fixed",
    )  # fmt: skip
    if not panels:
        raise NoData(
            "no case ran at several batch sizes, threads or streams",
            "`qbench run sweep` does, or lists of them in a suite.",
        )
    picture = Picture.grid(look, len(panels), 6.2)
    for panel, group in zip(picture.panels, panels, strict=True):
        for line in group:
            _sweep(panel, shown, look, line)
        alike = [one for one in lines if one["model"] == group[0]["model"]]
        _sweep_axes(panel, group[0]["axis"], [p for one in alike for p in one["points"]])
        about = ", ".join(filter(None, [group[0]["fixed"], group[0]["scenario"]]))
        title(panel, f"{shown.titled(group[0], 'model')}: {about}", picture.title_width)
    signs: list[Entry] = []
    if any(point["doubt"] for line in lines for point in line["points"]):
        signs = [(point_entry(look, "o", hollow=True), IN_DOUBT)]
    legend = [*backends(shown, look, lines), *precisions(shown, look, lines, shapes=True), *signs]
    anchors = {point["anchor"] for line in lines for point in line["points"]}
    drawn = [case for case in shown.cases if case["anchor"] in anchors]
    told = "Whiskers: 95 % intervals over rounds."
    picture.finish(legend, shown.notes(drawn, told, condition=False, sign=IN_DOUBT))
    return picture


def _sweep(panel: Axes, shown: Shown, look: Look, line: Mapping[str, Any]) -> None:
    points = [point for point in line["points"] if point["ips"]]
    shade = colour(shown, look, line)
    panel.plot(
        [p["at"] for p in points], [p["ips"] for p in points], color=shade, linewidth=0.9,
        linestyle=dash(shown, line),
    )  # fmt: skip
    for point in points:
        bar(panel, "y", point["ips"], point["at"], (point["ips_low"], point["ips_high"]), shade)
        sign, doubted = shape(shown, line), bool(point["doubt"])
        mark(panel, point["at"], point["ips"], sign, shade, doubted, artist_name(point["anchor"]))


def _sweep_axes(panel: Axes, along: str, points: Sequence[Mapping[str, Any]]) -> None:
    at = sorted({point["at"] for point in points})
    ends = [point[name] for point in points for name in ("ips", "ips_low", "ips_high")]
    known = [end for end in ends if end]
    panel.set_xscale("log", base=2)
    panel.set_xlim(at[0] / 1.15, at[-1] * 1.15)
    panel.set_xticks(at, [str(value) for value in at])
    panel.set_xticks([], minor=True)
    logarithmic(panel, "y", min(known), max(known))
    panel.set_xlabel(AXES[along])
    panel.set_ylabel("throughput, items/s")


def _fixed(line: Mapping[str, Any]) -> str:
    """Return the fixed settings of a line, such as ``threads 2``: its points' labels (``b4 t2``)
    without the varying part."""
    names = {short: AXES[axis] for axis, short in SHORT.items() if axis != line["axis"]}
    parts = line["points"][0]["label"].split()
    return ", ".join(f"{names[part[0]]} {part[1:]}" for part in parts if part[0] in names)


# --------------------------------------------------------------------------- roofline


def roofline(shown: Shown, look: Look) -> Picture:
    """Cases under the ceilings of their machine, device and threads."""
    panels = []
    for roof in shown.data["roofs"]:
        points = [point for point in roof["points"] if point["model"] in shown.models]
        for group in grouped(points, "device", "threads"):
            panels.append((roof, group))
    if not panels:
        raise NoData(
            "no case has a roofline",
            "`roofline: true` in a suite measures the machine's ceilings: docs/roofline.md.",
        )
    picture = Picture.grid(look, len(panels), 7.5, columns=1)
    ran_at = dict.fromkeys(
        one["precision"] for roof, group in panels for one in [*roof["rates"], *group]
    )
    for panel, (roof, group) in zip(picture.panels, panels, strict=True):
        _roof(panel, shown, look, roof, group, list(ran_at))
    drawn = [point for _, group in panels for point in group]
    here = {point["precision"] for point in drawn}
    legend = backends(shown, look, drawn)
    legend += [
        (point_entry(look, pick(SHAPES, index)), f"ran at {words(name, 16)}")
        for index, name in enumerate(ran_at)
        if name in here
    ]
    if any(point["suspicious"] for point in drawn):
        legend.append((point_entry(look, "o", hollow=True), "above the roofline"))
    ids = {point["case_id"] for point in drawn}
    cases = [case for case in shown.cases if case["case_id"] in ids]
    told = "Lines: the machine's measured ceilings. A case's rate is of its 10th percentile."
    picture.finish(legend, shown.notes(cases, told, condition=False, sign=""))
    return picture


def _roof(
    panel: Axes, shown: Shown, look: Look, roof: Mapping[str, Any], points: Sequence[Case],
    ran_at: Sequence[str],
) -> None:  # fmt: skip
    device, threads = points[0]["device"], points[0]["threads"]
    rates = [r for r in roof["rates"] if (r["device"], r["threads"]) == (device, threads)]
    memory = [b["bytes_per_s"] for b in roof["bandwidths"] if b["threads"] == threads]
    per_byte = [point["macs_per_byte"] for point in points]
    left, right = min(per_byte) / 3, max(per_byte) * 3
    top = max([rate["macs_per_s"] for rate in rates])
    lowest = [one["macs_per_s"] for one in [*points, *rates]]
    for rate in rates:
        ridge = max(left, rate["macs_per_s"] / memory[0]) if memory and device == "cpu" else left
        giga = rate["macs_per_s"] * 1e-9
        panel.plot(
            [min(ridge, right), right], [giga, giga], color=look.text, linewidth=1,
            linestyle=pick(DASHES, ran_at.index(rate["precision"])),
        )  # fmt: skip
        panel.annotate(
            f"{words(rate['precision'], 16)}: {giga:.3g} GMAC/s", (right, giga), (-2, 2),
            textcoords="offset points", ha="right", fontsize=SMALL,
        )  # fmt: skip
    if memory and device == "cpu" and top / memory[0] > left:
        end = min(right, top / memory[0])
        panel.plot(
            [left, end],
            [left * memory[0] * 1e-9, end * memory[0] * 1e-9],
            color=look.quiet,
            linewidth=1,
        )
        panel.annotate(
            f"memory: {memory[0] * 1e-9:.3g} GB/s", (left, left * memory[0] * 1e-9), (4, -2),
            textcoords="offset points", va="top", fontsize=SMALL, color=look.quiet,
        )  # fmt: skip
        lowest.append(left * memory[0])
    for point in points:
        hollow = bool(point["suspicious"])
        sign = pick(SHAPES, ran_at.index(point["precision"]))
        case = {**point, "run": roof["run"]}
        mark(
            panel, point["macs_per_byte"], point["macs_per_s"] * 1e-9, sign,
            colour(shown, look, point), hollow, artist_id(case),
        )  # fmt: skip
    logarithmic(panel, "x", left, right)
    highest = max(top, *(point["macs_per_s"] for point in points))
    logarithmic(panel, "y", min(lowest) * 1e-9 / 1.5, highest * 1.5e-9)
    panel.set_xlabel("multiply-accumulates per byte")
    panel.set_ylabel("GMAC/s")
    run = f"{roof['run']}: " if len(shown.runs) > 1 else ""
    count = f"{threads} thread{'s' * (threads > 1)}"
    title(panel, f"{run}{device}, {count}", 2)


# --------------------------------------------------------------------------- sustained


def sustained(shown: Shown, look: Look) -> Picture:
    """Sustained load over time: latency, and clock and temperature where they are known."""
    cases = [case for case in shown.cases if case.get("series")]
    if not cases:
        raise NoData(
            "no case ran under a long load",
            "`qbench run endurance` does, or `scenario: sustained`.",
        )
    drawn = cases[:MOST_LOADS]
    panels = [(case, curves) for case in drawn for curves in _curves(case)]
    picture = Picture.grid(look, len(panels), 4.6)
    for panel, (case, curves) in zip(picture.panels, panels, strict=True):
        _load(panel, look, case, curves)
        heading = f"{case['model']} {case['label']}"
        if case["sustained_ratio"] is not None:
            heading += f", last part over first: {cells.text(case, 'sustained_ratio')}"
        title(panel, heading, picture.title_width)
    legend: list[Entry] = [
        (line_entry(look.colour(index), pick(DASHES, index)), name)
        for index, (_, name) in enumerate(CURVES["latency, ms"])
    ]
    more = len(cases) - len(drawn)
    left_out = f"{more} more cases are left out: choose a model." if more else ""
    told = "Of the last round. Shaded: the first and the last part, whose medians are compared."
    picture.finish(legend, shown.notes(drawn, told, left_out, condition=False, sign=""))
    return picture


def _curves(case: Case) -> list[str]:
    """Return the curves of ``CURVES`` that were recorded for this case."""
    series = case["series"]
    return [name for name, fields in CURVES.items() if any(series[field] for field, _ in fields)]


def _load(panel: Axes, look: Look, case: Case, curves: str) -> None:
    series = case["series"]
    for index, (field, _) in enumerate(CURVES[curves]):
        if series[field]:
            values = [float("nan") if value is None else value for value in series[field]]
            panel.plot(
                series["end_s"], values, color=look.colour(index), linewidth=0.9,
                linestyle=pick(DASHES, index), gid=artist_id(case, field),
            )  # fmt: skip
    end, part = series["end_s"][-1], series["part_s"]
    for begin, last in ((0, part), (end - part, end)):
        panel.axvspan(begin, last, color=look.quiet, alpha=0.15, linewidth=0)
    panel.set_xlim(0, end)
    if curves == "latency, ms":
        panel.set_ylim(bottom=0)
    panel.set_xlabel("seconds of load")
    panel.set_ylabel(curves)
