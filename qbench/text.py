"""Numbers with as many digits as are known, and text that is safe to print."""

from __future__ import annotations

import html
import math
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


_MARKS = re.compile(r"[\\`*_\[\]#|~!]")


def printable(words: str) -> str:
    """Without control characters, which would steer the terminal: what is shown may come from
    others, as a bundle's reasons do."""
    return _CONTROL.sub("", words)


def markdown(words: str) -> str:
    """As text in Markdown, in one line: neither its marks nor HTML's do anything."""
    line = " ".join(printable(words).split())
    return _MARKS.sub(r"\\\g<0>", html.escape(line, quote=False))


def figure(
    value: float, low: float | None = None, high: float | None = None, sign: str = ""
) -> str:
    """A number with as many digits as are known of it, without an exponent.

    Two significant digits of half its interval, from ``low`` to ``high``; three significant digits
    of its own where there is no interval. The ends of an interval have the same decimals as what
    they are of: ``figure(low, low, high)``.

    Args:
        sign: "+" to have it said of positive numbers, too.
    """
    if not math.isfinite(value):
        return f"{value:g}"
    half = 0.0 if low is None or high is None else (high - low) / 2
    known, significant = (half, 2) if half > 0 and math.isfinite(half) else (abs(value), 3)
    if known == 0:
        return "0"
    digits = significant - 1 - int(f"{known:.{significant - 1}e}".split("e")[1])
    return f"{round(value, digits) + 0.0:{sign},.{max(0, digits)}f}"


def with_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """``1.234 (1.210 … 1.258)``; without an interval the number alone."""
    text = figure(value, low, high, sign)
    if low is None or high is None:
        return text
    return f"{text} ({figure(low, low, high, sign)} … {figure(high, low, high, sign)})"
