"""Environments: further interpreters, with their own packages, for backends' workers.

A suite names them::

    environments:
      ort-previous: onnxruntime==1.30.*

so that two versions of a runtime are measured in the same rounds. Each is built once, by uv, and
kept by the digest of the versions that its requirements resolve to.
Layout below ``<cache>``::

    environments/<digest>/environment.json   its packages; its presence marks the folder complete
    environments/<digest>/venv/...
    environments/asked/<digest>.json         the last resolution of requirements, for use while no
                                             index can be reached
    kits/<digest>/...                        the worker kit: qbench.kit and the adapters, the only
                                             modules that an environment's workers share with qbench

An environment needs NumPy and the runtime only. Installation runs code of the packages' authors:
trust a suite's requirements as much as you trust its packages.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from qbench.errors import UserError
from qbench.kit.adapter import Adapter
from qbench.kit.reasons import short
from qbench.run.workers.isolate import Interpreter
from qbench.spec.suite import Environment, is_file_requirement
from qbench.storage import digest_file, digest_json, new_folder, write_file

KIT = ("__init__.py", "kit")
"""The modules of qbench that workers import; they need the standard library and NumPy only."""
VERSION = 1
"""Version of the build procedure, part of the digests."""
RECORD = "environment.json"
INSTALL_TIMEOUT_S = 1800
LEAST_PYTHON = (3, 10)
"""The oldest Python that runs the worker kit."""
ALWAYS = "numpy"
_ASK = """
import importlib.metadata, json, platform, sys, sysconfig
packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({
    "python": platform.python_version(), "implementation": platform.python_implementation(),
    "version": sys.version_info[:2], "platform": sysconfig.get_platform(), "packages": packages,
}))
"""


class Facts(TypedDict):
    """An interpreter's facts.

    Attributes:
        python: version; ``version`` the same as ``[major, minor]``.
        packages: versions by distribution name.
    """

    python: str
    implementation: str
    version: list[int]
    platform: str
    packages: dict[str, str]


class Resolution(NamedTuple):
    """The packages that requirements resolve to.

    Attributes:
        pins: ``[requirement, SHA-256 of a local file or ""]``, one for each package.
        note: for users; "" for nothing.
    """

    pins: list[list[str]]
    note: str


class NotBuilt(Exception):
    """An environment could not be built; the message is the installer's, shortened."""


@dataclass(frozen=True)
class BuiltEnvironment:
    """An environment on this machine.

    Attributes:
        requirements: as in the suite.
        resolved: versions of all its packages, by canonical name.
        python: version of its interpreter.
        digest: of everything that determines its content; None after a failure.
        failure: why it could not be built; "" if it was.
        note: a remark for readers of its results; "" for nothing.
        interpreter: its Python for workers; None after a failure.
    """

    requirements: tuple[str, ...]
    resolved: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    digest: str | None = None
    failure: str = ""
    note: str = ""
    interpreter: Interpreter | None = None

    def to_json(self) -> dict[str, Any]:
        """The bundle's record, without paths of this machine."""
        facts = asdict(self)
        del facts["interpreter"]
        facts["requirements"] = [_shown(text) for text in self.requirements]
        return facts

    def versions(self, packages: Iterable[str]) -> dict[str, str | None]:
        """Versions of distributions in it; None for one that is not installed."""
        return {name: self.resolved.get(canonicalize_name(name)) for name in packages}


def _shown(text: str) -> str:
    """A requirement without this machine's folders, and without a URL's credentials."""
    if is_file_requirement(text):
        return Path(text).name
    return re.sub(r"://[^/@]*@", "://", re.sub(r"file://\S*/", "file:", text))


def backends_of(
    name: str, environment: Environment, adapters: Mapping[str, Adapter]
) -> tuple[str, ...]:
    """The suite's backends that run in an environment: those that it names, else those whose
    runtime is among its requirements.

    Args:
        adapters: the suite's adapters that could be loaded, by name.

    Raises:
        UserError: there is none.
    """
    if environment.backends is not None:
        return tuple(environment.backends)
    wanted = {_name_of(text) for text in environment.requirements}
    found = tuple(
        backend
        for backend, adapter in adapters.items()
        if wanted & {canonicalize_name(package) for package in adapter.runtime_packages}
    )
    if not found:
        raise UserError(
            f"environment {name}: no requirement is the runtime of a backend of this suite",
            "Add 'backends: [...]' to it, or the runtime to its requirements.",
        )
    return found


