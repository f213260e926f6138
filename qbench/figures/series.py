"""Charts of lines: distributions, sweeps, ceilings, and loads over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qbench.figures.look import (
    DASHES,
    NARROW_CM,
    SHAPES,
    SMALL,
    Look,
    Picture,
    logarithmic,
    pick,
    words,
)
from qbench.figures.parts import (
    Case,
    Entry,
    NoData,
    artist_id,
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
from qbench.figures.shown import Shown
from qbench.report import cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_STEPS = 120
"""Points of a distribution's line."""
MOST_LOADS = 12
TAIL = 0.99
"""Share of the slowest line that an axis of latencies reaches to."""
AXES = {"batch_size": "batch size", "threads": "threads", "streams": "streams"}


def distributions(shown: Shown, look: Look) -> Picture:
    """Cumulative distributions of latency, a line for each round."""
    groups = grouped((case for case in shown.alike if case["trials"]), "run", "model")
    if not groups:
        raise NoData("no case has timed calls", "`qbench show` says why.")
    picture = Picture.grid(look, len(groups), 6.2)
    for panel, group in zip(picture.panels, groups, strict=True):
        lines = [trial["ms"] for case in group for trial in case["trials"]]
        for case in group:
            for trial in case["trials"]:
                ms = _thinned(trial["ms"])
                panel.plot(
                    ms, [(index + 1) / len(ms) for index in range(len(ms))], linewidth=0.8,
                    color=colour(shown, look, case), linestyle=dash(shown, case), alpha=0.75,
                    drawstyle="steps-post", gid=artist_id(case, "round", trial["round"]),
                )  # fmt: skip
        last = max(ms[int(TAIL * (len(ms) - 1))] for ms in lines)
        logarithmic(panel, "x", min(ms[0] for ms in lines), last)
        panel.set_xlabel("latency of a call, ms")
        panel.set_ylabel("share of calls")
        panel.set_ylim(0, 1.02)
        panel.set_title(words(shown.titled(group[0], "model")))
    drawn = [case for group in groups for case in group]
    legend = [*backends(shown, look, drawn), *precisions(shown, look, drawn, shapes=False)]
    told = (
        "Each line is one round, in a process of its own; the slowest 1 % may lie beyond an axis."
    )
    picture.finish(legend, shown.notes(drawn, told))
    return picture


def _thinned(ms: Sequence[float]) -> list[float]:
    """Evenly spaced in rank, both ends included."""
    count = min(MOST_STEPS, len(ms))
    return [ms[round(index * (len(ms) - 1) / max(1, count - 1))] for index in range(count)]


# --------------------------------------------------------------------------- throughput


def throughput(shown: Shown, look: Look) -> Picture:
    """Throughput against batch size, threads or streams."""
    lines = [line for line in shown.data["sweeps"] if line["model"] in shown.models]
    panels = grouped(lines, "run", "model", "scenario", "axis")
    if not panels:
        raise NoData(
            "no case ran at several batch sizes, threads or streams",
            "`qbench run sweep` does, or `conditions:` of a suite.",
        )
    picture = Picture.grid(look, len(panels), 6.2)
    for panel, group in zip(picture.panels, panels, strict=True):
        _sweep(panel, shown, look, group)
    signs: list[Entry] = []
    if any(point["doubt"] for line in lines for point in line["points"]):
        signs = [(point_entry(look, "o", hollow=True), "in doubt")]
    legend = [*backends(shown, look, lines), *precisions(shown, look, lines, shapes=True), *signs]
    told = "Bars: 95 % intervals over rounds."
    anchors = {point["anchor"] for line in lines for point in line["points"]}
    drawn = [case for case in shown.cases if case["anchor"] in anchors]
    picture.finish(legend, shown.notes(drawn, told, condition=False))
    return picture


