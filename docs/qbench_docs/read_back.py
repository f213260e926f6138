"""Precisions that really ran in the reference runs, as read back from the runtimes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from qbench_docs.cells import code, table, text

REFERENCE = Path(__file__).parent.parent.parent / "results" / "reference"


def read_back_table(_: str = "") -> str:
    """Table of quantizer, effective precision and share of multiply-accumulates in int8, by backend
    and precision, over all cases of the committed bundles."""
    from qbench.analysis.table.table import case_table
    from qbench.bundle.bundle import Bundle
    from qbench.kit.precisions import PRECISIONS

    found = [case_table(Bundle(path.parent)) for path in sorted(REFERENCE.glob("**/manifest.json"))]
    if not found:
        return ""
    cases = pd.concat(found)
    cases = cases[(cases["status"] == "ok") & cases["variant"].isna()]
    order = {name: place for place, name in enumerate(PRECISIONS)}
    rows = [
        (
            code(str(precision)),
            text(str(backend)),
            _listed(part["quantizer"]),
            _listed(part["effective_precision"]),
            _span(part["int8_mac_share"].dropna().astype(float)),
            str(part["model"].nunique()),
        )
        for (precision, backend), part in cases.groupby(["precision", "backend"])
    ]
    rows.sort(key=lambda row: order[row[0].removeprefix("<code>").removesuffix("</code>")])
    return table(
        ("precision", "backend", "quantized by", "ran at", "share in int8", "models"), rows
    )


def _listed(values: pd.Series) -> str:
    """Distinct values, most frequent first, with counts if there are several."""
    counts = values.dropna().value_counts()
    return ", ".join(
        text(str(value)) + (f" ({count})" if len(counts) > 1 else "")
        for value, count in counts.items()
    )


def _span(shares: pd.Series) -> str:
    if shares.empty:
        return ""
    low, high = (f"{100 * share:.0f}&nbsp;%" for share in (shares.min(), shares.max()))
    return low if low == high else f"{low} to {high}"
