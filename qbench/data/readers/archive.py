"""Read untrusted folders and zips through one interface.

Nothing outside the folder or archive is read, and sizes are limited: an archive has no entries or
links outside its root, and does not unpack to an implausible size.
"""

from __future__ import annotations

import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from qbench.errors import UserError
from qbench.spec.files import inside

MAX_FILE_BYTES = 50_000_000
"""Maximum size of one picture, mask or label file."""
MAX_TOTAL_BYTES = 500_000_000_000
"""Maximum size of all files of an archive; ImageNet has 150 GB."""
MAX_RATIO = 200
BOMB_BYTES = 10_000_000
"""An entry that unpacks to more than ``BOMB_BYTES`` and to more than ``MAX_RATIO`` times its packed
size is rejected as a zip bomb: pictures do not compress, and text not that much."""


class Files(ABC):
    """Files by name, with ``/`` between folders.

    Attributes:
        path: the folder or archive.
        names: sorted names of all files, except hidden ones (.DS_Store, __MACOSX/).
    """

    path: Path
    names: list[str]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            UserError: it is missing, too large, damaged, or outside.
        """

    def close(self) -> None:  # noqa: B027 - a folder has nothing to close
        """Close the archive."""


class Folder(Files):
    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = path.resolve()
        found = (p for p in path.rglob("*") if p.is_file())
        self.names = _visible(p.relative_to(path).as_posix() for p in found)

    def read(self, name: str) -> bytes:
        path = self.path / name
        if not inside(name) or not path.resolve().is_relative_to(self._root):
            raise UserError(f"{self.path}: {name} lies outside this folder")
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise UserError(f"{path} is implausibly large: over {MAX_FILE_BYTES} bytes")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None


class Zip(Files):
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read as a zip: {error}") from None
        try:
            self._files = _checked(path, self._zip)
        except BaseException:
            self._zip.close()
            raise
        self.names = _visible(self._files)

    def read(self, name: str) -> bytes:
        if name not in self._files:
            raise UserError(f"cannot read {name}: it is not in {self.path}")
        if self._files[name].file_size > MAX_FILE_BYTES:
            raise UserError(
                f"{self.path}: {name} is implausibly large: over {MAX_FILE_BYTES} bytes"
            )
        try:
            return self._zip.read(name)
        except (
            Exception
        ) as error:  # a damaged one can raise anything: zlib.error, RuntimeError, ...
            raise UserError(f"cannot read {name} in {self.path}: {error}") from None

    def close(self) -> None:
        self._zip.close()


def _checked(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive after checks of their names and sizes.

    Raises:
        UserError: an entry is outside the root, a link, encrypted, too large or a duplicate.
    """
    files: dict[str, zipfile.ZipInfo] = {}
    total = sum(info.file_size for info in archive.infolist())
    if total > MAX_TOTAL_BYTES:
        raise UserError(f"{path} would unpack to {total} bytes, over {MAX_TOTAL_BYTES}")
    for info in archive.infolist():
        name = info.orig_filename
        if not inside(name):
            raise UserError(f"{path}: the entry '{name}' points outside the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{path}: the entry '{name}' is a symbolic link")
        if info.flag_bits & 1:
            raise UserError(f"{path}: the entry '{name}' is encrypted")
        if info.file_size > max(BOMB_BYTES, MAX_RATIO * info.compress_size):
            raise UserError(
                f"{path}: the entry '{name}' would unpack to {info.file_size} bytes from "
                f"{info.compress_size}: a zip bomb?"
            )
        if name in files:
            raise UserError(f"{path}: duplicate entry '{name}'")
        if not info.is_dir():
            files[name] = info
    return files


def _visible(names: Iterator[str] | Mapping[str, object]) -> list[str]:
    return sorted(
        name
        for name in names
        if not any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(name).parts)
    )


def open_files(path: Path) -> Files:
    """Open a folder or a zip.

    Raises:
        UserError: it is neither, or an unsafe archive.
    """
    return Folder(path) if path.is_dir() else Zip(path)
