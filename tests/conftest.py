"""Fixtures: a cache of its own for every test, and a small project with the fake backend."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import yaml
from command_line import run_here
from filelock import FileLock

from qbench.testing.fake import fake_model

ENTRY_POINTS = "[qbench.backends]\nfake = qbench.testing:FakeBackend\n"


hypothesis.settings.register_profile("any-machine", deadline=None)  # however slow or busy it is
hypothesis.settings.load_profile("any-machine")


@pytest.fixture(autouse=True, scope="session")
def lock_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures of a wider scope than ``own_folders``: not the machine's lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QBENCH_LOCK", str(tmp_path_factory.mktemp("lock") / "lock"))
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees another's cache, nor the lock of a run that goes on outside."""
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("QBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("QBENCH_LOCK", str(tmp_path / "tmp" / "lock"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # a session within is none of its


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: one of minutes at the end would leave the other processor idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A half of the tests for each process, and what is left is shared out again when one is done
    (``--dist worksteal``): so few fixtures of a module are made by two processes."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped, by reason; ``-rs`` says where as well."""
    skipped = terminalreporter.stats.get("skipped", ())
    counts = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if counts:
        terminalreporter.section("skipped")
    for reason, count in counts.most_common():
        terminalreporter.line(f"{count:4} {reason}")


@dataclass
class Runs:
    """The finished runs of this session, each a copy of its test's folder."""

    folder: Path

    def find(self, test: Path, env: Mapping[str, str], words: Sequence[str]) -> Path:
        """Where a run is kept: the name digests all that it is made from, wherever that lies."""
        digest = hashlib.sha256()
        variables = {k: v for k, v in env.items() if k != "PYTEST_CURRENT_TEST"}
        asked = json.dumps([variables, words], sort_keys=True)
        digest.update(asked.replace(str(test), "").encode())
        for path in sorted(test.rglob("*")):
            digest.update(str(path.relative_to(test)).encode())
            digest.update(path.read_bytes() if path.is_file() else b"/")
        return self.folder / digest.hexdigest()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@dataclass
class Project:
    """A user's folder: suites, cards, data, and an installed third-party backend ``fake``."""

    root: Path
    env: dict[str, str]
    runs: Runs

    def adapter(self, name: str, code: str) -> None:
        """Install a third-party backend ``name``: the class ``Backend`` of the module ``name``,
        whose text is ``code``."""
        packages = Path(self.env["PYTHONPATH"])
        info = packages / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[qbench.backends]\n{name} = {name}:Backend\n")
        (packages / f"{name}.py").write_text(code)

    def model(self, name: str = "net", **content: Any) -> None:
        """A fake model ``name`` with its card; ``content`` as in ``FakeBackend``."""
        path = self.root / f"{name}.fake"
        fake_model(path, **content)
        card = {
            "name": name,
            "task": "image-classification",
            "licence": "CC0-1.0",
            "inputs": {"image": {"dtype": "float32", "shape": ["N", 1, 8, 8], "layout": "NCHW"}},
            "outputs": {"scores": {"dtype": "float32", "shape": ["N", 10]}},
            "sources": {
                "fake": {
                    "path": path.name,
                    "inputs": {"image": {"name": "image"}},
                    "outputs": {"scores": {"name": "scores"}},
                }
            },
            "metric": "top1",
            "evaluation": {"dataset": "blobs", "items": "20:60"},
            "calibration": {"dataset": "blobs", "items": "0:20"},
        }
        self.write(f"models/{name}.yaml", card)

    def suite(self, name: str = "small", **content: Any) -> Path:
        """A suite of the fake backend; ``content`` replaces its defaults."""
        suite = {
            "name": name,
            "models": ["net"],
            "precisions": ["fp32", "int8-static"],
            "backends": ["fake"],
            "rounds": 2,
            "warmup_s": 0.02,
            "timed_s": 0.02,
            **content,
        }
        return self.write(f"{name}.yaml", suite)

    def write(self, name: str, content: Mapping[str, Any] | str) -> Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(dict(content))
        path.write_text(text)
        return path

    def command(self, *args: str | Path) -> list[str]:
        """The command line as a process of its own; ``qbench`` is quicker."""
        return [sys.executable, "-m", "qbench.cli", *map(str, args)]

    def qbench(self, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this folder, but in this process: a process of its own takes
        half a second to import what this one has."""
        return run_here(self.root, {**self.env, **env}, *map(str, args))

    def run_json(self, *args: str | Path) -> dict[str, Any]:
        """``qbench run ... --json --no-report``, which has to go well. A run that another test has
        made from the very same files is copied, with its cache."""
        folder, words = self.root.parent, [str(arg) for arg in args]
        known = self.runs.find(folder, self.env, words)
        if known.is_dir():
            shutil.copytree(known, folder, symlinks=True, dirs_exist_ok=True)
            return json.loads((known / "answer.json").read_text())
        done = self.qbench("run", *words, "--json", "--no-report")
        assert done.returncode in (0, 1), done.stderr
        if str(folder) not in done.stdout:  # paths in the answer are the other test's
            shutil.copytree(folder, known, symlinks=True)
            (known / "answer.json").write_text(done.stdout)
        return json.loads(done.stdout)

    def cases(self, bundle: str = "latest") -> list[dict[str, Any]]:
        done = self.qbench("show", bundle, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["cases"]


@pytest.fixture
def project(tmp_path: Path, runs: Runs) -> Project:
    """A project with the model ``net`` and 60 labelled items; net is right on all of them."""
    root = tmp_path / "project"
    (root / "datasets").mkdir(parents=True)
    packages = tmp_path / "packages" / "fake-1.0.dist-info"
    packages.mkdir(parents=True)
    (packages / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (packages / "entry_points.txt").write_text(ENTRY_POINTS)
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    made = Project(root, {**inherited, "PYTHONPATH": str(packages.parent)}, runs)
    made.model()
    rng = np.random.default_rng(3)
    images = rng.normal(size=(60, 1, 8, 8)).astype(np.float32)
    weights = np.asarray(json.loads((root / "net.fake").read_text())["weights"], np.float32)
    labels = (images.reshape(60, -1) @ weights).argmax(axis=1)
    np.savez(root / "blobs.npz", images=images, labels=labels)
    made.write(
        "datasets/blobs.yaml",
        {
            "name": "blobs",
            "licence": "CC0-1.0",
            "format": "npz",
            "files": {"data": {"path": "blobs.npz"}},
            "arrays": {"image": "images"},
            "labels": "labels",
            "items": 60,
            "classes": 10,
        },
    )
    return made


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For tests that measure time, and for those that take processors away: of these, one runs at
    a time, though pytest runs several tests (``-n 2``)."""
    folder = tmp_path_factory.getbasetemp().parent  # which pytest's processes share
    with FileLock(folder / "undisturbed.lock"):
        yield


@pytest.fixture
def assets() -> Path:
    """The folder of real models and data; the test is skipped where it is not to be had."""
    folder = os.environ.get("QBENCH_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("QBENCH_ASSETS does not name a folder of assets")
    return Path(folder).resolve()


# --------------------------------------------------------------------------- tests/strangers


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    """A stranger's file by name, made at its first use."""
    from strangers import STRANGERS  # a module of tests/strangers

    folder, made = tmp_path_factory.mktemp("strangers"), dict[str, Path]()

    def find(name: str) -> Path:
        if name not in made:
            known = STRANGERS
            if name not in known:
                from other_formats import OTHERS

                known = OTHERS
            (folder / name).mkdir()
            made[name] = known[name].build(folder / name)
        return made[name]

    return find


@pytest.fixture
def visit(tmp_path: Path):
    from visits import Visit

    folder = tmp_path / "visit"
    folder.mkdir()
    return Visit(folder)
