"""A machine with a GPU, for processes that qbench starts: NVIDIA's driver library, TensorRT and
CUDA's bindings, all of them fakes on the paths that a process looks at.

What is measured there is ONNX Runtime on a processor under another name. So that no such figure
can pass for one of a GPU, the card and the version of TensorRT are called fakes, and every bundle
tells both.
"""

from __future__ import annotations

import os
from pathlib import Path

import fake_libcuda
import fake_tensorrt

CARD = "Fake GPU that is none"
MARK = "+fake"
"""Behind the version of TensorRT."""
HERE = Path(__file__).parent


def environment(folder: Path, version: str = "11") -> dict[str, str]:
    """Write the fakes into ``folder``; returns the variables that let a process find them.

    Args:
        version: of TensorRT, ``10`` or ``11``.
    """
    files = {
        "tensorrt/__init__.py": "import sys, fake_tensorrt\n"
        f"made = fake_tensorrt.make({version!r})\n"
        f"made.__version__ += {MARK!r}\n"
        "sys.modules[__name__] = made\n",
        "cuda/__init__.py": "",
        "cuda/bindings/__init__.py": "__version__ = '13.5.0'\n",
        "cuda/bindings/runtime.py": "import sys, fake_cuda\nsys.modules[__name__] = fake_cuda\n",
        f"tensorrt-{fake_tensorrt.VERSIONS[version]}.dist-info/METADATA": "Metadata-Version: 2.1\n"
        f"Name: tensorrt\nVersion: {fake_tensorrt.VERSIONS[version]}{MARK}\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    searched = [
        str(folder),
        str(HERE),
        str(HERE.parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return {
        "PYTHONPATH": os.pathsep.join(searched),
        "LD_LIBRARY_PATH": str(fake_libcuda.build(folder / "driver")),
        "FAKE_CUDA_DEVICES": f"{CARD},9.0,80",
        "CUDA_VISIBLE_DEVICES": "0",
    }
