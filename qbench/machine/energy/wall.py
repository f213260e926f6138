"""A wall meter of the machine: its log (``--power-log``), or a command that prints watts
(``--power-command``). Both are read after the energy pass; ``qbench.machine.energy.marker`` aligns
their clocks.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np

MAX_BYTES = 64_000_000
MAX_ROWS = 2_000_000
LONGEST_LINE = 1000
MAX_WATTS = 1e7
MAX_DAYS = 7
LAST_SECOND = 1e11
"""Maximum time of a meter's clock in seconds (the year 5138); milliseconds since 1970 exceed it."""

TIME_NAMES = (
    "time",
    "timestamp",
    "datetime",
    "date",
    "epoch",
    "seconds",
    "time_s",
    "t",
    "time (s)",
)
WATT_NAMES = ("watts", "watt", "w", "power", "power_w", "power (w)", "power [w]", "p")
_FORM = "A log has the columns time,watts, with time in ISO 8601, epoch seconds or seconds."


@dataclass(frozen=True)
class Log:
    """Readings of a meter.

    Attributes:
        times_s: ``[n]`` float64, increasing; seconds of the meter's clock.
        watts: ``[n]`` float64.
    """

    times_s: np.ndarray
    watts: np.ndarray


class MeterError(Exception):
    """A wall meter's log or command is not usable.

    Attributes:
        message: the problem, with its place (``file:line``) if it is in a file.
        fix: the next step; "" if there is none.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message, self.fix = message, fix

    def __str__(self) -> str:
        return f"{self.message}. {self.fix}" if self.fix else self.message


class WallMeter(Protocol):
    """A meter of the whole machine's power.

    Attributes:
        method: its name in the case table.
        same_clock: whether its times are of the monotonic clock, apart from the meter's delay.
    """

    @property
    def method(self) -> str: ...
    @property
    def same_clock(self) -> bool: ...
    def running(self) -> AbstractContextManager[None]:
        """Keep the meter running during the energy pass. Raises MeterError if it is not usable."""
        ...

    def read(self) -> Log:
        """Return all readings so far; called inside ``running``. Raises MeterError."""
        ...


# --------------------------------------------------------------------------- a log


@dataclass(frozen=True)
class PowerLog:
    """A file that the meter's software writes, on this machine or copied here in time."""

    path: Path
    same_clock = False

    @property
    def method(self) -> str:
        return f"wall meter ({self.path.name})"

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self.path.parent.is_dir():
            raise MeterError(f"--power-log: no such folder: {self.path.parent}")
        yield

    def read(self) -> Log:
        return read_power_log(self.path)


def read_power_log(path: Path) -> Log:
    """Read a meter's log: text, one row per line, separated by comma, semicolon or tab.

    The first row may name the columns (``TIME_NAMES``, ``WATT_NAMES``); without names there are
    two, time and watts. Times are ISO 8601 (UTC without a zone; Python 3.10 reads fewer forms),
    seconds since 1970, or seconds since any start. With semicolons or tabs, numbers may have a
    decimal comma. Empty lines, lines that begin with ``#`` and an incomplete last line are ignored.

    Raises:
        MeterError: the file is unreadable or too large, or a line is malformed; names the line.
    """
    rows = _rows(path)
    heading = next(rows, None)
    if heading is None:
        raise MeterError(f"{path}:1: the power log is empty", _FORM)
    time_column, watt_column, named = _columns(path, heading.number, heading.fields)
    first = next(rows, None) if named else heading
    if first is None:
        raise MeterError(f"{path}:{heading.number}: the power log has no rows", _FORM)
    decimal = "," if heading.separator != "," else "."
    width = len(first.fields)
    read_time = _time_reader(first.fields[time_column] if time_column < width else "", decimal)
    times: list[float] = []
    watts: list[float] = []
    for number, fields, _ in chain([first], rows):
        where = f"{path}:{number}"
        if len(fields) != width or max(time_column, watt_column) >= width:
            raise MeterError(f"{where}: {len(fields)} fields, not {width}", _FORM)
        try:
            moment = read_time(fields[time_column])
            power = _number(fields[watt_column], decimal)
        except ValueError as error:
            raise MeterError(f"{where}: {error}", _FORM) from None
        if abs(moment) > LAST_SECOND:
            raise MeterError(f"{where}: {moment:g} s: milliseconds? Seconds are expected", _FORM)
        if not 0 <= power <= MAX_WATTS:
            raise MeterError(f"{where}: {power:g} W is not plausible", _FORM)
        if times and moment <= times[-1]:
            raise MeterError(
                f"{where}: the time does not increase",
                "Configure the meter to log in UTC with fractions of seconds, or thin the log out.",
            )
        if times and moment - times[0] > MAX_DAYS * 86400:
            raise MeterError(f"{where}: the log spans more than {MAX_DAYS} days", "Cut it.")
        times.append(moment)
        watts.append(power)
    return Log(np.array(times), np.array(watts))


