"""MLPerf LoadGen, which issues queries, times each one, and gives a verdict. Needs mlperf_loadgen.

The modules ``mlperf_*`` are the scenarios that use this one. LoadGen's latency lasts from the time
a query is due until all its responses are complete. So, unlike the plain loop's latency, it
includes binding the inputs, reading the outputs and Python's work in between; ``facts`` has the
parts. Responses carry no data: accuracy is measured separately.
"""

from __future__ import annotations

import json
import re
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import mlperf_loadgen as lg
import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.scenarios.closed_loop import in_threads, time_calls
from qbench.kit.scenarios.lane import Lane, describe, library_of
from qbench.kit.scenarios.window import Opened, Timed

REHEARSAL_NS, REHEARSAL_CALLS = 200_000_000, 5
"""Minimum length of the rehearsal, which sets LoadGen's expectations."""
MARKER = ":::MLLOG "
"""Prefix of each JSON line of LoadGen's detailed log."""
COMPLETE = re.compile(rb'"complete_ns":(\d+)')
"""A query's latency in LoadGen's trace, from the time it was due."""


@dataclass(frozen=True)
class Rehearsal:
    """Result of a closed loop over all streams, with binding and reading, before LoadGen begins.

    Attributes:
        call_ns: ``[calls]`` int64, time of each batch.
        items_per_s: of all streams together.
        wall_ns, cpu_ns: wall time, and processor time of the process.
    """

    call_ns: np.ndarray
    items_per_s: float
    wall_ns: int
    cpu_ns: int


@dataclass(frozen=True)
class Result:
    """Result of one LoadGen run.

    Attributes:
        log: the last value of each key of the detailed log.
        errors: errors in the log.
        query_ns: int64 ns of each query: LoadGen's own if the run is traced, else from its issue
            until it is complete.
        items: number of completed samples.
        wall_ns, cpu_ns: wall time from the first query to the last response, and processor time of
            the process.
        files: names of its logs.
    """

    log: Mapping[str, Any]
    errors: Sequence[str]
    query_ns: np.ndarray
    items: int
    wall_ns: int
    cpu_ns: int
    files: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return self.log.get("result_validity") == "VALID"

    @property
    def reason(self) -> str | None:
        """Why it is not valid, in LoadGen's words; None if it is valid."""
        if self.valid:
            return None
        reasons = [*self.errors, self.log.get("result_invalid_reason", "")]
        if not self.log.get("early_stopping_met", True):
            reasons.append("early stopping: " + self.log.get("early_stopping_result", ""))
        reasons = [" ".join(text.replace("*", " ").split()) for text in reasons]
        return " ".join(filter(None, reasons)) or "LoadGen gave no reason"

    def number(self, key: str) -> float | None:
        """Return a number of the log; None if it is unknown, which LoadGen writes as 0."""
        return self.log.get(key) or None


