"""CUDA's libraries for a machine without a GPU, compiled here for the installed onnxruntime-gpu:
the provider is the real one, the device is not (``stand_in_cuda.c``)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from qbench_onnxruntime.gpu import CUDNN

SOURCE = Path(__file__).with_suffix(".c")
_MAKES = re.compile(r"^(cublas|cudnn)\w*Create")
"""Functions whose first argument is where a new handle goes."""


def build(provider: Path, folder: Path) -> Path:
    """Compile into ``folder`` what the provider links to, and cuDNN, which it looks up by names
    that stand in it. Returns the folder, which belongs on the ``LD_LIBRARY_PATH``."""
    if not all(map(shutil.which, ("gcc", "nm", "readelf"))):
        pytest.skip("no compiler here to make libraries with")
    wanted: dict[str, set[str]] = defaultdict(set)
    for needed in re.findall(r"\[(libcu[^]]*)\]", _output("readelf", "-d", provider)):
        wanted[needed] = set()
    for line in _output("nm", "-D", "--undefined-only", provider).splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library.startswith("libcu"):
            wanted[library].add(name)
        elif re.match(r"cu[A-Z]", name):
            wanted["libcuda.so.1"].add(name)
    names = re.findall(rb"\0(cudnn[A-Z][A-Za-z0-9_]+)(?=\0)", provider.read_bytes())
    wanted[CUDNN] = {name.decode() for name in names}
    for library, functions in wanted.items():
        _compile(folder, library, functions)
    return folder


def _compile(folder: Path, library: str, functions: set[str]) -> None:
    text = SOURCE.read_text() if library.startswith("libcudart") else "#include <stdlib.h>\n"
    for name in sorted(functions - set(re.findall(r"(\w+)\(", text))):
        if _MAKES.match(name):
            text += f"int {name}(void **handle) {{ *handle = malloc(64); return 0; }}\n"
        else:
            text += f"long {name}(void) {{ return 0; }}\n"
    source, versions = folder / f"{library}.c", folder / f"{library}.map"
    source.write_text(text)
    versions.write_text(f"{library} {{ global: *; }};\n")
    options = [f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}"]
    command = ["gcc", "-shared", "-fPIC", "-w", *options, "-o", folder / library, source]
    subprocess.run(command, check=True)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
