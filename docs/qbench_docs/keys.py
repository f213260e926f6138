"""Tables of the keys of files, generated from the JSON Schema of the models that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from qbench.spec.suite import Name
from qbench_docs.cells import code, table, text
from qbench_docs.docstrings import attributes, summary

Schema = Mapping[str, Any]
NAME = TypeAdapter(Name).json_schema()["pattern"]
PLAIN = {
    "string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
    "null": "nothing", "object": "mapping", "array": "list",
}  # fmt: skip
BOUNDS = (
    ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
)  # fmt: skip


def key_tables(kind: type[BaseModel], schema: Schema, anchor: str, level: int = 3) -> str:
    """Markdown: the keys of a mapping, then one section for each nested mapping.

    Args:
        schema: the model's JSON Schema, with referenced schemas under ``$defs``.
        anchor: prefix of the sections' ids, unique within a page.
        level: level of the sections' headings.
    """
    kinds = _models(kind)
    if "properties" in schema:
        parts = [_keys(schema, kinds[kind.__name__], anchor)]
    else:  # one of several mappings
        parts = [f"\n<p>{_type(schema, anchor)}</p>\n"]
    for name, inner in schema.get("$defs", {}).items():
        if "properties" in inner:
            said = text(summary(inner.get("description", "")))
            parts.append(f"\n{'#' * level} {_word(name)} {{ #{_id(anchor, name)} }}\n")
            parts.append(f"<p>{said}</p>\n" if said else "")
            parts.append(_keys(inner, kinds[name.rpartition("__")[2]], anchor))
    return "\n".join(parts)


def _models(kind: Any) -> dict[str, type[BaseModel]]:
    """A model and all models nested in it, by name."""
    found: dict[str, type[BaseModel]] = {}
    left: list[Any] = [kind]
    while left:
        kind = left.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                left += [field.annotation for field in kind.model_fields.values()]
        else:
            left += get_args(kind)
    return found


def _keys(schema: Schema, kind: type[BaseModel], anchor: str) -> str:
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            meanings.update(attributes(base.__doc__ or ""))
    required = schema.get("required", ())
    return table(
        ("key", "type", "default", "meaning"),
        (
            (
                code(key),
                _type(value, anchor),
                "<strong>required</strong>" if key in required else _default(value),
                text(meanings.get(key, "")),
            )
            for key, value in schema["properties"].items()
        ),
    )


def _default(value: Schema) -> str:
    default = value.get("default")
    if isinstance(default, dict) and default:
        return "the defaults of its keys"
    return "" if default in (None, "") else code(json.dumps(default, ensure_ascii=False))


def _type(value: Schema, anchor: str) -> str:
    """Type of a value, as HTML."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f'<a href="#{_id(anchor, name)}">{_word(name)}</a>'
    for key in ("anyOf", "oneOf"):
        if key in value:
            kinds = [_type(kind, anchor) for kind in value[key] if kind.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in value or "const" in value:
        return ", ".join(code(str(word)) for word in value.get("enum", [value.get("const")]))
    kind = PLAIN.get(value.get("type", ""), "anything")
    if value.get("type") == "array" and "items" in value:
        return f"list of {_type(value['items'], anchor)}"
    inner = next(iter(value.get("patternProperties", {}).values()), None)
    inner = inner or value.get("additionalProperties")
    if value.get("type") == "object" and isinstance(inner, dict):
        return f"mapping of names to {_type(inner, anchor)}"
    if value.get("format") == "date":
        return "date"
    if value.get("pattern") == NAME:
        return "name"
    if "pattern" in value:
        return f"text like {code(value['pattern'])}"
    limits = [f"{sign} {value[key]:g}" for key, sign in BOUNDS if key in value]
    return " ".join([kind, " and ".join(limits)]).strip()


def _word(name: str) -> str:
    """Heading for a class."""
    return name.strip("_")


def _id(anchor: str, name: str) -> str:
    return f"{anchor}-{name.strip('_').lower()}"
