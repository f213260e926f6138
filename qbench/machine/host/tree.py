"""Read files of /proc, /sys and /etc."""

from __future__ import annotations

from pathlib import Path


class Tree:
    """Files below ``root``: ``/``, or a copy of another machine's.

    An unreadable file is no error, since kernels and containers expose different ones. Paths have
    no leading slash.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str | Path) -> str | None:
        """Return a file's content without surrounding white space; None if it is unreadable."""
        try:
            content = (self.root / path).read_bytes()
        except OSError:
            return None
        return content.decode(errors="replace").strip("\0 \t\n")

    def number(self, path: str | Path) -> int | None:
        """Return a file's content as an integer; None if it is unreadable or not an integer."""
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def pairs(self, path: str | Path) -> dict[str, int]:
        """Read a file of lines ``name[:] number [unit]``, such as /proc/meminfo and
        /proc/vmstat."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            name, *rest = line.split()
            if rest and rest[0].isdigit():
                found[name.rstrip(":")] = int(rest[0])
        return found

    def paths(self, pattern: str) -> list[Path]:
        """Return the paths that match, sorted."""
        return sorted(self.root.glob(pattern))

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()


def cpu_numbers(text: str | None) -> set[int]:
    """Parse a kernel's list of processors, such as ``0-3,8,10-11``."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found
