"""Bundles without what tells whose machine it was: to be shown, or written anew, to strangers.

Gone are host name, user names, folders of the machine, addresses (network, hardware, electronic
mail), serial numbers, and names of containers. Figures, samples and predictions stay as they are,
and so do digests: that of the machine's identity, which tells the machine's runs from others', and
those of what was asked.

A worker's log, a reason or a comment may say anything, so all text is searched:

- *private words* wherever they stand as words of their own: the host's names, the users whose home
  folders are named anywhere in the bundle, who redacts and where;
- what has a form of its own: an absolute path keeps its last part, as
``qbench.machine.host.software``
  keeps variables; addresses, UUIDs and serial numbers go.

Names that were given on purpose (of models, suites, data sets, environments, and whatever is a
key) tie records to each other and are not changed: a bundle in which one holds a private word is
refused.
"""

from __future__ import annotations

import getpass
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import pandas as pd

from qbench.bundle.bundle import Bundle, Model
from qbench.bundle.records.run import FILES, Begin, to_json
from qbench.errors import UserError

GONE = "redacted"
"""What stands where something was."""

COMMON = {
    "root", "user", "users", "admin", "administrator", "nobody", "guest", "public", "shared",
    "runner", "runneradmin", "build", "builder", "buildagent", "jenkins", "gitlab-runner",
    "ubuntu", "debian", "ec2-user", "vagrant", "docker", "work", "workspace", "vscode", "jovyan",
    "localhost", "localdomain",
}  # fmt: skip
"""Names of users and hosts that are everyone's."""

_HOMES = re.compile(
    r"""(?:/home/|/Users/|[A-Za-z]:[\\/]+(?:Users|Documents\ and\ Settings)[\\/]+)"""
    r"""([^/\\\s"'<>:;,)\]}]+)"""
)
_LAST = r"[^\s\"'`<>|,;:()\[\]{}*?]+"
_QUOTED_PATH = re.compile(r"""(["'`])((?:~[\w.-]*/|/|[A-Za-z]:[\\/]|\\\\)[^"'`\n]*)\1""")
_PATH = re.compile(rf"(?:(?<![\w/.\-~])|(?<=-[IL]))(?:~[\w.-]*)?/+{_LAST}")
_WINDOWS_PATH = re.compile(rf"(?<![A-Za-z0-9])(?:[A-Za-z]:[\\/]|\\\\){_LAST}")
_FILE_URL = re.compile(r"\bfile:/+(?=[^/])")
_ARGUMENT = re.compile(r"(--?[\w-]+=)?((?:~[\w.-]*[\\/]|[\\/]|[A-Za-z]:[\\/]).*)", re.S)
_ROOTS = re.compile(
    r"[\\/](?:home|Users|root|tmp|var|usr|opt|srv|mnt|media|data|work|private|Volumes|scratch)[\\/]"
)
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|[0-9A-Fa-f]*::?[0-9A-Fa-f:]+(?:\.\d+){0,3}(?![\w:]))"
)
_SIMPLE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"://[^/\s@]+@"), "://"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"), GONE),
    (re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])"), GONE),
    (re.compile(r"\b(?:GPU-|MIG-)?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"), GONE),
    (
        re.compile(r"(?i)\b(serial(?:[\s_-]*(?:no\.?|number|#))?\s*[:=]\s*)[\"']?[^\s\"',;]+"),
        rf"\1{GONE}",
    ),
    (
        re.compile(
            r"(?i)\b((?:docker|containerd?|libpod|crio)[\s/:=_-]+(?:id[\s:=]+)?)[0-9a-f]{12,64}\b"
        ),
        rf"\1{GONE}",
    ),
)  # fmt: skip
"""Users and passwords in web addresses, electronic mail, hardware addresses, UUIDs, serial numbers,
containers."""

VERSIONS = (
    "packages", "software", "resolved", "versions", "version", "runtime_version",
    "firmware_version",
)  # fmt: skip
"""Keys of version numbers, of which some look like addresses."""
_VERSION = re.compile(r"[\w.+!-]+")
GRAPH = ("operators", "excluded_operators", "layers")
"""Keys under which names of a network's nodes stand, many of which look like absolute paths."""


