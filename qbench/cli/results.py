"""Commands about a bundle: show, explain, report, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Recompute,
    Results,
    Run,
    Runs,
    console,
    print_json,
    write_page,
)
from qbench.cli.cost import Costs, RequiredRate, read_costs
from qbench.errors import UserError


def show(run: Run = "latest", results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Show the case table of a bundle.

    \b
    Examples:
      qbench show latest
      qbench show results/20261122-041530-quick-ab12 --json
    """
    from qbench.analysis.table import case_table
    from qbench.bundle import find_bundle
    from qbench.console import case_tables, printable

    bundle = find_bundle(run, results)
    cases = case_table(bundle)
    if as_json:
        print_json({"run_id": bundle.run_id, "cases": cases.to_dict("records")})
        return 0
    out = console()
    host = bundle.begin["host"]
    state = "" if bundle.complete else "  (incomplete: run the same command again to go on)"
    title = printable(f"{bundle.run_id}  on {host['cpu_model']}{state}")
    out.print(title, markup=False, soft_wrap=True)
    for part in case_tables(cases, out):
        out.print(part)
    return 0


def explain(
    case: Annotated[
        list[str],
        typer.Argument(help="A case's id, or words that only it has: MODEL BACKEND PRECISION."),
    ],
    run: Annotated[
        str, typer.Option("--run", help="The bundle: its path, its id, or 'latest'.")
    ] = "latest",
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Why is this case slow, or wrong? Its operators and layers beside float32's.

    Profiles the case's artifact and its float32 twin here and now; the bundle is not changed.

    \b
    Examples:
      qbench explain digits_vit onnxruntime int8-static
      qbench explain 3f2a91c04b7d --run results/20261122-041530-quick-ab12
    """
    from dataclasses import asdict

    from qbench.bundle import find_bundle
    from qbench.console import explanation_parts
    from qbench.explain import explain_case
    from qbench.registry import Registry

    found = explain_case(find_bundle(run, results), case, Registry())
    if as_json:
        print_json({**asdict(found), "case": found.case.model_dump(mode="json")})
        return 0
    out = console()
    for part in explanation_parts(found):
        out.print(part)
    return 0


def report(
    run: Runs,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file to write.")
    ] = None,
    costs: Costs = None,
    rate: RequiredRate = None,
    results: Results = DEFAULT_RESULTS,
) -> int:
    """Write an interactive HTML page about one or more bundles.

    \b
    Examples:
      qbench report latest -o reports/quick.html
      qbench report RUN_ON_A RUN_ON_B --costs costs.yaml --rate 1000
    """
    from qbench.merge import find_bundles
    from qbench.report import Options

    sheet = read_costs(costs, rate)
    bundles = find_bundles(run, results)
    path = output or results / f"{bundles[0].run_id}.html"
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    print(write_page(bundles, path, Options(costs=sheet, rate_ips=rate)))
    return 0


def verify(
    run: Run = "latest",
    recompute: Recompute = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Check that a bundle is whole and unchanged, and that its figures follow from its data.

    \b
    Example:
      qbench verify latest --recompute
    """
    from qbench.analysis.verify import find_problems, not_recomputed
    from qbench.analysis.verify import recompute as recomputed
    from qbench.bundle import find_bundle
    from qbench.console import printable

    bundle = find_bundle(run, results)
    name = bundle.path.resolve().name  # begin.json, which has the run id, may be damaged
    problems, left_out = find_problems(bundle), ""
    if recompute and bundle.complete:
        problems += recomputed(bundle)
        left_out = not_recomputed(bundle)
    if as_json:
        print_json({"run_id": name, "problems": problems, "not_recomputed": left_out or None})
    else:
        for problem in problems:
            print(printable(problem))
        checked = "files and figures" if recompute else "files"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(f"{name}: {count if problems else f'{checked} agree'}")
        if left_out:
            print(f"but {left_out}")
    return FAILED if problems else 0
