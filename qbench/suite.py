"""A suite: which models, at which precisions, on which backends, and how long to measure.

``load_suite`` turns a YAML file into a :class:`Suite`, strictly: what is misspelt is an error
with its file, its line and the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from qbench.errors import UserError, nearest
from qbench.precision import PRECISIONS, complete_options
from qbench.yamlfile import Lines, Strict, load

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Scenario = Literal["single-stream", "offline"]
Recipe = Literal["best", "shared"]


class PrecisionChoice(Strict):
    """One precision with the options that the suite sets for it."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """``fp32`` and ``{int8-static: {per_channel: false}}`` stand for the long form."""
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, dict) and set(value) & set(PRECISIONS):
            if len(value) != 1:
                raise ValueError("one precision to an item, such as {int8-static: {...}}")
            name, options = next(iter(value.items()))
            value = {"name": name, "options": {} if options is None else options}
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            if value["name"] not in PRECISIONS:
                raise ValueError(
                    f"unknown precision '{value['name']}'. {nearest(value['name'], PRECISIONS)}"
                )
            options = value.get("options", {})
            if not isinstance(options, dict):
                raise ValueError(f"the options of {value['name']} are a mapping, not {options!r}")
            complete_options(value["name"], options)
        return value


class Limits(Strict):
    """What a worker may take before it is ended."""

    prepare_timeout_s: PositiveFloat = 600
    evaluate_timeout_s: PositiveFloat = 600
    trial_timeout_s: PositiveFloat = 120
    memory_mb: PositiveFloat | None = None


class Override(Strict):
    """What one backend gets otherwise than the rest of the suite.

    Attributes:
        options: by precision, options that replace the suite's.
        hints: the runtime's own settings, handed to it unchanged.
        threads: replaces the suite's list.
        batch_sizes: replaces the suite's list.
    """

    options: dict[str, dict[str, Any]] = {}
    hints: dict[str, JsonValue] = {}
    threads: list[PositiveInt] | None = None
    batch_sizes: list[PositiveInt] | None = None

    @field_validator("options")
    @classmethod
    def _known_options(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for precision, options in value.items():
            if precision not in PRECISIONS:
                raise ValueError(
                    f"unknown precision '{precision}'. {nearest(precision, PRECISIONS)}"
                )
            complete_options(precision, options)
        return value


class Exclusion(Strict):
    """Combinations to leave out: those that match every key given here."""

    model: str | None = None
    precision: str | None = None
    backend: str | None = None
    recipe: Recipe | None = None
    scenario: Scenario | None = None
    batch_size: int | None = None
    threads: int | None = None

    @model_validator(mode="after")
    def _not_everything(self) -> Exclusion:
        if not self.model_fields_set:
            raise ValueError("an empty exclusion would leave nothing to run")
        return self


class CpuPower(Strict):
    """For the energy proxy: watts of one busy core, and where that figure is from."""

    watts_per_core: PositiveFloat
    source: str


class Suite(Strict):
    """What a suite file says.

    Attributes:
        recipes: ``best``, each backend's own best path to a precision, and ``shared``, where one
            quantized model is given to all that can read it; both may stand side by side.
        rounds: how often every case is measured, each time in a fresh process.
        warmup_s: the longest warm-up of a trial; it ends sooner when the latency is stable.
        timed_s: length of a trial's timed loop.
        streams: simultaneous inferences of the ``offline`` scenario.
        seed: of the order of the trials, and of random inputs.
        cpu_power: for the energy proxy; without it energy is not estimated.
    """

    name: Name
    description: str = ""
    models: Annotated[list[Name], Field(min_length=1)]
    precisions: Annotated[list[PrecisionChoice], Field(min_length=1)]
    backends: Annotated[list[Name], Field(min_length=1)]
    recipes: Annotated[list[Recipe], Field(min_length=1)] = ["best"]
    scenarios: Annotated[list[Scenario], Field(min_length=1)] = ["single-stream"]
    batch_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = [1]
    threads: Annotated[list[PositiveInt], Field(min_length=1)] = [1]
    streams: Annotated[list[PositiveInt], Field(min_length=1)] = [2]
    rounds: PositiveInt = 10
    warmup_s: PositiveFloat = 0.5
    timed_s: PositiveFloat = 1.0
    limits: Limits = Limits()
    exclude: list[Exclusion] = []
    overrides: dict[Name, Override] = {}
    cpu_power: CpuPower | None = None
    seed: int = 0

    @field_validator(
        "models", "backends", "recipes", "scenarios", "batch_sizes", "threads", "streams"
    )
    @classmethod
    def _once_each(cls, value: list[Any]) -> list[Any]:
        twice = sorted({str(v) for v in value if value.count(v) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        return value

    def digest(self) -> str:
        """SHA-256 of what the suite says, whatever its file's layout and comments."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def suites_dir() -> Path:
    """The folder of the shipped suites: in the installed package, or in a checkout."""
    packaged = Path(__file__).parent / "suites"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "suites"


def shipped_suites() -> dict[str, Path]:
    """Shipped suites by name."""
    return {path.stem: path for path in sorted(suites_dir().glob("*.yaml"))}


def find_suite(name_or_path: str) -> Path:
    """The file of a suite that is given as a path or as the name of a shipped one."""
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml") or "/" in name_or_path:
        if not path.exists() or path.is_dir():
            raise UserError(f"there is no suite file {path}", "`qbench init` writes one.")
        return path
    shipped = shipped_suites()
    if name_or_path not in shipped:
        raise UserError(
            f"there is no suite '{name_or_path}'",
            f"{nearest(name_or_path, shipped)} A suite of your own is given as a path to a .yaml "
            "file; `qbench init` writes one.",
        )
    return shipped[name_or_path]


def load_suite(path: Path, backends: Collection[str], models: Collection[str]) -> Suite:
    """Read a suite and check its names.

    Args:
        backends: the names of the installed adapters.
        models: the names of the model cards that the suite can see.
    """
    suite, lines = load(path, Suite)
    for index, name in enumerate(suite.backends):
        _known(name, backends, "backend", lines, "backends", index)
    for index, name in enumerate(suite.models):
        _known(name, models, "model", lines, "models", index)
    for name in suite.overrides:
        _known(name, suite.backends, "backend of this suite", lines, "overrides", name)
    listed = {p.name for p in suite.precisions}
    for index, rule in enumerate(suite.exclude):
        for key, known in (
            ("model", suite.models),
            ("backend", suite.backends),
            ("precision", listed),
            ("recipe", suite.recipes),
            ("scenario", suite.scenarios),
            ("batch_size", _all_of(suite, "batch_sizes")),
            ("threads", _all_of(suite, "threads")),
        ):
            value = getattr(rule, key)
            if value is not None:
                what = f"{key.replace('_', ' ')} of this suite"
                _known(value, known, what, lines, "exclude", index, key)
    return suite


def _all_of(suite: Suite, key: str) -> set[int]:
    """The suite's values of ``key``, those of its overrides included."""
    overrides = [getattr(override, key) or [] for override in suite.overrides.values()]
    return {value for values in [getattr(suite, key), *overrides] for value in values}


def _known(value: Any, known: Collection[Any], what: str, lines: Lines, *keys: str | int) -> None:
    if value not in known:
        raise UserError(f"{lines.at(*keys)}: unknown {what} '{value}'", nearest(str(value), known))
