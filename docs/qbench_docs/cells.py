"""HTML tables, because messages and patterns contain characters that Markdown interprets."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence


def text(words: str) -> str:
    """Escape text as HTML; text in single or double backticks becomes code."""
    escaped = html.escape(" ".join(words.split()), quote=False)
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escaped)


def code(words: str) -> str:
    return f"<code>{html.escape(words, quote=False)}</code>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table from cells in HTML; "" without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    top = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
    return f"\n{top}{body}</tbody>\n</table>\n" if body else ""
