"""All figures of each case, and the glossary of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qbench.present.words import cells
from qbench.present.words.named import PageCase
from qbench.present.words.run import Run
from qbench.spec.columns import COLUMNS


def case_details(runs: Sequence[Run], cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """For each run: ``letter``, ``run_id``, ``common`` (figures that are the same in all cases) and
    ``cases`` (names and the other figures of each).

    Figures are rows of column name, value and interval.
    """
    found = []
    for run in runs:
        own = [case for case in cases if case.run == run.letter]
        common = {
            name
            for name in COLUMNS
            if len(own) > 1 and len({getattr(case, name) for case in own}) == 1
        }
        evaluations = {e.case_id: e.evaluation_id for e in run.bundle.plan.cases}
        found.append(
            {
                "letter": run.letter,
                "run_id": run.bundle.run_id,
                "common": list(_rows(own[0], common)) if own else [],
                "cases": [
                    {
                        **{
                            name: getattr(case, name)
                            for name in ("anchor", "model", "label", "status")
                        },
                        "case_id": case.case_id,
                        "evaluation_id": evaluations[case.case_id],
                        "rows": list(_rows(case, set(COLUMNS) - common)),
                    }
                    for case in own
                ],
            }
        )
    return found


def _rows(case: PageCase, names: set[str]) -> Iterator[tuple[str, str, str]]:
    for name in COLUMNS:
        if name in names and name not in cells.ENDS and getattr(case, name) is not None:
            value = f"{cells.text(case, name)} {cells.unit(name)}".rstrip()
            yield name, value, cells.ends(case, name)


def glossary(cases: Sequence[PageCase]) -> list[dict[str, Any]]:
    """By group, the ``columns`` that are not empty: ``name``, ``unit``, ``doc`` and ``formula``."""
    groups: dict[str, list[dict[str, str]]] = {}
    for column in COLUMNS.values():
        if column.name in cells.ENDS or all(getattr(c, column.name) is None for c in cases):
            continue
        entry = {name: getattr(column, name) for name in ("name", "unit", "doc", "formula")}
        groups.setdefault(column.group, []).append(entry)
    return [{"name": group, "columns": columns} for group, columns in groups.items()]
