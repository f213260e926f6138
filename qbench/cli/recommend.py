"""The command recommend, and the options of a question, which `qbench report` takes too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Results,
    Runs,
    console,
    print_json,
)
from qbench.cli.cost import Costs, RequiredRate, read_costs

if TYPE_CHECKING:
    from qbench.spec.question import Question

MaxP50 = Annotated[str | None, typer.Option(help="Median latency, such as 2ms.")]
MaxP99 = Annotated[str | None, typer.Option(help="99th percentile of latency, such as 10ms.")]
MaxDrop = Annotated[
    str | None,
    typer.Option("--max-accuracy-drop", help="Points lost against float32, such as 1pp."),
]
MinAccuracy = Annotated[str | None, typer.Option(help="Such as 76%.")]
MaxMemory = Annotated[str | None, typer.Option(help="Peak of the process, such as 200MB.")]
MaxDeviceMemory = Annotated[str | None, typer.Option(help="On the GPU, such as 2GB.")]
MaxSize = Annotated[str | None, typer.Option(help="Of the prepared files, such as 20MB.")]
MaxColdStart = Annotated[str | None, typer.Option(help="To the first result, such as 500ms.")]
MaxEnergy = Annotated[str | None, typer.Option(help="For an inference, such as 5mJ.")]
MinThroughput = Annotated[str | None, typer.Option(help="Items per second, such as 100ips.")]
Minimize = Annotated[
    str | None, typer.Option(help="latency (if left out), energy, cost, size or memory.")
]


def asked(
    limits: dict[str, str | None],
    minimize: str | None,
    models: list[str] | None = None,
    scenario: str | None = None,
    batch: int | None = None,
    rate: float | None = None,
) -> Question | None:
    """The question that the options ask; None if they ask none.

    Args:
        limits: by aspect, as given.

    Raises:
        UserError: one cannot be read.
    """
    from qbench.spec.question import Question, read_limit, read_objective

    read = tuple(read_limit(name, text) for name, text in limits.items() if text is not None)
    if not read and minimize is None:
        return None
    objective = read_objective(minimize or "latency")
    return Question(read, objective, tuple(models or ()), scenario, batch, rate)


def recommend(
    run: Runs,
    max_p50: MaxP50 = None,
    max_p99: MaxP99 = None,
    max_accuracy_drop: MaxDrop = None,
    min_accuracy: MinAccuracy = None,
    max_memory: MaxMemory = None,
    max_device_memory: MaxDeviceMemory = None,
    max_size: MaxSize = None,
    max_cold_start: MaxColdStart = None,
    max_energy: MaxEnergy = None,
    min_throughput: MinThroughput = None,
    minimize: Minimize = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Only this model; repeatable.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="Only cases of this scenario.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Only cases of this batch size.")] = None,
    costs: Costs = None,
    rate: RequiredRate = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Which configuration to take: backend, precision and machine, within limits.

    Lists those that surely keep every limit, those that might and what would settle it, and why the
    others don't. Exit codes: 0 each model has one that surely does, 1 one has none.

    \b
    Examples:
      qbench recommend latest --max-p99 10ms --max-accuracy-drop 1pp --max-memory 200MB
      qbench recommend RUN_ON_A RUN_ON_B --max-p99 10ms --minimize energy
      qbench recommend RUN_ON_A RUN_ON_B --max-p99 10ms --minimize cost --costs costs.yaml
    """
    from qbench.analysis.recommend.recommend import recommend as recommended
    from qbench.bundle.find import find_bundles
    from qbench.present.terminal.recommend import recommendation_parts
    from qbench.present.words.recommend import to_json

    limits = {
        "p50": max_p50,
        "p99": max_p99,
        "accuracy_drop": max_accuracy_drop,
        "accuracy": min_accuracy,
        "memory": max_memory,
        "device_memory": max_device_memory,
        "size": max_size,
        "cold_start": max_cold_start,
        "energy": max_energy,
        "throughput": min_throughput,
    }
    question = asked(limits, minimize or "latency", models, scenario, batch, rate)
    assert question is not None
    sheet = read_costs(costs, rate)
    found = recommended(find_bundles(run, results), question, sheet)
    if as_json:
        print_json(to_json(found))
    else:
        out = console()
        for part in recommendation_parts(found):
            out.print(part)
    return 0 if found.is_sure else FAILED
