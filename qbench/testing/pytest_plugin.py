"""The pytest plugin: suites as tests, a marker, and a fixture. See docs/pytest.md.

Every pytest session of an environment that has qbench loads this module: it imports pytest and
nothing else. What measures is ``qbench.testing.pytest_runs``, imported when the first case is
wanted."""

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
"""The xdist group of all that measures."""
COLLECT = ("given", "always", "never")
WHOLE_RUN = "the run"
"""The item that fails for what is no case's fault alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qbench", "inference benchmarks")
    group.addoption(
        "--qbench-results",
        metavar="DIR",
        help="Folder that bundles are kept in, and compared with (default: results, in the root "
        "folder).",
    )
    group.addoption(
        "--qbench-rounds",
        type=int,
        metavar="N",
        help="Measure every case so often, whatever suites and tests say.",
    )
    group.addoption(
        "--qbench-skip",
        action="store_true",
        help=f"Measure nothing: *{SUFFIX} files are not collected, other measuring tests skipped.",
    )
    parser.addini(
        "qbench_collect",
        f"Whether *{SUFFIX} files are tests: 'given' (default), where a file or folder on the "
        "command line or 'testpaths' leads to them; 'always'; 'never'.",
        default=COLLECT[0],
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "qbench(model, *, backend, precision='fp32', rounds=None, gate=None): measure a model "
        "before the test, and fail by the gate's rules. Also set on all that qbench measures, so "
        "that -m 'not qbench' leaves it out.",
    )
    if config.getini("qbench_collect") not in COLLECT:
        raise pytest.UsageError(f"qbench_collect is one of {', '.join(COLLECT)}")
    rounds = config.getoption("qbench_rounds")
    if rounds is not None and rounds < 1:
        raise pytest.UsageError("--qbench-rounds is 1 or more")


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
    """A suite; it is run once, when the first of its cases is."""

    _measured: Measured | Exception | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from qbench.errors import UserError
        from qbench.testing.pytest_runs import ask_file
        from qbench.text import printable

        try:
            self.wanted = ask_file(self.path)
            cases = self.wanted.cases()
        except UserError as error:
            raise self.CollectError(printable(str(error))) from None
        for name, case in cases.items():
            yield CaseItem.from_parent(self, name=name, case=case)
        yield RunItem.from_parent(self, name=WHOLE_RUN)

    def measured(self) -> Measured:
        """The run of the cases that were selected, judged.

        Raises:
            UserError: as the first time.
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

        # the same case in another environment is what its figures are paired with
        selected = {
            _anywhere(item.case)
            for item in self.session.items
            if isinstance(item, CaseItem) and item.parent is self
        }
        every = list(self.wanted.cases().values())
        chosen = [case for case in every if _anywhere(case) in selected]
        return measure(
            self.wanted,
            _results(self.config),
            f"pytest {self.path.name}",
            self.config.getoption("qbench_rounds"),
            None if len(chosen) == len(every) else [case.case_id for case in chosen],
        )


def _anywhere(case: Case) -> str:
    """What a case is, whatever environment it runs in."""
    return case.model_copy(update={"environment": ""}).case_id


class _SuiteItem(pytest.Item):
    """What the tests of a suite have in common."""

    parent: SuiteFile

    def __init__(self, **names: Any) -> None:
        super().__init__(**names)
        _mark(self)
        if self.config.pluginmanager.hasplugin("timeout"):  # the suite has limits of its own
            self.add_marker(pytest.mark.timeout(0))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name

    def measured(self) -> Measured:
        with _plainly_told(), _one_at_a_time(self.config):
            _check_together(self)
            return self.parent.measured()


class CaseItem(_SuiteItem):
    """One case of a suite."""

    def __init__(self, *, case: Case, **names: Any) -> None:
        super().__init__(**names)
        self.case = case

    def runtest(self) -> None:
        measured = self.measured()
        _tell(self, measured, [self.case.case_id])
        self._be_a_benchmark(measured)
        _judge(measured, [self.case.case_id])

    def _be_a_benchmark(self, measured: Measured) -> None:
        """Stand in the table of pytest-benchmark's, and be saved and compared as it does."""
        session = getattr(self.config, "_benchmarksession", None)
        row = measured.rows[self.case.case_id]
        if session is None or session.disabled or session.skip:
            return
        if measured.bundle is not None and row["status"] == "ok":
            from qbench.present.exports.pytest_benchmark import session_benchmark

            session.benchmarks.append(session_benchmark(measured.bundle, row, self.name))


class RunItem(_SuiteItem):
    """What a suite's run as a whole is failed for: it says nothing, or cases have gone."""

    def runtest(self) -> None:
        measured = self.measured()
        _tell(self, measured, [])
        failure = measured.failure_of_all()
        if failure is not None:
            pytest.fail(failure, pytrace=False)