class _Row(NamedTuple):
    """A row of a log: its line number, its fields, and the log's separator."""

    number: int
    fields: list[str]
    separator: str


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the rows that are not empty."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MeterError(f"cannot read the power log {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise MeterError(f"{path} is larger than {MAX_BYTES // 10**6} MB", "Cut the log.")
    try:
        # the meter may still be writing the last line
        lines = content.decode("utf-8-sig").split("\n")[:-1]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MeterError(f"{path}:{line}: this is not UTF-8 text", _FORM) from None
    if len(lines) > MAX_ROWS:
        raise MeterError(f"{path} has more than {MAX_ROWS} lines", "Cut the log.")
    separator = None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if len(line) > LONGEST_LINE:
            raise MeterError(f"{path}:{number}: longer than {LONGEST_LINE} characters", _FORM)
        separator = separator or next((s for s in "\t;," if s in line), None)
        if separator is None:
            raise MeterError(f"{path}:{number}: no comma, semicolon or tab", _FORM)
        try:
            (fields,) = csv.reader([line], delimiter=separator, strict=True)
        except (csv.Error, ValueError):
            raise MeterError(f"{path}:{number}: an unclosed quote", _FORM) from None
        yield _Row(number, [field.strip() for field in fields], separator)


class _Columns(NamedTuple):
    """Indices of the columns of time and watts, and whether the first row names them."""

    time: int
    watts: int
    named: bool


def _columns(path: Path, number: int, fields: Sequence[str]) -> _Columns:
    """Find the columns of a log from its first row."""
    words = [field.lower() for field in fields]
    found = [[i for i, w in enumerate(words) if w in names] for names in (TIME_NAMES, WATT_NAMES)]
    if [len(columns) for columns in found] == [1, 1]:
        return _Columns(found[0][0], found[1][0], True)
    if len(fields) == 2 and any(c.isdigit() for c in fields[0] + fields[1]):
        return _Columns(0, 1, False)
    raise MeterError(
        f"{path}:{number}: no columns of time and watts in '{', '.join(fields)}'",
        f"Name one of them {' or '.join(TIME_NAMES)}, and one {' or '.join(WATT_NAMES)}.",
    )


def _number(text: str, decimal: str) -> float:
    if decimal == "," and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:  # Python reads 1_000
        raise ValueError(f"'{text[:40]}' is not a number")
    return value


def _time_reader(first: str, decimal: str) -> Callable[[str], float]:
    """Return a function that reads times in the format of ``first``."""
    try:
        _number(first, decimal)
    except ValueError:
        return _iso_seconds
    return lambda text: _number(text, decimal)


def _iso_seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))  # Python 3.10 reads no Z
        if len(text) < len("2026-01-01T00:00"):  # Python reads a date alone as midnight
            raise ValueError
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"'{text[:40]}' is not a time") from None


# --------------------------------------------------------------------------- a command


class PowerCommand:
    """A program that prints watts, one number per line, without delay.

    Each line is timed by the monotonic clock when it arrives. No shell is involved.
    """

    FIRST_S = 15.0
    """Maximum time until its first number."""
    same_clock = True

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise MeterError(f"--power-command: {error}", "Close its quotes.") from None
        if not self._words:
            raise MeterError("--power-command is empty", "Give a command that prints watts.")
        self._forget()

    def _forget(self) -> None:
        self._times: list[int] = []
        self._watts: list[float] = []
        self._problem = ""
        self._first = threading.Event()

    @property
    def method(self) -> str:
        return f"wall meter ({Path(self._words[0]).name})"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the program, and wait for its first number.

        Raises:
            MeterError: it does not start, ends, or prints other text before any number.
        """
        self._forget()
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise MeterError(
                    f"--power-command: cannot run {self._words[0]}: {error.strerror}"
                ) from None
            assert process.stdout
            reader = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
            reader.start()
            try:
                self._await_first(errors)
                yield
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                reader.join()
                process.stdout.close()

    def _await_first(self, errors: IO[bytes]) -> None:
        self._first.wait(self.FIRST_S)
        if self._watts:
            return
        errors.seek(0)
        said = errors.read(LONGEST_LINE).decode(errors="replace").strip().splitlines()
        problem = self._problem or f"it printed nothing for {self.FIRST_S:g} s"
        raise MeterError(
            f"--power-command: {problem}{': ' + said[-1] if said else ''}",
            "It must print watts without delay, one number per line (`stdbuf -oL` helps some "
            "programs).",
        )

    def _listen(self, stdout: IO[bytes]) -> None:
        try:
            for number in range(1, MAX_ROWS + 1):
                line = stdout.readline(LONGEST_LINE)
                now = time.monotonic_ns()
                if not line:
                    self._problem = f"it ended after {number - 1} lines"
                    return
                watts = _number(line.decode(errors="replace").strip(), ".")
                if not 0 <= watts <= MAX_WATTS:
                    raise ValueError(f"{watts:g} W is not plausible")
                self._times.append(now)
                self._watts.append(watts)
                self._first.set()
        except ValueError as error:
            self._problem = f"line {len(self._times) + 1}: {error}"
        finally:
            self._first.set()

    def read(self) -> Log:
        if self._problem:
            raise MeterError(f"--power-command: {self._problem}")
        count = len(self._watts)  # the other thread adds the time first
        return Log(np.array(self._times[:count]) * 1e-9, np.array(self._watts[:count]))
