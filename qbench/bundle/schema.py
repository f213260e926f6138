"""The records of a bundle as JSON Schema, for programs that are not qbench."""

from __future__ import annotations

import json
from typing import Any

from qbench.bundle.records.run import FILES, SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of the file ``name``; of a ``.jsonl`` file, that of one line."""
    schema = FILES[name].model_json_schema()
    if name in ("begin.json", "manifest.json"):
        schema["properties"]["schema"] = {"const": SCHEMA}
        schema["required"] = ["schema", *schema["required"]]
    what = f"{name} of a qbench bundle, schema {SCHEMA}"
    if name.endswith(".jsonl"):
        what = f"a line of {what}"
    return {"$schema": DIALECT, **schema, "title": what}


def schema_files() -> dict[str, str]:
    """Return the text of every schema by file name, such as ``begin.schema.json``."""
    return {
        f"{name.partition('.')[0]}.schema.json": json.dumps(json_schema(name), indent=1) + "\n"
        for name in FILES
    }
