"""Reasons that qbench's own source holds: none is too long, nor names what a person cannot read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from paths import ROOT
from readable import assert_readable

from qbench.kit.reasons import LONGEST

KINDS = ("Unsupported", "PrepareError", "NoSource", "DecoderFailed")
VALUE = "x"
"""Stands for a value of which nothing is known."""


def reasons() -> Iterator[tuple[str, str]]:
    """Each reason in the source with its place; values are replaced by ``VALUE``."""
    for folder in ("qbench", "backends"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(ast.Name("Known"), [_, _, says]):
                        text = words(says)
                    case ast.Call(ast.Name(name), [says, *_]) if name in KINDS:
                        text = words(says)
                    case _:
                        continue
                if text.strip(VALUE):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def words(node: ast.expr) -> str:
    match node:
        case ast.Constant(str(text)):
            return re.sub(r"\{\d\}", VALUE, text)
        case ast.JoinedStr(parts):
            return "".join(map(words, parts))
        case ast.BinOp(left, ast.Add(), right):
            return words(left) + words(right)
        case ast.IfExp(_, body, orelse):
            return max(words(body), words(orelse), key=len)
        case _:
            return VALUE


def test_there_are_reasons_to_be_checked():
    assert len(list(reasons())) > 100


@pytest.mark.parametrize(("place", "text"), list(reasons()), ids=lambda value: str(value)[:60])
def test_a_reason_of_the_source_can_be_read(place: str, text: str):
    assert len(text) <= LONGEST, f"{place}: {len(text)} characters: {text}"
    assert_readable(text.rstrip(".:, "))
    assert not re.search(r"__name__|\b0 convolutions\b", text), place
