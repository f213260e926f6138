"""Bundles in formats that other programs read: their case table, and pytest-benchmark's files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from qbench.analysis.table.table import case_table
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, nearest
from qbench.present.exports.latex import latex_table
from qbench.present.exports.pytest_benchmark import pytest_benchmark_json
from qbench.spec.columns import NAMES
from qbench.text import markdown


def export_bundles(bundles: Sequence[Bundle], form: str, columns: Sequence[str] = ()) -> bytes:
    """The bundles as one file's content, in one of ``FORMATS``: their cases in one table, where
    ``run_id`` and ``host_id`` tell them apart.

    Args:
        columns: the table's, in this order; if none, the format's own choice.

    Raises:
        UserError: there is no such format or column, or the format does not hold what is asked.
    """
    if form == PYTEST_BENCHMARK:
        if len(bundles) > 1 or columns:
            raise UserError(
                "a file of pytest-benchmark is of one run, and has columns of its own",
                "Export each run by itself, and without --columns.",
            )
        return pytest_benchmark_json(bundles[0])
    if form not in FORMATS:
        raise UserError(f"there is no format '{form}'", nearest(form, FORMATS))
    cases = pd.concat([case_table(bundle) for bundle in bundles], ignore_index=True)
    if form == LATEX:
        return latex_table(cases, _checked(columns), bundles).encode()
    return export_table(cases, form, columns)


def export_table(cases: pd.DataFrame, form: str, columns: Sequence[str] = ()) -> bytes:
    """The table as a file's content, in one of ``OF_TABLES``. Empty (JSON: null) means not
    measured.

    Args:
        columns: only these, in this order; if none, all (of Markdown: all that hold something).

    Raises:
        UserError: the case table has no such column.
    """
    chosen = _checked(columns)
    if not chosen and form == "markdown":
        chosen = list(cases.dropna(axis="columns", how="all"))
    return OF_TABLES[form](_typed(cases[chosen] if chosen else cases))


def _checked(columns: Sequence[str]) -> list[str]:
    for name in columns:
        if name not in NAMES:
            raise UserError(f"the case table has no column '{name}'", nearest(name, NAMES))
    return list(dict.fromkeys(columns))


def _typed(cases: pd.DataFrame) -> pd.DataFrame:
    """Columns with the types of their values; counts stay integers where some are missing."""
    typed = _with_words(cases, _encodable).infer_objects()
    for name in cases.columns:
        if set(map(type, cases[name].dropna())) == {int}:
            typed[name] = cases[name].astype("Int64")
    return typed


def _with_words(cases: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with every cell of words changed, and all others as they are."""
    changed = {
        name: [change(value) if isinstance(value, str) else value for value in column]
        for name, column in cases.items()
        if any(isinstance(value, str) for value in column)
    }
    return cases.assign(
        **{
            str(name): pd.Series(values, cases.index, cases[name].dtype)  # as read, so as written
            for name, values in changed.items()
        }
    )


def _encodable(words: str) -> str:
    """Half of a surrogate pair, which JSON can hold, is no character."""
    return words.encode("utf-8", "replace").decode()


def _csv(cases: pd.DataFrame) -> bytes:
    return _with_words(cases, _harmless).to_csv(index=False).encode()


_FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\n]")


def _harmless(words: str) -> str:
    """What a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV
    Injection); so does what has such apostrophes already, so that taking one away brings back what
    was there. Line ends become those that the writer knows to quote."""
    words = re.sub(r"\r\n?", "\n", words)
    return f"'{words}" if _FORMULA.match(words) else words


def _json(cases: pd.DataFrame) -> bytes:
    return cases.to_json(orient="records", indent=1, double_precision=15).encode() + b"\n"


def _markdown(cases: pd.DataFrame) -> bytes:
    """To six significant digits."""
    sides = ["right" if kind.kind in "iuf" else "left" for kind in cases.dtypes]
    # numparse would read an id such as 12345e678901 as a number
    text = cases.map(_cell).to_markdown(index=False, disable_numparse=True, colalign=sides)
    return text.encode() + b"\n"


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return f"{value:.6g}" if isinstance(value, float) else markdown(str(value))


def _parquet(cases: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    cases.to_parquet(buffer, index=False)
    return buffer.getvalue()


OF_TABLES: Mapping[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _csv,
    "json": _json,
    "markdown": _markdown,
    "parquet": _parquet,
}
LATEX, PYTEST_BENCHMARK = "latex", "pytest-benchmark"
FORMATS = (*OF_TABLES, LATEX, PYTEST_BENCHMARK)
