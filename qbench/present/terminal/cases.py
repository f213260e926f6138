"""The terminal's tables of cases: one row for each case that ran, further tables for the figures
that only some scenarios measure, and one for cases that did not run, grouped by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qbench.present.terminal.tables import STYLES, bare_table, fitting, styled
from qbench.present.words.cells import ColumnSpec, specs
from qbench.present.words.named import varying_conditions, with_variant
from qbench.spec.columns import CaseRow
from qbench.text import figure, percent

NAMES = specs("model", "backend", "precision")
MAIN = (
    *NAMES,
    *specs("latency_p50_ms", "latency_p99_ms"),
    ColumnSpec("throughput_ips", "items/s"),
    ColumnSpec("speedup", "speed-up"),
    ColumnSpec("memory_peak_mb", "peak MB"),
    ColumnSpec("artifact_size_mb"),
    ColumnSpec("cold_start_ms", "cold ms"),
    ColumnSpec("roofline_share", "of roof"),
    ColumnSpec("accuracy", "accuracy"),
    ColumnSpec("accuracy_delta", "Δ pp"),
    *specs("sqnr_db"),
    ColumnSpec("equal_values", "equal"),
    *specs("effective_precision"),
)
SCENARIOS: dict[str, tuple[str, tuple[ColumnSpec, ...]]] = {
    "sustained": (
        "Sustained load",
        (
            ColumnSpec("sustained_p50_ms", "p50 ms at the end"),
            ColumnSpec("sustained_p99_ms", "p99 ms"),
            ColumnSpec("sustained_ratio", "end / begin"),
            ColumnSpec("clock_ghz", "GHz", 3),
            ColumnSpec("temperature_c", "°C", 3),
        ),
    ),
    "paced": (
        "Paced frames",
        (
            ColumnSpec("deadline_miss_rate", "missed"),
            ColumnSpec("paced_hz", "results/s"),
            ColumnSpec("latency_p99_ms", rank=3),
            ColumnSpec("paced_jitter_ms"),
            ColumnSpec("processor_left", "processor left"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        (
            ColumnSpec("decode_ms", rank=2),
            ColumnSpec("preprocess_ms", rank=1),
            ColumnSpec("postprocess_ms", rank=2),
            ColumnSpec("e2e_p50_ms"),
            ColumnSpec("e2e_p99_ms", "p99 ms"),
            ColumnSpec("fps", "frames/s"),
        ),
    ),
    "mlperf": (
        "MLPerf LoadGen",
        (
            ColumnSpec("loadgen_valid"),
            ColumnSpec("loadgen_latency_ms", "latency ms"),
            ColumnSpec("loadgen_qps", "per s"),
            ColumnSpec("target_qps", "rate that held"),
        ),
    ),
}
"""By the prefix of a scenario's name: title and columns of the figures that only it measures."""
ENERGY = (
    ColumnSpec("energy_mj_per_inference", "mJ", 0),
    ColumnSpec("energy_gross_mj_per_inference"),
    ColumnSpec("power_w", "W"),
    ColumnSpec("idle_w"),
)
GPU = (
    ColumnSpec("gpu_compute_p50_ms", "compute ms"),
    ColumnSpec("gpu_h2d_p50_ms", "h2d ms"),
    ColumnSpec("gpu_d2h_p50_ms", "d2h ms"),
    ColumnSpec("gpu_enqueue_p50_ms", "enqueue ms"),
    ColumnSpec("device_memory_mb", "device MB"),
    ColumnSpec("gpu_sm_clock_mhz", "MHz"),
    ColumnSpec("gpu_power_w", "W"),
    ColumnSpec("gpu_temperature_c", "°C"),
    ColumnSpec("gpu_throttled"),
)
CONDITIONS = (
    "scenario", "scenario_options", "batch_size", "threads", "streams", "environment", "recipe",
)  # fmt: skip
_WORDS = {*CONDITIONS, "model", "backend", "precision", "effective_precision", "loadgen_valid"}
_WORDS |= {"gpu_throttled"}
_WORDS -= {"batch_size", "threads", "streams"}
_DECIMALS = {
    "accuracy": 1, "deadline_miss_rate": 1, "equal_values": 1, "processor_left": 1,
    "roofline_share": 0,
}  # fmt: skip
"""Decimals of shares, which are shown in percent."""


