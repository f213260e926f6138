"""Data of pictures: the case tables of bundles, named as in a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qbench.analysis.compare.origin import DOUBTED, doubts, origin
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, nearest
from qbench.present.page.charts import chart_data
from qbench.present.pictures.look import words
from qbench.present.words.named import named_cases, picture_case
from qbench.present.words.run import Run, lettered

Case = Mapping[str, Any]
MOST_GROUPS = 24
"""Models, each counted once for a run, that a picture has panels for."""


@dataclass(frozen=True)
class Shown:
    """
    Attributes:
        cases: successful cases of the chosen models: rows of ``named_cases``, each with its
            ``trials`` and its scenario's data (``chart_data``).
        alike: cases under one condition, which can be drawn side by side.
        condition: that condition; "" if all cases have the same.
        left_out: number of successful cases under other conditions.
        too_many: number of models of runs beyond ``MOST_GROUPS``.
        data: the rest of ``chart_data``: ``sweeps`` and ``roofs``, and the names that colours and
            shapes go by.
    """

    runs: Sequence[Run]
    cases: list[dict[str, Any]]
    alike: list[dict[str, Any]]
    condition: str
    left_out: int
    too_many: int
    data: dict[str, Any]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(str(case["model"]) for case in self.cases))

    def by_model(self, cases: Sequence[Case]) -> list[Case]:
        """Sort cases by model, in the order of the runs."""
        return sorted(cases, key=lambda case: self.models.index(case["model"]))  # stable

    def titled(self, case: Case, *names: str) -> str:
        """Return the title of a panel, with the run if there are several."""
        run = [f"{case['run']}:"] if len(self.runs) > 1 else []
        return " ".join([*run, *(str(case[name]) for name in names)])

    def notes(
        self, cases: Sequence[Case], *more: str, condition: bool = True, sign: str = DOUBTED
    ) -> list[str]:
        """Return the notes below a picture: runs, conditions and marks of ``cases``.

        Args:
            condition: whether the picture shows cases of one condition only.
            sign: the mark of doubtful cases; "" if there is none.
        """
        found, rows = [], []
        shown = {(case["run"], case["case_id"]) for case in cases}
        for run in self.runs:
            own = [row for row in run.cases if (run.letter, row.case_id) in shown]
            rows += own
            letter = f"{run.letter}: " if len(self.runs) > 1 else ""
            found += [words(letter + origin(run.bundle, own), 300)] if own else []
        if condition and self.left_out:
            named = words(self.condition, 120) or "no further condition"
            found.append(f"Shown: {named}. {self.left_out} cases of other conditions are left out.")
        if self.too_many:
            found.append(f"{self.too_many} more models, or runs of them, are left out: choose one.")
        return [*found, *filter(None, [*more, doubts(rows, sign) if sign else ""])]


def shown(bundles: Sequence[Bundle], model: str | None, condition: str | None) -> Shown:
    """
    Args:
        model: only cases of this model; None: of all models.
        condition: of charts that show cases side by side; None: the condition of most cases.

    Raises:
        UserError: there is no such model or condition, or no successful case.
    """
    runs = lettered(bundles)
    rows = named_cases(runs)
    data = chart_data(runs, rows)
    good = [row for row in rows if row.status == "ok"]
    if not good:
        raise UserError(
            "no case of these bundles went well, so there is nothing to draw",
            "`qbench show` says why.",
        )
    cases = [picture_case(row, charted) for charted, row in zip(data["cases"], good, strict=True)]
    if model is not None:
        cases = [case for case in cases if case["model"] == model]
        if not cases:
            names = sorted({row.model for row in good})
            raise UserError(f"no case of the model '{model}' went well", nearest(model, names))
    groups = list(dict.fromkeys((case["model"], case["run"]) for case in cases))
    kept = set(groups[:MOST_GROUPS])
    cases = [case for case in cases if (case["model"], case["run"]) in kept]
    counts = Counter(str(case["condition"]) for case in cases)
    if condition is None:
        condition = counts.most_common(1)[0][0]
    elif condition not in counts:
        raise UserError(f"no case ran under '{condition}'", nearest(condition, counts))
    alike = [case for case in cases if case["condition"] == condition]
    return Shown(
        runs, cases, alike, condition, len(cases) - len(alike), len(groups) - len(kept), data
    )
