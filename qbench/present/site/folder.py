"""The folder of a site: what was written there, of what, and what may go.

Layout::

    index.html                  the runs
    trends.html  compare.html
    runs/<run>.html             the report of each run
    data/<run>.js               its figures, for comparisons and for the next build
    models/<name>.html  backends/<name>.html
    assets/<name>-<digest>.js   what pages have in common
    .nojekyll                   GitHub's pages are to be taken as they are
    .qbench-site.json           the files that qbench wrote here, and of what; see ``Entry``

A file is written whole or not at all, and the state says beforehand which ones are about to be: a
build that was interrupted leaves a site that works, and nothing that the next build does not know.
What the state does not name was written by somebody else, and is neither changed nor removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from qbench.bundle.find import check_outside
from qbench.errors import UserError
from qbench.storage import parse_json, write_file

STATE = ".qbench-site.json"
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A file that qbench wrote.

    Attributes:
        key: digest of what it was made of; "" of a file that is about to be written.
        sha256, bytes: of its content.
    """

    key: str
    sha256: str
    bytes: int


_ANNOUNCED = Entry("", "", -1)


class Folder:
    """A site's folder while it is brought up to date.

    Args:
        path: a site, an empty folder (hidden files aside), or nothing yet.

    Raises:
        UserError: the folder holds something else, or is a bundle's.
    """

    def __init__(self, path: Path) -> None:
        check_outside(path)
        self.path = path
        self._is_written: dict[str, bool] = {}  # False: kept
        self._entries = _read_state(path)
        path.mkdir(parents=True, exist_ok=True)

    @property
    def written(self) -> list[str]:
        """The files of this build that are new or have changed."""
        return [name for name, is_written in self._is_written.items() if is_written]

    @property
    def kept(self) -> list[str]:
        """The files of this build that are as they were."""
        return [name for name, is_written in self._is_written.items() if not is_written]

    def made_of(self, key: str) -> list[str]:
        """The files that were made of ``key``."""
        return [name for name, entry in self._entries.items() if entry.key == key]

    def is_current(self, name: str, key: str) -> bool:
        """Whether the file was made of ``key`` and lies there, with as many bytes as it was
        written with; it then counts as kept."""
        entry = self._entries.get(name, _ANNOUNCED)
        path = self.path / name
        if entry.key != key or not path.is_file() or path.stat().st_size != entry.bytes:
            return False
        self._is_written[name] = False
        return True

    def read(self, name: str) -> bytes | None:
        """What qbench wrote; None if it did not, or somebody has changed it since."""
        entry = self._entries.get(name)
        try:
            content = (self.path / name).read_bytes()
        except OSError:
            return None
        same = entry is not None and hashlib.sha256(content).hexdigest() == entry.sha256
        return content if same else None

    def announce(self, names: Iterable[str]) -> None:
        """Say that these are about to be written.

        Raises:
            UserError: there is such a file, and qbench did not write it.
        """
        for name in names:
            path = self.path / name
            known = name in self._entries
            if path.is_symlink() or path.parent.is_symlink() or (path.exists() and not known):
                raise UserError(
                    f"{path} is in the way: it is not of this site",
                    "Move it away, or give another folder with -o.",
                )
            self._entries[name] = _ANNOUNCED
        self._save()

    def write(self, name: str, key: str, content: str | bytes) -> None:
        """Write a file that has been announced, or keep it if that changes nothing."""
        content = content.encode() if isinstance(content, str) else content
        path = self.path / name
        changes = not path.is_file() or path.read_bytes() != content
        if changes:
            path.parent.mkdir(exist_ok=True)
            write_file(path, content)
        self._is_written[name] = changes
        self._entries[name] = Entry(key, hashlib.sha256(content).hexdigest(), len(content))

    def finish(self) -> tuple[list[str], list[str]]:
        """Remove what earlier builds wrote and this one did not, and keep the state.

        Returns:
            The files that were removed, and those that were left because somebody has changed
            them since.
        """
        removed, left = [], []
        for name in sorted(self._entries.keys() - self._is_written.keys()):
            entry = self._entries.pop(name)
            path = self.path / name
            if not path.is_file():
                continue
            if entry == _ANNOUNCED or hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256:
                path.unlink()
                removed.append(name)
            else:
                left.append(name)
        self._save()
        return removed, left

    def _save(self) -> None:
        files = {name: asdict(entry) for name, entry in self._entries.items()}
        write_file(
            self.path / STATE,
            json.dumps({"version": _VERSION, "files": files}, indent=0, sort_keys=True),
        )


def _read_state(path: Path) -> dict[str, Entry]:
    """
    Raises:
        UserError: there is something else in the folder, or what the state says cannot be used.
    """
    if not path.exists():
        return {}
    if not path.is_dir():
        raise UserError(f"{path} is no folder", "Give another place with -o.")
    try:
        content = parse_json((path / STATE).read_bytes())
        if content["version"] != _VERSION:
            raise ValueError(f"it is of version {content['version']}")
        entries = {str(name): Entry(**entry) for name, entry in content["files"].items()}
        for name in entries:
            if not _is_inside(name):
                raise ValueError(f"it names the file '{name}'")
        return entries
    except FileNotFoundError:
        others = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        if others:
            raise UserError(
                f"{path} is no site of qbench, and not empty: it holds {others[0]}",
                "Give an empty folder with -o, or one that `qbench site` made.",
            ) from None
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path / STATE} is damaged: {error}",
            "Remove the site's folder and make it anew, or give another with -o.",
        ) from None


def _is_inside(name: str) -> bool:
    """Whether a file's name is one that a site has: nothing outside its folder."""
    parts = name.split("/")
    return len(parts) <= 2 and all(part not in ("", ".", "..") for part in parts)
