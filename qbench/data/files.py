"""Files and folders that cards name: found, fetched, verified, unpacked."""

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
"""Told in a sentence what takes long."""

SETTLED_NS = 2_000_000_000
"""A file that was written since may be written again within the resolution of its time."""


# --------------------------------------------------------------------------- finding


def locate(file: SourceFile, root: Path, report: Report) -> Path:
    """The verified local file or folder: below ``root``, in ``$QBENCH_ASSETS``, in the cache, or
    downloaded now.

    Raises:
        UserError: it cannot be had, or its SHA-256 is another.
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
        "It has no download address: put the file there.",
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
            f"{file.url} is not the expected file: its SHA-256 is not {file.sha256}",
            "The file was replaced upstream, or the card is wrong.",
        ) from None
    return Path(path)


def _from_hub(file: SourceFile, hub: HubFile, report: Report) -> Path:
    """The file from the Hub's cache, or downloaded, and what the Hub says that it is.

    The library keeps it under the Hub's own name for its content: the SHA-256 of a large file,
    git's SHA-1 of a small one. It compares the size only, so the content is compared here."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
        from huggingface_hub.utils import disable_progress_bars
    except ModuleNotFoundError:
        raise UserError(
            f"{hub.label} is on the Hugging Face Hub, and huggingface_hub is not installed",
            "pip install 'qbench[hub]'"
            + (f", or put the file at {file.path}." if file.path else ""),
        ) from None
    disable_progress_bars()  # what takes long is reported
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
            f"{hub.label} did not arrive as the Hub has it: its digest is not {blob.name}",
            "Run it again: the damaged download was removed.",
        )
    return path


def _git_digest(path: Path) -> str:
    """SHA-1 of a file as git has it, hexadecimal."""
    content = path.read_bytes() if path.stat().st_size < 50_000_000 else b""  # others are in LFS
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


# --------------------------------------------------------------------------- verifying


def digest_path(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; of a folder, over the names and contents of all its files.

    Raises:
        UserError: a link leads out of the folder.
    """
    if path.is_file():
        return _digest(path)
    top = path.resolve()
    found = []
    for inner in sorted(path.rglob("*")):
        if not inner.resolve().is_relative_to(top):
            raise UserError(
                f"{inner} is a link that leads out of its folder",
                "A folder that a card names holds all its files itself.",
            )
        if inner.is_file():
            found.append([inner.relative_to(path).as_posix(), _digest(inner)])
    return digest_json(found)


def _digest(path: Path) -> str:
    """SHA-256 of a file, computed once by this process while the file stays as it is."""
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
                f"{path} is not the file that the card means: its SHA-256 is {found}, "
                f"expected {file.sha256}",
                "Restore the file, or correct the card if the file was meant to change.",
            )
    return path


# --------------------------------------------------------------------------- unpacking


def unpacked(path: Path) -> Path:
    """The folder that ``path`` is, or whose archive (``.zip``, ``.tar.gz``, ``.tgz``) it is;
    unpacked once into the cache.

    Raises:
        UserError: it is neither, it is damaged, something in it would land outside, or it is larger
            than the limits of ``qbench.data.readers.archive`` allow.
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
    """Raises ValueError for what is no archive, or one that does not stay inside ``out``."""
    if zipfile.is_zipfile(path):
        Zip(path).close()  # checks names and sizes
        with zipfile.ZipFile(path) as archive:
            archive.extractall(out)  # makes no links
    elif tarfile.is_tarfile(path):
        limit = min(MAX_TOTAL_BYTES, max(BOMB_BYTES, MAX_RATIO * path.stat().st_size))
        total = 0
        with tarfile.open(path) as archive:
            for member in archive:  # one header at a time: the next is behind this one's content
                total += member.size
                if total > limit:
                    raise ValueError(f"it would unpack to over {limit} bytes: a bomb?")
                if not inside(member.name):
                    raise ValueError(f"the entry '{member.name}' points outside the archive")
                archive.extract(member, out, filter="data")  # refuses links outside, and devices
    else:
        raise ValueError("it is no folder, .zip or .tar.gz")
