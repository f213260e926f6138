"""A worker that times one window for each line it reads: ``test_timed_path.py`` turns sensors on
and off between the windows of one process, where medians are steadier than between processes.

Arguments: ``module:Class`` of the adapter, the artifact's folder, the feeds (JSON: input to file),
nanoseconds of a window. A line is ``on`` or ``off``: with what a trial reads around its window, or
without. The answer is the window's median in ns.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from qbench.kit.jobs.evaluate import load_artifact
from qbench.kit.model import RunConfig
from qbench.kit.readings.conditions import Conditions
from qbench.kit.readings.counters import Counters
from qbench.kit.scenarios.closed_loop import time_blocks


def main(target: str, folder: str, feeds: str, length_ns: str) -> None:
    module, _, name = target.partition(":")
    counters = Counters()
    backend = getattr(importlib.import_module(module), name)()
    backend.import_runtime()
    with backend.open(load_artifact(Path(folder)), RunConfig()) as program:
        stream = program.stream()
        stream.bind({name: np.load(path)[:1] for name, path in json.loads(feeds).items()})
        time_blocks(stream.infer, int(length_ns))
        conditions = Conditions()
        for line in sys.stdin:
            on = line.strip() == "on"
            if on:
                conditions.begin()
                counters.read()
            loop = time_blocks(stream.infer, int(length_ns))
            if on:
                counters.read()
                conditions.end()
            print(float(np.median(loop.samples)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
