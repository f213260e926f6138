"""Scenarios: the patterns of issuing inferences that a suite may list, and their options.

Each is measured by a module of ``qbench.kit.scenarios``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field, model_validator

from qbench.errors import nearest
from qbench.spec.yamlfile import Strict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Percentile = Annotated[float, Field(gt=0, lt=100)]

STEADY = 40
"""Minimum length of a server run, as a multiple of its latency limit: at a rate 2.5 % too high, the
queue then grows to the limit, which a shorter run would not show."""


class Options(Strict):
    """Options of every scenario.

    Attributes:
        rounds: maximum number of rounds; None: as in the suite's other cases.
    """

    rounds: Count | None = None

    @property
    def longest_s(self) -> float:
        """Time that these options add to a trial, in addition to the suite's ``timed_s``."""
        return 0.0


class Sustained(Options):
    """Minutes of load, which show whether a machine that heats up gets slower.

    Attributes:
        duration_s: length of the load.
        step_s: length of a step of its time series.
    """

    rounds: Count | None = 1
    duration_s: Seconds = 300.0
    step_s: Seconds = 1.0

    @model_validator(mode="after")
    def _some_steps(self) -> Sustained:
        if self.duration_s < 5 * self.step_s:
            raise ValueError(
                "duration_s must be at least five times step_s: the first and last steps are "
                "compared"
            )
        return self

    @property
    def longest_s(self) -> float:
        return self.duration_s


class Paced(Options):
    """A camera: one frame every ``1 / rate_hz`` seconds, whether or not the last one is done.

    Attributes:
        rate_hz: frames per second.
        duration_s: length of the window.
        deadline_ms: time from a frame's due time after which its result is late; None: one period.
    """

    rate_hz: Rate = 30.0
    duration_s: Seconds = 5.0
    deadline_ms: Milliseconds | None = None

    @property
    def longest_s(self) -> float:
        return self.duration_s


class Pipeline(Options):
    """Decode, preprocess, infer and postprocess, one frame after the other.

    Attributes:
        frames: number of evaluation items that serve as frames, in a cycle.
    """

    frames: Count = 32


class LoadGen(Options):
    """MLPerf LoadGen's settings. LoadGen's verdict is by these settings; MLPerf demands 600 s.

    Attributes:
        min_duration_s: minimum length of a valid run.
    """

    rounds: Count | None = 3
    min_duration_s: Seconds = 2.0


class LoadGenQueries(LoadGen):
    """LoadGen's settings for scenarios of many queries.

    Attributes:
        min_queries: minimum number of queries of a valid run.
        max_duration_s: a run ends after this time, valid or not.
    """

    min_queries: Count = 64
    max_duration_s: Seconds = 60.0

    @model_validator(mode="after")
    def _time_enough(self) -> LoadGenQueries:
        if self.max_duration_s < self.min_duration_s:
            raise ValueError("max_duration_s is shorter than min_duration_s")
        return self

    @property
    def longest_s(self) -> float:
        return self.max_duration_s


class SingleStream(LoadGenQueries):
    """One sample after the other; early stopping needs 64 queries for a 90th percentile."""


class MultiStream(LoadGenQueries):
    """One query of several samples after the other; early stopping needs 662 for a 99th percentile.

    Attributes:
        samples_per_query: 8 in MLPerf.
    """

    min_queries: Count = 662
    samples_per_query: Count = 8


class Offline(LoadGen):
    """All samples in one query.

    Attributes:
        max_samples: maximum number of samples, even if the run is then too short to be valid.
    """

    max_samples: Count = 200_000

    @property
    def longest_s(self) -> float:
        return 3 * self.min_duration_s


class Server(LoadGenQueries):
    """Random arrivals, at the highest rate that meets a latency limit.

    Attributes:
        latency_ms: the limit; MLPerf sets one for each of its models (resnet50: 15 ms).
        percentile: percentage of the queries that must meet it.
        probes: maximum number of rates to try, each for ``min_duration_s`` and ``min_queries``, but
            not longer than ``max_duration_s``.
    """

    rounds: Count | None = 1
    min_queries: Count = 662
    max_duration_s: Seconds = 20.0
    latency_ms: Milliseconds
    percentile: Percentile = 99.0
    probes: Count = 10

    @model_validator(mode="after")
    def _long_enough(self) -> Server:
        least = STEADY * self.latency_ms / 1e3
        if self.min_duration_s < least:
            raise ValueError(
                f"a growing queue does not show in so short a run: min_duration_s must be at "
                f"least {least:g}, {STEADY} times latency_ms"
            )
        return self

    @property
    def longest_s(self) -> float:
        return (self.probes + 5) * self.max_duration_s  # at most five confirm the rate