def case_tables(cases: Sequence[CaseRow], console: Console) -> list[Table | Text]:
    """Tables of a bundle's cases, and notes on their figures."""
    ran = [case for case in cases if case.status == "ok"]
    parts: list[Table | Text] = []
    if ran:
        energies, apart = _energy(ran, console)
        parts.append(_fitting(ran, [*MAIN, *energies], console))
        parts += _accuracy_notes(ran)
        for prefix, (title, figures) in SCENARIOS.items():
            own = [case for case in ran if case.scenario.startswith(prefix)]
            if own:
                parts.append(_fitting(own, [*NAMES, *figures], console, title))
        on_gpu = [case for case in ran if any(getattr(case, c.name) is not None for c in GPU)]
        if on_gpu:
            parts.append(_fitting(on_gpu, [*NAMES, *GPU], console, "GPU"))
        parts += apart
    if len(ran) < len(cases):
        rest = [case for case in cases if case.status != "ok"]
        reasons = [
            NotRun(case.status or "open", case.backend, with_variant(case), case.model, case.reason)
            for case in rest
        ]
        parts.append(reasons_table("Not measured", reasons))
    return parts + _doubts(ran)


def _energy(
    ran: Sequence[CaseRow], console: Console
) -> tuple[list[ColumnSpec], list[Table | Text]]:
    """A column for the main table and a note, if all energies are comparable; else a table for each
    comparable group."""
    from qbench.analysis.compare.comparable import energy_groups
    from qbench.present.words.energy import described

    groups = energy_groups(ran)
    if len(groups) == 1 and any(case.energy_mj_per_inference is not None for case in groups[0]):
        title = "mJ" if groups[0][0].energy_is_measured else "mJ (proxy)"
        note = styled(f"energy: {described(groups[0])['title']}", style="dim")
        return [ColumnSpec(ENERGY[0].name, title)], [note]
    tables: list[Table | Text] = [
        _fitting(group, [*NAMES, *ENERGY], console, f"Energy: {described(group)['title']}")
        for group in groups
    ]
    return [], tables


def _doubts(ran: Sequence[CaseRow]) -> list[Table | Text]:
    """Doubts about the figures, with the worst example of each."""
    doubts = []
    noisy = [case for case in ran if case.noisy]
    if noisy:
        reason, _ = Counter(case.noise_reason for case in noisy).most_common(1)[0]
        doubts.append(
            f"{len(noisy)} of {len(ran)} cases were disturbed while measured (marked *), such as: "
            f"{reason}. `qbench doctor` lists remedies for this machine."
        )
    metered = [case for case in ran if case.energy_noise]
    if metered:
        doubts.append(
            f"The energy of {len(metered)} of {len(ran)} cases may include other work: "
            f"{metered[0].energy_noise}."
        )
    warned = [case for case in ran if case.gpu_warnings]
    if warned:
        first = warned[0]
        doubts.append(
            f"{len(warned)} of {len(ran)} cases have warnings of the GPU, such as "
            f"{first.model} {first.backend} {first.precision}: {first.gpu_warnings}."
        )
    open_ended = [case for case in ran if case.inconclusive]
    if open_ended:
        known = [case.half_width for case in open_ended if case.half_width is not None]
        widest = f" (widest interval: ±{percent(max(known), 1)})" if known else ""
        doubts.append(
            f"{len(open_ended)} of {len(ran)} cases are inconclusive (marked ?): their rounds or "
            f"their budget ended before the suite's target was reached{widest}."
        )
    return [styled(doubt, style="yellow") for doubt in doubts]


