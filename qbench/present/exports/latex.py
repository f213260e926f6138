"""The case table as a LaTeX table for a paper: booktabs, plain columns, everything escaped.

The text is ASCII and needs only the package booktabs, so that every engine sets it alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd

from qbench.analysis.compare.origin import DOUBTED, doubts, origin
from qbench.bundle.bundle import Bundle
from qbench.present.words import cells
from qbench.present.words.named import varying_conditions
from qbench.spec.columns import COLUMNS, INTERVALS, CaseRow
from qbench.text import count, printable

LONGEST, LONGEST_NOTE = 60, 400
"""Maximum characters of a cell and of a note; longer ones are shortened with dots."""
CONDITIONS = (
    "environment", "recipe", "variant", "device", "scenario", "scenario_options", "batch_size",
    "threads", "streams", "run_id", "host_id",
)  # fmt: skip
"""Columns that are shown only if they differ between cases."""
PAPER: Mapping[str, str] = {
    "model": "Model",
    "backend": "Backend",
    "precision": "Precision",
    "latency_p50_ms": "p50",
    "speedup": "Speed-up",
    "accuracy": "Accuracy",
    "accuracy_delta": r"$\Delta$ accuracy",
    "artifact_size_mb": "Size",
}
"""Default columns, with their titles in LaTeX."""


def latex_table(cases: Sequence[CaseRow], columns: Sequence[str], bundles: Sequence[Bundle]) -> str:
    """A floating table of the successful cases with notes below it. Figures have their intervals,
    which also determine their digits.

    Args:
        cases: of all ``bundles``.
        columns: of the case table; empty: those of ``PAPER`` and the conditions that differ.
    """
    good = [case for case in cases if case.status == "ok"]
    names = list(columns) or _for_paper(good)
    bare = set() if columns else set(PAPER) - {"latency_p50_ms"}  # no room for all intervals
    body = [[_cell(row, name, name not in bare) for name in names] for row in good]
    numbers = [any(_is_number(getattr(row, name)) for row in good) for name in names]
    table = pd.DataFrame(body, columns=[_title(name) for name in names]).style.hide(axis="index")
    lines = [
        "% Made by `qbench export`. In the preamble: \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        table.to_latex(column_format="".join("lr"[n] for n in numbers), hrules=True),
        r"\smallskip",
        r"\raggedright",
        *(rf"{note}\par" for note in _notes(good, len(cases) - len(good), names, bundles, columns)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _title(name: str) -> str:
    unit = cells.unit(name)
    title = PAPER.get(name, rf"\texttt{{{escaped(name)}}}")
    return f"{title} ({escaped(unit)})" if unit else title


def _for_paper(cases: Sequence[CaseRow]) -> list[str]:
    """The columns of ``PAPER`` that are not empty, and the conditions that differ."""
    filled = [name for name in PAPER if any(getattr(case, name) is not None for case in cases)]
    conditions = varying_conditions(CONDITIONS, cases)
    return [*filled[:3], *conditions, *filled[3:]] if cases else list(PAPER)


def _cell(case: CaseRow, name: str, with_interval: bool) -> str:
    value = getattr(case, name)
    if not _is_number(value):
        return "--" if value is None else _short(str(value), LONGEST)
    text, ends = escaped(cells.text(case, name)), cells.ends(case, name)
    if ends and with_interval:
        text += rf" {{\scriptsize {escaped(f'[{ends}]')}}}"
    signs = DOUBTED if name in _SPEEDS and (case.noisy or case.inconclusive) else ""
    signs += r"\approx" if not with_interval and _may_be_none(case, name) else ""
    return f"{text}$^{{{signs}}}$" if signs else text


_NONE = {"speedup": 1.0, "accuracy_delta": 0.0}
"""Values of columns that mean no change."""


def _may_be_none(case: CaseRow, name: str) -> bool:
    """Whether a change may be none: its interval includes no change, or is not known."""
    if name not in _NONE:
        return False
    low, high = (getattr(case, end) for end in INTERVALS[name])
    return low is None or high is None or low <= _NONE[name] <= high


_SPEEDS = {name for name, column in COLUMNS.items() if column.group == "speed"}


def _notes(
    cases: Sequence[CaseRow],
    left_out: int,
    names: Sequence[str],
    bundles: Sequence[Bundle],
    columns: Sequence[str],
) -> list[str]:
    """Notes on the figures, for readers who see only the table."""
    notes = [
        origin(bundle, [case for case in cases if case.run_id == bundle.run_id])
        for bundle in bundles
    ]
    if any(cells.ends(case, name) for case in cases for name in names):
        notes.append("In brackets: 95 % intervals, over rounds or items; they round the figures.")
    if any(name.startswith("accuracy") for name in names):
        sets = dict.fromkeys(case.accuracy_data for case in cases if case.accuracy_data)
        notes += [f"Accuracy: {'; '.join(sets)}."] if sets else []
    if any(name in _SPEEDS for name in names):
        notes.append(doubts(cases))
    if not columns and any(
        _may_be_none(case, name)
        for case in cases
        for name in names
        if getattr(case, name) is not None
    ):
        notes.append("≈: the interval includes no change, or is not known.")
    if left_out:
        notes.append(f"Left out: {count(left_out, 'case')} without figures.")
    return [_short(note, LONGEST_NOTE) for note in notes if note]


def _short(text: str, longest: int) -> str:
    """One escaped line, shortened if it is too long."""
    words = " ".join(printable(text).split())
    return escaped(words) if len(words) <= longest else escaped(words[: longest - 1]) + r"\dots{}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --------------------------------------------------------------------------- characters


_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # after a row's end they would be its options
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\symbol{96}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "°": r"$^\circ$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "\u00a0": "~",
}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip


def escaped(text: str) -> str:
    """``text`` escaped for LaTeX. Characters that not every engine can set are replaced by their
    code points: ``[U+4F60]``."""
    return "{}".join("".join(map(_character, part)) for part in _BETWEEN.split(text))


_BETWEEN = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)")
"""Positions at which two signs would be joined: to a dash, a quotation mark."""


def _character(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    if sign.isascii():
        return sign if sign.isprintable() else " "
    base, *marks = unicodedata.normalize("NFD", sign)
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        letter = {"i": r"\i", "j": r"\j"}.get(base, base)
        return f"{{\\{_ACCENTS[marks[0]]}{{{letter}}}}}"
    return f"{{[}}U+{ord(sign):04X}{{]}}"
