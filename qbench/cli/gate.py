"""Commands that judge a run: gate, accept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    AsJson,
    Case,
    Results,
    Run,
    RunOption,
    check_parent,
    console,
    print_json,
)
from qbench.errors import UserError, check_known


def _growth(of: str) -> Any:
    return typer.Option(min=0, metavar="SHARE", help=f"Allowed growth of {of}; 0.02 is 2 %.")


AcceptedFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Accepted changes; default: RESULTS/accepted.yaml."),
]


def gate(
    run: Run = "latest",
    results: Results = DEFAULT_RESULTS,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Measure suspected cases again, in a new bundle.")
    ] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BASELINE",
            help="environment:NAME, last (the previous run), or anchor:RUN; repeatable.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="A bound such as 'p99<=10ms', or on a column of the case table, such as "
            "'speedup>=1.5'; repeatable.",
        ),
    ] = None,
    slowdown: Annotated[float | None, _growth("latency")] = None,
    accuracy_drop: Annotated[
        float | None,
        typer.Option(min=0, metavar="POINTS", help="Allowed loss of accuracy; 0.5 is 0.5 pp."),
    ] = None,
    memory_growth: Annotated[float | None, _growth("peak memory")] = None,
    size_growth: Annotated[float | None, _growth("the artifact's size")] = None,
    start_growth: Annotated[float | None, _growth("the time to load")] = None,
    suite: Annotated[
        str | None,
        typer.Option(metavar="SUITE", help="With --confirm: the suite, if the run names none."),
    ] = None,
    accepted: AcceptedFile = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JUnit XML file to write.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Markdown file to write; $GITHUB_STEP_SUMMARY is appended to."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Decide whether a run passes, for CI.

    Only a confirmed regression or a failed case makes it fail. Tolerances, limits and baselines
    are set in the suite under 'gate:'; options replace them, except that --limit adds to the
    suite's limits. Exit codes: 0 passed, 1 a regression or a failed case, 3 the run is invalid.

    \b
    Examples:
      qbench gate latest --confirm
      qbench gate latest --baseline environment:baseline --junit gate.xml
      qbench gate latest --limit 'p99<=10ms' --summary "$GITHUB_STEP_SUMMARY"
    """
    from qbench.analysis.gate.record import to_json
    from qbench.present.exports.gate import to_junit, to_markdown
    from qbench.present.terminal.gate import gate_parts
    from qbench.present.terminal.progress import RichProgress
    from qbench.run.gate import GateRequest, run_gate
    from qbench.spec.question import read_column_limit
    from qbench.storage import write_file

    check_parent(junit, summary)
    given = {
        "baselines": baseline,
        "slowdown": slowdown,
        "accuracy_drop_points": accuracy_drop,
        "memory_growth": memory_growth,
        "size_growth": size_growth,
        "start_growth": start_growth,
    }
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    limits = limit or []
    for text in limits:
        read_column_limit(text)
    request = GateRequest(run, results, overrides, limits, suite, confirm, accepted)
    with RichProgress(console(to_stderr=True)) as progress:
        result = run_gate(request, progress)
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


def _summarize(path: Path, text: str) -> None:
    """Append to the CI's own summary, which other steps write to as well; replace other files."""
    from qbench.storage import write_file

    if str(path) == os.environ.get("GITHUB_STEP_SUMMARY"):
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        write_file(path, text)


def accept(
    case: Case,
    until: Annotated[
        str, typer.Option(metavar="DATE", help="Last day of the acceptance, such as 2026-12-31.")
    ],
    reason: Annotated[str, typer.Option(metavar="REASON", help="Why the change is accepted.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Only findings of this kind, such as 'slower'; repeatable."
        ),
    ] = None,
    most: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Largest accepted change; 0.05 is 5 % slower."),
    ] = None,
    run: RunOption = "latest",
    results: Results = DEFAULT_RESULTS,
    accepted: AcceptedFile = None,
) -> int:
    """Accept a change until a date.

    The gate then passes it, and reports when the acceptance has expired.

    \b
    Examples:
      qbench accept 3f2a91c04b7d --until 2026-12-31 --reason "checks inputs"
      qbench accept resnet8 openvino fp32 --kind slower --most 0.05 \\
        --until 2026-12-31 --reason ...
    """
    from datetime import date
    from typing import get_args

    from qbench.analysis.gate.judge import Night
    from qbench.bundle.find import find_run
    from qbench.run.explain import find_case
    from qbench.spec.accepted import NAME, Acceptance
    from qbench.spec.accepted import accept as keep
    from qbench.spec.gate import Kind
    from qbench.text import printable

    for name in kind or ():
        check_known(name, get_args(Kind), f"there is no kind '{name}'")
    try:
        day = date.fromisoformat(until)
    except ValueError:
        raise UserError(f"--until {until}: not a date", "Write it as 2026-12-31.") from None
    if day < date.today():
        raise UserError(f"--until {until}: the date has passed", "Give a date in the future.")
    if not reason.strip():
        raise UserError("--reason is empty", "Say why, for people who read it later.")
    bundle = find_run(run, results)
    case_id = find_case(bundle, case).case_id
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