def redacted(bundle: Bundle, words: Collection[str] = (), keep: Collection[str] = ()) -> Bundle:
    """A view of a bundle, complete or not, that tells nothing of whose machine it was.

    Args:
        words: private words beside those that are found.
        keep: found words that are none.

    Raises:
        UserError: a name that was given on purpose holds a private word; or one of ``words`` is
            a word of the field.
    """
    return _Redacted(bundle.path, words, keep)


def redact_bundle(
    bundle: Bundle, folder: Path, words: Collection[str] = (), keep: Collection[str] = ()
) -> Bundle:
    """Write a finished bundle anew as ``folder/<run id>``, redacted. Its figures are the same, and
    ``begin.json`` names the digest of the one that it was made from, which stays as it is.

    Raises:
        UserError: as ``redacted`` and ``qbench.bundle.copies.write_copy``.
    """
    from qbench.bundle.copies import write_copy

    return write_copy(redacted(bundle, words, keep), folder, "redacted", {})


class _Redacted(Bundle):
    """A bundle whose records are redacted as they are read."""

    def __init__(self, path: Path, words: Collection[str], keep: Collection[str]) -> None:
        super().__init__(path)
        plain = Bundle(path)
        begin = plain.begin
        field = _vocabulary() | {name.lower() for name in begin.backends}
        if needed := {word for word in words if word.lower() in field}:
            raise UserError(
                f"'{min(needed)}' is a word of the field, without which records say nothing",
                "Leave it out of --also: as a name it tells nothing, either.",
            )
        known = field | COMMON | {word.lower() for word in keep}
        found = {word for word in _found(path, begin.host.hostname) if word.lower() not in known}
        private = {word for word in (*found, *words) if len(word) > 1}
        self._redactor = Redactor(private, _versions(begin))
        self._check_names(plain)

    def _record(
        self, kind: type[Model], name: str, record: dict[str, Any], line: str = ""
    ) -> Model:
        found = self._redactor.record(record)
        if name == "begin.json":
            found["host"] = _host(found["host"])
        return super()._record(kind, name, found, line)

    @property
    def suite_text(self) -> str:
        return self._redactor.text(super().suite_text)

    def trials_frame(self) -> pd.DataFrame:
        frame = super().trials_frame()
        return frame.assign(reason=frame["reason"].map(self._redactor.text, na_action="ignore"))

    def copy_file(self, name: str, target: Path) -> None:
        text = None if name.endswith((".npy", ".parquet")) else _text(self.path / name)
        if text is None:
            super().copy_file(name, target)
        else:
            target.write_text(self._redactor.text(text), encoding="utf-8")

    def _check_names(self, plain: Bundle) -> None:
        """
        Raises:
            UserError: a name that stays as it is holds a private word.
        """
        for what, name in _names(plain):
            if self._redactor.holds_private(name):
                raise UserError(
                    f"{self.path}: {what} '{name}' holds a private word, and names are not changed",
                    "Run it under another name; or, if that word may be told, give it with --keep.",
                )


class Redactor:
    """Takes out of text what tells whose machine it was.

    Args:
        words: the private words.
        versions: version numbers that look like addresses.
    """

    def __init__(self, words: Iterable[str], versions: Iterable[str]) -> None:
        longest_first = sorted(map(re.escape, words), key=len, reverse=True)
        self._words = (
            re.compile(rf"(?<![^\W_])(?:{'|'.join(longest_first)})(?![^\W_])", re.I)
            if longest_first
            else None
        )
        self._versions = set(versions)
        self.text: Callable[[str], str] = lru_cache(maxsize=1 << 14)(self._redact)

    def holds_private(self, name: str) -> bool:
        return bool(self._words and self._words.search(name))

    def record(self, value: Any, key: str = "") -> Any:
        """A record, with the text in it redacted. ``key``: the last one that it stands under."""
        if isinstance(value, str):
            return self._value(value, key)
        if isinstance(value, Mapping):
            inherits = key in VERSIONS or key in GRAPH
            fields = cast("Mapping[str, Any]", value)
            return {name: self.record(v, key if inherits else name) for name, v in fields.items()}
        if isinstance(value, list):
            return [self.record(inner, key) for inner in cast("list[Any]", value)]
        return value

    def _value(self, text: str, key: str) -> str:
        argument = _ARGUMENT.fullmatch(text) if key == "command" else None
        if argument:  # the whole of it is a path, which may hold spaces
            return self.text((argument[1] or "") + _shortened(argument[2]))
        is_version = key in VERSIONS and _VERSION.fullmatch(text)
        is_node = key in GRAPH and not _ROOTS.search(text)
        return self._without_words(text) if is_version or is_node else self.text(text)

    def _redact(self, text: str) -> str:
        for pattern, left in _SIMPLE:
            text = pattern.sub(left, text)
        text = _FILE_URL.sub("/", text)
        text = _QUOTED_PATH.sub(lambda m: f"{m[1]}{_shortened(m[2])}{m[1]}", text)
        text = _WINDOWS_PATH.sub(lambda m: _shortened(m[0]), text)
        text = _PATH.sub(_cut, text)
        return self._without_words(_ADDRESS.sub(self._address, text))

    def _without_words(self, text: str) -> str:
        return self._words.sub(GONE, text) if self._words else text

    def _address(self, found: re.Match[str]) -> str:
        """``GONE`` for a network address; anything else as it is."""
        text = found[0]
        try:
            number = ipaddress.ip_address(text)
        except ValueError:
            return text
        if text in self._versions or (number.version == 6 and len(text) < 6):
            return text  # of version 6 so short, it is more likely a name in C++
        return GONE


