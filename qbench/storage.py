"""Crash-safe files: after a crash there is the old or the new content, never a part of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = "."
"""Prefix of the names of incomplete files; such a file remains only after a kill."""
_BLOCK = 1 << 20
"""Size of the blocks for copying, in bytes."""


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, hexadecimal, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Sync renames and new names in ``folder``."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, sync it, and rename it into place."""
    with _new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def copy_file(source: Path, path: Path) -> None:
    """Copy ``source`` as ``write_file`` writes; it may be larger than memory."""
    with source.open("rb") as content, _new_file(path) as file:
        shutil.copyfileobj(content, file, _BLOCK)


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a temporary file that is synced and becomes ``path`` if the block succeeds."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def save_array(path: Path, array: np.ndarray) -> None:
    """Save an array like ``np.save``, but raise a clear error when the disk is full."""
    import numpy as np

    buffer = BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line to ``path`` and sync it; if that fails, ``path`` stays unchanged."""
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.ftruncate(file.fileno(), before)
            raise


def parse_json(text: str | bytes) -> Any:
    """Parse untrusted JSON.

    Raises:
        ValueError: it is malformed, too deeply nested, or has an integer of more than 64 bits,
            which qbench never writes and NumPy cannot hold.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"{digits[:20]}... exceeds 64 bits")
    return int(digits)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the records that ``append_line`` wrote, without an incomplete last line.

    Raises:
        ValueError: another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = parse_json(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: damaged line: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: damaged line: not a JSON object")
        records.append(record)
    return records


def drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that lines can be appended."""
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())


def leaves(value: Any, name: str = "", split_lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Flatten JSON: its leaves by their path, as ``host.gpus.0.driver``, without None.

    Args:
        name: the path of ``value``.
        split_lists: False: a list that holds no objects is a leaf.
    """
    if isinstance(value, list) and (split_lists or any(isinstance(v, dict) for v in value)):
        value = {str(index): part for index, part in enumerate(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}" if name else str(key), split_lists)
    elif value is not None:
        yield name, value


def sync_files(folder: Path) -> None:
    """Sync the content of all files below ``folder``."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def remove_half_made(parent: Path) -> None:
    """Remove incomplete folders in ``parent`` that ``new_folder`` left when its process was
    killed."""
    import psutil

    for folder in parent.glob(f"{TEMPORARY}*-*") if parent.is_dir() else ():
        pid = folder.name.removeprefix(TEMPORARY).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``target`` if the block succeeds.

    If another process has made ``target`` meanwhile, that one is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{TEMPORARY}{os.getpid()}-"))
    try:
        yield folder
        sync_files(folder)
        folder.chmod(0o755)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Return the total size of the files in ``folder``."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def cache_dir() -> Path:
    """Return the folder of artifacts, downloads and preprocessed data: ``$QBENCH_CACHE``, or
    qbench's folder in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("QBENCH_CACHE") or platformdirs.user_cache_dir("qbench"))
