"""Download files of cards into the cache: from a URL, the Hugging Face Hub or a Git repository.

``$QBENCH_MIRROR`` is the address of a mirror, for machines without access to the internet:
``https://host/path`` is then asked for as ``$QBENCH_MIRROR/host/path``. Digests of cards are
compared as before. Files of the Hub are compared with the digest that the Hub's interface gives,
which is then the mirror's: give their cards a ``sha256`` if the mirror is not trusted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from qbench.data.digests import digest_path
from qbench.errors import UserError
from qbench.spec.files import GitPath, HubFile, SourceFile, inside
from qbench.storage import cache_dir, digest_file, new_folder

Report = Callable[[str], None]
"""Receives a sentence about a slow step."""

TIMEOUT_S = 30
REPORT_EVERY_S = 5.0
HUB = "https://huggingface.co"
_BLOCK = 1 << 16


def mirrored(url: str) -> str:
    """The address to ask for a URL: itself, or its place on ``$QBENCH_MIRROR``."""
    base = os.environ.get("QBENCH_MIRROR")
    if not base:
        return url
    return f"{base.rstrip('/')}/{url.partition('://')[2]}"


def size_of(file: SourceFile) -> int | None:
    """The number of bytes to download, as its server says; None if it does not say."""
    import requests

    if file.git is not None:
        return file.git.bytes
    if file.url is not None:
        url = mirrored(file.url)
    elif file.hub is not None:
        url = f"{_hub()}/{file.hub.repo}/resolve/{file.hub.revision}/{file.hub.file}"
    else:
        return None
    try:
        answer = requests.head(
            url,
            allow_redirects=True,
            timeout=TIMEOUT_S,
            headers={"Accept-Encoding": "identity"},
        )
        answer.raise_for_status()
        return int(answer.headers["Content-Length"])
    except (requests.RequestException, OSError, KeyError, ValueError):
        return None


def cached(file: SourceFile) -> bool:
    """Whether it was downloaded before."""
    if file.url is not None and file.sha256 is not None:
        return cached_url(file.url, file.sha256).exists()
    if file.git is not None:
        return cached_git(file.git).exists()
    return file.hub is not None and cached_hub(file.hub) is not None


# --------------------------------------------------------------------------- a URL


def cached_url(url: str, sha256: str) -> Path:
    """The place of a URL's file in the cache."""
    name = url.partition("?")[0].rpartition("/")[2] or "file"
    return cache_dir() / "downloads" / f"{sha256[:16]}-{name}"


