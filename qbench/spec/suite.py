"""A suite: models, precisions and backends to measure, and for how long.

``load_suite`` reads a YAML file into a :class:`Suite`, strictly: a misspelt name is an error with
its file, its line and the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from qbench.errors import UserError, check_known, nearest
from qbench.kit.precisions import PRECISIONS
from qbench.spec import precisions, scenarios
from qbench.spec.energy import EnergySettings
from qbench.spec.gate import GateSettings
from qbench.spec.scenarios import SCENARIOS
from qbench.spec.yamlfile import Lines, Strict, load

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
DEFAULT_ENVIRONMENT = "default"
"""The environment that qbench itself runs in."""
MIN_ROUNDS = 6
"""With fewer trials there is no interval: it would be as wide as it is wrong."""
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Recipe = Literal["best", "shared"]


def device_name(text: str) -> str:
    """The canonical name of a device: ``cpu``, ``cuda:0``; ``cuda`` is ``cuda:0``.

    Raises:
        ValueError: there is no such device name.
    """
    name = "cuda:0" if text == "cuda" else text
    if not re.fullmatch(r"cpu|cuda:(0|[1-9][0-9]?)", name):
        raise ValueError(f"a device is cpu, cuda (the first GPU) or cuda:N, not '{text}'")
    return name


Device = Annotated[str, AfterValidator(device_name)]


Complete = Callable[[str, dict[str, Any]], dict[str, Any]]


def _long_form(value: object, what: str, known: Mapping[str, Any], complete: Complete) -> object:
    """Expand the short forms ``fp32`` and ``{int8-static: {per_channel: false}}`` to a name with
    its options."""
    if not isinstance(value, str | dict):
        return value
    short: dict[Any, Any] = {"name": value}
    content = short if isinstance(value, str) else cast("dict[Any, Any]", value)
    if set(content) & set(known):
        if len(content) != 1:
            raise ValueError(f"one {what} per item, such as {{{next(iter(content))}: {{...}}}}")
        name, options = next(iter(content.items()))
        empty: dict[Any, Any] = {}
        content = {"name": name, "options": empty if options is None else options}
    name, options = content.get("name"), content.get("options", cast("Any", {}))
    if isinstance(name, str):
        if name not in known:
            raise ValueError(f"unknown {what} '{name}'. {nearest(name, known)}")
        if not isinstance(options, dict):
            raise ValueError(f"the options of {name} must be a mapping, not {options!r}")
        complete(name, cast("dict[str, Any]", options))
    return content


class PrecisionChoice(Strict):
    """A precision with the options set by the suite."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        return _long_form(value, "precision", PRECISIONS, precisions.complete_options)


class ScenarioChoice(Strict):
    """A scenario with the options set by the suite."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        return _long_form(value, "scenario", SCENARIOS, scenarios.complete_options)


class Rounds(Strict):
    """A number of rounds that adapts to each case.

    Attributes:
        least: minimum number of rounds of every case; below 6 there is no interval.
        most: maximum number of rounds; a case not settled by then is inconclusive.
        target: relative half-width of the 95 % intervals of p10, and of its paired ratio to
            float32, at which a case is settled; 0.01 is one per cent.
    """

    least: Annotated[int, Field(ge=MIN_ROUNDS)] = MIN_ROUNDS
    most: PositiveInt = 40
    target: Annotated[float, Field(gt=0, lt=1)] = 0.01

    @model_validator(mode="after")
    def _in_order(self) -> Rounds:
        if self.most < self.least:
            raise ValueError(f"most ({self.most}) is below least ({self.least})")
        return self


class Budget(Strict):
    """Limits of the time for trials, including the rest before each; None for no limit. Every case
    gets its minimum number of rounds regardless.

    Attributes:
        case_minutes: for the trials of one case.
        run_minutes: for all trials.
    """

    case_minutes: PositiveFloat | None = None
    run_minutes: PositiveFloat | None = None


class WorkerLimits(Strict):
    """Time and memory that a worker may use before it is killed.

    Attributes:
        trial_timeout_s: in addition to warm-up and timed window.
        memory_mb: private memory, MB of 1e6 bytes; None for no limit.
    """

    prepare_timeout_s: PositiveFloat = 600
    evaluate_timeout_s: PositiveFloat = 600
    trial_timeout_s: PositiveFloat = 120
    memory_mb: PositiveFloat | None = None

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory_mb is None else int(self.memory_mb * 1e6)


def _requirement(text: str) -> str:
    """Check a requirement in pip's syntax: a name with its version, ``name @ url``, or the path of
    a file.

    Raises:
        ValueError: it is none.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    if text.startswith("-") or not text.isprintable():
        raise ValueError("a requirement is a package, such as onnxruntime==1.30.*, not an option")
    if not is_file_requirement(text):
        try:
            Requirement(text)
        except InvalidRequirement as error:
            raise ValueError(f"not a requirement: {str(error).splitlines()[0]}") from None
    return text


