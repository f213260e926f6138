"""One voice for the reasons why a job failed: a status, and a sentence that a person can act on.

A tool's error is raw text: lines of its source code, paths of the working folder, codes for
colours. The worker's log keeps it; the reason says what failed, at which operator, and what helps.
Three things make a reason:

1. ``Known`` messages: what a message of a tool means, in qbench's words. Each adapter and converter
   lists those of its tools (``messages``). The same message is the same status in every job.
2. The class of the error: ``Unsupported`` is ``skipped``, ``PrepareError`` is ``prepare_failed``,
   memory that ran out is ``oom``, and all others are ``error``.
3. ``sentence``, which cleans whatever text is left.

Python 3.10, standard library only. Every worker imports this module, so it compiles no pattern and
imports nothing large before something fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

LONGEST = 200
"""Maximum length of a reason, in characters."""
READ = 4000
"""Number of characters of a tool's error that a sentence is searched in."""


class Told(Exception):
    """An error whose message is a reason already.

    Attributes:
        status: of the job that it ends.
    """

    status: ClassVar[str]


class Known(NamedTuple):
    """A message of a tool, and what it means.

    Attributes:
        pattern: regular expression, searched in the raw text of an error and of its causes.
        status: ``skipped`` if the runtime cannot do it, ``prepare_failed`` if the file is at fault
            or a tool failed, ``error`` if the program failed on its inputs, ``oom``.
        says: the reason. ``{0}`` is the pattern's first group, ``{1}`` its second, ...
    """

    pattern: str
    status: str
    says: str


class Reason(NamedTuple):
    """The status of a failed job, and why it failed, in one line of at most ``LONGEST``
    characters."""

    status: str
    text: str


OUT_OF_MEMORY = (
    "MemoryError", "bad_alloc", "bad allocation", "Failed to allocate memory",
    "Memory allocation", "Cannot allocate",
)  # fmt: skip
"""What tools say when they run out of memory."""

_INTERNAL = (
    LookupError, AttributeError, TypeError, NameError, AssertionError, ArithmeticError,
    NotImplementedError, RecursionError, StopIteration,
)  # fmt: skip
"""Errors that say something about the code that raises them, and nothing about the model."""


def explain(error: BaseException, known: Sequence[Known] = ()) -> Reason:
    """The status and reason of a job that ended with an error.

    Args:
        known: messages of the adapter's or converter's tools, the most specific first.
    """
    causes = [*_with_causes(error)]
    raw = [_ends(str(one)) for one in causes]
    if any(isinstance(one, MemoryError) for one in causes) or any(
        sign in text for text in raw for sign in OUT_OF_MEMORY
    ):
        return Reason("oom", short(f"out of memory: {sentence(error)}"))
    for message in known:
        if isinstance(error, Told) and message.status != error.status == "skipped":
            continue  # the adapter knows better: it is no fault
        for text in raw:
            found = re.search(message.pattern, text, re.DOTALL)
            if found:
                return Reason(message.status, short(message.says.format(*found.groups(""))))
    if isinstance(error, Told):
        return Reason(error.status, short(str(error)))
    if isinstance(error, FileNotFoundError | PermissionError):
        return Reason("prepare_failed", f"a file cannot be read: {sentence(error)}")
    return Reason("error", sentence(error))


def _ends(text: str) -> str:
    """Beginning and end of a long text: patterns take time with the square of its length."""
    return text if len(text) <= 2 * READ else f"{text[:READ]}\n{text[-READ:]}"


