"""The pytest plugin: suites as tests, a marker, and a fixture. See docs/pytest.md.

Every pytest session of an environment with qbench loads this module, so it imports pytest only.
``qbench.testing.pytest_runs`` measures; it is imported with the first case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qbench.spec.case import Case
    from qbench.testing.pytest_runs import Measured

SUFFIX = ".qbench.yaml"
GROUP = "qbench"
"""The xdist group of all measuring tests."""
COLLECT = ("given", "always", "never")
WHOLE_RUN = "the run"
"""The item that fails for faults of the run as a whole."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qbench", "inference benchmarks")
    group.addoption(
        "--qbench-results",
        metavar="DIR",
        help="Folder of bundles, for new runs and for comparisons (default: results, in the root "
        "folder).",
    )
    group.addoption(
        "--qbench-rounds",
        type=int,
        metavar="N",
        help="Rounds of every case, instead of those of suites and tests.",
    )
    group.addoption(
        "--qbench-skip",
        action="store_true",
        help=f"Measure nothing: do not collect *{SUFFIX} files, skip other measuring tests.",
    )
    parser.addini(
        "qbench_collect",
        f"Whether to collect *{SUFFIX} files: 'given' (default): if the command line or "
        "'testpaths' names files or folders; 'always'; 'never'.",
        default=COLLECT[0],
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "qbench(model, *, backend, precision='fp32', rounds=None, gate=None): measure a model "
        "before the test, and fail by the gate's rules. All measuring tests have this marker: "
        "-m 'not qbench' deselects them.",
    )
    if config.getini("qbench_collect") not in COLLECT:
        raise pytest.UsageError(f"qbench_collect must be one of {', '.join(COLLECT)}")
    rounds = config.getoption("qbench_rounds")
    if rounds is not None and rounds < 1:
        raise pytest.UsageError("--qbench-rounds must be at least 1")


# --------------------------------------------------------------------------- suites as tests


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(SUFFIX) and _collects(parent.config):
        return SuiteFile.from_parent(parent, path=file_path)
    return None


def _collects(config: pytest.Config) -> bool:
    if config.getoption("qbench_skip"):
        return False
    wanted = config.getini("qbench_collect")
    return wanted == "always" or (wanted == "given" and _facts(config)["given"])


class SuiteFile(pytest.File):
    """A suite; it runs once, with the first of its cases."""

    _measured: Measured | Exception | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from qbench.errors import UserError
        from qbench.testing.pytest_runs import file_suite
        from qbench.text import printable

        try:
            self.wanted = file_suite(self.path)
            cases = self.wanted.cases()
        except UserError as error:
            raise self.CollectError(printable(str(error))) from None
        for name, case in cases.items():
            yield CaseItem.from_parent(self, name=name, case=case)
        yield RunItem.from_parent(self, name=WHOLE_RUN)

    def measured(self) -> Measured:
        """The run of the selected cases, with the gate's verdict.

        Raises:
            UserError: the run failed, now or at the first call.
        """
        from qbench.errors import UserError

        if self._measured is None:
            try:
                self._measured = self._run()
            except UserError as error:
                self._measured = error
        if isinstance(self._measured, Exception):
            raise self._measured
        return self._measured

    def _run(self) -> Measured:
        from qbench.testing.pytest_runs import measure

        # the gate pairs a case with the same case in another environment
        selected = {
            _without_environment(item.case)
            for item in self.session.items
            if isinstance(item, CaseItem) and item.parent is self
        }
        every = list(self.wanted.cases().values())
        chosen = [case for case in every if _without_environment(case) in selected]
        return measure(
            self.wanted,
            _results(self.config),
            f"pytest {self.path.name}",
            self.config.getoption("qbench_rounds"),
            None if len(chosen) == len(every) else [case.case_id for case in chosen],
        )


def _without_environment(case: Case) -> str:
    """Equal for the same case in different environments."""
    return case.model_copy(update={"environment": ""}).case_id


class _SuiteItem(pytest.Item):
    """The base of a suite's tests."""

    parent: SuiteFile

    def __init__(self, **names: Any) -> None:
        super().__init__(**names)
        _mark(self)
        if self.config.pluginmanager.hasplugin("timeout"):  # the suite has its own limits
            self.add_marker(pytest.mark.timeout(0))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name

    def measured(self) -> Measured:
        with _user_errors(), _one_at_a_time(self.config):
            _check_together(self)
            return self.parent.measured()


