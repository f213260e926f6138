"""The command cost: what an inference costs on each machine."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    AsJson,
    Results,
    Runs,
    check_parent,
    console,
    print_json,
)
from qbench.errors import UserError

if TYPE_CHECKING:
    from qbench.analysis.cost.figures import Costed
    from qbench.spec.costs import CostSheet

Costs = Annotated[
    Path | None,
    typer.Option(
        "--costs",
        metavar="FILE",
        help="YAML with prices, tariffs and watts; `qbench init --costs` writes a template.",
    ),
]
RequiredRate = Annotated[
    float | None,
    typer.Option("--rate", metavar="N", help="With --costs: required items per second."),
]
_CASE = (
    "model", "backend", "environment", "precision", "variant", "recipe", "device", "scenario",
    "scenario_options", "batch_size", "threads", "streams", "run_id",
)  # fmt: skip
_NOT_FIGURES = ("machine", "case_id", "reasons", "inputs")


def read_costs(costs: Path | None, rate: float | None) -> CostSheet | None:
    """The cost sheet of ``--costs``; None without the option.

    Raises:
        UserError: the file cannot be read or is wrong; or ``rate`` is not positive, or is given
            without a cost sheet.
    """
    from qbench.spec.costs import load_costs

    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UserError(f"--rate {rate:g} is not a rate", "Give items per second, above 0.")
    if costs is None and rate is not None:
        raise UserError("--rate needs the costs of the machines", "Add --costs FILE.")
    return None if costs is None else load_costs(costs)


def cost(
    run: Runs,
    costs: Costs = None,
    rate: RequiredRate = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="CSV file to write.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Compute the cost of an inference on each machine.

    Price, power, energy and CO2, each with the sources of its inputs. Prices come from a cost
    sheet; `qbench init --costs costs.yaml` writes one to fill in.

    \b
    Examples:
      qbench cost results/RUN-A results/RUN-B --costs costs.yaml
      qbench cost latest --costs costs.yaml --rate 1000 -o costs.csv
    """
    from qbench.analysis.compare.machines import side_by_side
    from qbench.analysis.cost.figures import costs_side_by_side
    from qbench.analysis.table.table import case_rows
    from qbench.bundle.find import find_bundles
    from qbench.present.terminal.cost import cost_parts
    from qbench.storage import write_file

    sheet = read_costs(costs, rate)
    if sheet is None:
        raise UserError(
            "the costs of the machines are not known",
            "Add --costs FILE; `qbench init --costs costs.yaml` writes one to fill in.",
        )
    check_parent(output)
    bundles = find_bundles(run, results)
    side = side_by_side(bundles, [case_rows(b, b.trials_frame()) for b in bundles])
    found = costs_side_by_side(side, sheet, rate)
    if not found:
        raise UserError("these runs have no successful case", "`qbench show` lists the reasons.")
    if output is not None:
        write_file(output, _csv(found))
        print(output)
    elif as_json:
        print_json({"rate_ips": rate, "currency": sheet.currency, "cases": _json_values(found)})
    else:
        out = console()
        for part in cost_parts(found, out):
            out.print(part)
    return 0


def _json_values(costs: list[Costed]) -> list[dict[str, Any]]:
    return [
        {
            **{name: getattr(row, name) for name in ("case_id", *_CASE)},
            "machine": figures.machine.name,
            "host_id": figures.machine.key,
            "chip": figures.machine.chip_of(row.device),
            **{
                field.name: value._asdict() if hasattr(value, "_asdict") else value
                for field in fields(figures)
                if field.name not in _NOT_FIGURES
                for value in [getattr(figures, field.name)]
            },
            "reasons": dict(figures.reasons),
            "inputs": [source._asdict() for source in figures.inputs],
        }
        for row, figures in costs
    ]


def _csv(costs: list[Costed]) -> bytes:
    """One row for each case and machine: figures with their intervals, then reasons and sources."""
    import pandas as pd

    from qbench.present.exports.tables import export_table

    rows = []
    for values in _json_values(costs):
        row: dict[str, Any] = {}
        for name, value in values.items():
            if name == "reasons":
                row[name] = "; ".join(f"{figure}: {why}" for figure, why in value.items())
            elif name == "inputs":
                inputs = (f"{one['name']} {one['value']} ({one['source']})" for one in value)
                row[name] = "; ".join(inputs)
            elif isinstance(value, dict):
                row |= {name: value["value"], f"{name}_low": value["low"]}
                row[f"{name}_high"] = value["high"]
            else:
                row[name] = value
        rows.append(row)
    return export_table(pd.DataFrame(rows, dtype=object), "csv")
