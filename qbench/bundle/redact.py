"""Redact bundles for publication: remove everything that identifies the owner of the machine.

Removed: host name, user names, folders of the machine, addresses (network, hardware, e-mail),
serial numbers, and names of containers. Figures, samples and predictions are unchanged, and so are
digests: that of the machine's identity, which groups runs of one machine, and those of the request.

A worker's log, a reason or a comment may contain anything, so all text is searched for

- *private words*, as whole words: host names, users whose home folders appear anywhere in the
  bundle, and the user and the host that redact;
- recognizable forms: absolute paths are reduced to their last part, like environment variables in
  ``qbench.machine.host.software``; addresses, UUIDs and serial numbers are removed.

Names that users chose (models, suites, data sets, environments, and all keys) link records and are
not changed: a bundle in which such a name contains a private word is refused.
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
"""Replaces removed text."""

COMMON = {
    "root", "user", "users", "admin", "administrator", "nobody", "guest", "public", "shared",
    "runner", "runneradmin", "build", "builder", "buildagent", "jenkins", "gitlab-runner",
    "ubuntu", "debian", "ec2-user", "vagrant", "docker", "work", "workspace", "vscode", "jovyan",
    "localhost", "localdomain",
}  # fmt: skip
"""Common names of users and hosts, which identify nobody."""

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
"""Patterns and replacements: users and passwords in URLs, e-mail addresses, hardware addresses,
UUIDs, serial numbers, containers."""

VERSIONS = (
    "packages", "software", "resolved", "versions", "version", "runtime_version",
    "firmware_version",
)  # fmt: skip
"""Keys of version numbers, some of which look like network addresses."""
_VERSION = re.compile(r"[\w.+!-]+")
GRAPH = ("operators", "excluded_operators", "layers")
"""Keys of node names of a network, many of which look like absolute paths."""


def redacted(bundle: Bundle, words: Collection[str] = (), keep: Collection[str] = ()) -> Bundle:
    """Return a redacted view of a bundle, complete or not.

    Args:
        words: private words in addition to those that are found.
        keep: found words that are not private.

    Raises:
        UserError: a name that a user chose contains a private word; or one of ``words`` is a
            technical term that records need.
    """
    return _Redacted(bundle.path, words, keep)


def redact_bundle(
    bundle: Bundle, folder: Path, words: Collection[str] = (), keep: Collection[str] = ()
) -> Bundle:
    """Write a redacted copy of a finished bundle as ``folder/<run id>``. Figures are unchanged, and
    its ``begin.json`` has the digest of the original's manifest.

    Raises:
        UserError: as for ``redacted`` and ``qbench.bundle.copies.write_copy``.
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
                "Leave it out of --also: as a name it identifies nobody.",
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
            UserError: a name that is not changed contains a private word.
        """
        for what, name in _names(plain):
            if self._redactor.holds_private(name):
                raise UserError(
                    f"{self.path}: {what} '{name}' holds a private word, and names are not changed",
                    "Run it under another name; if the word may be published, give it with --keep.",
                )


class Redactor:
    """Redacts text and records.

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
        """Return a record with its text redacted; ``key``: the innermost key that leads to it."""
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
        if argument:  # it is a path as a whole, which may contain spaces
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
        """Return ``GONE`` for a network address, and anything else unchanged."""
        text = found[0]
        try:
            number = ipaddress.ip_address(text)
        except ValueError:
            return text
        if text in self._versions or (number.version == 6 and len(text) < 6):
            return text  # so short an IPv6 address is more likely a C++ name
        return GONE


# --------------------------------------------------------------------------- paths


def _shortened(path: str) -> str:
    """Return the last part of a path: ``/home/someone/net.onnx`` becomes ``net.onnx``."""
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    return parts[-1] if len(parts) > 1 else path


def _cut(found: re.Match[str]) -> str:
    """Return the replacement of an absolute path; URLs are unchanged."""
    text, start = found[0], found.start()
    is_web = text.startswith("//") and found.string[max(0, start - 1) : start] == ":"
    return text if is_web else _shortened(text)


# --------------------------------------------------------------------------- private words


def _found(folder: Path, hostname: str | None) -> set[str]:
    """Find the private words of a bundle: names of hosts and of users."""
    found: set[str] = set()
    for name in filter(None, (hostname, socket.gethostname())):
        first, _, domain = name.partition(".")
        found |= {name, first} | ({domain} if "." in domain else set())
    with suppress(OSError, KeyError, ImportError):  # the user id has no name
        found.add(getpass.getuser())
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml", ".txt") and path.is_file():
            found |= set(_HOMES.findall(path.read_text(encoding="utf-8", errors="replace")))
    return {word.rstrip(".") for word in found}


@cache
def _vocabulary() -> frozenset[str]:
    """Return technical terms, in lower case: records are full of them, and as host names they
    identify nobody."""
    from qbench.bundle.schema import json_schema
    from qbench.kit.precisions import PRECISIONS
    from qbench.spec.columns import NAMES
    from qbench.spec.scenarios import SCENARIOS
    from qbench.spec.suite import suites_dir

    known = [*PRECISIONS, *SCENARIOS, *NAMES, *(p.stem for p in suites_dir().rglob("*.yaml"))]
    text = " ".join([*known, *(str(json_schema(name)) for name in FILES)]).lower()
    return frozenset([*map(str.lower, known), *re.split(r"[^a-z0-9]+", text)])


def _versions(begin: Begin) -> Iterator[str]:
    """Yield all version numbers in ``begin.json``."""
    resolved = [built.resolved for built in begin.environments.values()]
    for versions in (begin.host.packages or {}, begin.software, *resolved):
        yield from (version for version in versions.values() if version is not None)


def _names(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yield the names that are not changed, each with its kind."""
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
    """Return the fingerprint without host name, and with the last part of a container image."""
    container = host.get("container")
    if isinstance(container, Mapping):
        fields = cast("Mapping[str, Any]", container)
        if isinstance(image := fields.get("image"), str):
            container = {**fields, "image": image.rpartition("/")[2]}
    return {**host, "hostname": None, "container": container}


def _text(path: Path) -> str | None:
    """Return the text of a file; None if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
