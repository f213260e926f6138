"""The command compare: two bundles, or two environments, backends or precisions of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qbench.cli.common import (
    DEFAULT_RESULTS,
    AsJson,
    Backends,
    ModelFilter,
    Precisions,
    Results,
    check_parent,
    console,
    print_json,
)
from qbench.errors import UserError, check_known

if TYPE_CHECKING:
    from qbench.analysis.compare.compare import Comparison
    from qbench.spec.case import Filters

FORMATS = ("terminal", "markdown", "json")


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A bundle (path, id, 'latest'); or an environment, backend or precision.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Its counterpart; ratios are B over A.")],
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="The bundle that A and B are in; default: latest."
        ),
    ] = None,
    models: ModelFilter = None,
    backends: Backends = None,
    precisions: Precisions = None,
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="terminal, markdown or json.")
    ] = "terminal",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write; default: standard output."
        ),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Compare two runs, environments, backends or precisions.

    Within one bundle, A and B are paired by round and get verdicts. Two bundles get intervals
    only.

    \b
    Examples:
      qbench compare fp32 int8-static
      qbench compare default ort-previous --run RUN --format markdown
      qbench compare results/20261121-041530-quick-ab12 latest
    """
    from qbench.present.terminal.comparison import comparison_markdown, comparison_parts
    from qbench.spec.case import Filters
    from qbench.storage import write_file

    form = "json" if as_json else format
    check_known(form, FORMATS, f"there is no format '{form}'")
    if output is not None and form == "terminal":
        raise UserError(
            "the terminal's format cannot be written to a file", "Add --format markdown or json."
        )
    check_parent(output)
    filters = Filters(tuple(models or ()), tuple(backends or ()), tuple(precisions or ()))
    found = _compared(a, b, run, results, filters)
    if not found.pairs:
        raise UserError(f"{a} and {b} have no case that can be compared", _why_none(found))
    if form == "terminal":
        out = console()
        for part in comparison_parts(found, out):
            out.print(part)
    elif form == "markdown":
        text = comparison_markdown(found)
        write_file(output, text) if output is not None else print(text, end="")
    elif output is not None:
        import json

        write_file(output, json.dumps(_json_value(found), indent=1) + "\n")
    else:
        print_json(_json_value(found))
    return 0


def _compared(a: str, b: str, run: str | None, results: Path, filters: Filters) -> Comparison:
    from qbench.analysis.compare.compare import compare_runs, compare_within
    from qbench.analysis.compare.matching import find_column
    from qbench.bundle.find import find_bundle

    if run is None and (_is_bundle(a, results) or _is_bundle(b, results)):
        return compare_runs(find_bundle(a, results), find_bundle(b, results), filters)
    bundle = find_bundle(run or "latest", results)
    return compare_within(bundle, find_column(bundle, a, b), a, b, filters)


def _is_bundle(name: str, results: Path) -> bool:
    return name == "latest" or Path(name).is_dir() or (results / name / "begin.json").is_file()


def _why_none(comparison: Comparison) -> str:
    counts = [
        f"{len(rows)} only in {side}"
        for side, rows in (("A", comparison.only_a), ("B", comparison.only_b))
    ]
    first = next(iter(comparison.refused), None)
    refused = f", {len(comparison.refused)} refused, such as: {first.reason}" if first else ""
    return f"Their cases: {', '.join(counts)}{refused}. `qbench show` lists them."


def _json_value(value: Any) -> Any:
    """Dataclasses and named tuples as JSON objects."""
    from qbench.analysis.compare.compare import Pair

    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: _json_value(getattr(value, field.name)) for field in fields(value)}
        return {**found, "verdict": value.verdict} if isinstance(value, Pair) else found
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return {key: _json_value(part) for key, part in value.items()}
    return [_json_value(part) for part in value] if isinstance(value, tuple | list) else value
