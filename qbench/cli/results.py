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
from qbench.cli.publishing import (
    Publish,
    PublishJson,
    Redact,
    Waive,
    WaiversFile,
    check_publishing,
    print_publishing,
    publishing_json,
)
from qbench.cli.recommend import (
    MaxColdStart,
    MaxDeviceMemory,
    MaxDrop,
    MaxEnergy,
    MaxMemory,
    MaxP50,
    MaxP99,
    MaxSize,
    MinAccuracy,
    Minimize,
    MinThroughput,
    asked,
)
from qbench.errors import UserError


def show(run: Run = "latest", results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Show the case table of a bundle.

    \b
    Examples:
      qbench show latest
      qbench show results/20261122-041530-quick-ab12 --json
    """
    from qbench.analysis.table.table import case_table
    from qbench.bundle.find import find_bundle
    from qbench.present.terminal import case_tables, printable

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

    from qbench.bundle.find import find_bundle
    from qbench.present.terminal import explanation_parts
    from qbench.run.explain import explain_case
    from qbench.run.workers.registry import Registry

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
    redact: Redact = False,
    publish: Publish = False,
    waive: Waive = None,
    waivers: WaiversFile = None,
    results: Results = DEFAULT_RESULTS,
    as_json: PublishJson = False,
) -> int:
    """Write an interactive HTML page about one or more bundles.

    With limits, or with what is to be least, it also says what `qbench recommend` does. With
    --publish the page is a draft, and the exit code 1, while anything is missing that a stranger
    would need to believe it.

    \b
    Examples:
      qbench report latest -o reports/quick.html
      qbench report RUN_ON_A RUN_ON_B --costs costs.yaml --rate 1000
      qbench report latest --max-p99 10ms --max-accuracy-drop 1pp --minimize latency
      qbench report latest --redact --publish --waive "energy-proxy=no meter is at hand"
    """
    from qbench.bundle.find import find_bundles
    from qbench.bundle.redact import redacted
    from qbench.present.page.options import Options

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
    question = asked(limits, minimize, rate=rate)
    sheet = read_costs(costs, rate)
    bundles = find_bundles(run, results)
    path = output or results / f"{bundles[0].run_id}.html"
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", "Make it first.")
    checked = [redacted(bundle) for bundle in bundles] if redact else bundles
    found = check_publishing(checked, publish, waive, waivers, as_json)
    write_page(bundles, path, Options(redact, sheet, rate, question, found))
    if found is None:
        print(path)
        return 0
    if as_json:
        print_json(publishing_json(found, path))
    else:
        print_publishing(found, path)
    return FAILED if found.open else 0


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
    from qbench.analysis.recompute import not_recomputed
    from qbench.analysis.recompute import recompute as recomputed
    from qbench.bundle.check import find_problems
    from qbench.bundle.find import find_bundle
    from qbench.present.terminal import printable

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