def from_url(url: str, sha256: str, path: str | None, report: Report) -> Path:
    """Return a URL's file from the cache, or download it, continuing an interrupted download.

    Args:
        path: where the user may put the file instead, for messages.

    Raises:
        UserError: it cannot be downloaded, or is another file.
    """
    import requests
    from filelock import FileLock

    target = cached_url(url, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists() and digest_path(target) == sha256:
            return target
        report(f"downloading {url}")
        part = target.with_name(f".{target.name}.part")
        try:
            _fill(part, mirrored(url), f"downloading {target.name[17:]}", report)
        except (requests.RequestException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise UserError(
                f"cannot download {mirrored(url)}: {_reason(error)}",
                f"Put the file at {path or target.name} in a folder and set QBENCH_ASSETS to it.",
            ) from None
        if digest_file(part) != sha256:
            part.unlink()
            raise UserError(
                f"{mirrored(url)} is another file than expected: its SHA-256 is not {sha256}",
                "The file was replaced upstream, or the card is wrong.",
            )
        part.replace(target)
    return target


def _fill(part: Path, url: str, doing: str, report: Report) -> None:
    """Download what is missing of the file ``part``."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        done = done if resumed else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        reported = time.monotonic()
        with part.open("ab" if resumed else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                done += file.write(block)
                if time.monotonic() - reported > REPORT_EVERY_S:
                    reported = time.monotonic()
                    report(f"{doing}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
    if done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")


def _reason(error: Exception) -> str:
    """What is wrong, as one sentence without the library's own objects."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_S} s"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server says {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectionError):
        return "there is no connection to the server"
    return next(iter(str(error).splitlines()), type(error).__name__)


# --------------------------------------------------------------------------- the Hub


def _hub() -> str:
    return mirrored(HUB) if os.environ.get("QBENCH_MIRROR") else os.environ.get("HF_ENDPOINT", HUB)


def cached_hub(hub: HubFile) -> Path | None:
    """The place of a Hub's file in the cache of its library; None if it is not there."""
    name = f"models--{hub.repo.replace('/', '--')}"
    path = cache_dir() / "downloads" / "hub" / name / "snapshots" / hub.revision / hub.file
    return path if path.exists() else None


def from_hub(hub: HubFile, path: str | None, report: Report) -> Path:
    """Return a file from the Hub's cache, or download it, and verify its digest.

    The library names the cached file by the Hub's digest: the SHA-256 of a large file, git's SHA-1
    of a small one. The library checks only the size, so the digest is checked here.

    Raises:
        UserError: it cannot be downloaded, or is damaged.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
        from huggingface_hub.utils import disable_progress_bars
    except ModuleNotFoundError:
        raise UserError(
            f"{hub.label} is on the Hugging Face Hub, and huggingface_hub is not installed",
            "pip install huggingface_hub" + (f", or put the file at {path}." if path else ""),
        ) from None
    disable_progress_bars()  # ``report`` replaces them
    folder = cache_dir() / "downloads" / "hub"
    known = huggingface_hub.try_to_load_from_cache(hub.repo, hub.file, folder, hub.revision)
    if not isinstance(known, str):
        report(f"downloading {hub.label} from the Hugging Face Hub")
    try:
        found = Path(
            huggingface_hub.hf_hub_download(
                hub.repo, hub.file, revision=hub.revision, cache_dir=folder, endpoint=_hub()
            )
        )
    except (HfHubHTTPError, EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"cannot download {hub.label} from the Hugging Face Hub: {_reason(error)}",
            f"Put the file at {path or hub.file} in a folder"
            + (" and set QBENCH_ASSETS to it." if path else ", and name it by 'path'."),
        ) from None
    blob = found.resolve()
    if blob.name not in (digest_file(blob), _git_digest(blob)):
        blob.unlink()
        raise UserError(
            f"the download of {hub.label} is damaged: its digest is not {blob.name}",
            "Run the command again: the damaged download was removed.",
        )
    return found


def _git_digest(path: Path) -> str:
    """Return git's SHA-1 of a file, hexadecimal."""
    content = path.read_bytes() if path.stat().st_size < 50_000_000 else b""  # others are in LFS
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


# --------------------------------------------------------------------------- a Git repository


def cached_git(git: GitPath) -> Path:
    """The place of a repository's file or folder in the cache."""
    name = PurePosixPath(git.path).name or "all"
    place = hashlib.sha256(f"{git.repo} {git.path}".encode()).hexdigest()[:8]
    return cache_dir() / "downloads" / "git" / f"{git.commit[:16]}-{place}" / name


def from_git(git: GitPath, report: Report) -> Path:
    """Return a repository's file or folder from the cache, or fetch it.

    Only the objects below ``git.path`` are fetched. Git computes the id of every object that it
    receives, and the commit's id covers all of them. Files are written as they are stored: no
    filters, links or hooks.

    Raises:
        UserError: git is not installed, the repository cannot be read, or has no such path.
    """
    target = cached_git(git)
    if not target.exists():
        report(f"downloading {git.label}")
        work = cache_dir() / "work"
        work.mkdir(parents=True, exist_ok=True)
        with new_folder(target.parent) as out:
            repository = out / ".git"
            _fetch(git, repository, out / target.name)
            shutil.rmtree(repository)
    return target


def _fetch(git: GitPath, repository: Path, target: Path) -> None:
    _git(git, "init", "--quiet", "--bare", "--template=", str(repository))
    at = ("-C", str(repository))
    _git(git, *at, "remote", "add", "origin", mirrored(git.repo))
    fetch = (*at, "fetch", "--quiet", "--no-tags", "--filter=blob:none")
    _git(git, *fetch, "--depth=1", "origin", git.commit)
    below = () if git.path == "." else ("--", git.path)
    blobs = _blobs(git, _git(git, *at, "ls-tree", "-r", "-z", "--full-tree", git.commit, *below))
    ids = repository / "ids"
    ids.write_text("".join(f"{blob}\n" for blob in blobs.values()))
    _git(git, *fetch, "--stdin", "origin", stdin=ids)
    with ids.open() as given:
        command = ["git", *at, "cat-file", "--batch"]
        with subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, env=environment()
        ) as reader:
            assert reader.stdout is not None
            for name in blobs:
                inner = PurePosixPath(name).relative_to(git.path)
                _write_blob(reader.stdout, target / inner if inner.parts else target)


def _blobs(git: GitPath, listing: bytes) -> dict[str, str]:
    """Return the ids of files by name, from the output of ``git ls-tree``.

    Raises:
        UserError: there is none, or one is a link or another repository.
    """
    blobs: dict[str, str] = {}
    for line in listing.decode(errors="surrogateescape").split("\0")[:-1]:
        about, _, name = line.partition("\t")
        mode, _, identity = about.split()
        if mode not in ("100644", "100755") or not inside(name):
            raise UserError(f"{git.label}: {name} is a link, or lies outside")
        blobs[name] = identity
    if not blobs:
        raise UserError(f"{git.repo} has no {git.path} in the commit {git.commit}")
    return blobs


def _write_blob(objects: IO[bytes], path: Path) -> None:
    """Write the next file of the output of ``git cat-file --batch``."""
    words = objects.readline().split()
    if len(words) != 3:
        raise UserError(f"git gives no content for {path.name}", "Try again.")
    left = int(words[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while left:
            block = objects.read(min(left, _BLOCK))
            if not block:
                raise UserError(f"git ended before {path.name} was complete", "Try again.")
            left -= file.write(block)
    objects.read(1)  # the end of a line


def environment() -> dict[str, str]:
    """The environment of git, without what names another repository: hooks have ``GIT_DIR``."""
    kept = ("GIT_SSL", "GIT_PROXY", "GIT_CONFIG")
    others = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(kept)}
    return {**others, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _git(git: GitPath, *arguments: str, stdin: Path | None = None) -> bytes:
    """Return the output of a git command.

    Raises:
        UserError: it failed, or git is not installed.
    """
    try:
        with (stdin or Path(os.devnull)).open() as given:
            return subprocess.run(
                ["git", *arguments],
                stdin=given,
                capture_output=True,
                check=True,
                env=environment(),
            ).stdout
    except FileNotFoundError:
        raise UserError(
            f"{git.label} is in a Git repository, and git is not installed", "Install git."
        ) from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"cannot download {git.label}: {lines[-1] if lines else error}",
            "Check the network; $QBENCH_MIRROR can name a mirror (docs/data-sets.md).",
        ) from None