def _name_of(text: str) -> str:
    if is_file_requirement(text):
        return canonicalize_name(Path(text).name.split("-")[0])
    return canonicalize_name(Requirement(text).name)


class EnvironmentStore:
    """The environments in one cache folder.

    Args:
        root: the cache folder.
        suite_folder: base of relative paths of wheels.
    """

    def __init__(self, root: Path, suite_folder: Path) -> None:
        self._root = root / "environments"
        self._kits = root / "kits"
        self._suite_folder = suite_folder

    def build(
        self,
        asked: Mapping[str, Environment],
        targets: Mapping[str, str],
        working: Callable[[str], None] = lambda name: None,
    ) -> dict[str, BuiltEnvironment]:
        """Build the environments that are not in the cache; return all of them by name.

        Args:
            targets: ``module:Class`` of the adapters that run in them, by name.
            working: receives the name of each before it is built, which takes minutes.
        """
        kit = self._kit(targets.values())
        built: dict[str, BuiltEnvironment] = {}
        for name, environment in asked.items():
            working(name)
            built[name] = self._build(environment, kit)
        return built

    def _build(self, asked: Environment, kit: Path) -> BuiltEnvironment:
        try:
            base = Path(shutil.which(asked.python or "") or asked.python or sys.executable)
            facts = _ask(base)
            if not asked.requirements:
                return self._ready(asked, kit, base, facts, digest_json([VERSION, facts]))
            pins, note = self._resolve(asked, base, facts)
            digest = digest_json([VERSION, facts["python"], facts["platform"], pins])[:32]
            folder = self._root / digest
            if not (folder / RECORD).exists():
                self._install(folder, base, pins)
            python = folder / "venv" / "bin" / "python"
            return self._ready(asked, kit, python, _ask(python), digest, note)
        except NotBuilt as error:
            return BuiltEnvironment(tuple(asked.requirements), failure=short(str(error)))

    def _ready(
        self,
        asked: Environment,
        kit: Path,
        python: Path,
        facts: Facts,
        digest: str,
        note: str = "",
    ) -> BuiltEnvironment:
        # An interpreter that compiles its imports starts slower, and takes more memory.
        _run([python, "-I", "-m", "compileall", "-q", kit])
        resolved = {str(canonicalize_name(n)): v for n, v in sorted(facts["packages"].items()) if n}
        return BuiltEnvironment(
            tuple(asked.requirements),
            resolved,
            facts["python"],
            digest[:32],
            note=note,
            interpreter=Interpreter(python, kit, asked.variables),
        )

    # ------------------------------------------------------------------ what to install

    def _resolve(self, asked: Environment, base: Path, facts: Facts) -> Resolution:
        """Resolve the requirements; where no index answers, reuse the last resolution, with a
        note."""
        files = {t: self._file(t) for t in asked.requirements if is_file_requirement(t)}
        wanted = [str(files.get(text, text)) for text in asked.requirements]
        if ALWAYS not in map(_name_of, asked.requirements):
            wanted.append(ALWAYS)
        local = sorted(digest_file(path) for path in files.values())
        kept = self._root / "asked" / f"{digest_json([VERSION, wanted, local, dict(facts)])}.json"
        try:
            pins = sorted(_pins(base, wanted))
        except NotBuilt as error:
            if not kept.exists():
                raise
            pins = json.loads(kept.read_text())
            return Resolution(pins, f"resolved as last time, because today it failed: {error}")
        found = [[pin, _digest_of(pin)] for pin in pins]
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_file(kept, json.dumps(found))
        return Resolution(found, "")

    def _file(self, text: str) -> Path:
        path = (self._suite_folder / text).resolve()
        if not path.is_file():
            raise NotBuilt(f"there is no file {text}; paths are relative to the suite's folder")
        return path

    def _install(self, folder: Path, base: Path, pins: Sequence[Sequence[str]]) -> None:
        with new_folder(folder) as half:
            venv = half / "venv"
            lines = half / "requirements.txt"
            lines.write_text("\n".join(pin for pin, _ in pins) + "\n")
            _run([find_uv_bin(), "venv", "--quiet", "--python", base, venv])
            options = ["--quiet", "--no-deps", "--compile-bytecode", *_uv_settings()]
            options += ["--python", str(venv / "bin" / "python")]
            _run([find_uv_bin(), "pip", "install", *options, "-r", lines])
            (half / RECORD).write_text(json.dumps({"pins": pins}, indent=1))

    # ------------------------------------------------------------------ the worker kit

    def _kit(self, targets: Iterable[str]) -> Path:
        """The folder with the modules that workers import of qbench and of adapters, and nothing
        else: an environment has its own packages, and must not find qbench's."""
        own = Path(__file__).parents[2]
        sources = {f"qbench/{name}": own / name for name in KIT}
        for target in targets:
            top = target.partition(":")[0].partition(".")[0]
            spec = importlib.util.find_spec(top)
            if spec is None or spec.origin is None:
                continue  # the registry reports that it cannot be imported
            origin = Path(spec.origin)
            source = origin.parent if spec.submodule_search_locations else origin
            sources[source.name] = source
        files = {
            f"{name}/{path.relative_to(source)}" if source.is_dir() else name: path
            for name, source in sources.items()
            for path in ([source] if source.is_file() else sorted(source.rglob("*.py")))
        }
        digest = digest_json({name: digest_file(path) for name, path in files.items()})[:32]
        folder = self._kits / digest
        if not folder.exists():
            with new_folder(folder) as half:
                for name, path in files.items():
                    (half / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, half / name)
        return folder


