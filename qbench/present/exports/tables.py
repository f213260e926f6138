"""Bundles in formats of other programs: case tables, pytest-benchmark's files, MLPerf's systems."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd

from qbench.analysis.systems import system_files
from qbench.analysis.table.table import case_rows, case_table
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, check_known
from qbench.present.exports.latex import latex_table
from qbench.present.exports.pytest_benchmark import pytest_benchmark_json
from qbench.spec.columns import NAMES
from qbench.text import markdown


class ExportedFile(NamedTuple):
    """A file made of bundles: its name, its content, and remarks to print next to it."""

    name: str
    content: bytes
    remarks: tuple[str, ...] = ()


Exporter = Callable[[Sequence[Bundle], Sequence[str]], list[ExportedFile]]
"""Makes files of bundles and the chosen columns; no columns: the format's own choice.

Raises UserError if there is no such column, or if the format cannot hold these bundles.
"""


def export_bundles(
    bundles: Sequence[Bundle], form: str, columns: Sequence[str] = ()
) -> list[ExportedFile]:
    """Export bundles in one of ``EXPORTERS``. Tables hold the cases of all bundles, distinguished
    by ``run_id`` and ``host_id``.

    Raises:
        UserError: there is no such format; or as ``Exporter``.
    """
    check_known(form, EXPORTERS, f"there is no format '{form}'")
    return EXPORTERS[form](bundles, columns)


def _table(form: str, bundles: Sequence[Bundle], columns: Sequence[str]) -> list[ExportedFile]:
    cases = pd.concat([case_table(bundle) for bundle in bundles], ignore_index=True)
    return [ExportedFile(f"cases.{form}", export_table(cases, form, columns))]


def _latex(bundles: Sequence[Bundle], columns: Sequence[str]) -> list[ExportedFile]:
    cases = [case for one in bundles for case in case_rows(one, one.trials_frame())]
    text = latex_table(cases, _checked(columns), bundles)
    return [ExportedFile("cases.tex", text.encode())]


def _pytest_benchmark(bundles: Sequence[Bundle], columns: Sequence[str]) -> list[ExportedFile]:
    if len(bundles) > 1 or columns:
        raise UserError(
            "a file of pytest-benchmark holds one run, and has columns of its own",
            "Export each run separately, without --columns.",
        )
    return [ExportedFile(f"{bundles[0].run_id}.json", pytest_benchmark_json(bundles[0]))]


def _systems(bundles: Sequence[Bundle], columns: Sequence[str]) -> list[ExportedFile]:
    if columns:
        raise UserError("a system description has no columns", "Leave --columns out.")
    files = []
    for file in system_files(bundles):
        remarks = []
        if file.needed:
            remarks.append(
                f"MLPerf requires: {', '.join(file.needed)}. Write them into a file for `qbench "
                "run --system FILE`: docs/machines.md"
            )
        if file.wanted:
            remarks.append(f"may stay empty: {', '.join(file.wanted)}")
        files.append(ExportedFile(file.name, file.content, tuple(remarks)))
    return files


def export_table(cases: pd.DataFrame, form: str, columns: Sequence[str] = ()) -> bytes:
    """A table as the content of a file, in one of ``OF_TABLES``. Empty (JSON: null) means not
    measured.

    Args:
        columns: only these, in this order; if none, all (Markdown: all that are not empty).

    Raises:
        UserError: the case table has no such column.
    """
    chosen = _checked(columns)
    if not chosen and form == "markdown":
        chosen = list(cases.dropna(axis="columns", how="all"))
    return OF_TABLES[form](_typed(cases[chosen] if chosen else cases))


def _checked(columns: Sequence[str]) -> list[str]:
    for name in columns:
        check_known(name, NAMES, f"the case table has no column '{name}'")
    return list(dict.fromkeys(columns))


def _typed(cases: pd.DataFrame) -> pd.DataFrame:
    """Columns with the types of their values; counts stay integers even if some are missing."""
    typed = _with_words(cases, _encodable).infer_objects()
    for name in cases.columns:
        if set(map(type, cases[name].dropna())) == {int}:
            typed[name] = cases[name].astype("Int64")
    return typed


def _with_words(cases: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """A copy of the table with ``change`` applied to every string."""
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
    """Without lone surrogates, which JSON can hold but UTF-8 cannot encode."""
    return words.encode("utf-8", "replace").decode()


def _csv(cases: pd.DataFrame) -> bytes:
    return _with_words(cases, _harmless).to_csv(index=False).encode()


_FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\n]")


def _harmless(words: str) -> str:
    """Prefix text that a spreadsheet would read as a formula with an apostrophe (OWASP, CSV
    Injection). Text that starts with such apostrophes gets one more, so that removing one restores
    the original. Line ends become line feeds, which the writer quotes."""
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
EXPORTERS: Mapping[str, Exporter] = {
    **{form: partial(_table, form) for form in OF_TABLES},
    "latex": _latex,
    "pytest-benchmark": _pytest_benchmark,
    "system": _systems,
}
