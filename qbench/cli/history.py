"""Commands about many runs: history, prune."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    AsJson,
    Results,
    check_parent,
    console,
    print_json,
)
from qbench.errors import UserError

MANY = 50
"""Progress is printed from this many unread bundles on: they take seconds."""


def history(
    case: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CASE...",
            help="A case's id, or words that identify it, such as MODEL BACKEND PRECISION; "
            "default: all cases.",
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results", metavar="FOLDER", help="Folder of bundles; repeatable. [default: results]"
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="FIGURE",
            help="p10, p50, p99, throughput, memory, size, load, cold, energy or accuracy.",
        ),
    ] = "p50",
    since: Annotated[
        datetime | None,
        typer.Option(metavar="DATE", formats=["%Y-%m-%d"], help="Only runs from this date on."),
    ] = None,
    nights: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Without CASE: number of most recent runs to show per case."
        ),
    ] = 90,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="HTML page to write instead."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show how figures changed from run to run.

    At each change point, lists the changes to machine and software at that time.

    \b
    Examples:
      qbench history
      qbench history digits_cnn onnxruntime int8-static
      qbench history digits_cnn onnxruntime fp32 --metric memory -o memory.html
    """
    from qbench.analysis.history.point import METRICS
    from qbench.analysis.history.query import History
    from qbench.errors import check_known
    from qbench.present.words.history import describe
    from qbench.text import printable

    check_known(metric, METRICS, f"there is no metric '{metric}'")
    check_parent(output)
    past = History(results or [DEFAULT_RESULTS], _reading)
    if case:
        groups = [past.points(past.find(case).case_id, since)]
    else:
        groups = list(past.newest(nights, since).values())
    if case and not groups[0]:
        raise UserError("there are no runs of this case since that date", "Leave out --since.")
    described = [describe(points, metric, past.cuts) for points in groups]
    past.cuts.save()
    described = [found for found in described if found["series"]]
    if case and not described:
        raise UserError(
            f"no run has the figure '{metric}' of this case", "Choose another with --metric."
        )
    left_out = past.left_out()
    if as_json:
        print_json({"cases": described, "left_out": left_out, "problems": list(past.problems)})
        return 0
    for problem in past.problems:
        print(f"qbench: left out: {printable(problem)}", file=sys.stderr)
    if output is not None:
        from qbench.present.page.history import write_page

        write_page(
            described, metric, METRICS[metric].unit, [*_kept_out(left_out), *past.problems], output
        )
        print(output)
        return 0
    _print(described, left_out, single=bool(case))
    return 0


def _reading(done: int, total: int) -> None:
    if total >= MANY:
        print(f"reading bundles: {done} of {total}", file=sys.stderr)


def _print(described: list[dict], left_out: dict[str, int], single: bool) -> None:
    from qbench.present.terminal.history import summary_table, trend_parts

    out = console()
    if single:
        for part in trend_parts(described[0], out.width):
            out.print(part)
    elif described:
        out.print(summary_table(described))
    else:
        out.print("there are no complete runs yet", markup=False)
    for words in _kept_out(left_out):
        out.print(words, markup=False)


def _kept_out(left_out: dict[str, int]) -> list[str]:
    from qbench.text import count

    return [f"left out: {count(number, 'run')} ({why})" for why, number in left_out.items()]


def prune(
    results: Results = DEFAULT_RESULTS,
    keep_days: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Keep the runs of the last N days.")
    ] = None,
    keep_runs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the last N of each suite and machine."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Keep this run, such as a release's; repeatable."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove the runs, instead of listing them.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Remove old runs.

    Without --yes, only lists them and the space that they take. Never removed: anchors of a gate,
    incomplete runs younger than a day, reference runs, and folders that are not bundles. With
    --keep-days and --keep-runs, a run is removed only if neither keeps it.

    \b
    Examples:
      qbench prune --keep-days 365
      qbench prune --keep-runs 90 --keep 20260101-020000-nightly-ab12 --yes
    """
    from qbench.bundle.prune import Retention, plan_pruning, remove
    from qbench.present.terminal.tables import simple_table
    from qbench.text import count, printable

    if keep_days is None and keep_runs is None:
        raise UserError("no rule says which runs to keep", "Give --keep-days, --keep-runs or both.")
    planned = plan_pruning(results, Retention(keep_days, keep_runs, tuple(keep or ())))
    if yes:
        for item in planned.going:
            remove(results, item)
    if as_json:
        print_json(
            {
                "removed": yes,
                "going": [
                    {"run": i.path.name, "bytes": i.bytes, "why": i.why} for i in planned.going
                ],
                "bytes": planned.bytes,
                "staying": [{"run": name, "why": why} for name, why in planned.staying],
            }
        )
        return 0
    out = console()
    if planned.going:
        rows = [(i.path.name, f"{i.bytes / 1e6:.1f}", i.why) for i in planned.going]
        out.print(simple_table(["run", "MB", "why"], rows))
    for name, why in planned.staying:
        out.print(printable(f"kept: {name}: {why}"), markup=False, soft_wrap=True)
    runs, megabytes = count(len(planned.going), "run"), f"{planned.bytes / 1e6:.1f} MB"
    print(f"removed {runs}, {megabytes}" if yes else f"would remove {runs} and free {megabytes}")
    if not yes and planned.going:
        print("add --yes to remove them")
    return 0
