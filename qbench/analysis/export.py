"""The case table in formats that other programs read."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping

import pandas as pd

from qbench.console import printable


def export_table(cases: pd.DataFrame, form: str) -> bytes:
    """The table as a file's content. Empty (JSON: null) means not measured."""
    return FORMATS[form](_typed(cases))


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


FORMATS: Mapping[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _csv,
    "json": _json,
    "markdown": _markdown,
    "parquet": _parquet,
}
