"""Commands that keep bundles: merge, import, schema; and copies to publish: pack, redact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, Recompute, Results, Runs, console, print_json
from qbench.errors import UserError, nearest

Copies = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write the copies to.")
]
Originals = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Bundles: paths, ids, or 'latest'.")
]


def merge(
    run: Runs,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The collection: new, or one to add to."
        ),
    ],
    recompute: Recompute = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Collect the runs of several machines in one folder.

    The collection holds a verified copy of each bundle, one table of all cases (cases.csv,
    cases.parquet), and collection.json, which lists for each pair of bundles the fields that differ
    and the number of comparable cases.

    \b
    Examples:
      qbench merge results/20261124-0300* laptop/20261124-0915* -o fleet
      qbench report fleet/* -o fleet.html
    """
    from qbench.bundle.find import find_bundles
    from qbench.present.exports.collection import merge_bundles

    found = merge_bundles(find_bundles(run, results), output, recompute)
    if as_json:
        print_json(found)
        return 0
    out = console()
    for table in _tables(found):
        out.print(table)
    return 0


def _tables(found: dict[str, Any]) -> list[Any]:
    from qbench.present.terminal.tables import simple_table

    rows = [
        (
            "added" if bundle["run_id"] in found["added"] else "there",
            bundle["run_id"],
            bundle["host"]["hostname"],
            bundle["host"]["cpu_model"],
            bundle["qbench"],
            f"{bundle['ok']} of {bundle['cases']}",
        )
        for bundle in found["bundles"]
    ]
    pairs = [
        (
            pair["a"],
            pair["b"],
            pair["level"],
            len(pair["differs"]),
            f"{pair['choice']} of {pair['common_cases']}",
            f"{pair['regression']} of {pair['common_cases']}",
        )
        for pair in found["pairs"]
    ]
    tables = [simple_table(["", "run", "host", "processor", "qbench", "cases ok"], rows)]
    if pairs:
        headers = ["run", "and run", "level", "fields differ", "same work", "same artifact, set-up"]
        tables.append(simple_table(headers, pairs))
    return tables


def import_(
    file: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON files of pytest-benchmark.")
    ],
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the project; default: as in the files."),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Import results of pytest-benchmark for `qbench history`.

    \b
    Examples:
      qbench import .benchmarks/*/*.json
      qbench import nightly.json --project mylibrary
    """
    from qbench.analysis.history.imported import read_benchmarks
    from qbench.analysis.history.sources import add_series
    from qbench.text import printable

    read = [read_benchmarks(path, project) for path in file]  # check all before keeping any
    kept = []
    for path, points in zip(file, read, strict=True):
        where = add_series(results, points[0].run_id, points)
        kept.append({"file": str(path), "kept": str(where), "benchmarks": len(points)})
    if as_json:
        print_json(kept)
        return 0
    for one in kept:
        print(printable(f"{one['file']}: {one['benchmarks']} benchmarks, kept as {one['kept']}"))
    return 0


def pack(
    run: Originals,
    output: Copies,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Copy runs without their predictions, to publish them.

    Accuracy stays as recorded, but cannot be recomputed. Every sample is kept. Each copy names the
    digest of its original, which is not modified.

    \b
    Example:
      qbench pack latest -o results/reference
    """
    from qbench.bundle.copies import pack_bundle
    from qbench.bundle.find import find_bundle
    from qbench.storage import folder_bytes

    written = []
    for name in run:
        old = find_bundle(name, results)
        new = pack_bundle(old, output)
        sizes = {"from_bytes": folder_bytes(old.path), "to_bytes": folder_bytes(new.path)}
        written.append({"from": str(old.path), "to": str(new.path), **sizes})
        if not as_json:
            large, small = (f"{sizes[size] / 1e6:,.1f} MB" for size in sizes)
            print(f"{new.path}  {small} of {large}")
    if as_json:
        print_json(written)
    return 0


def redact(
    run: Originals,
    output: Copies,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="WORD", help="Also remove this word; repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="WORD", help="Do not remove this word; repeatable."),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Copy runs without host names, users and paths, to publish them.

    Host and user names, folders, addresses and serial numbers are replaced; every figure stays.
    Each copy names the digest of its original, which is not modified. Check the copies before you
    publish them.

    \b
    Examples:
      qbench redact latest -o published
      qbench redact latest -o published --also acme --also vienna-lab
    """
    from qbench.bundle.find import find_bundle
    from qbench.bundle.redact import redact_bundle

    written = []
    for name in run:
        old = find_bundle(name, results)
        new = redact_bundle(old, output, also or (), keep or ())
        written.append({"from": str(old.path), "to": str(new.path)})
        if not as_json:
            print(new.path)
    if as_json:
        print_json(written)
    return 0


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A file of a bundle, such as journal.jsonl."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write all schemas to."),
    ] = None,
) -> int:
    """Print the JSON Schema of the files in a bundle.

    With --output, writes the schemas of all files.

    \b
    Examples:
      qbench schema journal.jsonl
      qbench schema -o docs/schema
    """
    from qbench.bundle.records.run import FILES
    from qbench.bundle.schema import json_schema, schema_files
    from qbench.storage import write_file

    if name is not None and name not in FILES:
        raise UserError(f"bundles have no records in '{name}'", nearest(name, FILES))
    if name is not None:
        print_json(json_schema(name))
    elif output is None:
        raise UserError(
            "no file was named", f"Name one, or give a folder with -o. Files: {', '.join(FILES)}."
        )
    else:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in schema_files().items():
            write_file(output / file, text)
            print(output / file)
    return 0