@dataclass(frozen=True)
class Scenario:
    """A scenario.

    Attributes:
        module: name in ``qbench.kit.scenarios``; its ``drive`` issues the inferences.
        summary: a description in a few words.
        options: class of its options.
        streams: whether it uses the suite's ``streams``; otherwise there is one.
        package: the distribution that it needs in addition to the runtime, if any.
    """

    module: str
    summary: str
    options: type[Options] = Options
    streams: bool = False
    package: str | None = None


VERDICT = "loadgen_valid"
FIGURES = frozenset(
    {
        "decode_ms", "preprocess_ms", "postprocess_ms", "e2e_p50_ms", "e2e_p99_ms", "fps",
        "deadline_miss_rate", "paced_hz", "paced_jitter_ms", "processor_left",
        "sustained_p50_ms", "sustained_p99_ms", "sustained_ratio",
        "loadgen_latency_ms", "loadgen_qps", "target_qps", VERDICT,
    }
)  # fmt: skip
"""Columns of the case table that scenarios fill; the verdict is true or false."""

LOADGEN = "mlcommons-loadgen"

SCENARIOS: dict[str, Scenario] = {
    "single-stream": Scenario("closed_loop", "one call after the other"),
    "offline": Scenario("closed_loop", "all streams at once, as fast as they go", streams=True),
    "sustained": Scenario(
        "sustained", "minutes of load, with a time series", Sustained, streams=True
    ),
    "paced": Scenario("paced", "one frame every 1/rate_hz seconds, as a camera", Paced),
    "pipeline": Scenario(
        "pipeline", "decode, preprocess, infer, postprocess: one frame after the other", Pipeline
    ),
    "mlperf-single-stream": Scenario(
        "mlperf_single_stream",
        "MLPerf LoadGen: one sample after the other",
        SingleStream,
        package=LOADGEN,
    ),
    "mlperf-multi-stream": Scenario(
        "mlperf_multi_stream",
        "MLPerf LoadGen: one query of several samples after the other",
        MultiStream,
        streams=True,
        package=LOADGEN,
    ),
    "mlperf-offline": Scenario(
        "mlperf_offline",
        "MLPerf LoadGen: all samples at once",
        Offline,
        streams=True,
        package=LOADGEN,
    ),
    "mlperf-server": Scenario(
        "mlperf_server",
        "MLPerf LoadGen: random arrivals, at the highest rate that meets a latency limit",
        Server,
        streams=True,
        package=LOADGEN,
    ),
}


def complete_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a scenario, with defaults filled in.

    Raises:
        ValueError: a wrong name or value, or a required option is missing.
    """
    kind = SCENARIOS[name].options
    unknown = sorted(set(options) - set(kind.model_fields))
    if unknown:
        known = nearest(unknown[0], kind.model_fields)
        raise ValueError(f"{name} has no option '{unknown[0]}'. {known}")
    return kind.model_validate(options).model_dump(mode="json")


def longest_s(name: str, options: dict[str, Any]) -> float:
    """``Options.longest_s`` of these options of the scenario ``name``."""
    return SCENARIOS[name].options.model_validate(options).longest_s


def why_not(name: str, packages: Mapping[str, str] | None = None) -> str | None:
    """Why a scenario cannot run in an environment, with the remedy; None if it can.

    Args:
        packages: versions of the installed packages, by canonical name; None for the environment
            that qbench runs in.
    """
    package = SCENARIOS[name].package
    if package is None:
        return None
    if packages is not None:
        if package in packages:
            return None
        return f"the scenario {name} needs {package}: add it to the environment's requirements"
    try:
        version(package)
    except PackageNotFoundError:
        return f"the scenario {name} needs {package}, which is not installed: pip install {package}"
    return None
