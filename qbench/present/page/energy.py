"""Energy on the page: bars by comparable group, and power over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from qbench.analysis.compare.comparable import energy_groups
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.energy import Alignment, EnergyLine, Idle, Reading, Window
from qbench.errors import UserError
from qbench.present.words import cells
from qbench.present.words.named import PageCase
from qbench.present.words.traces import rounded

BARS = ("energy_mj_per_inference", "energy_gross_mj_per_inference")
MOST_READINGS = 2000
"""Maximum readings of a meter on a page; of more, means of neighbours are shown."""

IDLE = ("idle", 0)
"""Key of the idle baseline among the windows, whose keys are case and round."""


def energy_bars(cases: Iterable[PageCase]) -> list[list[dict[str, Any]]]:
    """For each comparable group, in the order of the page's tables: energy above idle with its
    interval, and ``gross``, which includes the idle share."""
    return [
        [
            {
                **{name: getattr(case, name) for name in ("run", "model", "label", "anchor")},
                "texts": cells.texts(case, BARS),
                "mj": rounded(case.energy_mj_per_inference),
                "low": rounded(case.energy_mj_per_inference_low),
                "high": rounded(case.energy_mj_per_inference_high),
                "gross": rounded(case.energy_gross_mj_per_inference),
                "doubt": case.energy_noise or "",
            }
            for case in group
        ]
        for group in energy_groups(cases)
    ]


def energy_reasons(cases: Iterable[PageCase]) -> list[tuple[str, list[str]]]:
    """Reasons for missing energies or for weaker methods, with the cases that they apply to."""
    reasons: dict[str, list[str]] = {}
    for case in cases:
        if case.energy_reason:
            name = f"{case.model} {case.label}"
            reasons.setdefault(str(case.energy_reason), []).append(name)
    return list(reasons.items())


def power_series(bundle: Bundle, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Power over time during the energy pass, by sitting and sensor.

    Each has ``name``; ``seconds`` and ``watts`` of a wall meter's readings (empty for other
    sensors); and ``windows`` with ``from``, ``to`` (seconds since the pass began), ``watts`` (mean)
    and ``label``, starting with the idle baseline.

    Args:
        labels: by case id.
    """
    records = bundle.energy
    found: list[dict[str, Any]] = []
    sittings = dict.fromkeys(record.sitting for record in records)
    for sitting in sittings:
        own = [record for record in records if record.sitting == sitting]
        spans: dict[tuple[str, int], tuple[int, int]] = {}
        for record in own:
            if isinstance(record, Idle):
                spans[IDLE] = record.begin_ns, record.end_ns
            elif isinstance(record, Window) and record.status == "ok":
                assert record.begin_ns is not None and record.end_ns is not None
                spans[record.case_id, record.round] = record.begin_ns, record.end_ns
        if not spans:
            continue
        begin = min(first for first, _ in spans.values())
        readings: dict[str, list[dict[str, Any]]] = {}
        methods: dict[str, str] = {}
        lines: dict[str, np.ndarray] = {}
        for key, reading in _readings(own):
            if reading.watts is None or key not in spans:
                continue
            first, last = ((at - begin) * 1e-9 for at in spans[key])
            label = "idle" if key == IDLE else labels.get(key[0], key[0])
            readings.setdefault(reading.name, []).append(
                {
                    "from": rounded(first),
                    "to": rounded(last),
                    "watts": rounded(reading.watts),
                    "label": label,
                }
            )
            methods[reading.name] = f"{reading.method}, {reading.scope}"
        for record in own:
            if isinstance(record, Alignment) and record.series and record.idle:
                lines[record.idle.name] = _series(bundle, record.series)
        for name, windows in readings.items():
            line = _thinned(lines[name]) if name in lines else np.empty((0, 2))
            found.append(
                {
                    "name": methods[name] + (f", sitting {sitting}" if len(sittings) > 1 else ""),
                    "seconds": [rounded(float(at)) for at in (line[:, 0] - begin) * 1e-9],
                    "watts": [rounded(float(watts)) for watts in line[:, 1]],
                    "windows": sorted(windows, key=lambda window: window["from"]),
                }
            )
    return found


def _readings(records: Iterable[EnergyLine]) -> Iterator[tuple[tuple[str, int], Reading]]:
    """Readings of all sensors, of the baseline and of every window, with their keys."""
    for record in records:
        if isinstance(record, Idle):
            yield from ((IDLE, reading) for reading in record.sensors)
        elif isinstance(record, Window):
            yield from (((record.case_id, record.round), reading) for reading in record.sensors)
        elif isinstance(record, Alignment):
            if record.idle:
                yield IDLE, record.idle
            yield from (((reading.case_id, reading.round), reading) for reading in record.windows)


def _series(bundle: Bundle, name: str) -> np.ndarray:
    """``[readings, 2]``: nanoseconds and watts."""
    series = bundle.energy_series(name)
    if series.ndim != 2 or series.shape[1] != 2:
        raise UserError(
            f"{bundle.path}/energy/{name} is damaged: not a list of times and watts",
            "Run the suite again.",
        )
    return series


def _thinned(series: np.ndarray) -> np.ndarray:
    width = -(-len(series) // MOST_READINGS) or 1
    parts = [series[start : start + width].mean(axis=0) for start in range(0, len(series), width)]
    return np.array(parts).reshape(-1, 2)
