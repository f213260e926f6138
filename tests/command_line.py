"""The command line without a process of its own."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest

from qbench.cli import main


def run_here(folder: Path, env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """``qbench ARGS`` in this process, as in a process of its own: with this working folder, these
    environment variables, PYTHONPATH among them, and nothing imported from there before."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    packages = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    before, on_term = set(sys.modules), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ, env, clear=True):
        patch.chdir(folder)
        patch.setattr(sys, "path", [*(p for p in packages if p not in sys.path), *sys.path])
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
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", None)).startswith(tuple(packages)):
                    del sys.modules[name]
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(["qbench", *args], code, *texts)
