"""Commands about many runs: history, prune."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, Results, console, print_json
from qbench.errors import UserError

MANY = 50
"""New bundles that take seconds to read, so that something should be seen to happen."""


def history(
    case: Annotated[
        list[str] | None,
        typer.Argument(help="A case's id, or words that only it has; all cases if left out."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="Folder of bundles; repeatable. [default: results]"),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="p10, p50, p99, throughput, memory, size, load, cold, energy or accuracy."
        ),
    ] = "p50",
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only runs from this date on.")
    ] = None,
    nights: Annotated[
        int, typer.Option(min=1, help="Of each case the last so many, where all are shown.")
    ] = 90,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write an HTML page instead.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """How cases have changed over the nights, and what else changed when they did.

    \b
    Examples:
      qbench history
      qbench history digits_cnn onnxruntime int8-static
      qbench history digits_cnn onnxruntime fp32 --metric memory -o memory.html
    """
    from qbench.analysis.history.point import METRICS
    from qbench.analysis.history.query import History
    from qbench.errors import nearest
    from qbench.present.terminal import printable
    from qbench.present.words.history import describe

    if metric not in METRICS:
        raise UserError(f"there is no metric '{metric}'", nearest(metric, METRICS))
    if output is not None and not output.parent.is_dir():
        raise UserError(f"there is no folder {output.parent}", "Make it first.")
    past = History(results or [DEFAULT_RESULTS], _reading)
    if case:
        groups = [past.points(past.find(case).case_id, since)]
    else:
        groups = list(past.newest(nights, since).values())
    if case and not groups[0]:
        raise UserError("there are no runs of this case since then", "Leave out --since.")
    described = [describe(points, metric, past.cuts) for points in groups]
    past.cuts.save()
    described = [found for found in described if found["series"]]
    if case and not described:
        raise UserError(f"no run has the figure '{metric}' of this case", "--metric names another.")
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
    return [
        f"left out: {count} {'run' if count == 1 else 'runs'} ({why})"
        for why, count in left_out.items()
    ]


def prune(
    results: Results = DEFAULT_RESULTS,
    keep_days: Annotated[
        int | None, typer.Option(min=0, help="Keep runs of the last so many days.")
    ] = None,
    keep_runs: Annotated[
        int | None,
        typer.Option(min=1, help="Keep the last so many of each suite and machine."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep this run, such as a release's; repeatable.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them, instead of saying which.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Remove old bundles. Without --yes, only say which, and how much that frees.

    Never removed: runs that a gate is anchored to, incomplete ones younger than a day, reference
    runs, and what is no bundle. With both rules, a run goes only if neither keeps it.

    \b
    Examples:
      qbench prune --keep-days 365
      qbench prune --keep-runs 90 --keep 20260101-020000-nightly-ab12 --yes
    """
    from qbench.bundle.prune import Retention, plan_pruning, remove
    from qbench.present.terminal import printable, simple_table

    if keep_days is None and keep_runs is None:
        raise UserError("nothing says what to keep", "Give --keep-days, --keep-runs or both.")
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
    count = f"{len(planned.going)} {'run' if len(planned.going) == 1 else 'runs'}"
    megabytes = f"{planned.bytes / 1e6:.1f} MB"
    print(f"removed {count}, {megabytes}" if yes else f"would remove {count} and free {megabytes}")
    if not yes and planned.going:
        print("the same command with --yes does it")
    return 0
