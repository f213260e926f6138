"""Read text files and tables. Errors name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from qbench.errors import UserError, check_known

MAX_BYTES = 500_000_000
"""Maximum size of a text file."""


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UserError: it is missing, too large, or not UTF-8 (with the line).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return decode(data, str(path))


def decode(data: bytes, where: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        UserError: it is not UTF-8 (with the line).
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}:{line}: this is not UTF-8 text: {error.reason}") from None


class Table:
    """A CSV or TSV: ``rows`` by column, and the last line of each in ``lines``.

    Args:
        tabs: whether the file is tab-separated without quoting, like GLUE's files.
        columns: names of the columns; None if the first line is a heading with them.

    Raises:
        UserError: a line and the heading have different numbers of columns.
    """

    def __init__(
        self, path: Path, tabs: bool = False, columns: Sequence[str] | None = None
    ) -> None:
        self.path = path
        text = io.StringIO(read_text(path), newline="")
        lines = (
            csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
            if tabs
            else csv.reader(text, strict=True)
        )
        self.rows: list[dict[str, str]] = []
        self.lines: list[int] = []
        try:
            self.columns = next(lines, []) if columns is None else list(columns)
            if len(set(self.columns)) != len(self.columns):
                raise UserError(f"{path}:1: two columns have the same name")
            for row in lines:
                if not row:
                    continue  # an empty line
                if len(row) != len(self.columns):
                    raise UserError(
                        f"{path}:{lines.line_num}: this line has {len(row)} columns, "
                        f"the {'heading' if columns is None else 'card'} {len(self.columns)}"
                    )
                self.rows.append(dict(zip(self.columns, row, strict=True)))
                self.lines.append(lines.line_num)
        except csv.Error as error:
            raise UserError(f"{path}:{lines.line_num}: not a table: {error}") from None

    def need(self, column: str) -> None:
        """Raise UserError if a column is missing."""
        check_known(column, self.columns, f"{self.path}:1: no column '{column}'")

    def integer(self, row: int, column: str) -> int:
        """Return a cell as an integer, or raise UserError with its line."""
        value = self.rows[row][column]
        try:
            return int(value)
        except ValueError:
            raise UserError(
                f"{self.path}:{self.lines[row]}: label '{value[:60]}' is not an integer"
            ) from None

    def number(self, row: int, column: str) -> float:
        """Return a cell as a finite number, or raise UserError with its line."""
        value = self.rows[row][column]
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not abs(number) < float("inf"):
            raise UserError(f"{self.path}:{self.lines[row]}: score '{value[:60]}' is not a number")
        return number
