"""The terminal's tables of cases: one row for each that ran, then what only some scenarios measure,
then those that did not run, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbench.present.terminal.tables import STYLES, bare_table, fitting, styled
from qbench.present.words.named import Case, told_conditions
from qbench.text import figure

if TYPE_CHECKING:
    import pandas as pd


class Shown(NamedTuple):
    """A column of a table of cases.

    ``rank``: the higher, the sooner the column is left out where the terminal is narrow; 0: never.
    """

    name: str
    title: str
    rank: int = 0


NAMES = (Shown("model", "model"), Shown("backend", "backend"), Shown("precision", "precision"))
MAIN = (
    *NAMES,
    Shown("latency_p50_ms", "p50 ms"),
    Shown("latency_p99_ms", "p99 ms", 6),
    Shown("throughput_ips", "items/s", 5),
    Shown("speedup", "speed-up"),
    Shown("memory_peak_mb", "peak MB", 7),
    Shown("artifact_size_mb", "size MB", 4),
    Shown("cold_start_ms", "cold ms", 8),
    Shown("roofline_share", "of roof", 9),
    Shown("accuracy", "accuracy", 1),
    Shown("accuracy_delta", "Δ pp", 2),
    Shown("sqnr_db", "SQNR dB", 3),
    Shown("effective_precision", "ran at", 2),
)
SCENARIOS: dict[str, tuple[str, tuple[Shown, ...]]] = {
    "sustained": (
        "Sustained load",
        (
            Shown("sustained_p50_ms", "p50 ms at the end"),
            Shown("sustained_p99_ms", "p99 ms", 2),
            Shown("sustained_ratio", "end / begin"),
            Shown("clock_ghz", "GHz", 3),
            Shown("temperature_c", "°C", 3),
        ),
    ),
    "paced": (
        "Paced frames",
        (
            Shown("deadline_miss_rate", "missed"),
            Shown("paced_hz", "results/s", 2),
            Shown("latency_p99_ms", "p99 ms", 3),
            Shown("paced_jitter_ms", "jitter ms", 1),
            Shown("processor_left", "processor left"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        (
            Shown("decode_ms", "decode ms", 2),
            Shown("preprocess_ms", "preprocess ms", 1),
            Shown("postprocess_ms", "postprocess ms", 2),
            Shown("e2e_p50_ms", "frame p50 ms"),
            Shown("e2e_p99_ms", "p99 ms", 3),
            Shown("fps", "frames/s"),
        ),
    ),
    "mlperf": (
        "MLPerf LoadGen",
        (
            Shown("loadgen_valid", "verdict"),
            Shown("loadgen_latency_ms", "latency ms"),
            Shown("loadgen_qps", "per s"),
            Shown("target_qps", "rate that held", 1),
        ),
    ),
}
"""By the word that names of scenarios begin with: what only they measure."""
ENERGY = (
    Shown("energy_mj_per_inference", "mJ"),
    Shown("energy_gross_mj_per_inference", "gross mJ", 2),
    Shown("power_w", "W", 1),
    Shown("idle_w", "idle W", 1),
)
GPU = (
    Shown("gpu_compute_p50_ms", "compute ms"),
    Shown("gpu_h2d_p50_ms", "h2d ms", 1),
    Shown("gpu_d2h_p50_ms", "d2h ms", 1),
    Shown("gpu_enqueue_p50_ms", "enqueue ms", 2),
    Shown("device_memory_mb", "device MB", 3),
    Shown("gpu_sm_clock_mhz", "MHz", 4),
    Shown("gpu_power_w", "W", 5),
    Shown("gpu_temperature_c", "°C", 6),
    Shown("gpu_throttled", "throttled", 4),
)
CONDITIONS = (
    "scenario", "scenario_options", "batch_size", "threads", "streams", "environment", "recipe",
)  # fmt: skip
_TITLES = {"batch_size": "batch", "scenario_options": "options"}
_WORDS = {*CONDITIONS, "model", "backend", "precision", "effective_precision", "loadgen_valid"}
_WORDS |= {"gpu_throttled"}
_WORDS -= {"batch_size", "threads", "streams"}
_SHARES = {"accuracy": 1, "deadline_miss_rate": 1, "processor_left": 1, "roofline_share": 0}
"""Shown as percent with so many decimals."""


def case_tables(cases: pd.DataFrame, console: Console) -> list[Table | Text]:
    """The terminal's tables of a bundle's cases, and what has to be known of their figures."""
    rows = [{str(name): cell for name, cell in row.items()} for row in cases.to_dict("records")]
    ran = [row for row in rows if row["status"] == "ok"]
    parts: list[Table | Text] = []
    if ran:
        energies, apart = _energy(ran, console)
        parts.append(_fitting(ran, [*MAIN, *energies], console))
        parts += _accuracy_notes(cases[cases["status"] == "ok"])
        for word, (title, figures) in SCENARIOS.items():
            own = [row for row in ran if row["scenario"].startswith(word)]
            if own:
                parts.append(_fitting(own, [*NAMES, *figures], console, title))
        on_gpu = [row for row in ran if any(row[column.name] is not None for column in GPU)]
        if on_gpu:
            parts.append(_fitting(on_gpu, [*NAMES, *GPU], console, "GPU"))
        parts += apart
    if len(ran) < len(rows):
        parts.append(_not_run(cases[cases["status"] != "ok"]))
    return parts + _doubts(ran)


def _energy(ran: Sequence[Case], console: Console) -> tuple[list[Shown], list[Table | Text]]:
    """Energy's column of the main table, if all energies may be compared; else a table for each
    group that may. And a note on what the figures are."""
    from qbench.analysis.compare.comparable import energy_groups
    from qbench.present.words.energy import described

    groups = energy_groups(ran)
    if len(groups) == 1 and any(row[ENERGY[0].name] is not None for row in groups[0]):
        measured = groups[0][0]["energy_is_measured"]
        note = styled(f"energy: {described(groups[0])['title']}", style="dim")
        return [Shown(ENERGY[0].name, "mJ" if measured else "mJ (proxy)", 10)], [note]
    return [], [
        _fitting(group, [*NAMES, *ENERGY], console, f"Energy: {described(group)['title']}")
        for group in groups
    ]


def _doubts(ran: Sequence[Case]) -> list[Table | Text]:
    """What speaks against the figures, with the worst that was seen."""
    doubts = []
    noisy = [row for row in ran if row["noisy"]]
    if noisy:
        reason, _ = Counter(row["noise_reason"] for row in noisy).most_common(1)[0]
        doubts.append(
            f"{len(noisy)} of {len(ran)} cases were disturbed while measured (marked *), such as: "
            f"{reason}. `qbench doctor` says what can be mended here."
        )
    metered = [row for row in ran if row["energy_noise"]]
    if metered:
        doubts.append(
            f"The energy of {len(metered)} of {len(ran)} cases may hold the work of others: "
            f"{metered[0]['energy_noise']}."
        )
    warned = [row for row in ran if row["gpu_warnings"]]
    if warned:
        first = warned[0]
        doubts.append(
            f"{len(warned)} of {len(ran)} cases have warnings of the GPU, such as "
            f"{first['model']} {first['backend']} {first['precision']}: {first['gpu_warnings']}."
        )
    open_ended = [row for row in ran if row["inconclusive"]]
    if open_ended:
        known = [row["half_width"] for row in open_ended if row["half_width"] is not None]
        widest = f" (the widest interval: ±{100 * max(known):.1f} %)" if known else ""
        doubts.append(
            f"{len(open_ended)} of {len(ran)} cases are inconclusive (marked ?): their rounds or "
            f"their budget ended before the suite's target was reached{widest}."
        )
    return [styled(doubt, style="yellow") for doubt in doubts]


def _accuracy_notes(ran: pd.DataFrame) -> list[Table | Text]:
    """What the accuracies are of, and how many items a finer question would take."""
    notes: list[Table | Text] = []
    judged = ran[ran["accuracy"].notna()]
    for (metric, data), group in judged.groupby(["accuracy_metric", "accuracy_data"], sort=False):
        models = ", ".join(dict.fromkeys(group["model"]))
        text = f"accuracy: {metric} of {data}: {models}"
        needed = group["accuracy_items_needed"].dropna()
        if len(needed) and needed.max() > group["accuracy_items"].max():
            text += f"; to know every Δ to ±1 point would take {int(needed.max()):,} items"
        notes.append(styled(text, style="dim"))
    return notes


# --------------------------------------------------------------------------- a table of cases


def _fitting(
    ran: Sequence[Case], columns: Sequence[Shown], console: Console, title: str | None = None
) -> Table:
    """The cases with as many columns as the terminal has room for, none of them empty."""
    kept = [column for column in columns if any(row[column.name] is not None for row in ran)]

    def below(rank: int) -> Table:
        return _results(ran, [column for column in kept if column.rank < rank], title)

    return fitting(below, [column.rank for column in kept], console, "the report")


def _results(ran: Sequence[Case], columns: Sequence[Shown], title: str | None) -> Table:
    table = bare_table(title)
    told = [Shown(name, _TITLES.get(name, name)) for name in told_conditions(CONDITIONS, ran)]
    place = 1 + [name for name, _, _ in columns].index("precision")
    shown = [*columns[:place], *told, *columns[place:]]
    for name, heading, _ in shown:
        table.add_column(heading, justify="left" if name in _WORDS else "right", no_wrap=True)
    last = None
    for row in ran:
        if last is not None and row["model"] != last:
            table.add_section()
        last = row["model"]
        table.add_row(*[styled(_cell(row, name)) for name, _, _ in shown])
    return table


def _cell(row: Case, name: str) -> str:
    value = row[name]
    if value is None:
        return "" if name == "scenario_options" else "–"
    if name == "precision":
        marks = ("*" if row["noisy"] else "") + ("?" if row["inconclusive"] else "")
        return " ".join(
            filter(None, [value, f"[{row['variant']}]" if row["variant"] else "", marks])
        )
    if name == "effective_precision":
        return f"{value}, {row['flags']}" if row["flags"] else str(value)
    if name == "loadgen_valid":
        return "valid" if value else "not valid"
    if name in _SHARES:
        return f"{100 * value:.{_SHARES[name]}f} %"
    if name == "accuracy_delta":
        return f"{100 * value:+.1f}"
    if name == "speedup":
        return f"{value:.2f}x"
    if name == "sqnr_db":
        return f"{value:.0f}"
    return figure(value) if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------- what did not run


def _not_run(rest: pd.DataFrame) -> Table:
    """Cases without figures, those with the same reason in one row."""
    variants = rest["variant"].map(lambda variant: f" [{variant}]" if variant else "")
    shown = rest.assign(
        status=rest["status"].fillna("open"), precision=rest["precision"] + variants
    )
    return reasons_table("Not measured", shown)


def reasons_table(title: str, cases: pd.DataFrame) -> Table:
    """Cases (columns ``status, backend, precision, model, reason``), grouped by reason."""
    table = bare_table(title)
    for name in ("status", "backend", "precisions", "models", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name in ("status", "backend"))
    keys = ["status", "backend", "reason"]
    for (status, backend, reason), group in cases.groupby(keys, sort=False, dropna=False):
        models = list(dict.fromkeys(group["model"]))
        precisions = list(dict.fromkeys(group["precision"]))
        table.add_row(
            styled(str(status), style=STYLES.get(str(status), "red")),
            styled(str(backend)),
            styled(", ".join(precisions)),
            styled(", ".join(models) if len(models) <= 3 else f"{len(models)} models"),
            styled(str(reason)),
        )
    return table
