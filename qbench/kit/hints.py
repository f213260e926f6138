"""Hints: a runtime's own settings, as a dataclass that the kit checks. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_HintsT = TypeVar("_HintsT")


def hint(
    default: Any, *, name: str = "", minimum: float | None = None, maximum: float | None = None
) -> Any:
    """A field of a hints dataclass.

    Args:
        name: the hint's name in suites, if it is no Python identifier.
        minimum, maximum: bounds of a number, inclusive.
    """
    return field(default=default, metadata={"name": name, "minimum": minimum, "maximum": maximum})


def hint_names(kind: type[Any]) -> dict[str, str]:
    """Names of the hints in suites, by the dataclass' field."""
    return {f.name: f.metadata.get("name") or f.name for f in fields(kind)}


def read_hints(kind: type[_HintsT], hints: Mapping[str, Any], runtime: str) -> _HintsT:
    """A suite's hints as an instance of the dataclass ``kind``, checked.

    Args:
        kind: fields of type bool, int, float, str or a Literal of strings; ``| None`` only as the
            default. See :func:`hint`.
        runtime: name for the messages.

    Raises:
        ValueError: an unknown hint, or a value that it does not take.
    """
    by_name = {name: field for field, name in hint_names(kind).items()}
    types = get_type_hints(kind)
    bounds = _bounds(kind)
    values: dict[str, Any] = {}
    for name, value in hints.items():
        if name not in by_name:
            known = f"Known: {', '.join(sorted(by_name))}." if by_name else "There are none."
            raise ValueError(f"{runtime} has no hint '{name}'. {known}")
        key = by_name[name]
        low, high = bounds[key]
        fits = _is_of(value, types[key])
        if not fits or (low is not None and value < low) or (high is not None and value > high):
            text = _described(types[key], low, high)
            raise ValueError(f"hint {name} is {text}, not {value!r}")
        values[key] = value
    return kind(**values)


def _bounds(kind: type[Any]) -> dict[str, tuple[float | None, float | None]]:
    """Minimum and maximum of each field."""
    return {f.name: (f.metadata.get("minimum"), f.metadata.get("maximum")) for f in fields(kind)}


def _kinds(annotation: Any) -> list[Any]:
    """The types of a hint, without None."""
    union = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if union else (annotation,)
    return [kind for kind in kinds if kind is not type(None)]


def _is_of(value: Any, annotation: Any) -> bool:
    return any(
        value in get_args(kind) if get_origin(kind) is Literal else type(value) is kind
        for kind in _kinds(annotation)
    )


def _described(annotation: Any, low: float | None, high: float | None) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    parts = [
        f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else words[kind]
        for kind in _kinds(annotation)
    ]
    bounds = (
        "" if low is None else f" from {low:g} up" if high is None else f" from {low:g} to {high:g}"
    )
    return " or ".join(parts) + bounds


@dataclass(frozen=True)
class NoHints:
    """Hints of a runtime that has no settings of its own."""