# --------------------------------------------------------------------------- paths


def _shortened(path: str) -> str:
    """``/home/someone/net.onnx`` is ``net.onnx``; what has no folders stays."""
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    return parts[-1] if len(parts) > 1 else path


def _cut(found: re.Match[str]) -> str:
    """What an absolute path leaves; an address on the web stays."""
    text, start = found[0], found.start()
    is_web = text.startswith("//") and found.string[max(0, start - 1) : start] == ":"
    return text if is_web else _shortened(text)


# --------------------------------------------------------------------------- what is private


def _found(folder: Path, hostname: str | None) -> set[str]:
    """The private words that can be found for a bundle: hosts' names, and users'."""
    found: set[str] = set()
    for name in filter(None, (hostname, socket.gethostname())):
        first, _, domain = name.partition(".")
        found |= {name, first} | ({domain} if "." in domain else set())
    with suppress(OSError, KeyError, ImportError):  # no user has this number
        found.add(getpass.getuser())
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml", ".txt") and path.is_file():
            found |= set(_HOMES.findall(path.read_text(encoding="utf-8", errors="replace")))
    return {word.rstrip(".") for word in found}


@cache
def _vocabulary() -> frozenset[str]:
    """Words of the field, lower case: as a host's name they tell nothing, and everything is called
    so."""
    from qbench.bundle.schema import json_schema
    from qbench.kit.precisions import PRECISIONS
    from qbench.spec.columns import NAMES
    from qbench.spec.scenarios import SCENARIOS
    from qbench.spec.suite import suites_dir

    known = [*PRECISIONS, *SCENARIOS, *NAMES, *(p.stem for p in suites_dir().rglob("*.yaml"))]
    text = " ".join([*known, *(str(json_schema(name)) for name in FILES)]).lower()
    return frozenset([*map(str.lower, known), *re.split(r"[^a-z0-9]+", text)])


def _versions(begin: Begin) -> Iterator[str]:
    """All version numbers in ``begin.json``."""
    resolved = [built.resolved for built in begin.environments.values()]
    for versions in (begin.host.packages or {}, begin.software, *resolved):
        yield from (version for version in versions.values() if version is not None)


def _names(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """What is not changed: what kind of name, and the name."""
    begin, plan = bundle.begin, bundle.plan
    yield "the run's id", bundle.run_id
    yield "the suite", begin.suite
    yield from (("the environment", name) for name in begin.environments)
    yield from (("the model", name) for name in plan.models)
    yield from (("the data set", data.name) for data in plan.data.values() if data)
    lines = (record for name in FILES if name.endswith(".jsonl") for record in bundle.lines(name))
    keys = {key for record in (begin, plan, *lines) for key in _keys(to_json(record))}
    yield from (("the key", key) for key in sorted(keys))
    for path in bundle.path.rglob("*"):
        yield "the file", path.name


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _keys(inner)


def _host(host: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint without the host's name, and of a container's image no more than its own."""
    container = host.get("container")
    if isinstance(container, Mapping):
        fields = cast("Mapping[str, Any]", container)
        if isinstance(image := fields.get("image"), str):
            container = {**fields, "image": image.rpartition("/")[2]}
    return {**host, "hostname": None, "container": container}


def _text(path: Path) -> str | None:
    """What a file says; None if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
