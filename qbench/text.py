"""Values as text for readers: numbers with as many digits as are known, counts, shares, lists, and
text that comes from others made safe to print."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, except tab and line feed, and those that change the writing direction."""
_MARKS = re.compile(r"[\\`*_\[\]#|~!]")


def printable(words: str) -> str:
    """Text without control characters. Anything from a bundle may hold some, and they would steer
    the terminal."""
    return _CONTROL.sub("", words)


def markdown(words: str) -> str:
    """Text as one line of Markdown, with its own marks and HTML escaped."""
    line = " ".join(printable(words).split())
    return _MARKS.sub(r"\\\g<0>", html.escape(line, quote=False))


def figure(
    value: float, low: float | None = None, high: float | None = None, sign: str = ""
) -> str:
    """A number with as many digits as are known, without an exponent.

    With an interval, two significant digits of half its width, ``(high - low) / 2``; without one,
    three significant digits of the number. ``figure(low, low, high)`` gives the end of an interval
    the same decimals.

    Args:
        sign: "+" to write the sign of positive numbers as well.
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
    """``1.234 (1.210 … 1.258)``; without an interval only the number."""
    text = figure(value, low, high, sign)
    if low is None or high is None:
        return text
    return f"{text} ({figure(low, low, high, sign)} … {figure(high, low, high, sign)})"


def percent(share: float, digits: int = 0) -> str:
    """``12 %`` for 0.12."""
    return f"{100 * share:.{digits}f} %"


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 case``, ``2,400 cases``; ``plural`` where an s is not enough."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def names(words: Sequence[str], most: int) -> str:
    """``a, b and 3 more``: the first ``most`` words, and the number of the others."""
    left = len(words) - most
    return ", ".join(words[:most]) + (f" and {left:,} more" if left > 0 else "")