def is_file_requirement(text: str) -> bool:
    """Whether a requirement is the path of a wheel or a source archive."""
    return text.endswith((".whl", ".tar.gz", ".zip")) and " @ " not in text


def _once_each(value: list[Any] | None) -> list[Any] | None:
    twice = sorted({str(v) for v in value or () if value and value.count(v) > 1})
    if twice:
        raise ValueError(f"listed twice: {', '.join(twice)}")
    return value


class Override(Strict):
    """Settings of one backend that replace the suite's.

    Attributes:
        options: options of precisions, by precision.
        hints: the runtime's own settings, passed on unchanged.
        devices: replaces the suite's list.
        threads: replaces the suite's list.
        batch_sizes: replaces the suite's list.
    """

    options: dict[str, dict[str, Any]] = {}
    hints: dict[str, JsonValue] = {}
    devices: Annotated[list[Device], Field(min_length=1)] | None = None
    threads: list[PositiveInt] | None = None
    batch_sizes: list[PositiveInt] | None = None

    _each = field_validator("devices", "threads", "batch_sizes")(_once_each)

    @field_validator("options")
    @classmethod
    def _known_options(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in value.items():
            if name not in PRECISIONS:
                raise ValueError(f"unknown precision '{name}'. {nearest(name, PRECISIONS)}")
            precisions.complete_options(name, options)
        return value


class Environment(Strict):
    """An interpreter and its packages for workers.

    Attributes:
        requirements: packages in pip's syntax, or paths of wheels relative to the suite. NumPy is
            added. Empty: use ``python`` as it is.
        python: the interpreter to build it with, or to use as it is. Default: the one that qbench
            runs in.
        variables: environment variables for the workers.
        backends: backends of the suite that run in it. Default: those whose runtime is among the
            requirements.
        prepare: whether to prepare artifacts in it, too. Otherwise they are prepared once, in the
            default environment, so that comparing versions compares runtimes alone. A list of
            precisions: it only prepares these, for all environments, and no case runs in it.
    """

    requirements: list[Annotated[str, AfterValidator(_requirement)]] = []
    python: str | None = None
    variables: dict[Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    backends: list[Name] | None = None
    prepare: Annotated[
        Annotated[bool, Tag("yes or no")]
        | Annotated[list[str], Field(min_length=1), Tag("precisions")],
        Discriminator(lambda value: "precisions" if isinstance(value, list) else "yes or no"),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str | list):
            return {"requirements": [value] if isinstance(value, str) else cast("Any", value)}
        return value

    @field_validator("prepare")
    @classmethod
    def _known_precisions(cls, value: bool | list[str]) -> bool | list[str]:
        for name in value if isinstance(value, list) else ():
            if name not in PRECISIONS:
                raise ValueError(f"unknown precision '{name}'. {nearest(name, PRECISIONS)}")
        return value

    @model_validator(mode="after")
    def _of_something(self) -> Environment:
        if not self.requirements and self.python is None:
            raise ValueError("give requirements, or the python of an existing environment")
        if not self.requirements and self.backends is None:
            raise ValueError("name the backends that run in this python: backends: [...]")
        return self


class Exclusion(Strict):
    """Combinations to leave out: those that match every key."""

    model: str | None = None
    environment: str | None = None
    precision: str | None = None
    backend: str | None = None
    recipe: Recipe | None = None
    scenario: str | None = None
    device: Device | None = None
    batch_size: int | None = None
    threads: int | None = None

    @model_validator(mode="after")
    def _not_everything(self) -> Exclusion:
        if not self.model_fields_set:
            raise ValueError("an empty exclusion would leave nothing to run")
        return self


class CpuPower(Strict):
    """Power of one busy core in watts, for the energy proxy, and the figure's source."""

    watts_per_core: PositiveFloat
    source: str


class Suite(Strict):
    """A suite file.

    Attributes:
        name: part of the names of bundles.
        description: one line for people.
        models: names of model cards.
        precisions: names, with options where needed; ``fp32`` is the reference of all others.
        backends: names of adapters.
        recipes: ``best``: each backend's own best path to a precision. ``shared``: one quantized
            model for all backends that can read it. Both may be listed.
        scenarios: patterns of issuing inferences: names, with options where needed.
        devices: ``cpu``, ``cuda`` (the first GPU), ``cuda:1``.
        batch_sizes: items per call; several values are a sweep, as with the next key.
        threads: threads per call.
        rounds: number of trials of every case, each in a fresh process: a fixed number, or
            ``least``, ``most`` and ``target``.
        budget: limits of the time for trials, where the number of rounds is not fixed.
        warmup_s: maximum length of a trial's warm-up; it ends earlier when the latency is stable.
        timed_s: length of a trial's timed loop.
        streams: simultaneous inferences, in scenarios that have several.
        cool_down_s: rest before every trial, for machines that heat up.
        roofline: whether to measure the machine's limits in addition to the cases.
        profile: whether evaluations record the operators' times; timed trials never do.
        limits: time and memory that a worker may use.
        exclude: combinations to leave out.
        overrides: settings of single backends, by backend.
        seed: of the order of trials, and of random inputs.
        cpu_power: for the energy proxy from processor time.
        energy: settings of the energy pass after all rounds, with this machine's sensors or a wall
            meter; None: no energy pass.
        environments: further interpreters to run backends in, in the same rounds.
        gate: the rules of ``qbench gate``.
    """

    name: Name
    description: str = ""
    models: Annotated[list[Name], Field(min_length=1)]
    precisions: Annotated[list[PrecisionChoice], Field(min_length=1)]
    backends: Annotated[list[Name], Field(min_length=1)]
    recipes: Annotated[list[Recipe], Field(min_length=1)] = ["best"]
    scenarios: Annotated[list[ScenarioChoice], Field(min_length=1)] = [
        ScenarioChoice(name="single-stream")
    ]
    devices: Annotated[list[Device], Field(min_length=1)] = ["cpu"]
    batch_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = [1]
    threads: Annotated[list[PositiveInt], Field(min_length=1)] = [1]
    streams: Annotated[list[PositiveInt], Field(min_length=1)] = [2]
    rounds: Annotated[
        Annotated[PositiveInt, Tag("a number")] | Annotated[Rounds, Tag("as needed")],
        Discriminator(
            lambda value: "as needed" if isinstance(value, dict | Rounds) else "a number"
        ),
    ] = 10
    budget: Budget = Budget()
    warmup_s: PositiveFloat = 0.5
    timed_s: PositiveFloat = 1.0
    cool_down_s: Annotated[float, Field(ge=0)] = 0.0
    roofline: bool = True
    profile: bool = False
    limits: WorkerLimits = WorkerLimits()
    exclude: list[Exclusion] = []
    overrides: dict[Name, Override] = {}
    cpu_power: CpuPower | None = None
    energy: EnergySettings | None = None
    environments: dict[Name, Environment] = {}
    gate: GateSettings = GateSettings()
    seed: int = 0

    _each = field_validator(
        "models", "backends", "recipes", "devices", "batch_sizes", "threads", "streams"
    )(_once_each)

    @field_validator("environments")
    @classmethod
    def _default_is_taken(cls, value: dict[str, Environment]) -> dict[str, Environment]:
        if DEFAULT_ENVIRONMENT in value:
            raise ValueError(f"'{DEFAULT_ENVIRONMENT}' names the environment that qbench runs in")
        return value

    def all_of(self, key: str) -> set[Any]:
        """All values of ``devices``, ``batch_sizes`` or ``threads``, overrides included."""
        lists: list[list[Any] | None] = [
            getattr(self, key),
            *(getattr(override, key) for override in self.overrides.values()),
        ]
        return {value for values in lists for value in values or ()}

    def digest(self) -> str:
        """SHA-256 of the suite's content, without ``profile``, which changes no figure."""
        text = json.dumps(self.model_dump(mode="json", exclude={"profile"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def suites_dir() -> Path:
    """The folder of the shipped suites, in the installed package or in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "suites"
    return packaged if packaged.is_dir() else package.parent / "suites"


def shipped_suites() -> dict[str, Path]:
    """Shipped suites by name."""
    return {path.stem: path for path in sorted(suites_dir().glob("*.yaml"))}


def find_suite(name_or_path: str) -> Path:
    """The file of a suite, given as a path or as the name of a shipped one.

    Raises:
        UserError: there is no such file or suite.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml") or "/" in name_or_path:
        if not path.exists() or path.is_dir():
            raise UserError(f"there is no suite file {path}", "`qbench init` writes one.")
        return path
    shipped = shipped_suites()
    if name_or_path not in shipped:
        raise UserError(
            f"there is no suite '{name_or_path}'",
            f"{nearest(name_or_path, shipped)} Give your own suite as the path of a .yaml file; "
            "`qbench init` writes one.",
        )
    return shipped[name_or_path]


def load_suite(path: Path, backends: Collection[str], models: Collection[str]) -> Suite:
    """Read a suite and check its names.

    Args:
        backends: the names of the installed adapters.
        models: the names of the available model cards.

    Raises:
        UserError: the file cannot be read, or names something unknown; with the line.
    """
    suite, lines = load(path, Suite)
    for index, name in enumerate(suite.backends):
        _known(name, backends, "backend", lines, "backends", index)
    for index, name in enumerate(suite.models):
        _known(name, models, "model", lines, "models", index)
    for name in suite.overrides:
        _known(name, suite.backends, "backend of this suite", lines, "overrides", name)
    for name, environment in suite.environments.items():
        for index, backend in enumerate(environment.backends or ()):
            where = ("environments", name, "backends", index)
            _known(backend, suite.backends, "backend of this suite", lines, *where)
    listed = {p.name for p in suite.precisions}
    for index, rule in enumerate(suite.exclude):
        for key, known in (
            ("model", suite.models),
            ("backend", suite.backends),
            ("precision", listed),
            ("environment", [DEFAULT_ENVIRONMENT, *suite.environments]),
            ("recipe", suite.recipes),
            ("scenario", [choice.name for choice in suite.scenarios]),
            ("device", suite.all_of("devices")),
            ("batch_size", suite.all_of("batch_sizes")),
            ("threads", suite.all_of("threads")),
        ):
            value = getattr(rule, key)
            if value is not None:
                what = f"{key.replace('_', ' ')} of this suite"
                _known(value, known, what, lines, "exclude", index, key)
    return suite


def _known(value: Any, known: Collection[Any], what: str, lines: Lines, *keys: str | int) -> None:
    check_known(value, known, f"{lines.at(*keys)}: unknown {what} '{value}'")