def sentence(error: BaseException | str) -> str:
    """The first sentence of a tool's error, for a message: ``short``, and without the rest of it.

    For an internal error of a tool, such as a missing key, it names the place in the code."""
    if isinstance(error, _INTERNAL):
        return short(f"{_place(error)}: {_internal(error)}")
    if isinstance(error, SystemExit):
        return short(f"it ends the process with exit code {error.code}")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package '{error.name}' is not installed"
    if isinstance(error, OSError) and error.strerror:
        named = f": {short(str(error.filename))}" if error.filename else ""
        return short(f"{error.strerror}{named}")
    first = re.split(_END_OF_SENTENCE, _plain(str(error)), maxsplit=1)[0]
    if isinstance(error, BaseException) and not first:
        return f"{_place(error)} failed without a message"
    return _cut(first)


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` in one line of at most ``longest`` characters, without escape codes, places in
    source code, addresses of memory or of the network, classes of exceptions, and folders."""
    return _cut(_plain(text), longest)


# --------------------------------------------------------------------------- errors


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _internal(error: BaseException) -> str:
    text = short(str(error)) if str(error) else ""
    if isinstance(error, KeyError):
        return f"it has no entry {text}"
    return f"an internal error: {text}" if text else "an internal error"


def _place(error: BaseException) -> str:
    """``onnxruntime, quant_utils.py, line 12``: where an error was raised."""
    from traceback import extract_tb

    frames = extract_tb(error.__traceback__)
    if not frames:
        return "a tool"
    path = Path(frames[-1].filename)
    parts = path.parts
    marks = [i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    package = f"{parts[marks[-1] + 1]}, " if marks and marks[-1] + 2 < len(parts) else ""
    return f"{package}{path.name}, line {frames[-1].lineno}"


# --------------------------------------------------------------------------- text

_ESCAPE = (
    r"(?:\x1b|\\x1b|\\033|\\u001b|␛)"
    r"(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_SOURCE = r"(?<![\w./\\-])[\w./\\-]*\w\.(?:cc|cpp|cxx|c|h|hpp|hh|inl|inc|cu|cuh):\d+:?"
_NOISE = "|".join(
    (
        r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
        r"Exception from \S+?:\d+:",
        r"Check '.*?' failed(?: at \S+?:\d+)?:",
        r"FrontEnd API failed with \w+:",
        r"Non-zero status code returned while running ",
        r"\[\w*(?:Error|Exception|Failure)\]",
        # a place in C++, its function, and the condition that does not hold
        rf"{_SOURCE}(?: [\w:&<>,*~ ]*?\([^()]*\)(?: const)?(?= ))?(?:.{{1,200}}? was false\.?)?",
        r"<class '[^']*'>:?",
        r"(?<![\w.])(?:\w+\.)*\w+(?:Error|Exception|Failure|Interrupt)\b(?:\(\))?:?",
    )
)
_MEMORY = r"(?: at)? ?0[xX][0-9a-fA-F]{4,}"
_URL = r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\")>\]]*"
_HOST = (
    r"(?<=host=')[^']*|(?<![\w.-])(?:[\w-]+\.)+(?:com|org)\b(?!\.\w)(?::\d+)?"
    r"|(?<![\w.-])(?:[\w-]+\.){2,}(?:net|io|dev|edu|gov|local|internal|lan)\b(?!\.\w)(?::\d+)?"
    r"|(?<![\w.-])(?:[\w-]+\.)+[a-z]\w*:\d{2,5}\b|\b\d{1,3}(?:\.\d{1,3}){3}:\d+\b"
    r"|\blocalhost(?::\d+)?\b"
)
_WORKING = r"qbench-[^\s/'\"]*-\d+-\w{6,}"
_PART = r"[^\s'\"():,;<>|\[\]{}/]"
_PATH = rf"(?:(?<![\w.~])(?:file:)?~?/|/(?=tmp/))(?:{_PART}+/)+{_PART}*"
_ROOTS = {"tmp", "var", "home", "Users", "usr", "opt", "mnt", "onnxruntime_src", "__w"}
"""First folders of paths. Operators of torch have names that look like paths: ``/model.0/Conv``."""
_END_OF_SENTENCE = r"(?<=[\w)'\]\"])[.!] (?=[A-Z(])"


def _plain(text: str) -> str:
    """``text`` in one line, without what only the tool's authors understand."""
    text, before = text[:READ], None
    while text != before:  # what is left of two neighbours may be one more
        before = text
        text = re.sub(_ESCAPE, "", text)
        text = "".join(c if c.isprintable() else " " for c in text)
        text = re.sub(_URL, "…", text)
        text = re.sub(_PATH, _name, text)
        text = re.sub(_NOISE, " ", text)
        text = re.sub(_MEMORY, "", text)
        text = re.sub(_WORKING, "the working folder", text)
        text = re.sub(_HOST, "…", text)
        text = re.sub(r"\s+", " ", text).lstrip(" .:;,-=>#*").rstrip()
    return text


def _name(found: re.Match[str]) -> str:
    """The last part of a path; the whole of a name that only looks like one."""
    from tempfile import gettempdir

    text = found.group().removeprefix("file:")
    path = Path(text)
    known = text[0] == "~" or path.parts[1] in _ROOTS or "tmp" in path.parts
    if not known and not _exists(Path(*path.parts[:3])):
        return text
    if str(path.parent) in ("/tmp", "/var/tmp", gettempdir()):
        return "a temporary file"
    return path.name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder of another user
        return False


_LEFT = " .:;,-=(#*"
"""What may be left at the end when the rest is cut off."""


def _cut(text: str, longest: int = LONGEST) -> str:
    """``text`` without its full stop, and at most ``longest`` characters, cut between words."""
    text = text.rstrip(_LEFT)
    if len(text) <= longest:
        return text
    head = text[: longest - 1]
    words = head[: head.rfind(" ")] if " " in head[longest // 2 :] else head
    return words.rstrip(_LEFT) + "…"
