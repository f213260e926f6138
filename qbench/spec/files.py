"""Files that cards name, as a person writes them. ``qbench.data.files`` finds and verifies them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from qbench.spec.yamlfile import Strict

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, hexadecimal."""


def inside(name: str) -> bool:
    """Whether a path stays below the folder or archive that it is relative to."""
    path = PurePosixPath(name)
    return not (
        path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name[:2]
    )


def relative_path(value: str) -> str:
    """Return ``value`` if it is a relative path that stays below its folder.

    Raises:
        ValueError: it is not.
    """
    if not inside(value):
        raise ValueError(
            "a path is relative and stays below the folder that holds models/ "
            "(or below $QBENCH_ASSETS)"
        )
    return value


class HubFile(Strict):
    """A file of a repository on the Hugging Face Hub.

    Attributes:
        repo: ``organization/name``.
        file: its path in the repository.
        revision: a commit, which always names the same file; a branch or tag also works.
    """

    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    file: str
    revision: str = "main"

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        return relative_path(value)

    @property
    def label(self) -> str:
        return f"{self.repo}/{self.file} (revision {self.revision})"


class GitPath(Strict):
    """A file or folder of a Git repository at a commit, whose id is a digest of all its content.

    Attributes:
        repo: the repository's address.
        commit: its full id.
        path: in the repository; ``.`` for all of it.
        bytes: about how much has to be downloaded.
    """

    repo: Annotated[str, Field(pattern=r"^https?://[^?#]+$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    path: str
    bytes: Annotated[int, Field(gt=0)] | None = None

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        return relative_path(value)

    @property
    def label(self) -> str:
        return f"{self.repo}/{self.path} (commit {self.commit[:12]})"


class SourceFile(Strict):
    """A file or folder, found below the card's root or ``$QBENCH_ASSETS`` by ``path``, or
    downloaded.

    Attributes:
        path: relative, below the folder that holds ``models/`` or below ``$QBENCH_ASSETS``.
        url: where to download the file if it is not found.
        hub: its place on the Hugging Face Hub, instead of a url.
        git: its place in a Git repository, instead of a url.
        sha256: digest of its content, for a folder as ``qbench.data.files.digest_path`` computes
            it; required with a url. A file of the Hub is always compared with the Hub's own digest,
            one of a Git repository with its commit's.
        member: the file's name in the zip that the other keys name.
    """

    path: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    hub: HubFile | None = None
    git: GitPath | None = None
    sha256: Digest | None = None
    member: str | None = None

    @field_validator("path", "member")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        return None if value is None else relative_path(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        remote = [key for key in ("url", "hub", "git") if getattr(self, key) is not None]
        if not self.path and not remote and not self._made_by_a_library():
            raise ValueError("a file needs a path, a url, hub or git")
        if len(remote) > 1:
            raise ValueError(f"a file has one of url, hub and git, not {' and '.join(remote)}")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a file with a url needs its sha256")
        return self

    @property
    def remote(self) -> bool:
        """Whether it can be downloaded."""
        return bool(self.url or self.hub or self.git or self._made_by_a_library())

    @property
    def label(self) -> str:
        """Where it comes from, for messages."""
        place = self.url or (self.hub and self.hub.label) or (self.git and self.git.label)
        return str(place or self.path)

    def _made_by_a_library(self) -> bool:
        return False
