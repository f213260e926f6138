"""Find, verify and unpack the files and folders that cards name."""

from __future__ import annotations

import errno
import lzma
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

from qbench.data.digests import digest_path
from qbench.data.download import Report, from_git, from_hub, from_url
from qbench.data.readers.archive import BOMB_BYTES, MAX_RATIO, MAX_TOTAL_BYTES, Zip
from qbench.errors import UserError
from qbench.spec.files import SourceFile, inside
from qbench.storage import cache_dir, new_folder, write_file

# --------------------------------------------------------------------------- finding


def locate(file: SourceFile, root: Path, report: Report) -> Path:
    """Return the verified local file or folder: below ``root``, in ``$QBENCH_ASSETS``, in the
    cache, or downloaded now.

    Raises:
        UserError: it cannot be obtained, or its SHA-256 differs.
    """
    path = _verified(find(file, root) or _downloaded(file, root, report), file)
    return path if file.member is None else _member(path, file.member)


def find(file: SourceFile, root: Path) -> Path | None:
    """Return where a card's ``path`` is below ``root`` or ``$QBENCH_ASSETS``; None if nowhere."""
    assets = os.environ.get("QBENCH_ASSETS")
    folders = [root, *([Path(assets)] if assets else [])]
    paths = [folder / file.path for folder in folders] if file.path else []
    return next((path for path in paths if path.exists()), None)


def _downloaded(file: SourceFile, root: Path, report: Report) -> Path:
    if file.url is not None and file.sha256 is not None:
        return from_url(file.url, file.sha256, file.path, report)
    if file.hub is not None:
        return from_hub(file.hub, file.path, report)
    if file.git is not None:
        return from_git(file.git, report)
    assets = os.environ.get("QBENCH_ASSETS")
    raise UserError(
        f"cannot find {file.path}, neither in {root.absolute()} nor in "
        + (f"$QBENCH_ASSETS ({assets})" if assets else "$QBENCH_ASSETS, which is not set"),
        "The card has no download address: put the file there.",
    )


def _verified(path: Path, file: SourceFile) -> Path:
    if file.sha256 is not None:
        found = digest_path(path)
        if found != file.sha256:
            raise UserError(
                f"{path} is not the card's file: its SHA-256 is {found}, expected {file.sha256}",
                "Restore the file, or update the card if the change is intended.",
            )
    return path


# --------------------------------------------------------------------------- unpacking


def _member(path: Path, name: str) -> Path:
    """Return one file of a zip (a ``.tflite`` with its labels or vocabulary is one, too), unpacked
    once into the cache.

    Raises:
        UserError: see ``qbench.data.readers.archive.Zip``.
    """
    target = cache_dir() / "unpacked" / f"{digest_path(path)[:32]}-members" / name
    if not target.exists():
        archive = Zip(path)
        try:
            content = archive.read(name)
        finally:
            archive.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, content)
    return target


def unpacked(path: Path) -> Path:
    """Return ``path`` if it is a folder, else the folder of the archive (``.zip``, ``.tar.gz``,
    ``.tgz``), unpacked once into the cache.

    Raises:
        UserError: it is neither, or the archive is damaged, has entries outside its root, or
            exceeds the limits of ``qbench.data.readers.archive``.
    """
    if path.is_dir():
        return path
    folder = cache_dir() / "unpacked" / digest_path(path)[:32]
    if not folder.is_dir():
        with new_folder(folder) as out:
            try:
                _unpack(path, out)
            except (
                *(ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error),
                *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, OSError),
            ) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                raise UserError(f"{path} cannot be unpacked: {error}") from None
    return folder


def _unpack(path: Path, out: Path) -> None:
    """Unpack an archive into ``out``.

    Raises:
        ValueError: it is not an archive, has entries outside its root, or is too large.
    """
    if zipfile.is_zipfile(path):
        Zip(path).close()  # it checks names and sizes
        with zipfile.ZipFile(path) as archive:
            archive.extractall(out)  # creates no links
    elif tarfile.is_tarfile(path):
        limit = min(MAX_TOTAL_BYTES, max(BOMB_BYTES, MAX_RATIO * path.stat().st_size))
        total = 0
        with tarfile.open(path) as archive:
            for member in archive:  # one header at a time, since content lies between headers
                total += member.size
                if total > limit:
                    raise ValueError(f"it would unpack to over {limit} bytes: a bomb?")
                if not inside(member.name):
                    raise ValueError(f"the entry '{member.name}' points outside the archive")
                archive.extract(member, out, filter="data")  # refuses outside links and devices
    else:
        raise ValueError("it is not a folder, .zip or .tar.gz")