class System:
    """LoadGen's system under test: all streams answer queries.

    With one stream, LoadGen's own thread does the work, so that latencies include no hand-over
    between threads. With several, and in the server scenario (``queued``), each stream has a thread
    that takes batches from a shared queue.

    These threads never end: LoadGen logs from every thread that responds, and when one ends, it may
    free memory that it still reads, and crash (seen with 6.0.17).
    """

    def __init__(self, opened: Opened, queued: bool = False) -> None:
        self._batch = opened.config.batch
        self._streams = opened.streams
        self._library = library_of(opened)
        self._queued = queued
        self._threaded = queued or len(self._streams) > 1
        self._waiting: SimpleQueue[list[Any]] = SimpleQueue()
        self._answered: SimpleQueue[int] = SimpleQueue()
        self._start()
        if self._threaded:
            for index in range(len(self._streams)):
                threading.Thread(target=self._work, args=(index,), daemon=True).start()

    def rehearse(self) -> Rehearsal:
        """Measure the time of calls and the rate of all streams."""
        indices = self._library.some()
        cpu_begin, begin = time.process_time_ns(), time.perf_counter_ns()
        deadline = begin + 10 * REHEARSAL_NS

        def work(stream: Any) -> array[int]:
            lane = Lane(stream, self._library)
            return time_calls(lambda: lane.run(indices), REHEARSAL_NS, REHEARSAL_CALLS, deadline)

        if len(self._streams) == 1:
            calls = [work(self._streams[0])]
        else:
            calls = in_threads(self._streams, work)
        wall_ns = time.perf_counter_ns() - begin
        cpu_ns = time.process_time_ns() - cpu_begin
        call_ns = np.concatenate([np.asarray(each, dtype=np.int64) for each in calls])
        return Rehearsal(call_ns, len(call_ns) * self._batch / wall_ns * 1e9, wall_ns, cpu_ns)

    def run(self, settings: lg.TestSettings, prefix: str = "", trace: bool = False) -> Result:
        """Run LoadGen; it writes its logs to the working folder with ``prefix``.

        Args:
            trace: have LoadGen record every query's latency. This takes 7 µs of another processor
                per query, so it is for latencies that cannot be measured here.

        Raises:
            BaseException: an exception of a stream.
        """
        self._start()
        sut = lg.ConstructSUT(self._issue, self._flush)
        qsl = lg.ConstructQSL(
            self._library.total, self._library.size, self._library.load, lambda indices: None
        )
        prefix += "mlperf_log_"
        logs = lg.LogSettings()
        output = lg.LogOutputSettings()
        output.outdir, output.prefix = ".", prefix
        logs.log_output, logs.enable_trace = output, trace
        settings.mode = lg.TestMode.PerformanceOnly
        try:
            lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        finally:
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
        if self._error is not None:
            raise self._error
        return self._result(prefix, trace)

    def _start(self) -> None:
        self.lanes = [Lane(stream, self._library) for stream in self._streams]
        self._error: BaseException | None = None
        self._query_ns = array("q")
        self._items = 0
        self._begin = self._cpu_begin = self._wall_ns = self._cpu_ns = 0

    # ------------------------------------------------------------------ called by LoadGen

    def _issue(self, query: list[Any]) -> None:
        before = time.perf_counter_ns()
        if not self._begin:
            self._cpu_begin, self._begin = time.process_time_ns(), before
        self._items += len(query)
        if self._queued:
            self._waiting.put(query)
            return
        batches = [query[i : i + self._batch] for i in range(0, len(query), self._batch)]
        for batch in batches:
            if self._threaded:
                self._waiting.put(batch)
            else:
                self._answer(self.lanes[0], batch)
        if self._threaded:
            self._wait(len(query))
        self._query_ns.append(time.perf_counter_ns() - before)

    def _flush(self) -> None:
        """Called after the last query."""
        if self._queued:
            self._wait(self._items)
        self._wall_ns = time.perf_counter_ns() - self._begin
        self._cpu_ns = time.process_time_ns() - self._cpu_begin

    def _wait(self, samples: int) -> None:
        """Wait until this many samples are answered."""
        while samples > 0:
            samples -= self._answered.get()

    # ------------------------------------------------------------------ the streams

    def _work(self, index: int) -> None:
        """Process batches in a stream's thread."""
        while True:
            batch = self._waiting.get()
            if self._queued:
                self._fill(batch)
            self._answer(self.lanes[index], batch)
            self._answered.put(len(batch))

    def _fill(self, batch: list[Any]) -> None:
        """Add waiting samples, up to a whole batch."""
        with suppress(Empty):
            while len(batch) < self._batch:
                batch += self._waiting.get_nowait()

    def _answer(self, lane: Lane, batch: list[Any]) -> None:
        """Infer a batch and respond. LoadGen waits for every response, so it gets one even after an
        exception, which is raised when LoadGen has ended."""
        try:
            if self._error is None:
                lane.run([sample.index for sample in batch])
        except BaseException as error:
            self._error = error
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in batch])

    def _result(self, prefix: str, trace: bool) -> Result:
        log, errors = _read_log(Path(f"{prefix}detail.txt"))
        query_ns = np.asarray(self._query_ns, dtype=np.int64)
        trace_file = Path(f"{prefix}trace.json")
        if trace:
            found = COMPLETE.findall(trace_file.read_bytes())
            query_ns = np.asarray([int(ns) for ns in found], dtype=np.int64)
        trace_file.unlink()
        Path(f"{prefix}accuracy.json").unlink()  # of a run for speed, it is empty
        files = (f"{prefix}summary.txt", f"{prefix}detail.txt")
        wall_ns, cpu_ns = self._wall_ns, self._cpu_ns
        return Result(log, errors, query_ns, self._items, wall_ns, cpu_ns, files)


def settings(opened: Opened, scenario: str) -> lg.TestSettings:
    """Return LoadGen's settings of a scenario, from the options that all scenarios share."""
    made = lg.TestSettings()
    made.scenario = getattr(lg.TestScenario, scenario)
    made.min_duration_ms = round(opened.options["min_duration_s"] * 1e3)
    if "max_duration_s" in opened.options:
        made.max_duration_ms = round(opened.options["max_duration_s"] * 1e3)
    return made


def one_at_a_time(opened: Opened, scenario: str) -> None:
    """Check that the program takes single samples.

    Raises:
        Unsupported: the program takes batches.
    """
    if opened.config.batch != 1:
        raise Unsupported(f"MLPerf's {scenario} sends one sample at a time: measure it at batch 1")


def timed(
    result: Result,
    system: System,
    figures: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    samples: np.ndarray | None = None,
    more_files: Sequence[str] = (),
) -> Timed:
    """Return a scenario's result.

    Args:
        figures: the scenario's own, in addition to LoadGen's verdict.
        facts: the scenario's own, in addition to LoadGen's.
        samples: ns, if not of the queries.
        more_files: in addition to this run's logs.
    """
    reported = {
        key: value for key, value in result.log.items() if key.startswith(("result_", "early_"))
    }
    return Timed(
        samples=result.query_ns if samples is None else samples,
        items=result.items,
        wall_ns=result.wall_ns,
        cpu_ns=result.cpu_ns,
        figures={"loadgen_valid": result.valid, **figures},
        facts={
            "loadgen": {
                "version": result.log.get("loadgen_version"),
                "invalid_because": result.reason,
                "latency_includes": "placing inputs and reading outputs",
                **reported,
            },
            **describe(system.lanes),
            **(facts or {}),
        },
        files=(*more_files, *result.files),
    )


def milliseconds(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6


def _read_log(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the last value of each key, and all errors."""
    log: dict[str, Any] = {}
    errors = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(MARKER):
            entry = json.loads(line[len(MARKER) :])
            log[entry["key"]] = entry["value"]
            if entry["metadata"]["is_error"]:
                errors.append(str(entry["value"]))
    return log, errors