class CaseItem(_SuiteItem):
    """One case of a suite."""

    def __init__(self, *, case: Case, **names: Any) -> None:
        super().__init__(**names)
        self.case = case

    def runtest(self) -> None:
        measured = self.measured()
        _report(self, measured, [self.case.case_id])
        self._be_a_benchmark(measured)
        _judge(measured, [self.case.case_id])

    def _be_a_benchmark(self, measured: Measured) -> None:
        """Join pytest-benchmark's session, which prints, saves and compares the figures."""
        session = getattr(self.config, "_benchmarksession", None)
        row = measured.rows[self.case.case_id]
        if session is None or session.disabled or session.skip:
            return
        from qbench.testing.pytest_runs import measures

        if measured.bundle is not None and measures(row):
            from qbench.present.exports.pytest_benchmark import session_benchmark

            session.benchmarks.append(session_benchmark(measured.bundle, row, self.name))


class RunItem(_SuiteItem):
    """Fails for faults of the whole run: it is invalid, or cases of the last run are missing."""

    def runtest(self) -> None:
        measured = self.measured()
        _report(self, measured, [])
        failure = measured.failure_of_all()
        if failure is not None:
            pytest.fail(failure, pytrace=False)


# --------------------------------------------------------------------------- marker and fixture


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure and judge before the body of a test with the marker."""
    for marker in item.iter_markers("qbench"):
        if marker.args or marker.kwargs:
            measured = _measure_one(item, _results(item.config), marker)
            _judge(measured, measured.rows)
            break
    return (yield)


def _measure_one(
    item: pytest.Item, results: Path, mark: pytest.Mark, gated: bool = True
) -> Measured:
    """Measure the model of a marker, or of a call of the fixture."""
    with _user_errors(), _one_at_a_time(item.config):
        from inspect import signature

        from qbench.errors import UserError
        from qbench.testing.pytest_runs import measure, model_suite

        file, _, name = item.location
        test = f"{file}::{name}"
        try:
            how = signature(model_suite).bind(
                *mark.args, folder=item.path.parent, test=test, **mark.kwargs
            )
        except TypeError as error:
            raise UserError(
                f"qbench: {error}", "Give a model and a backend: ('net.onnx', backend='openvino')."
            ) from None
        wanted = model_suite(*how.args, **how.kwargs)
        rounds = item.config.getoption("qbench_rounds")
        measured = measure(wanted, results, f"pytest {test}", rounds, gated=gated)
    _report(item, measured, measured.rows)
    return measured


class Figures:
    """The figures of a measured case. Attributes are the columns of the case table
    (docs/case-table.md); None: not measured.

    Attributes:
        row: the figures by column.
        bundle: the folder of the run.
    """

    def __init__(self, row: Mapping[str, Any], bundle: Path) -> None:
        self.row, self.bundle = row, bundle

    def __getattr__(self, column: str) -> Any:
        if column.startswith("_"):
            raise AttributeError(column)
        if column not in self.row:
            from qbench.errors import nearest

            raise AttributeError(f"there is no column '{column}'. {nearest(column, self.row)}")
        return self.row[column]

    def __repr__(self) -> str:
        words = ("model", "backend", "precision", "latency_p50_ms")
        return f"<Figures {' '.join(str(self.row[word]) for word in words)} ms>"


@pytest.fixture
def qbench_case(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Figures]:
    """Measure one case and return its figures: ``qbench_case("net.onnx", backend="onnxruntime")``.

    Takes the marker's arguments except ``gate``: nothing is compared with earlier runs. Skips the
    test if the case cannot run here, and fails it if the case fails.
    """

    def measure_case(
        model: str | Path, *, backend: str, precision: str = "fp32", rounds: int | None = None
    ) -> Figures:
        from dataclasses import asdict

        from qbench.testing.pytest_runs import measures, why

        mark = pytest.mark.qbench(model, backend=backend, precision=precision, rounds=rounds)
        measured = _measure_one(request.node, tmp_path / "qbench", mark.mark, gated=False)
        (row,) = measured.rows.values()
        if row.status == "skipped":
            pytest.skip(why(row))
        if not measures(row) or measured.bundle is None:
            pytest.fail(why(row), pytrace=False)
        return Figures(asdict(row), measured.bundle.path)

    return measure_case


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        measures = "qbench_case" in getattr(item, "fixturenames", ())
        if measures or (isinstance(item, pytest.Function) and item.get_closest_marker("qbench")):
            _mark(item)
            if config.getoption("qbench_skip"):
                item.add_marker(pytest.mark.skip(reason="--qbench-skip"))


def _mark(item: pytest.Item) -> None:
    item.add_marker("qbench")
    if item.config.pluginmanager.hasplugin("xdist"):
        item.add_marker(pytest.mark.xdist_group(GROUP))


# --------------------------------------------------------------------------- shared by all


@contextmanager
def _user_errors() -> Iterator[None]:
    """Fail the test with the message of a UserError, without a traceback."""
    from qbench.errors import UserError

    problem = ""
    try:
        yield
    except UserError as error:
        problem = str(error)
    if problem:  # outside the handler, so that pytest shows no chained exception
        from qbench.text import printable

        pytest.fail(printable(problem), pytrace=False)


def _judge(measured: Measured, case_ids: Iterable[str]) -> None:
    """Fail or skip the test if one of its cases fails or was skipped."""
    from qbench.testing.pytest_runs import why

    for case_id in case_ids:
        failure = measured.failure(case_id)
        if failure is not None:
            pytest.fail(failure, pytrace=False)
        if measured.rows[case_id].status == "skipped":
            pytest.skip(why(measured.rows[case_id]))


def _report(item: pytest.Item, measured: Measured, case_ids: Iterable[str]) -> None:
    """Add figures, run and notes to the test's reports, JUnit's included."""
    from qbench.testing.pytest_runs import figures, measures

    for case_id in case_ids:
        row = measured.rows[case_id]
        if measures(row):
            item.user_properties.append(("qbench_figures", figures(row)))
    if measured.bundle is not None:
        item.user_properties.append(("qbench_run", str(measured.bundle.path)))
    item.user_properties.extend(("qbench_note", note) for note in measured.notes)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures, then the runs and the notes."""
    from qbench import __version__

    reports = [r for some in terminalreporter.stats.values() for r in some]
    lines: dict[str, None] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "qbench_figures":
                lines[f"{report.nodeid.rpartition('::')[2]}: {value}"] = None
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name in ("qbench_run", "qbench_note"):
                lines[f"{name.removeprefix('qbench_')}: {value}"] = None
    if lines:
        terminalreporter.section(f"qbench {__version__}")
        for line in lines:
            terminalreporter.line(line)


