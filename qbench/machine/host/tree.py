"""Reading the files in which Linux says what a machine is: /proc, /sys, /etc."""

from __future__ import annotations

from pathlib import Path


class Tree:
    """The files below ``root``: ``/``, or a copy of another machine's.

    A file that cannot be read is no error here, since every kernel and container shows others.
    Paths are given without the leading slash.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str | Path) -> str | None:
        """The file's content without surrounding white space; None if it cannot be read."""
        try:
            content = (self.root / path).read_bytes()
        except OSError:
            return None
        return content.decode(errors="replace").strip("\0 \t\n")

    def number(self, path: str | Path) -> int | None:
        """The file's content as a number; None if it cannot be read or is none."""
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def pairs(self, path: str | Path) -> dict[str, int]:
        """A file of lines ``name[:] number [unit]``, such as /proc/meminfo and /proc/vmstat."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            name, *rest = line.split()
            if rest and rest[0].isdigit():
                found[name.rstrip(":")] = int(rest[0])
        return found

    def paths(self, pattern: str) -> list[Path]:
        """What matches, sorted."""
        return sorted(self.root.glob(pattern))

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()


def cpu_numbers(text: str | None) -> set[int]:
    """The processors of a kernel's list such as ``0-3,8,10-11``."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found
