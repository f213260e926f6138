"""The command recommend, and the question that `qbench report` shares with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Limits,
    ModelFilter,
    Results,
    Runs,
    console,
    print_json,
)
from qbench.cli.cost import Costs, RequiredRate, read_costs

if TYPE_CHECKING:
    from qbench.spec.question import Question

Minimize = Annotated[
    str | None,
    typer.Option(metavar="FIGURE", help="latency (the default), energy, cost, size or memory."),
]


def read_question(
    limits: list[str] | None,
    minimize: str | None,
    models: list[str] | None = None,
    scenario: str | None = None,
    batch: int | None = None,
    rate: float | None = None,
) -> Question:
    """The question that the options of a command ask.

    Raises:
        UserError: a limit or the objective cannot be parsed.
    """
    from qbench.spec.question import Question, read_limits, read_objective

    objective = read_objective(minimize or "latency")
    return Question(
        read_limits(limits or []), objective, tuple(models or ()), scenario, batch, rate
    )


def recommend(
    run: Runs,
    limits: Limits = None,
    minimize: Minimize = None,
    models: ModelFilter = None,
    scenario: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only cases of this scenario.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only cases of this batch size.")
    ] = None,
    costs: Costs = None,
    rate: RequiredRate = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Rank the configurations that meet your limits.

    A configuration is a backend, a precision and a machine. Lists those that surely meet
    every limit, those that might (and what to measure to find out), and why the others are ruled
    out. Exit codes: 0 every model has a configuration that surely meets the limits, 1 one has none.

    \b
    Examples:
      qbench recommend latest --limit 'p99<=10ms' --limit 'memory<=200MB'
      qbench recommend RUN_ON_A RUN_ON_B --limit 'p99<=10ms' --minimize energy
      qbench recommend RUN_ON_A RUN_ON_B --limit 'p99<=10ms' \\
        --minimize cost --costs costs.yaml
    """
    from qbench.analysis.recommend.recommend import recommend as recommended
    from qbench.bundle.find import find_bundles
    from qbench.present.terminal.recommend import recommendation_parts
    from qbench.present.words.recommend import to_json

    question = read_question(limits, minimize, models, scenario, batch, rate)
    sheet = read_costs(costs, rate)
    found = recommended(find_bundles(run, results), question, sheet)
    if as_json:
        print_json(to_json(found))
    else:
        out = console()
        for part in recommendation_parts(found):
            out.print(part)
    return 0 if found.is_sure else FAILED
