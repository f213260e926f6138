"""The folder of a site: the files that qbench wrote, and their inputs.

Layout::

    index.html                  the runs
    trends.html  compare.html
    runs/<run>.html             the report of each run
    data/<run>.js               its figures, for comparisons and for the next build
    models/<name>.html  backends/<name>.html
    assets/<name>-<digest>.js   files that pages share
    .nojekyll                   makes GitHub publish the pages unchanged
    .qbench-site.json           the files that qbench wrote here, with their inputs; see ``Entry``

Files are written atomically, and the state lists them before they are written. So an interrupted
build leaves a working site, and the next build knows all its files. Files that the state does not
list were written by somebody else, and are neither changed nor removed.
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
        key: digest of its inputs; "" for a file that is about to be written.
        sha256, bytes: of its content.
    """

    key: str
    sha256: str
    bytes: int


_ANNOUNCED = Entry("", "", -1)


class Folder:
    """A site's folder during an update.

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
        """The files of this build that did not change."""
        return [name for name, is_written in self._is_written.items() if not is_written]

    def made_of(self, key: str) -> list[str]:
        """The files with these inputs."""
        return [name for name, entry in self._entries.items() if entry.key == key]

    def is_current(self, name: str, key: str) -> bool:
        """Whether the file was made from inputs ``key`` and still exists with its size; if so, it
        counts as kept."""
        entry = self._entries.get(name, _ANNOUNCED)
        path = self.path / name
        if entry.key != key or not path.is_file() or path.stat().st_size != entry.bytes:
            return False
        self._is_written[name] = False
        return True

    def read(self, name: str) -> bytes | None:
        """A file that qbench wrote; None if it did not, or if somebody changed it since."""
        entry = self._entries.get(name)
        try:
            content = (self.path / name).read_bytes()
        except OSError:
            return None
        same = entry is not None and hashlib.sha256(content).hexdigest() == entry.sha256
        return content if same else None

    def announce(self, names: Iterable[str]) -> None:
        """Record that these files are about to be written.

        Raises:
            UserError: a file exists that qbench did not write.
        """
        for name in names:
            path = self.path / name
            known = name in self._entries
            if path.is_symlink() or path.parent.is_symlink() or (path.exists() and not known):
                raise UserError(
                    f"{path} is in the way: it does not belong to this site",
                    "Move it away, or give another folder with -o.",
                )
            self._entries[name] = _ANNOUNCED
        self._save()

    def write(self, name: str, key: str, content: str | bytes) -> None:
        """Write an announced file, unless its content is the same."""
        content = content.encode() if isinstance(content, str) else content
        path = self.path / name
        changes = not path.is_file() or path.read_bytes() != content
        if changes:
            path.parent.mkdir(exist_ok=True)
            write_file(path, content)
        self._is_written[name] = changes
        self._entries[name] = Entry(key, hashlib.sha256(content).hexdigest(), len(content))

    def finish(self) -> tuple[list[str], list[str]]:
        """Remove files of earlier builds that this one did not write, and save the state.

        Returns:
            The removed files, and those that were left because somebody changed them.
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
        UserError: the folder has other files, or its state is damaged.
    """
    if not path.exists():
        return {}
    if not path.is_dir():
        raise UserError(f"{path} is not a folder", "Give another with -o.")
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
                f"{path} is not a site of qbench, and not empty: it has {others[0]}",
                "Give an empty folder with -o, or one that `qbench site` wrote.",
            ) from None
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path / STATE} is damaged: {error}",
            "Remove the folder and build the site again, or give another with -o.",
        ) from None


def _is_inside(name: str) -> bool:
    """Whether a file's name stays inside the site's folder."""
    parts = name.split("/")
    return len(parts) <= 2 and all(part not in ("", ".", "..") for part in parts)
