"""Digests of files and folders."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from qbench.errors import UserError
from qbench.storage import digest_file, digest_json

SETTLED_NS = 2_000_000_000
"""A file modified more recently than this may change again without a new modification time."""


def digest_path(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; of a folder, over the names and contents of its
    files.

    Raises:
        UserError: a link points out of the folder.
    """
    if path.is_file():
        return _digest(path)
    top = path.resolve()
    found = []
    for inner in sorted(path.rglob("*")):
        if not inner.resolve().is_relative_to(top):
            raise UserError(
                f"{inner} is a link that points out of its folder",
                "A folder that a card names must contain all its files.",
            )
        if inner.is_file():
            found.append([inner.relative_to(path).as_posix(), _digest(inner)])
    return digest_json(found)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, computed once per process while the file is unchanged."""
    stat = path.stat()
    if time.time_ns() - stat.st_mtime_ns < SETTLED_NS:
        return digest_file(path)
    return _digest_once(path.resolve(), stat.st_mtime_ns, stat.st_size)


@cache
def _digest_once(path: Path, mtime_ns: int, size: int) -> str:
    return digest_file(path)