# --------------------------------------------------------------------------- marker and fixture


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Before the body of a test with the marker: measure and judge."""
    for marker in item.iter_markers("qbench"):
        if marker.args or marker.kwargs:
            measured = _measure_one(item, _results(item.config), marker)
            _judge(measured, measured.rows)
            break
    return (yield)


def _measure_one(
    item: pytest.Item, results: Path, asked_for: pytest.Mark, gated: bool = True
) -> Measured:
    """Measure the model that a marker, or a call of the fixture, asks for."""
    with _plainly_told(), _one_at_a_time(item.config):
        from inspect import signature

        from qbench.errors import UserError
        from qbench.testing.pytest_runs import ask_model, measure

        file, _, name = item.location
        test = f"{file}::{name}"
        try:
            how = signature(ask_model).bind(
                *asked_for.args, folder=item.path.parent, test=test, **asked_for.kwargs
            )
        except TypeError as error:
            raise UserError(
                f"qbench: {error}", "Give a model and a backend: ('net.onnx', backend='openvino')."
            ) from None
        wanted = ask_model(*how.args, **how.kwargs)
        rounds = item.config.getoption("qbench_rounds")
        measured = measure(wanted, results, f"pytest {test}", rounds, gated=gated)
    _tell(item, measured, measured.rows)
    return measured


class Figures:
    """A case that was measured. Columns of the case table (docs/case-table.md) are attributes;
    None is what was not measured.

    Attributes:
        row: all of them.
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
    """Measure one case and look at its figures: ``qbench_case("net.onnx", backend="onnxruntime")``.

    Takes what the marker takes, but for ``gate``: nothing is compared with earlier runs. A case
    that cannot run here skips the test, one that fails fails it.
    """

    def measure_case(
        model: str | Path, *, backend: str, precision: str = "fp32", rounds: int | None = None
    ) -> Figures:
        from qbench.testing.pytest_runs import why

        mark = pytest.mark.qbench(model, backend=backend, precision=precision, rounds=rounds)
        measured = _measure_one(request.node, tmp_path / "qbench", mark.mark, gated=False)
        (row,) = measured.rows.values()
        if row["status"] == "skipped":
            pytest.skip(why(row))
        if row["status"] != "ok" or measured.bundle is None:
            pytest.fail(why(row), pytrace=False)
        return Figures(row, measured.bundle.path)

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


# --------------------------------------------------------------------------- what they share


@contextmanager
def _plainly_told() -> Iterator[None]:
    """What qbench has to say to a person fails the test, as it stands and without a traceback."""
    from qbench.errors import UserError

    problem = ""
    try:
        yield
    except UserError as error:
        problem = str(error)
    if problem:  # out here, so that pytest shows no exception that this one came from
        from qbench.text import printable

        pytest.fail(printable(problem), pytrace=False)


def _judge(measured: Measured, case_ids: Iterable[str]) -> None:
    """Fail or skip the test as its cases do."""
    from qbench.testing.pytest_runs import why

    for case_id in case_ids:
        failure = measured.failure(case_id)
        if failure is not None:
            pytest.fail(failure, pytrace=False)
        if measured.rows[case_id]["status"] == "skipped":
            pytest.skip(why(measured.rows[case_id]))


def _tell(item: pytest.Item, measured: Measured, case_ids: Iterable[str]) -> None:
    """Give reports, JUnit's too, what was measured."""
    from qbench.testing.pytest_runs import figures

    for case_id in case_ids:
        if measured.rows[case_id]["status"] == "ok":
            item.user_properties.append(("qbench_figures", figures(measured.rows[case_id])))
    if measured.bundle is not None:
        item.user_properties.append(("qbench_run", str(measured.bundle.path)))
    item.user_properties.extend(("qbench_note", note) for note in measured.notes)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures, the runs that they are from, and what was said on the way."""
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
    """What the session knows and xdist's workers are told: whether paths were given, and how tests
    are spread."""
    told = getattr(config, "workerinput", None)
    if told is not None:
        return told["qbench"]
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
        UserError: xdist has spread the cases of a suite over workers, and each would run it.
    """
    from qbench.errors import UserError

    told = getattr(item.config, "workerinput", None)
    if told is None or told["workercount"] == 1 or told["qbench"]["dist"] == "loadfile":
        return
    if not item.nodeid.endswith(f"@{GROUP}"):  # as --dist loadgroup has it, where that works
        raise UserError(
            "pytest-xdist spreads the cases of this suite over several workers",
            "Give --dist loadfile, or better measure in a session of its own: "
            "pytest -n 0 -m qbench.",
        )


@contextmanager
def _one_at_a_time(config: pytest.Config) -> Iterator[None]:
    """Workers of xdist wait for each other; whoever else measures is an error as always."""
    if not hasattr(config, "workerinput"):
        yield
        return
    from filelock import FileLock

    from qbench.machine.lock import lock_path

    with FileLock(f"{lock_path()}.pytest", mode=0o666):
        yield
