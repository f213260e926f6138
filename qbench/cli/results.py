"""Commands about a bundle: show, explain, report, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    FAILED,
    AsJson,
    Case,
    Limits,
    Recompute,
    Results,
    Run,
    RunOption,
    Runs,
    check_parent,
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
from qbench.cli.recommend import Minimize, read_question


def show(run: Run = "latest", results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> int:
    """Show the case table of a run.

    \b
    Examples:
      qbench show latest
      qbench show results/20261122-041530-quick-ab12 --json
    """
    from qbench.analysis.table.table import case_rows
    from qbench.bundle.find import find_bundle
    from qbench.present.terminal.cases import case_tables
    from qbench.spec.columns import as_dict
    from qbench.text import printable

    bundle = find_bundle(run, results)
    cases = case_rows(bundle, bundle.trials_frame())
    if as_json:
        print_json({"run_id": bundle.run_id, "cases": list(map(as_dict, cases))})
        return 0
    out = console()
    state = "" if bundle.complete else "  (incomplete: run the same command again to resume)"
    title = printable(f"{bundle.run_id}  on {bundle.begin.host.cpu_model}{state}")
    out.print(title, markup=False, soft_wrap=True)
    for part in case_tables(cases, out):
        out.print(part)
    return 0


def explain(
    case: Case,
    run: RunOption = "latest",
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Explain why a case is slow or inaccurate.

    Profiles the operators and layers of the case's artifact and of its float32 counterpart, on this
    machine. The bundle is not changed.

    \b
    Examples:
      qbench explain digits_vit onnxruntime int8-static
      qbench explain 3f2a91c04b7d --run results/20261122-041530-quick-ab12
    """
    from dataclasses import asdict

    from qbench.bundle.find import find_bundle
    from qbench.present.terminal.plans import explanation_parts
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
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ] = None,
    costs: Costs = None,
    rate: RequiredRate = None,
    limits: Limits = None,
    minimize: Minimize = None,
    redact: Redact = False,
    publish: Publish = False,
    waive: Waive = None,
    waivers: WaiversFile = None,
    results: Results = DEFAULT_RESULTS,
    as_json: PublishJson = False,
) -> int:
    """Write an interactive HTML page about one or more runs.

    With --limit or --minimize, it includes the recommendation of `qbench recommend`. With --publish
    the page is marked as a draft, and the exit code is 1, until every publishing check passes or is
    waived.

    \b
    Examples:
      qbench report latest -o reports/quick.html
      qbench report RUN_ON_A RUN_ON_B --costs costs.yaml --rate 1000
      qbench report latest --limit 'p99<=10ms' --limit 'accuracy_drop<=1pp'
      qbench report latest --redact --publish --waive "energy-proxy=no meter"
    """
    from qbench.bundle.find import find_bundles
    from qbench.bundle.redact import redacted
    from qbench.present.page.options import Options

    question = read_question(limits, minimize, rate=rate) if limits or minimize else None
    sheet = read_costs(costs, rate)
    bundles = find_bundles(run, results)
    path = output or results / f"{bundles[0].run_id}.html"
    check_parent(path)
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
    """Check that a run is complete and unchanged.

    With --recompute, also computes every figure again from the raw samples and predictions.

    \b
    Example:
      qbench verify latest --recompute
    """
    from qbench.analysis.recompute import not_recomputed
    from qbench.analysis.recompute import recompute as recomputed
    from qbench.bundle.check import find_problems
    from qbench.bundle.find import find_bundle
    from qbench.text import count, printable

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
        print(f"{name}: {count(len(problems), 'problem') if problems else f'{checked} agree'}")
        if left_out:
            print(f"but {left_out}")
    return FAILED if problems else 0
