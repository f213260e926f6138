"""Every figure of each case, and what each of them means and how it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qbench.present.words import cells
from qbench.present.words.run import Run
from qbench.spec.columns import COLUMNS

Case = Mapping[str, Any]
ENDS = {end for both in cells.INTERVALS.values() for end in both}
"""Columns that are told with the one whose interval they bound."""


def case_details(runs: Sequence[Run], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """By run, its ``letter`` and ``run_id``; in ``common`` what is the same in all of its cases;
    and in ``cases``, of each the ``anchor``, what it is called, and the rest that is known of it.

    What is known stands in rows of a column's name, its value and its interval.
    """
    found = []
    for run in runs:
        own = [case for case in cases if case["run"] == run.letter]
        common = {
            name for name in COLUMNS if len(own) > 1 and len({case[name] for case in own}) == 1
        }
        evaluations = {e["case_id"]: e["evaluation_id"] for e in run.bundle.plan["cases"]}
        found.append(
            {
                "letter": run.letter,
                "run_id": run.bundle.run_id,
                "common": list(_rows(own[0], common)) if own else [],
                "cases": [
                    {
                        **{name: case[name] for name in ("anchor", "model", "label", "status")},
                        "case_id": case["case_id"],
                        "evaluation_id": evaluations[case["case_id"]],
                        "rows": list(_rows(case, set(COLUMNS) - common)),
                    }
                    for case in own
                ],
            }
        )
    return found


def _rows(case: Case, names: set[str]) -> Iterator[tuple[str, str, str]]:
    for name in COLUMNS:
        if name in names and name not in ENDS and case[name] is not None:
            value = f"{cells.text(case, name)} {cells.unit(name)}".rstrip()
            yield name, value, cells.ends(case, name)


def glossary(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """By group, its ``columns`` of which any case has a value: ``name``, ``unit``, ``doc`` and
    ``formula``."""
    groups: dict[str, list[dict[str, str]]] = {}
    for column in COLUMNS.values():
        if column.name in ENDS or all(case[column.name] is None for case in cases):
            continue
        entry = {"name": column.name, "unit": cells.unit(column.name)}
        entry |= {"doc": column.doc, "formula": column.formula}
        groups.setdefault(column.group, []).append(entry)
    return [{"name": group, "columns": columns} for group, columns in groups.items()]
