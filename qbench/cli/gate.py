"""Commands that judge a run: gate, accept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, Results, Run, console, print_json
from qbench.errors import UserError, nearest

Growth = Annotated[float | None, typer.Option(min=0, help="Guard, a share: 0.02 is 2 %.")]


def gate(
    run: Run = "latest",
    results: Results = DEFAULT_RESULTS,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Measure what is suspected again, in a new bundle.")
    ] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="environment:NAME, last, or anchor:RUN; repeatable."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Such as 'latency_p99_ms<=10' or 'accuracy>=0.9'; repeatable."),
    ] = None,
    slowdown: Growth = None,
    accuracy_drop: Annotated[
        float | None, typer.Option(min=0, help="Guard, in points: 0.5 is half a per cent.")
    ] = None,
    memory_growth: Growth = None,
    size_growth: Growth = None,
    start_growth: Growth = None,
    suite: Annotated[
        str | None, typer.Option(help="With --confirm: the suite, if the run does not tell.")
    ] = None,
    accepted: Annotated[
        Path | None, typer.Option(help="Known changes; RESULTS/accepted.yaml if left out.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit's XML here.")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Write Markdown here; added to what is there if $GITHUB_STEP_SUMMARY."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Does a run pass? Fails on a confirmed regression or a failed case, and on nothing else.

    Guards, limits and baselines stand in the suite under 'gate:'; options here replace them, limits
    are added. Exit codes: 0 passed, 1 a regression or a failed case, 3 the run says nothing.

    \b
    Examples:
      qbench gate latest --confirm
      qbench gate latest --baseline environment:baseline --baseline anchor:v1.0 --junit gate.xml
      qbench gate latest --limit 'latency_p99_ms<=10' --summary "$GITHUB_STEP_SUMMARY"
    """
    from qbench.analysis.gate.record import to_json
    from qbench.present.exports.gate import to_junit, to_markdown
    from qbench.present.terminal import RichProgress
    from qbench.present.terminal.gate import gate_parts
    from qbench.run.gate import Asked, hold
    from qbench.storage import write_file

    for path in (junit, summary):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"there is no folder {path.parent}", "Make it first.")
    given = {
        "baselines": baseline,
        "slowdown": slowdown,
        "accuracy_drop_points": accuracy_drop,
        "memory_growth": memory_growth,
        "size_growth": size_growth,
        "start_growth": start_growth,
    }
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    limits = [_limit(text) for text in limit or ()]
    with RichProgress(console(to_stderr=True)) as progress:
        result = hold(Asked(run, results, overrides, limits, suite, confirm, accepted), progress)
    if junit is not None:
        write_file(junit, to_junit(result))
    if summary is not None:
        _summarize(summary, to_markdown(result))
    if as_json:
        print_json(to_json(result))
    else:
        out = console()
        for part in gate_parts(result):
            out.print(part, soft_wrap=not hasattr(part, "columns"))
    return result.exit_code


_LIMIT = re.compile(r"^\s*([a-z0-9_]+)\s*(<=|>=)\s*(\S+)\s*$")


def _limit(text: str) -> dict[str, Any]:
    """``latency_p99_ms<=10``, as the settings have it."""
    found = _LIMIT.match(text)
    try:
        if found is None:
            raise ValueError
        metric, sign, value = found.groups()
        return {"metric": metric, "most" if sign == "<=" else "least": float(value)}
    except ValueError:
        raise UserError(
            f"--limit {text}: this is no limit",
            "Write it as 'latency_p99_ms<=10' or 'accuracy>=0.9'.",
        ) from None


def _summarize(path: Path, text: str) -> None:
    """A CI's own summary is added to, since other steps write to it; another file is ours."""
    from qbench.storage import write_file

    if str(path) == os.environ.get("GITHUB_STEP_SUMMARY"):
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        write_file(path, text)


def accept(
    case: Annotated[
        list[str],
        typer.Argument(help="A case's id, or words that only it has: MODEL BACKEND PRECISION."),
    ],
    until: Annotated[str, typer.Option(help="The last day on which it counts: 2026-12-31.")],
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="Only findings of this kind, as 'slower'; repeatable.")
    ] = None,
    most: Annotated[
        float | None, typer.Option(help="Only up to so much worse: 0.05 is 5 % slower.")
    ] = None,
    run: Annotated[
        str, typer.Option("--run", help="The bundle that has the case: its path, id, or 'latest'.")
    ] = "latest",
    results: Results = DEFAULT_RESULTS,
    accepted: Annotated[
        Path | None, typer.Option(help="The file; RESULTS/accepted.yaml if left out.")
    ] = None,
) -> int:
    """Have the gate let a known change pass, until a day and for a reason.

    \b
    Examples:
      qbench accept 3f2a91c04b7d --until 2026-12-31 --reason "checks its inputs since 2.1"
      qbench accept resnet8 openvino fp32 --kind slower --most 0.05 --until 2026-12-31 --reason ...
    """
    from datetime import date
    from typing import get_args

    from qbench.analysis.gate.judge import Night
    from qbench.bundle.find import find_run
    from qbench.present.terminal import printable
    from qbench.run.explain import find_case
    from qbench.spec.accepted import NAME, Acceptance
    from qbench.spec.accepted import accept as keep
    from qbench.spec.gate import Kind

    for name in kind or ():
        if name not in get_args(Kind):
            raise UserError(f"there is no kind '{name}'", nearest(name, get_args(Kind)))
    try:
        day = date.fromisoformat(until)
    except ValueError:
        raise UserError(f"--until {until}: this is no day", "Write it as 2026-12-31.") from None
    if day < date.today():
        raise UserError(f"--until {until}: that day is over", "Give one to come.")
    if not reason.strip():
        raise UserError("--reason is empty", "Say why, for those who read it later.")
    bundle = find_run(run, results)
    case_id = find_case(bundle, case)["case_id"]
    entry = Acceptance.model_validate(
        {
            "case": case_id,
            "label": printable(Night(bundle).label(case_id)),
            "kinds": kind or [],
            "most": most,
            "until": day,
            "reason": printable(reason),
        }
    )
    path = accepted or results / NAME
    keep(path, entry)
    print(f"accepted {entry.label} until {day}; written to {path}")
    return 0