def _sweep(panel: Axes, shown: Shown, look: Look, lines: Sequence[Mapping[str, Any]]) -> None:
    for line in lines:
        points = [point for point in line["points"] if point["ips"]]
        shade = colour(shown, look, line)
        panel.plot(
            [p["at"] for p in points], [p["ips"] for p in points], color=shade, linewidth=0.9,
            linestyle=dash(shown, line),
        )  # fmt: skip
        for point in points:
            ends = point["ips_low"], point["ips_high"]
            bar(panel, "y", point["ips"], point["at"], ends, look)
            doubted = bool(point["doubt"])
            mark(
                panel, point["at"], point["ips"], shape(shown, line), shade, doubted,
                words(point["anchor"]),
            )  # fmt: skip
        if line["fixed"] and points:
            panel.annotate(
                words(line["fixed"]), (points[-1]["at"], points[-1]["ips"]), (5, 0),
                textcoords="offset points", va="center", fontsize=SMALL, color=look.quiet,
            )  # fmt: skip
    first = lines[0]
    at = sorted({point["at"] for line in lines for point in line["points"]})
    known = [
        end
        for line in lines
        for point in line["points"]
        for end in (point["ips"], point["ips_low"], point["ips_high"])
        if end
    ]
    panel.set_xscale("log", base=2)
    panel.set_xlim(at[0] / 1.15, at[-1] * 1.3)
    panel.set_xticks(at, [str(value) for value in at])
    panel.set_xticks([], minor=True)
    logarithmic(panel, "y", min(known), max(known))
    panel.set_xlabel(AXES[first["axis"]])
    panel.set_ylabel("throughput, items/s")
    run = f"{first['run']}: " if len(shown.runs) > 1 else ""
    panel.set_title(words(f"{run}{first['model']}, {first['scenario']}", 60))


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
    told = "Lines: the machine's measured ceilings. A case's rate is of its 10th percentile."
    ids = {point["case_id"] for point in drawn}
    picture.finish(
        legend, shown.notes([c for c in shown.cases if c["case_id"] in ids], told, condition=False)
    )
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
    panel.set_title(words(f"{run}{device}, {count}"))


# --------------------------------------------------------------------------- sustained


def sustained(shown: Shown, look: Look) -> Picture:
    """A long load over time: latency, and the clock and temperature where the machine tells."""
    cases = [case for case in shown.cases if case.get("series")]
    if not cases:
        raise NoData(
            "no case ran under a long load",
            "`qbench run endurance` does, or `scenario: sustained`.",
        )
    drawn = cases[:MOST_LOADS]
    parts = [(case, *part) for case in drawn for part in _parts(case, look)]
    picture = Picture.grid(look, len(parts), 4.4)
    for panel, (case, title, unit, curves) in zip(picture.panels, parts, strict=True):
        series = case["series"]
        for field, _, shade, style in curves:
            values = [float("nan") if v is None else v for v in series[field]]
            panel.plot(
                series["end_s"], values, color=shade, linestyle=style, linewidth=0.9,
                gid=artist_id(case, field),
            )  # fmt: skip
        end = series["end_s"][-1]
        for begin, last in ((0, series["part_s"]), (end - series["part_s"], end)):
            panel.axvspan(begin, last, color=look.quiet, alpha=0.15, linewidth=0)
        panel.set_xlim(0, end)
        if unit == "ms":
            panel.set_ylim(bottom=0)
        panel.set_xlabel("seconds of load")
        panel.set_ylabel(f"{title}, {unit}")
        ratio = cells.text(case, "sustained_ratio") if unit == "ms" else ""
        panel.set_title(
            words(f"{case['model']} {case['label']}", 52 if look.width_cm >= NARROW_CM else 40)
            + (f"\nlast part over the first: {ratio}" if ratio else "")
        )
    legend = [
        (line_entry(look.colour(0)), "p50"),
        (line_entry(look.colour(1), pick(DASHES, 1)), "p99"),
    ]
    more = (
        f"{len(cases) - len(drawn)} more cases are left out: choose a model."
        if len(cases) > len(drawn)
        else ""
    )
    told = "Shaded: the first and the last part, whose medians are compared; of the last round."
    picture.finish(legend, shown.notes(drawn, told, more, condition=False))
    return picture


def _parts(case: Case, look: Look) -> list[tuple[str, str, list[tuple[str, str, str, Any]]]]:
    """Panels of a case: title, unit, and curves with their field, name, colour and dashes."""
    latency = [
        ("p50_ms", "p50", look.colour(0), "-"),
        ("p99_ms", "p99", look.colour(1), pick(DASHES, 1)),
    ]
    found = [
        ("latency", "ms", latency),
        ("clock", "GHz", [("clock_ghz", "clock", look.colour(2), "-")]),
        ("temperature", "°C", [("temperature_c", "temperature", look.colour(3), "-")]),
    ]
    kept = [
        (title, unit, [c for c in curves if case["series"][c[0]]]) for title, unit, curves in found
    ]
    return [part for part in kept if part[2]]