def _results(config: pytest.Config) -> Path:
    named = config.getoption("qbench_results")
    return config.invocation_params.dir / named if named else config.rootpath / "results"


# --------------------------------------------------------------------------- xdist


def _facts(config: pytest.Config) -> dict[str, Any]:
    """Facts of the session that xdist passes on to its workers: whether paths were given, and how
    tests are distributed."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        return worker["qbench"]
    searched = pytest.Config.ArgsSource.INVOCATION_DIR
    return {
        "given": config.args_source is not searched,
        "dist": config.getoption("dist", "no"),
    }


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["qbench"] = _facts(node.config)


def _check_together(item: pytest.Item) -> None:
    """
    Raises:
        UserError: xdist distributes the cases of a suite over workers, and each would run it.
    """
    from qbench.errors import UserError

    worker = getattr(item.config, "workerinput", None)
    if worker is None or worker["workercount"] == 1 or worker["qbench"]["dist"] == "loadfile":
        return
    if not item.nodeid.endswith(f"@{GROUP}"):  # the suffix that --dist loadgroup adds
        raise UserError(
            "pytest-xdist distributes the cases of this suite over several workers",
            "Give --dist loadfile, or better, measure in a separate session: "
            "pytest -n 0 -m qbench.",
        )


@contextmanager
def _one_at_a_time(config: pytest.Config) -> Iterator[None]:
    """Let xdist's workers wait for each other. Another measuring process is still an error."""
    if not hasattr(config, "workerinput"):
        yield
        return
    from filelock import FileLock

    from qbench.machine.lock import lock_path

    with FileLock(f"{lock_path()}.pytest", mode=0o666):
        yield
