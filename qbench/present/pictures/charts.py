"""Charts of cases side by side, under one condition. Every figure of a case comes from the case
table, its interval as a bar; doubtful ones are hollow or marked."""

# Pictures read cases as dicts whose items are attributes (`picture_case`).
# pyright: reportArgumentType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qbench.analysis.compare.comparable import energy_groups
from qbench.analysis.compare.origin import DOUBTED
from qbench.present.pictures.look import (
    HATCHES,
    LONGEST,
    LONGEST_NARROW,
    SCALE,
    SIZE,
    SMALL,
    Look,
    Picture,
    extent,
    logarithmic,
    title,
    words,
)
from qbench.present.pictures.parts import (
    IN_DOUBT,
    RING,
    Case,
    Entry,
    NoData,
    artist_id,
    backends,
    bar,
    bar_entry,
    colour,
    front_entry,
    grouped,
    mark,
    name_of,
    point_entry,
    precisions,
    rows,
    shape,
)
from qbench.present.pictures.shown import Shown
from qbench.present.words import cells
from qbench.present.words.energy import described

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERVALS = "Whiskers: 95 % intervals"
SMALLEST = 4.5
"""Points of text that can still be read."""
MOST_BARS = 60
"""Cases of a panel that has a row for each."""


# --------------------------------------------------------------------------- accuracy, latency


def accuracy(shown: Shown, look: Look) -> Picture:
    """Accuracy, or SQNR where there are no labels, against latency; the Pareto front as steps."""
    panels = []
    for group in grouped(shown.by_model(shown.alike), "run", "model"):
        labelled = any(case["accuracy"] is not None for case in group)
        quality = "accuracy" if labelled else "sqnr_db"
        points = [case for case in group if case[quality] is not None and case["latency_p50_ms"]]
        panels += [(quality, points)] if points else []
    if not panels:
        raise NoData(
            "no case has both a latency and an accuracy, or SQNR against fp32",
            "Accuracy takes labelled data, SQNR fp32 among the suite's precisions.",
        )
    picture = Picture.grid(look, len(panels), 6.2)
    for panel, (quality, points) in zip(picture.panels, panels, strict=True):
        _quality(panel, shown, look, quality, points, picture.title_width)
    drawn = [case for _, points in panels for case in points]
    signs: list[Entry] = [(front_entry(look), "Pareto front")]
    signs += [(point_entry(look, "o", hollow=True), IN_DOUBT)] if _doubted(drawn) else []
    legend = [*backends(shown, look, drawn), *precisions(shown, look, drawn, shapes=True), *signs]
    counts = dict.fromkeys(case["accuracy_of"] for case in drawn if case.get("accuracy_of"))
    of = f"Accuracy: {'; '.join(counts)}." if counts else ""
    told = f"{INTERVALS}, over rounds and over evaluated items."
    picture.finish(legend, shown.notes(drawn, of, told, sign=IN_DOUBT))
    return picture


def _quality(
    panel: Axes, shown: Shown, look: Look, quality: str, points: Sequence[Case], width: float
) -> None:
    factor = 100 if quality == "accuracy" else 1
    front = sorted((c for c in points if c["place"] == "front"), key=lambda c: c["latency_p50_ms"])
    panel.step(
        [c["latency_p50_ms"] for c in front], [factor * c[quality] for c in front],
        where="post", color=look.quiet, linewidth=1, zorder=1.5, **RING,
    )  # fmt: skip
    for case in points:
        x, y = case["latency_p50_ms"], factor * case[quality]
        doubted, shade = bool(case["doubt"]), colour(shown, look, case)
        bar(panel, "x", x, y, _ends(case, "latency_p50_ms"), shade)
        if quality == "accuracy":
            bar(panel, "y", y, x, _ends(case, quality, factor), shade)
        mark(panel, x, y, shape(shown, case), shade, doubted, artist_id(case))
    _latency_axis(panel, [(c["latency_p50_ms"], *_ends(c, "latency_p50_ms")) for c in points])
    panel.set_xlabel("p50 latency of a call, ms")
    metrics = sorted({words(c["accuracy_metric"], 16) for c in points if c["accuracy_metric"]})
    labelled = f"accuracy ({', '.join(metrics)}), %"
    panel.set_ylabel(labelled if quality == "accuracy" else "SQNR against fp32, dB")
    title(panel, shown.titled(points[0], "model"), width)


def _latency_axis(panel: Axes, values: Sequence[Sequence[float | None]]) -> None:
    """Wide enough for all values that there are."""
    known = [value for group in values for value in group if value is not None and value > 0]
    logarithmic(panel, "x", min(known), max(known))


def _ends(case: Case, name: str, factor: float = 1) -> tuple[float | None, float | None]:
    """The interval of a column."""
    low, high = (case[end] for end in cells.INTERVALS[name])
    return (None, None) if low is None or high is None else (factor * low, factor * high)


def _doubted(cases: Sequence[Case]) -> bool:
    return any(case["doubt"] for case in cases)


