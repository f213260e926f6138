"""Strict reading of YAML files: every error names file and line, and the nearest valid name."""

# ruamel's classes have no types
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from qbench.errors import UserError, nearest

MAX_BYTES = 1_000_000


class Strict(BaseModel):
    """A mapping in a file; unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)


class Lines:
    """The lines of a file's values."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self._data = data

    def at(self, *keys: str | int) -> str:
        """``file:line`` of the value under ``keys``, or of the nearest one that encloses it."""
        node, line = self._data, 1
        for key in keys:
            if not hasattr(node, "lc"):
                break
            try:
                line = node.lc.data[key][0] + 1
                node = node[key]
            except (KeyError, IndexError, TypeError):
                continue  # pydantic adds the names of union members to its locations
        return f"{self.path}:{line}"

    def name(self, *keys: str | int) -> str:
        """The dotted keys of a value as in the file, without the names of union members that
        pydantic adds."""
        node = self._data
        names: list[str] = []
        for key in keys:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                continue
            names.append(str(key))
        return ".".join(names)


def load(path: Path, kind: type[T]) -> tuple[T, Lines]:
    """Read ``path`` as a ``kind``.

    Raises:
        UserError: the file is missing, is not YAML, or does not fit ``kind``.
    """
    return parse(_read(path), path, kind)


def parse(text: str, path: Path, kind: type[T]) -> tuple[T, Lines]:
    """``load`` from a file's text.

    Args:
        path: the file's name in errors.

    Raises:
        UserError: the text is not YAML, or does not fit ``kind``.
    """
    data = _parse(path, text)
    lines = Lines(path, data)
    if not isinstance(data, dict):
        raise UserError(
            f"{path}:1: this file does not hold keys and values",
            "`qbench init` writes files to start from.",
        )
    try:
        return kind.model_validate(data), lines
    except ValidationError as error:
        raise UserError(*_explain(error, kind, data, lines)) from None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES} bytes: not a qbench file")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: this is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _parse(path: Path, text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError
    from ruamel.yaml.tokens import AliasToken, AnchorToken, ScalarToken, TagToken

    refused = {
        AliasToken: "aliases (*name)",
        AnchorToken: "anchors (&name)",
        TagToken: "tags (!name)",
    }
    try:
        for token in YAML().scan(text):
            what = refused.get(type(token))
            if isinstance(token, ScalarToken) and token.plain and token.value == "<<":
                what = "merge keys (<<)"
            if what is not None:
                line = token.start_mark.line + 1
                raise UserError(f"{path}:{line}: {what} are not allowed in qbench files")
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(str(error.problem or error.context).split())
        raise UserError(f"{path}:{line}: not valid YAML: {problem}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{path}:{line}: not valid YAML: the character #x{error.character:04x} is not allowed"
        ) from None
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for a qbench file") from None
    except Exception as error:  # ruamel: ValueError of 2001-99-99, TypeError of `? : []`, ...
        raise UserError(f"{path}: not valid YAML: {error}") from None


def _explain(
    error: ValidationError, kind: type[BaseModel], data: Any, lines: Lines
) -> tuple[str, str]:
    """The first of pydantic's errors as a sentence with its place, and the remedy. A misspelt key
    comes before the key that seems to be missing because of it."""
    found = error.errors(include_url=False)
    first = min(found, key=lambda e: e["type"] != "extra_forbidden")
    keys = first["loc"]
    where = lines.at(*keys)
    name = lines.name(*keys)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{keys[-1]}'", nearest(str(keys[-1]), _fields(kind, keys))
    if first["type"] == "missing":
        name = ".".join([*filter(None, [name]), str(keys[-1])])
        return f"{where}: '{name}' is missing", f"Add a line '{keys[-1]}: ...'."
    message = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])
    given = f" (here: {shown[:60]})" if isinstance(first["input"], str | int | float) else ""
    if first["type"] == "string_pattern_mismatch":
        message = f"this does not match the pattern {first.get('ctx', {}).get('pattern')}"
    elif first["type"] == "too_short":
        message = "this list is empty"
    return f"{where}: {name + ': ' if name else ''}{message}{given}", ""


def _fields(kind: Any, keys: Sequence[str | int]) -> list[str]:
    """The valid names in place of the unknown key ``keys[-1]``."""
    for key in keys[:-1]:
        fields = getattr(kind, "model_fields", {})
        if key in fields:
            kind = _inner(fields[key].annotation)
    return list(getattr(kind, "model_fields", {}))


def _inner(annotation: Any) -> Any:
    """The model class inside an annotation such as ``dict[str, M]`` or ``M | None``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _inner(part)
        if found is not None:
            return found
    return None