# --------------------------------------------------------------------------- uv


def _pins(base: Path, wanted: Sequence[str]) -> list[str]:
    """Resolve requirements: one line for each package, pinned to a version, commit or file."""
    options = ["--quiet", "--no-header", "--no-annotate", "--python", base, *_uv_settings()]
    lines = _run([find_uv_bin(), "pip", "compile", *options, "-"], "\n".join(map(_as_line, wanted)))
    return [line for line in lines.splitlines() if line and not line.startswith((" ", "#"))]


def _as_line(requirement: str) -> str:
    """A line of a requirements file; a path needs the package's name there."""
    if not is_file_requirement(requirement):
        return requirement
    return f"{_name_of(requirement)} @ {Path(requirement).as_uri()}"


def _digest_of(pin: str) -> str:
    """SHA-256 of the local file that a pin names; "" for others, which a version or a commit
    identifies."""
    from urllib.parse import unquote, urlsplit

    url = urlsplit(pin.partition(" @ ")[2].strip())
    return digest_file(Path(unquote(url.path))) if url.scheme == "file" else ""


_AS_UV = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
}


def _uv_settings() -> list[str]:
    """pip's configuration (files and variables) as options of uv, which reads only its own
    settings; none where uv's index is configured."""
    if any(name.startswith("UV_") and "INDEX" in name for name in os.environ):
        return []
    listed = _run([sys.executable, "-m", "pip", "config", "list"], may_fail=True)
    options = ["--index-strategy", "unsafe-best-match"]  # as pip does
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name, value = key.rpartition(".")[2], value.strip().strip("'\"")
        if name == "no-index" and value.lower() in ("1", "true", "yes", "on"):
            options.append("--no-index")
        for one in value.split() if name in _AS_UV else ():
            options += [_AS_UV[name], one]
    return options


def _ask(python: Path) -> Facts:
    """Ask an interpreter for its facts.

    Raises:
        NotBuilt: it cannot be started, or is too old for the worker kit.
    """
    facts: Facts = json.loads(_run([python, "-I", "-c", _ASK]))
    if tuple(facts["version"]) < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        raise NotBuilt(f"its Python is {facts['python']}, and workers need {least} or newer")
    return facts


def _run(command: Sequence[str | Path], text: str = "", may_fail: bool = False) -> str:
    """Run a command and return its output.

    Raises:
        NotBuilt: it failed; the message is the end of its output.
    """
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT_S,
            env=variables,
            check=False,
        )
    except OSError as error:
        raise NotBuilt(f"cannot run {Path(words[0]).name}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{Path(words[0]).name} took longer than {INSTALL_TIMEOUT_S} s") from None
    if done.returncode and not may_fail:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotBuilt(" ".join(lines[-6:]) or f"{Path(words[0]).name} failed without a message")
    return done.stdout
