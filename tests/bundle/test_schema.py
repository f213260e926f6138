"""docs/schema: the JSON Schema that other programs check bundles with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted
from paths import ROOT

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import FILES, SCHEMA
from qbench.bundle.schema import json_schema, schema_files

PUBLISHED = ROOT / "docs" / "schema"
REAL = next((ROOT / "results" / "reference").glob("*-quick-*"))


def test_published_schemas_are_those_of_the_records():
    found = {path.name: path.read_text() for path in PUBLISHED.iterdir()}
    assert found == schema_files(), "run `qbench schema -o docs/schema`"


def records(bundle: Bundle, name: str) -> list[Any]:
    text = (bundle.path / name).read_text() if (bundle.path / name).exists() else ""
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return [json.loads(text)] if text else []


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_agrees_with_what_is_published(tmp_path: Path, name: str):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((PUBLISHED / f"{name.partition('.')[0]}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    crafted = Crafted(tmp_path)
    crafted.trial(crafted.case("fp32"), 0, 2.0)
    for bundle in (crafted.done(), Bundle(REAL)):
        for record in records(bundle, name):
            check.validate(record)
            for key in schema.get("required", ()):
                lacking = {k: v for k, v in record.items() if k != key}
                assert not check.is_valid(lacking), key


def test_the_version_stands_in_the_schema():
    schema = json_schema("begin.json")
    assert schema["properties"]["schema"] == {"const": SCHEMA} and "schema" in schema["required"]


def test_the_command_shows_one_and_refuses_an_unknown_name(project):
    done = project.qbench("schema", "journal.jsonl")
    assert json.loads(done.stdout) == json_schema("journal.jsonl")
    done = project.qbench("schema", "jurnal.jsonl")
    assert done.returncode == 2 and "Did you mean 'journal.jsonl'?" in done.stderr
