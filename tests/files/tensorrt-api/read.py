"""Read the names, members and signatures of TensorRT's Python bindings, without TensorRT.

The wheels of the bindings are small and on PyPI; ``libnvinfer``, which is large and is not, need
only answer to its name here: a stub with the nine C functions that the bindings look up lets them
be imported, and pybind11 writes every signature into the docstrings. With a C compiler at hand::

    for version in 10.16.1.11 11.4.0.106; do
        python tests/data/tensorrt-api/read.py $version
    done

Each writes ``<version>.json`` next to this file: all public names of the package; of the classes
that build, inspect and run an engine the members: a list of signatures of a method, ``property``,
or the value of an enumeration's member.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STUB = """
#define NOTHING(name) void *name(void) { return 0; }
NOTHING(createInferBuilder_INTERNAL) NOTHING(createInferRefitter_INTERNAL)
NOTHING(createInferRuntime_INTERNAL) NOTHING(createNvOnnxParserRefitter_INTERNAL)
NOTHING(createNvOnnxParser_INTERNAL) NOTHING(getBuilderPluginRegistry)
NOTHING(getPluginRegistry)
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void *logger, const char *name) { return 1; }
"""
LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so", "libnvonnxparser.so")
_OTHER = re.compile(r"(I\w*(Layer|Plugin|Field)\w*|\w*(Plugin|Refit|Calibrat|Algorithm|DLA)\w*)$")
"""Classes whose members nothing here needs."""


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = f"tensorrt_cu13_bindings=={version}"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", name, wheel]
        subprocess.run(pip, check=True)
        (folder / "stub.c").write_text(STUB)
        for library in LIBRARIES:
            target = folder / f"{library}.{version.partition('.')[0]}"
            build = ["cc", "-shared", "-fPIC", "-o", str(target), str(folder / "stub.c")]
            subprocess.run(build, check=True)
        paths = {"LD_LIBRARY_PATH": name, "PYTHONPATH": f"{folder}:{HERE}"}
        call = f"import os, read; read.write({version!r}); os._exit(0)"
        subprocess.run([sys.executable, "-c", call], check=True, env=paths)


def write(version: str) -> None:
    import tensorrt_bindings as trt  # pyright: ignore[reportMissingImports]

    classes = {
        name: found
        for name, found in vars(trt.tensorrt).items()
        if isinstance(found, type) and not name.startswith("_") and not _OTHER.match(name)
    }
    classes["ILogger.Severity"] = trt.ILogger.Severity
    content = {
        "version": version,
        "names": sorted(name for name in dir(trt) if not name.startswith("_")),
        "classes": {name: _members(found) for name, found in sorted(classes.items())},
    }
    lines = json.dumps(content, indent=0, sort_keys=True)
    (HERE / f"{version}.json").write_text(lines + "\n")


def _members(found: type) -> dict[str, object]:
    return {
        name: _describe(found, name)
        for name in sorted(dir(found))
        if name == "__init__" or not name.startswith("_")
    }


def _describe(found: type, name: str) -> object:
    member = getattr(found, name)
    if isinstance(member, found):
        return int(member)  # pyright: ignore[reportArgumentType]
    if isinstance(member, property):
        return "property"
    if not callable(member) or isinstance(member, type):
        return "value"
    pattern = rf"(?:\d+\. )?({name}\(.*)"
    documented = re.findall(pattern, member.__doc__ or "")
    return [
        line.replace("tensorrt_bindings.tensorrt.", "")
        for line in documented
        if "*args" not in line
    ]


if __name__ == "__main__":
    main(sys.argv[1])
