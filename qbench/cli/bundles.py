"""Commands about bundles: merge, pack, redact, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qbench.cli.common import DEFAULT_RESULTS, AsJson, Recompute, Results, console, print_json
from qbench.errors import UserError


def merge(
    run: Annotated[
        list[str], typer.Argument(help="Bundles: paths, ids, 'latest', or whole collections.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The collection: a new folder, or one to add to.")
    ],
    recompute: Recompute = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Bring bundles of several machines together in one folder.

    It holds a checked copy of each, one table of all their cases (cases.csv, cases.parquet), and
    collection.json: on which fields every two of them differ, and how many cases may be compared.

    \b
    Examples:
      qbench merge results/20261124-0300* laptop/20261124-0915* -o fleet
      qbench report fleet/* -o fleet.html
    """
    from qbench.bundle.find import INDEX, find_bundle
    from qbench.present.exports.collection import merge_bundles
    from qbench.present.terminal import printable

    is_collection = [(Path(name) / INDEX).is_file() for name in run]
    paths = [
        Path(name) if whole else find_bundle(name, results).path
        for name, whole in zip(run, is_collection, strict=True)
    ]
    found = merge_bundles(paths, output, recompute)
    if as_json:
        print_json(found)
        return 0
    out = console()
    for part in _told(found):
        out.print(part if not isinstance(part, str) else printable(part), markup=False)
    return 0


def _told(found: dict[str, Any]) -> list[Any]:
    from qbench.present.terminal import simple_table

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
    parts: list[Any] = [simple_table(["", "run", "host", "processor", "qbench", "cases ok"], rows)]
    if pairs:
        headers = ["run", "and run", "level", "fields differ", "same work", "same artifact, set-up"]
        parts.append(simple_table(headers, pairs))
    return parts


def pack(
    run: Annotated[list[str], typer.Argument(help="Bundles: paths, ids, or 'latest'.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder that the smaller bundles are written to.")
    ],
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Copy bundles without their predictions, to publish them.

    Accuracy stands as it was recorded, but cannot be recomputed. Every sample is kept. Each copy
    names the digest of its original, which is not modified.

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
    run: Annotated[list[str], typer.Argument(help="Bundles: paths, ids, or 'latest'.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder that the new bundles are written to.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="WORD", help="Another private word; repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="WORD", help="A word that may be told; repeatable."),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> int:
    """Write bundles anew without what tells whose machine it was, to be published.

    Host and user names, folders, addresses and serial numbers go; every figure stays. They are
    bundles like any other; each names the digest of the one that it was made from, which is not
    changed. What was found to be private is yours to check before you publish.

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
        str | None, typer.Argument(help="A file of a bundle, such as journal.jsonl.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write all of them to.")
    ] = None,
) -> int:
    """Show the JSON Schema of a bundle's records, or write all of them.

    \b
    Examples:
      qbench schema journal.jsonl
      qbench schema -o docs/schema
    """
    from qbench.bundle.records.run import FILES
    from qbench.bundle.schema import json_schema, schema_files
    from qbench.errors import nearest
    from qbench.storage import write_file

    if name is not None and name not in FILES:
        raise UserError(f"no records are kept in '{name}'", nearest(name, FILES))
    if name is not None:
        print_json(json_schema(name))
    elif output is None:
        raise UserError(
            "which file's schema?", f"Give its name, or a folder with -o: {', '.join(FILES)}."
        )
    else:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in schema_files().items():
            write_file(output / file, text)
            print(output / file)
    return 0
