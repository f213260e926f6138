"""The case table in formats that other programs read."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import pandas as pd


def export_table(cases: pd.DataFrame, form: str) -> bytes:
    """The table as a file's content. Empty (JSON: null) means not measured."""
    return FORMATS[form](cases.infer_objects())


def _csv(cases: pd.DataFrame) -> bytes:
    return cases.to_csv(index=False).encode()


def _json(cases: pd.DataFrame) -> bytes:
    return cases.to_json(orient="records", indent=1, double_precision=15).encode() + b"\n"


def _markdown(cases: pd.DataFrame) -> bytes:
    """Only columns that hold something, to six significant digits."""
    filled = cases.dropna(axis="columns", how="all")
    return filled.to_markdown(index=False, floatfmt=".6g", missingval="").encode() + b"\n"


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
