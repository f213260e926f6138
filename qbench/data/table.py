"""Text files and tables: whatever is wrong in them is told with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from qbench.errors import UserError, nearest

MAX_BYTES = 500_000_000
"""Of one text file."""


def read_text(path: Path) -> str:
    """A whole text file.

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
    """UTF-8, with or without a byte order mark.

    Raises:
        UserError: it is something else.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}:{line}: this is not UTF-8 text: {error.reason}") from None


class Table:
    """A CSV or TSV with a heading: ``rows`` by column, each with the line it ends on.

    Args:
        path: tab-separated and without quoting if ``tabs``, as GLUE's files are, else CSV.

    Raises:
        UserError: a line has another number of columns than the heading.
    """

    def __init__(self, path: Path, tabs: bool = False) -> None:
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
            self.columns = next(lines, [])
            if len(set(self.columns)) != len(self.columns):
                raise UserError(f"{path}:1: two columns have the same name")
            for row in lines:
                if not row:
                    continue  # an empty line
                if len(row) != len(self.columns):
                    raise UserError(
                        f"{path}:{lines.line_num}: this line has {len(row)} columns, "
                        f"the heading {len(self.columns)}"
                    )
                self.rows.append(dict(zip(self.columns, row, strict=True)))
                self.lines.append(lines.line_num)
        except csv.Error as error:
            raise UserError(f"{path}:{lines.line_num}: not a table: {error}") from None

    def need(self, column: str) -> None:
        """Raise UserError if there is no such column."""
        if column not in self.columns:
            raise UserError(
                f"{self.path}:1: there is no column '{column}'", nearest(column, self.columns)
            )

    def integer(self, row: int, column: str) -> int:
        """A cell as an integer; UserError with its line if it is none."""
        value = self.rows[row][column]
        try:
            return int(value)
        except ValueError:
            raise UserError(
                f"{self.path}:{self.lines[row]}: label '{value[:60]}' is no integer"
            ) from None

    def number(self, row: int, column: str) -> float:
        """A cell as a finite number; UserError with its line if it is none."""
        value = self.rows[row][column]
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not abs(number) < float("inf"):
            raise UserError(f"{self.path}:{self.lines[row]}: score '{value[:60]}' is no number")
        return number