def _accuracy_notes(ran: Sequence[CaseRow]) -> Iterable[Text]:
    """Metric, data and models of the accuracies, and the items that a finer comparison needs."""
    groups: dict[tuple[str | None, str | None], list[CaseRow]] = {}
    for case in ran:
        if case.accuracy is not None:
            groups.setdefault((case.accuracy_metric, case.accuracy_data), []).append(case)
    for (metric, data), group in groups.items():
        models = ", ".join(dict.fromkeys(case.model for case in group))
        text = f"accuracy: {metric} of {data}: {models}"
        needed = max((case.accuracy_items_needed or 0 for case in group), default=0)
        if needed > max(case.accuracy_items or 0 for case in group):
            text += f"; to know every Δ to ±1 point would take {needed:,} items"
        yield styled(text, style="dim")


# --------------------------------------------------------------------------- a table of cases


def _fitting(
    ran: Sequence[CaseRow],
    columns: Sequence[ColumnSpec],
    console: Console,
    title: str | None = None,
) -> Table:
    """The cases with as many columns as fit the terminal, without empty ones."""
    kept = [column for column in columns if any(getattr(c, column.name) is not None for c in ran)]
    ranks = [column.terminal_rank for column in kept]
    return fitting(partial(_results, ran, title), kept, ranks, console, "the report")


def _results(ran: Sequence[CaseRow], title: str | None, columns: Sequence[ColumnSpec]) -> Table:
    table = bare_table(title)
    conditions = specs(*varying_conditions(CONDITIONS, ran))
    place = 1 + [column.name for column in columns].index("precision")
    shown = [*columns[:place], *conditions, *columns[place:]]
    for column in shown:
        side = "left" if column.name in _WORDS else "right"
        table.add_column(column.terminal_heading, justify=side, no_wrap=True)
    last = None
    for case in ran:
        if last is not None and case.model != last:
            table.add_section()
        last = case.model
        table.add_row(*[styled(_cell(case, column.name)) for column in shown])
    return table


def _cell(case: CaseRow, name: str) -> str:
    value = getattr(case, name)
    if value is None:
        return "" if name == "scenario_options" else "–"
    if name == "precision":
        marks = ("*" if case.noisy else "") + ("?" if case.inconclusive else "")
        return f"{with_variant(case)} {marks}".rstrip()
    if name == "effective_precision":
        return f"{value}, {case.flags}" if case.flags else str(value)
    if name == "loadgen_valid":
        return "valid" if value else "not valid"
    if name in _DECIMALS:
        return percent(value, _DECIMALS[name])
    if name == "accuracy_delta":
        return f"{100 * value:+.1f}"
    if name == "speedup":
        return f"{value:.2f}x"
    if name == "sqnr_db":
        return f"{value:.0f}"
    return figure(value) if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------- cases that did not run


class NotRun(NamedTuple):
    """A case without figures."""

    status: str
    backend: str
    precision: str
    model: str
    reason: str | None


def reasons_table(title: str, cases: Iterable[NotRun]) -> Table:
    """Cases grouped by status, backend and reason."""
    table = bare_table(title)
    for name in ("status", "backend", "precisions", "models", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name in ("status", "backend"))
    groups: dict[tuple[str, str, str], list[NotRun]] = {}
    for case in cases:
        groups.setdefault((case.status, case.backend, str(case.reason)), []).append(case)
    for (status, backend, reason), group in groups.items():
        models = list(dict.fromkeys(case.model for case in group))
        precisions = dict.fromkeys(case.precision for case in group)
        table.add_row(
            styled(status, style=STYLES.get(status, "red")),
            styled(backend),
            styled(", ".join(precisions)),
            styled(", ".join(models) if len(models) <= 3 else f"{len(models)} models"),
            styled(reason),
        )
    return table
