"""Files that cards name: found, fetched, verified."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from qbench.errors import UserError
from qbench.storage import cache_dir, digest_file
from qbench.yamlfile import Strict

Report = Callable[[str], None]
"""Told in a sentence what takes long."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SourceFile(Strict):
    """One file: found below the card's root or ``$QBENCH_ASSETS`` by ``path``, or downloaded.

    Attributes:
        path: relative, below the folder that holds ``models/`` or below ``$QBENCH_ASSETS``.
        url: where to download it from when it is not found.
        sha256: of its content; needed with a url.
    """

    path: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    sha256: Digest | None = None

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None:
            path = PurePosixPath(value)
            if path.is_absolute() or ".." in path.parts or "\\" in value:
                raise ValueError(
                    "a path is relative and stays below the folder that holds models/ "
                    "(or below $QBENCH_ASSETS)"
                )
        return value

    @model_validator(mode="after")
    def _complete(self) -> SourceFile:
        if self.path is None and self.url is None:
            raise ValueError("a file needs a path, a url, or both")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a file with a url needs its sha256")
        return self


def locate(file: SourceFile, root: Path, report: Report) -> Path:
    """The verified local file: below ``root``, in ``$QBENCH_ASSETS``, in the cache, or
    downloaded now.

    Raises:
        UserError: it cannot be had, or its SHA-256 is another.
    """
    assets = os.environ.get("QBENCH_ASSETS")
    for folder in [root, *([Path(assets)] if assets else [])]:
        path = folder / file.path if file.path else None
        if path and path.is_file():
            return _verified(path, file)
    if file.url is None:
        raise UserError(
            f"cannot find {file.path}, neither in {root.absolute()} nor in "
            + (f"$QBENCH_ASSETS ({assets})" if assets else "$QBENCH_ASSETS, which is not set"),
            "It has no download address: put the file there.",
        )
    return _download(file, report)


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


def _verified(path: Path, file: SourceFile) -> Path:
    if file.sha256 is not None:
        found = digest_file(path)
        if found != file.sha256:
            raise UserError(
                f"{path} is not the file that the card means: its SHA-256 is {found}, "
                f"expected {file.sha256}",
                "Restore the file, or correct the card if the file was meant to change.",
            )
    return path
