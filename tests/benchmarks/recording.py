"""Record trials for ``study.py``: rounds of fresh processes, in random order.

A recording is a folder::

    trials.parquet   one row for each trial, with its raw samples; rewritten after every round
    setup.json       model, versions, machine, times; must be equal to continue a recording
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prepared import Prepared, prepare
from slowed import EVERY, SHARE

from qbench import __version__
from qbench.kit.model import RunConfig
from qbench.machine.host import fingerprint
from qbench.machine.lock import measuring_lock
from qbench.run.workers.registry import package_versions
from qbench.storage import write_file

BACKEND = "onnxruntime"
MODEL = "resnet8_cifar10"
"""Real, and 0.2 to 1 ms, so that a quarter of a second has hundreds of calls."""
WARMUP_S, TIMED_S = 0.15, 0.25
SAME = ("plain-1", "plain-2", "plain-3", "plain-4")
"""Trials of one and the same thing: what differs between them is noise."""
HOST = (
    "host_id", "cpu_model", "cpu_flags", "cores_usable", "caches", "memory_bytes", "hypervisor",
    "governor", "kernel", "python",
)  # fmt: skip
"""What a recording keeps of its machine: not its name."""
INJECTED = {
    "slower by 2 %": (0.02, 1),
    "slower by 3 %": (0.03, 1),
    "slower by 5 %": (0.05, 1),
    "stall in every 20th call": (1.0, 20),
}
"""Slow-downs: share of a call's duration that is added to it, and to every how many calls."""
LOAD = """
import os, time
parent = os.getppid()
big, small = bytearray(1 << 25), 0
while os.getppid() == parent:
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        small += 1
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        bytes(big)
"""


def record(
    folder: Path, rounds: int, load: bool, report: Callable[[str], None], model: str = MODEL
) -> None:
    """Record until the folder holds ``rounds`` rounds; what it holds already stays.

    Args:
        load: keep one more process busy meanwhile.

    Raises:
        ValueError: the folder holds a recording of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(model, BACKEND)
    setup = _setup(prepared, load)
    if (folder / "setup.json").exists():
        differs = _differences(json.loads((folder / "setup.json").read_text()), setup)
        if differs:
            raise ValueError(f"{folder} was recorded otherwise: {differs}. Give a new folder.")
    write_file(folder / "setup.json", json.dumps(setup, indent=1, sort_keys=True) + "\n")
    trials: list[Any] = []
    if (folder / "trials.parquet").exists():
        trials += read_trials(folder).to_dict("records")
    begun = max((t["round"] for t in trials), default=-1) + 1
    with measuring_lock(), _load() if load else nullcontext():
        for number in range(begun, rounds):
            trials += _round(prepared, number)
            _write(folder / "trials.parquet", pd.DataFrame(trials))
            report(_progress(trials, number, rounds))


def read_trials(folder: Path) -> pd.DataFrame:
    """The trials of a recording: ``round``, ``slot``, ``position`` in the round, ``seconds`` of
    the whole process, ``wall_ns`` and ``cpu_ns`` of the window, ``samples`` (int64 ns)."""
    return pd.read_parquet(folder / "trials.parquet")


def _round(prepared: Prepared, number: int) -> list[dict[str, Any]]:
    """One trial of every slot, in an order that only the round's number decides."""
    slots = [*SAME, *INJECTED]
    random.Random(number).shuffle(slots)
    return [
        {"round": number, "position": position, **_trial(prepared, slot)}
        for position, slot in enumerate(slots)
    ]


def _trial(prepared: Prepared, slot: str) -> dict[str, Any]:
    config = RunConfig()
    if slot in INJECTED:
        prepared = prepared.slowed("slowed:Slowed")
        config = RunConfig(hints=dict(zip((SHARE, EVERY), INJECTED[slot], strict=True)))
    with prepared.trial(WARMUP_S, TIMED_S, config) as (outcome, folder):
        return {
            "slot": slot,
            "seconds": outcome.seconds,
            "wall_ns": outcome.result["wall_ns"],
            "cpu_ns": outcome.result["cpu_ns"],
            "samples": np.load(folder / "samples.npy"),
        }


def _write(path: Path, trials: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pandas(trials, preserve_index=False),
        buffer,
        use_dictionary=["slot"],  # type: ignore[arg-type]
        column_encoding={"samples.list.element": "DELTA_BINARY_PACKED"},
        compression="zstd",
    )
    write_file(path, buffer.getvalue().to_pybytes())


def _setup(prepared: Prepared, load: bool) -> dict[str, Any]:
    packages = ("numpy", "onnxruntime")
    return {
        "model": prepared.artifact.model.name,
        "artifact": prepared.stored.digest,
        "load": load,
        "warmup_s": WARMUP_S,
        "timed_s": TIMED_S,
        "injected": {name: list(how) for name, how in INJECTED.items()},
        "software": {"qbench": __version__, **package_versions(packages)},
        "host": {name: fact for name, fact in fingerprint().items() if name in HOST},
    }


def _differences(had: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(
        key
        for key in now
        if (had[key] != now[key] if key != "host" else had[key]["host_id"] != now[key]["host_id"])
    )


def _progress(trials: list[dict[str, Any]], number: int, rounds: int) -> str:
    last = [t for t in trials if t["round"] == number]
    seconds = sum(t["seconds"] for t in last)
    p10 = np.quantile(np.concatenate([t["samples"] for t in last if t["slot"] in SAME]), 0.1)
    left = (rounds - 1 - number) * seconds / 60
    return (
        f"round {number + 1} of {rounds}: {seconds:.1f} s, p10 {p10 / 1e6:.3f} ms, "
        f"about {left:.1f} min left"
    )


@contextmanager
def _load() -> Iterator[None]:
    """A process that computes and copies memory; it goes with the block, or with this process."""
    with subprocess.Popen([sys.executable, "-c", LOAD], stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def workers_find_this_folder() -> None:
    """Workers import ``slowed``."""
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
