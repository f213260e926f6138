"""A bundle in formats that other programs read: its case table, and pytest-benchmark's files."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping

import pandas as pd

from qbench.analysis.table import case_table
from qbench.bundle import Bundle
from qbench.console import printable
from qbench.interchange.pytest_benchmark import pytest_benchmark_json


def export_bundle(bundle: Bundle, form: str) -> bytes:
    """The bundle as a file's content, in one of ``FORMATS``."""
    if form in OF_BUNDLES:
        return OF_BUNDLES[form](bundle)
    return export_table(case_table(bundle), form)


def export_table(cases: pd.DataFrame, form: str) -> bytes:
    """The table as a file's content, in one of ``OF_TABLES``. Empty (JSON: null) means not
    measured."""
    return OF_TABLES[form](_typed(cases))


def _typed(cases: pd.DataFrame) -> pd.DataFrame:
    """Columns with the types of their values; counts stay integers where some are missing."""
    typed = cases.infer_objects()
    for name in cases.columns:
        if set(map(type, cases[name].dropna())) == {int}:
            typed[name] = cases[name].astype("Int64")
    return typed


def _csv(cases: pd.DataFrame) -> bytes:
    return cases.to_csv(index=False).encode()


def _json(cases: pd.DataFrame) -> bytes:
    return cases.to_json(orient="records", indent=1, double_precision=15).encode() + b"\n"


def _markdown(cases: pd.DataFrame) -> bytes:
    """Only columns that hold something, to six significant digits."""
    filled = cases.dropna(axis="columns", how="all")
    sides = ["right" if kind.kind in "iuf" else "left" for kind in filled.dtypes]
    # numparse would read an id such as 12345e678901 as a number
    text = filled.map(_cell).to_markdown(index=False, disable_numparse=True, colalign=sides)
    return text.encode() + b"\n"


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(" ".join(str(value).split()))
    return html.escape(text, quote=False).replace("|", "\\|")


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
OF_BUNDLES: Mapping[str, Callable[[Bundle], bytes]] = {"pytest-benchmark": pytest_benchmark_json}
FORMATS = (*OF_TABLES, *OF_BUNDLES)
