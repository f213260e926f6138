"""Runs on the GPU, and processes alongside, for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json

DEVICE = "cuda:0"
MINUTES = 20
"""A run of a small suite takes less, the building of engines included."""


@dataclass(frozen=True)
class Run:
    """The results of a run.

    Attributes:
        cases: the rows of the case table.
        cache: the folder with its artifacts.
    """

    bundle: Bundle
    cases: list[dict[str, Any]]
    cache: Path

    def trials(self, **of: Any) -> list[dict[str, Any]]:
        """The trials that went well of the cases with these columns."""
        ids = {case["case_id"] for case in self.cases if of.items() <= case.items()}
        records = map(to_json, self.bundle.trials)
        every = [trial for trial in records if trial["case_id"] in ids]
        assert every and all(trial["status"] == "ok" for trial in every), every
        return every


def qbench(*words: str | Path, folder: Path, ok: tuple[int, ...] = (0, 1)) -> str:
    """The output of a command; any other exit code fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "qbench.cli", *map(str, words)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        capture_output=True,
        text=True,
        timeout=MINUTES * 60,
    )
    assert done.returncode in ok, done.stdout + done.stderr
    return done.stdout


@contextmanager
def child(script: str, *words: object) -> Iterator[None]:
    """A script of this folder, running: from when it says ``ready`` until the block ends."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield
        finally:
            process.kill()
