"""Compare runs of several machines: the machine of each run, the run that represents it, and the
ratios of machines that did the same work.

Two machines are never measured in the same rounds, so their ratios are unpaired and come with
intervals, not with verdicts. Accuracy is compared per machine: the same artifact may compute other
numbers on another processor.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qbench.analysis.compare.comparable import compare_bundles, same_work
from qbench.analysis.compare.compare import energy_of
from qbench.analysis.compare.matching import match_runs
from qbench.analysis.table.trials import Ratio, Trials, welch_ratios
from qbench.bundle.bundle import Bundle
from qbench.spec.columns import CaseRow
from qbench.spec.system import Price, System

BY_RATE = ("offline", "mlperf-offline", "sustained")
"""Scenarios in which machines are ranked by throughput; in the others by p50."""
DRIFT = 1.05
"""Ratio by which a machine is assumed to differ from itself from one hour to the next: no machine
is called faster than another by less (our own choice; of equal versions measured one after the
other, 20 to 48 of 100 show a difference: ``docs/method.md``)."""


# --------------------------------------------------------------------------- machines


@dataclass(frozen=True)
class Machine:
    """The machine of bundles.

    Attributes:
        key: its ``host_id``, which identifies it.
        name: of the system (``system.yaml``), else of the host; unique among the machines of one
            page (``machines_of``).
        chip: the processor's name.
        gpu: name of the GPU, by its driver; None where there is none, or it is not known.
        price: of the whole system, from ``system.yaml``; None if it has none.
    """

    key: str
    name: str
    chip: str
    gpu: str | None = None
    price: Price | None = None

    def chip_of(self, device: str) -> str:
        """The chip that cases on ``device`` run on: the GPU's name for ``cuda``, the processor's
        for ``cpu``, and what the runtime calls it for any other."""
        if device == "cpu":
            return self.chip
        return (self.gpu if device.startswith("cuda") else None) or device


def machine_of(bundle: Bundle) -> Machine:
    """The machine of one bundle; its name may not be unique.

    Raises:
        UserError: the bundle is damaged.
    """
    host, system = bundle.begin.host, bundle.begin.system or System()
    gpus = [gpu.name for gpu in host.gpus or [] if gpu.name]
    return Machine(
        key=host.host_id,
        name=system.system_name or host.hostname or f"machine {host.host_id}",
        chip=host.cpu_model or "an unnamed processor",
        gpu=gpus[0] if gpus else system.accelerator_model_name,
        price=system.price,
    )


def machines_of(bundles: Iterable[Bundle]) -> list[Machine]:
    """The machines of several bundles, each as its newest bundle describes it, in the order of
    their first bundles. The key is added to names that several have."""
    found: dict[str, list[Bundle]] = defaultdict(list)
    for bundle in bundles:
        found[bundle.begin.host.host_id].append(bundle)
    machines = [machine_of(max(runs, key=_age)) for runs in found.values()]
    while True:
        counts = Counter(machine.name for machine in machines)
        if max(counts.values(), default=1) == 1:
            return machines
        machines = [m if counts[m.name] == 1 else replace(m, name=f"{m.name} ({m.key})")
                    for m in machines]  # fmt: skip


def _age(bundle: Bundle) -> tuple[bool, str, str]:
    """Sort key: the bundle with the greatest represents its machine."""
    return bundle.complete, bundle.begin.started, bundle.run_id


# --------------------------------------------------------------------------- side by side


@dataclass(frozen=True)
class Cell:
    """The case of a machine in a line.

    Attributes:
        row: of the case table of the run that represents the machine.
        reason: why it is not compared with the first machine's; None: it is, or it is the first.
        p50: of a call, over the first machine's: below 1 is faster.
        throughput: over the first machine's: above 1 is faster.
        energy: over the first machine's; None for the reason in ``energy_reason``.
    """

    row: CaseRow
    reason: str | None = None
    p50: Ratio | None = None
    throughput: Ratio | None = None
    energy: Ratio | None = None
    energy_reason: str | None = None

    @property
    def ok(self) -> bool:
        return self.row.status == "ok"


@dataclass(frozen=True)
class Line:
    """The same case on several machines.

    Attributes:
        cells: one for each machine, in their order; None if it has no such case.
    """

    cells: tuple[Cell | None, ...]

    @property
    def decided_by(self) -> str:
        """The column by which machines are ranked."""
        scenario = next(cell.row.scenario for cell in self.cells if cell)
        return "throughput_ips" if scenario in BY_RATE else "latency_p50_ms"

    @property
    def fastest(self) -> int | None:
        """The machine that is better than every other comparable one: their 95 % intervals are
        ``DRIFT`` apart; None where that is not known."""
        more = self.decided_by == "throughput_ips"
        names = ("throughput_ips_{}" if more else "latency_p50_{}_ms").format
        ends: dict[int, tuple[float, float]] = {}
        for index, cell in enumerate(self.cells):
            if cell is None or not cell.ok or cell.reason is not None:
                continue
            low, high = (getattr(cell.row, names(end)) for end in ("low", "high"))
            if low is None or high is None:
                return None
            ends[index] = (1 / high, 1 / low) if more else (low, high)  # the less, the better
        if len(ends) < 2:
            return None
        best, *others = sorted(ends, key=lambda index: ends[index])
        slowest = DRIFT * ends[best][1]
        return best if all(slowest < ends[other][0] for other in others) else None


@dataclass(frozen=True)
class Standing:
    """Number of a run's cases that represent their machine; the others are represented by a newer
    or a complete run."""

    machine: Machine
    run_id: str
    complete: bool
    stand: int
    cases: int


@dataclass(frozen=True)
class SideBySide:
    """Machines compared.

    Attributes:
        machines: ratios are over the first one's figures.
        lines: one for each case that was measured on some machine.
        runs: of each machine, the newest first.
    """

    machines: tuple[Machine, ...]
    lines: tuple[Line, ...]
    runs: tuple[Standing, ...]

    def rows_of(self, machine: Machine) -> list[CaseRow]:
        """The rows that represent a machine, of the cases that were measured on some machine."""
        place = self.machines.index(machine)
        return [cell.row for line in self.lines if (cell := line.cells[place]) is not None]


def side_by_side(bundles: Sequence[Bundle], tables: Sequence[Sequence[CaseRow]]) -> SideBySide:
    """Compare several runs by machine. Of several runs of one machine, the newest complete run in
    which a case was measured represents it.

    Args:
        bundles: at least one.
        tables: the rows of their case tables; may be of a subclass with further fields.

    Raises:
        UserError: a bundle is damaged.
    """
    by_id = {b.run_id: (b, rows) for b, rows in zip(bundles, tables, strict=True)}
    machines = machines_of(bundles)
    runs = sorted(by_id.values(), key=lambda run: _age(run[0]), reverse=True)
    standing: list[list[CaseRow]] = []
    told: list[Standing] = []
    for machine in machines:
        own = [(b, rows) for b, rows in runs if b.begin.host.host_id == machine.key]
        chosen = _newest_good(rows for _, rows in own)
        standing.append(chosen)
        counts = Counter(row.run_id for row in chosen)
        told += [
            Standing(machine, b.run_id, b.complete, counts[b.run_id], len(rows)) for b, rows in own
        ]
    lines = [line for line in _lined_up(standing) if any(r and r.status == "ok" for r in line)]
    compared = _Compared({run_id: b for run_id, (b, _) in by_id.items()}, lines)
    return SideBySide(tuple(machines), tuple(map(compared.line, lines)), tuple(told))


def _newest_good(tables: Iterable[Sequence[CaseRow]]) -> list[CaseRow]:
    """The first row of each case that is ok, else its first row; ``tables``: the newest first."""
    found: dict[str, CaseRow] = {}
    for rows in tables:
        for row in rows:
            held = found.setdefault(row.case_id, row)
            if held.status != "ok" and row.status == "ok":
                found[row.case_id] = row
    return list(found.values())


def _lined_up(standing: Sequence[Sequence[CaseRow]]) -> list[list[CaseRow | None]]:
    """``[lines, machines]``: a line has the cases with the same request, except for columns that
    the machine decides, such as the number of threads."""
    lines: list[list[CaseRow | None]] = []
    for place, rows in enumerate(standing):
        heads = [next(filter(None, line)) for line in lines]
        first = {id(head): line for head, line in zip(heads, lines, strict=True)}
        matches = match_runs(heads, rows)
        for head, row in matches.pairs:
            first[id(head)][place] = row
        for row in matches.only_b:
            line: list[CaseRow | None] = [None] * len(standing)
            line[place] = row
            lines.append(line)
    return lines


class _Compared:
    """Compares the rows of lines; all cases of each two runs at once."""

    def __init__(
        self, bundles: Mapping[str, Bundle], lines: Sequence[Sequence[CaseRow | None]]
    ) -> None:
        self._bundles = bundles
        self._against: dict[tuple[str, str], list[str]] = {}
        pairs: dict[tuple[str, str], list[tuple[CaseRow, CaseRow]]] = defaultdict(list)
        for base, *others in lines:
            for row in others:
                if base is not None and row is not None and self._reason(base, row) is None:
                    pairs[base.run_id, row.run_id].append((base, row))
        trials = {run: Trials(bundles[run].trials_frame()) for run in {r for p in pairs for r in p}}
        self._ratios: dict[tuple[str, int], Ratio | None] = {}
        for (a, b), rows in pairs.items():
            cases = [(base.case_id, row.case_id) for base, row in rows]
            for figure in ("p50", "throughput"):
                ratios = welch_ratios(trials[a], trials[b], cases, figure)
                for (_, row), ratio in zip(rows, ratios, strict=True):
                    self._ratios[figure, id(row)] = ratio

    def line(self, rows: Sequence[CaseRow | None]) -> Line:
        base, *others = rows
        first = None if base is None else Cell(base)
        return Line((first, *(None if row is None else self._cell(base, row) for row in others)))

    def _cell(self, base: CaseRow | None, row: CaseRow) -> Cell:
        reason = self._reason(base, row)
        if reason is not None or base is None:
            return Cell(row, reason)
        energy, why = energy_of(base, row)
        return Cell(
            row,
            None,
            self._ratios[("p50", id(row))],
            self._ratios[("throughput", id(row))],
            energy,
            why,
        )

    def _reason(self, base: CaseRow | None, row: CaseRow) -> str | None:
        """Why a row is not compared with the first machine's; None if it is."""
        if base is None:
            return "the first machine has no such case"
        for one, whose in ((base, "the first machine: "), (row, "")):
            if one.status != "ok":
                return f"{whose}{one.status or 'open'}: {one.reason}"
        runs = base.run_id, row.run_id
        if runs not in self._against:
            a, b = (self._bundles[run] for run in runs)
            self._against[runs] = compare_bundles(a, b).reasons_against("choice")
        if against := self._against[runs]:
            return f"not measured in the same way: {'; '.join(against)}"
        if fields := same_work(base, row):
            return f"not the same work: {', '.join(fields)}"
        return None
