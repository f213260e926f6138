"""A stranger's commands, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command_line import run_here

from qbench.bundle.bundle import Bundle

Models = Callable[[str], Path]
"""Makes a stranger's model at its first use."""


@dataclass
class Visit:
    """A folder in which a stranger types commands."""

    folder: Path

    def types(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """``qbench ARGS``, in this process."""
        return run_here(self.folder, dict(os.environ), *map(str, args))

    def runs(self, *args: str | Path) -> Answer:
        """``qbench run --model ARGS`` with one round, which has to find something to measure."""
        quick = ("--rounds", "1", "--no-report", "--json")
        done = self.types("run", "--model", *args, *quick)
        assert done.returncode in (0, 1), done.stderr
        path = Path(json.loads(done.stdout)["bundle"])
        shown = self.types("show", path, "--json")
        return Answer(Bundle(self.folder / path), json.loads(shown.stdout)["cases"], done.stderr)

    def refused(self, *args: str | Path) -> str:
        """``qbench run --model ARGS``, which has to end with a refusal: what it says."""
        done = self.types("run", "--model", *args)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr


@dataclass
class Answer:
    """What a run has left."""

    bundle: Bundle
    cases: list[dict[str, Any]]
    said: str

    def case(self, backend: str, precision: str = "fp32") -> dict[str, Any]:
        (found,) = (c for c in self.cases if (c["backend"], c["precision"]) == (backend, precision))
        return found

    def outputs(self, backend: str, precision: str = "fp32") -> dict[str, np.ndarray]:
        """The outputs of a case that went well, ``[items, *item]`` by name."""
        case = self.case(backend, precision)
        assert case["status"] == "ok", case["reason"]
        plans = {entry.case_id: entry for entry in self.bundle.plan.cases}
        evaluation = plans[case["case_id"]].evaluation_id
        assert evaluation is not None
        return self.bundle.outputs(evaluation)
