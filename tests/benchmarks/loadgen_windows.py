"""A worker that drives one opened program by LoadGen, by a plain loop of the same steps (placing
an item, inferring, reading) and by the loop that only infers, in turns: ``test_timed_path.py``
compares their medians.

Arguments: ``module:Class`` of the adapter, the artifact's folder, the feeds (JSON: input to file),
how many windows of each. The last line is JSON: for each turn, the three medians in ns.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from qbench.kit.jobs.evaluate import load_artifact
from qbench.kit.model import RunConfig
from qbench.kit.scenarios import mlperf_single_stream
from qbench.kit.scenarios.closed_loop import time_calls
from qbench.kit.scenarios.lane import Lane, Library
from qbench.kit.scenarios.window import Opened
from qbench.spec.scenarios import complete_options

WINDOW_NS = 500_000_000


def main(target: str, folder: str, feeds: str, windows: str) -> None:
    module, _, name = target.partition(":")
    backend = getattr(importlib.import_module(module), name)()
    backend.import_runtime()
    artifact = load_artifact(Path(folder).absolute())
    items = {name: np.load(path, mmap_mode="r") for name, path in json.loads(feeds).items()}
    how = {"min_duration_s": WINDOW_NS / 1e9, "min_queries": 1}
    options = complete_options("mlperf-single-stream", how)
    config = RunConfig()
    with tempfile.TemporaryDirectory() as logs, backend.open(artifact, config) as program:
        os.chdir(logs)  # LoadGen writes there
        stream = program.stream()
        stream.bind({name: array[:1] for name, array in items.items()})
        opened = Opened(artifact.model, config, [stream], items, options, WINDOW_NS)
        lane = Lane(stream, library := Library(items, artifact.model.inputs, 1))
        turn = itertools.cycle(range(library.size))
        drives: dict[str, Callable[[], Sequence[int]]] = {
            "loadgen": lambda: mlperf_single_stream.drive(opened).samples.tolist(),
            "same steps": lambda: time_calls(lambda: lane.run([next(turn)]), WINDOW_NS, 1, 1 << 62),
            "inference": lambda: time_calls(stream.infer, WINDOW_NS, 1, 1 << 62),
        }
        drives["inference"]()  # warm
        turns = []
        for index in range(int(windows)):
            order = list(drives)
            random.Random(index).shuffle(order)
            medians = {name: float(np.median(drives[name]())) for name in order}
            turns.append([medians[name] for name in drives])
    print(json.dumps(turns), flush=True)
    os._exit(0)  # as workers end: LoadGen's threads never do


if __name__ == "__main__":
    main(*sys.argv[1:])