# --------------------------------------------------------------------------- speed-up


def speedup(shown: Shown, look: Look) -> Picture:
    """A heat map: a row for each backend and precision, a column for each model."""
    cases = [case for case in shown.alike if case["speedup"] is not None]
    if not cases:
        raise NoData(
            "no case has a speed-up",
            "It takes fp32 of the same model, backend and conditions in the same run.",
        )
    kinds = list(dict.fromkeys((case["backend"], case["kind"]) for case in cases))
    kinds.sort(key=lambda kind: shown.data["backends"].index(kind[0]))  # stable
    kinds = kinds[:MOST_BARS]
    drawn = [case for case in cases if (case["backend"], case["kind"]) in kinds]
    models = grouped(shown.by_model(drawn), "run", "model")
    picture = Picture(look, [1.3 + 0.8 * len(kinds)])
    (panel,) = picture.panels
    longest = LONGEST_NARROW if look.is_narrow else LONGEST
    names = [words(f"{backend} {kind}", longest) for backend, kind in kinds]
    room = (picture.panel_width - max(extent(name, SIZE) for name in names)) / len(models)
    widest = max(extent(cells.ends(case, "speedup"), 1) for case in drawn)
    size = min(SMALL - 0.5, 0.92 * room / widest if widest else SMALL)
    most = max(1.25, *(max(case["speedup"], 1 / case["speedup"]) for case in cases))
    for column, group in enumerate(models):
        for case in group:
            row = kinds.index((case["backend"], case["kind"]))
            _heat(panel, look, case, (column, row), math.log(case["speedup"], most), size)
    rows(panel, names)
    panel.set_xlim(-0.5, len(models) - 0.5)
    titles = [words(shown.titled(group[0], "model"), longest // 2) for group in models]
    panel.set_xticks(range(len(models)), titles)
    turned = any(extent(title, SIZE) > room for title in titles)
    panel.tick_params(
        axis="x", length=0, labeltop=True, labelbottom=False, labelrotation=30 if turned else 0
    )
    for label in panel.get_xticklabels():
        label.set(
            ha="left" if turned else "center", rotation_mode="anchor" if turned else "default"
        )
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    told = (
        "Speed-up (×) over fp32 of the same model and backend, of the p50 latency"
        f"{', with its 95 % interval' if size >= SMALLEST else ''}. Blue is faster, orange slower; "
        "hatched: the 95 % interval holds 1, or is not known."
    )
    picture.finish([], shown.notes(drawn, told, _left_out(len(cases) - len(drawn))))
    return picture


def _heat(
    panel: Axes, look: Look, case: Case, place: tuple[int, int], power: float, size: float
) -> None:
    """A cell.

    Args:
        power: -1 for the slowest shade, 0 for neither, 1 for the fastest.
        size: of the interval's text, which is left out where it would be too small to read.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    shade = LinearSegmentedColormap.from_list("scale", SCALE[look.dark])(0.5 + 0.5 * power)
    x, y = place
    low, high = _ends(case, "speedup")
    certain = low is not None and high is not None and (low > 1 or high < 1)
    corner = (x - 0.5, y - 0.5)
    panel.add_patch(
        Rectangle(
            corner, 1, 1, facecolor=shade, edgecolor=look.back, linewidth=1.5, gid=artist_id(case)
        )
    )
    if not certain:
        panel.add_patch(
            Rectangle(corner, 1, 1, fill=False, edgecolor=look.quiet, hatch="///", linewidth=0)
        )
    value = cells.text(case, "speedup") + (f" {DOUBTED}" if case["doubt"] else "")
    ground = {"facecolor": shade, "edgecolor": "none", "pad": 0.8}
    form: Any = {"ha": "center", "va": "center", "bbox": ground}
    ends = cells.ends(case, "speedup") if size >= SMALLEST else ""
    panel.text(x, y - (0.14 if ends else 0), value, fontsize=SIZE, **form)
    if ends:
        panel.text(x, y + 0.25, ends, fontsize=size, **form)


# --------------------------------------------------------------------------- bars


def memory(shown: Shown, look: Look) -> Picture:
    """Peaks of a case's process over one that has only imported its runtime."""
    fields = {"memory_load_peak_mb": "while loading", "memory_peak_mb": "while running"}
    cases = [c for c in shown.alike if any(c[field] is not None for field in fields)]
    if not cases:
        raise NoData("no case has a peak of memory", "It is read from /proc, on Linux.")

    def draw(panel: Axes, group: Sequence[Case]) -> None:
        for index, field in enumerate(fields):
            for row, case in enumerate(group):
                if case[field] is not None:
                    panel.barh(
                        row + (index - 0.5) * 0.38, case[field], 0.38, color=look.part(index),
                        hatch=HATCHES[index], edgecolor=look.back, linewidth=0,
                        gid=artist_id(case, field),
                    )  # fmt: skip
        panel.set_xlabel("peak memory, MB")

    legend = [
        (bar_entry(look.part(index), HATCHES[index], look), part)
        for index, part in enumerate(fields.values())
    ]
    told = "Over the process with its runtime imported; median over rounds. MB = 10^6 bytes."
    return _bars(shown, look, cases, draw, legend, [told])


def startup(shown: Shown, look: Look) -> Picture:
    """Time until the first result, by part."""
    fields = {
        "process_start_ms": "start the process",
        "import_ms": "import the runtime",
        "load_ms": "load the model",
        "first_inference_ms": "first inference",
    }
    cases = [c for c in shown.alike if any(c[field] is not None for field in fields)]
    if not cases:
        raise NoData("no case has times of its start", "`qbench show` says why.")

    def draw(panel: Axes, group: Sequence[Case]) -> None:
        for row, case in enumerate(group):
            begin = 0.0
            for index, field in enumerate(fields):
                if case[field] is not None:
                    panel.barh(
                        row, case[field], 0.62, begin, color=look.part(index),
                        hatch=HATCHES[index], edgecolor=look.back, linewidth=0,
                        gid=artist_id(case, field),
                    )  # fmt: skip
                    begin += case[field]
            _beside(panel, look, begin, row, cells.text(case, "cold_start_ms"))
        panel.set_xlabel("start-up, ms")
        panel.margins(x=0.12)

    legend = [
        (bar_entry(look.part(index), HATCHES[index], look), part)
        for index, part in enumerate(fields.values())
    ]
    told = "Median over rounds. Beside the bars: all until the first result, in ms."
    return _bars(shown, look, cases, draw, legend, [told])


def energy(shown: Shown, look: Look) -> Picture:
    """For each group of cases whose energies may be compared, energy of an inference."""
    groups = energy_groups(shown.alike)
    if not groups:
        raise NoData(
            "no case has an energy",
            "Measure it: `energy:` in the suite, and a sensor or a meter; or give `cpu_power:`.",
        )
    panels = [
        (f"{shown.titled(part[0], 'model')}: {described(group)['title']}", part)
        for group in groups
        for part in grouped(group, "run", "model")
    ]

    def draw(panel: Axes, group: Sequence[Case]) -> None:
        name = "energy_mj_per_inference"
        for row, case in enumerate(group):
            if case[name] is not None:
                panel.barh(
                    row, case[name], 0.62, color=colour(shown, look, case), edgecolor=look.back,
                    hatch="" if case["energy_is_measured"] else "////", linewidth=0,
                    gid=artist_id(case),
                )  # fmt: skip
                bar(panel, "x", case[name], row, _ends(case, name), look.text)
            gross = case["energy_gross_mj_per_inference"]
            if gross is not None:
                mark(panel, gross, row, "|", look.text, False, artist_id(case, "gross"))
        panel.set_xlabel("energy of an inference, mJ")

    cases = [case for _, part in panels for case in part]
    proxies = any(case["energy_is_measured"] is False for case in cases)
    has_gross = any(case["energy_gross_mj_per_inference"] is not None for case in cases)
    legend = backends(shown, look, cases)
    legend += [(bar_entry(look.quiet, "////", look), "estimated, not measured")] if proxies else []
    legend += [(point_entry(look, "|"), "with the idle share")] if has_gross else []
    told = [
        f"{INTERVALS} over windows or rounds.",
        "Different methods or scopes do not compare.",
    ]
    return _bars(shown, look, cases, draw, legend, told, panels)


def _bars(
    shown: Shown,
    look: Look,
    cases: Sequence[Case],
    draw: Callable[[Axes, Sequence[Case]], None],
    legend: Sequence[Entry],
    notes: Sequence[str],
    panels: Sequence[tuple[str, Sequence[Case]]] | None = None,
) -> Picture:
    """Panels below each other with a row for each case.

    Args:
        panels: title and cases of each; one for each model if left out.
    """
    made = panels or [
        (shown.titled(group[0], "model"), group) for group in grouped(cases, "run", "model")
    ]
    kept = [(title, group[:MOST_BARS]) for title, group in made]
    drawn = [case for _, group in kept for case in group]
    picture = Picture(look, [1.9 + 0.46 * len(group) for _, group in kept])
    longest = LONGEST_NARROW if look.is_narrow else LONGEST
    names = [[name_of(case, longest) for case in group] for _, group in kept]
    beside = max(extent(name, SIZE) for group in names for name in group)
    for panel, (heading, group), named in zip(picture.panels, kept, names, strict=True):
        draw(panel, group)
        rows(panel, named)
        title(panel, heading, picture.panel_width - beside - 0.2)
    left_out = _left_out(len(cases) - len(drawn))
    picture.finish(legend, shown.notes(drawn, " ".join(notes), left_out))
    return picture


def _left_out(count: int) -> str:
    return f"{count} more cases are left out: choose a model or a condition." if count else ""


def _beside(panel: Axes, look: Look, x: float, row: int, text: str) -> None:
    panel.annotate(
        text, (x, row), (3, 0), textcoords="offset points", va="center", fontsize=SMALL,
        color=look.quiet,
    )  # fmt: skip
