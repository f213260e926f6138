"""A fake of NVIDIA's driver library, compiled with the host's C compiler (``fake_libcuda.c``)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
ACTION = re.compile(
    r"(Ask|Check|End|Install|Load|Look|Put|Reinstall|Reload|Remove|Restart|Run|See|Start|Take|"
    r"Unset|Upgrade|Use|Wait) "
)
"""A remedy begins with an action."""


def build(folder: Path, name: str = "libcuda.so.1", source: Path = SOURCE) -> Path:
    """Compile the library into ``folder``, which belongs on the ``LD_LIBRARY_PATH`` of processes
    that shall find it; a process reads that variable when it starts. Returns the folder."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make a driver library with")
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", folder / name, source]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder
