"""The command line without a process of its own."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from qbench.cli import main


def run_here(folder: Path, env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """``qbench ARGS`` in this process, as in a process of its own: with this working folder, these
    environment variables, PYTHONPATH among them, and nothing imported from there before."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    packages = [path for path in paths if Path(path or "-").is_dir() and path not in sys.path]
    names = {entry.stem for path in packages for entry in Path(path).iterdir()}
    others = _taken_out(names)
    on_term = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ, env, clear=True):
        patch.chdir(folder)
        patch.setattr(sys, "path", [*packages, *sys.path])
        patch.setattr("tempfile.tempdir", None)
        patch.setattr(sys, "argv", ["qbench", *args])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        importlib.invalidate_caches()
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, on_term)
            _taken_out(names)
            sys.modules.update(others)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(["qbench", *args], code, *texts)


def _taken_out(names: Collection[str]) -> dict[str, ModuleType]:
    """The loaded modules of these packages, which are no longer loaded."""
    loaded = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in loaded}
