"""Find, download, verify and unpack the files and folders that cards name."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from qbench.data.readers.archive import BOMB_BYTES, MAX_RATIO, MAX_TOTAL_BYTES, Zip
from qbench.errors import UserError
from qbench.spec.files import HubFile, SourceFile, inside
from qbench.storage import cache_dir, digest_file, digest_json, new_folder

Report = Callable[[str], None]
"""Receives a sentence about a slow step."""

SETTLED_NS = 2_000_000_000
"""A file modified more recently than this may change again without a new modification time."""


# --------------------------------------------------------------------------- finding


def locate(file: SourceFile, root: Path, report: Report) -> Path:
    """Return the verified local file or folder: below ``root``, in ``$QBENCH_ASSETS``, in the
    cache, or downloaded now.

    Raises:
        UserError: it cannot be obtained, or its SHA-256 differs.
    """
    assets = os.environ.get("QBENCH_ASSETS")
    for folder in [root, *([Path(assets)] if assets else [])]:
        path = folder / file.path if file.path else None
        if path and path.exists():
            return _verified(path, file)
    if file.url is not None:
        return _download(file, report)
    if file.hub is not None:
        return _verified(_from_hub(file, file.hub, report), file)
    raise UserError(
        f"cannot find {file.path}, neither in {root.absolute()} nor in "
        + (f"$QBENCH_ASSETS ({assets})" if assets else "$QBENCH_ASSETS, which is not set"),
        "The card has no download address: put the file there.",
    )


def _download(file: SourceFile, report: Report) -> Path:
    import pooch
    import requests

    folder = cache_dir() / "downloads"
    assert file.url and file.sha256
    name = f"{file.sha256[:16]}-{file.url.rsplit('/', 1)[-1]}"
    if not (folder / name).exists():
        report(f"downloading {file.url}")
    try:
        path = pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=name,
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=30),  # type: ignore[arg-type]
        )
    except (requests.RequestException, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"cannot download {file.url}: {error}",
            f"Put the file at {file.path or name} in a folder and set QBENCH_ASSETS to it.",
        ) from None
    except ValueError:
        raise UserError(
            f"{file.url} is another file than expected: its SHA-256 is not {file.sha256}",
            "The file was replaced upstream, or the card is wrong.",
        ) from None
    return Path(path)


def _from_hub(file: SourceFile, hub: HubFile, report: Report) -> Path:
    """Return the file from the Hub's cache, or download it, and verify its digest.

    The library names the cached file by the Hub's digest: the SHA-256 of a large file, git's SHA-1
    of a small one. The library checks only the size, so the digest is checked here."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
        from huggingface_hub.utils import disable_progress_bars
    except ModuleNotFoundError:
        raise UserError(
            f"{hub.label} is on the Hugging Face Hub, and huggingface_hub is not installed",
            "pip install huggingface_hub"
            + (f", or put the file at {file.path}." if file.path else ""),
        ) from None
    disable_progress_bars()  # ``report`` replaces them
    folder = cache_dir() / "downloads" / "hub"
    known = huggingface_hub.try_to_load_from_cache(hub.repo, hub.file, folder, hub.revision)
    if not isinstance(known, str):
        report(f"downloading {hub.label} from the Hugging Face Hub")
    try:
        path = Path(
            huggingface_hub.hf_hub_download(
                hub.repo,
                hub.file,
                revision=hub.revision,
                cache_dir=folder,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except (HfHubHTTPError, EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"cannot download {hub.label} from the Hugging Face Hub: {reason}",
            f"Put the file at {file.path or hub.file} in a folder"
            + (" and set QBENCH_ASSETS to it." if file.path else ", and name it by 'path'."),
        ) from None
    blob = path.resolve()
    if blob.name not in (digest_file(blob), _git_digest(blob)):
        blob.unlink()
        raise UserError(
            f"the download of {hub.label} is damaged: its digest is not {blob.name}",
            "Run the command again: the damaged download was removed.",
        )
    return path


def _git_digest(path: Path) -> str:
    """Return git's SHA-1 of a file, hexadecimal."""
    content = path.read_bytes() if path.stat().st_size < 50_000_000 else b""  # others are in LFS
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


# --------------------------------------------------------------------------- verifying


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
