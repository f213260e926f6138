"""A user's decoder runs in a process of its own, with limits, and ends with the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from readable import assert_readable

from qbench.kit.apart import Batch, Ended
from qbench.kit.pipeline.decoding import DecoderFailed
from qbench.run.workers.isolate import in_parallel
from qbench.spec.decoders import Decoder

HEADS = """
import os, subprocess, time
from pathlib import Path
import numpy as np

def good(outputs, options):
    (raw,) = outputs.values()
    return [np.array([[3, 0.9, 0, 0, 0.5, 0.5]]) for _ in raw]

def sleeps(outputs, options):
    child = subprocess.Popen(["sleep", "600"])
    Path(options["mark"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)

def crashes(outputs, options):
    os.kill(os.getpid(), 11)

def eats(outputs, options):
    np.ones(1 << 36, np.uint8)

def fails(outputs, options):
    print("printed by the decoder")
    return outputs["none"]

def leaves(outputs, options):
    raise SystemExit(3)
"""
NAMES = ("good", "sleeps", "crashes", "eats", "fails", "leaves", "missing")


def install(packages: Path) -> None:
    info = packages / "heads-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heads\nVersion: 1.0\n")
    points = "".join(f"{name} = qbench_user_heads:{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[qbench.decoders]\n{points}")
    (packages / "qbench_user_heads.py").write_text(HEADS)


@pytest.fixture
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed package of decoders."""
    packages = tmp_path / "heads"
    install(packages)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    return packages


RAW = {"raw": np.zeros((2, 4), np.float32)}


def test_it_gives_the_boxes_of_every_item_and_is_not_imported_here(heads: Path):
    decoder = Decoder(name="good")
    decoder.check()
    found = decoder.decode(RAW)
    assert [one.tolist() for one in found] == [[[3, 0.9, 0, 0, 0.5, 0.5]]] * 2
    assert "qbench_user_heads" not in sys.modules


@pytest.mark.parametrize(
    ("name", "status", "words", "log"),
    [
        ("crashes", "crashed", "died of SIGSEGV", ""),
        ("eats", "oom", "out of memory", "MemoryError"),
        ("fails", "error", "it has no entry 'none'", "KeyError: 'none'"),
        ("leaves", "error", "", "SystemExit: 3"),
        ("missing", "error", "cannot be imported", "AttributeError"),
    ],
)
def test_how_it_ends_is_a_status_and_a_sentence(
    heads: Path, name: str, status: str, words: str, log: str
):
    with pytest.raises(DecoderFailed) as caught:
        Decoder(name=name).decode(RAW, 30, memory_limit_bytes=1 << 31)
    assert caught.value.status == status and log in caught.value.log
    assert str(caught.value).startswith(f"decoder {name}: ") and words in str(caught.value)
    assert_readable(str(caught.value))


def pids(mark: Path) -> list[int]:
    """The decoder and the process that it started, once they run."""
    while not mark.exists() or not mark.read_text():
        time.sleep(0.01)
    return [int(word) for word in mark.read_text().split()]


def assert_ended(processes: list[int]) -> None:
    end = time.monotonic() + 5
    while any(map(is_running, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(is_running, processes))


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_at_its_limit_it_is_killed_with_what_it_started(heads: Path, tmp_path: Path):
    mark = tmp_path / "mark"
    with pytest.raises(DecoderFailed, match=r"decoder sleeps: .* within 1 s") as caught:
        Decoder(name="sleeps", options={"mark": str(mark)}).decode(RAW, 1)
    assert caught.value.status == "timeout"
    assert_ended(pids(mark))


def test_it_ends_with_its_batch_and_has_no_outcome(heads: Path, tmp_path: Path):
    mark = tmp_path / "mark"
    fates: list[type[BaseException]] = []

    def work(item: str) -> None:
        if item == "fails":
            pids(mark)
            raise RuntimeError("planted")
        try:
            Decoder(name="sleeps", options={"mark": str(mark)}).decode(RAW, 60)
        except BaseException as error:
            fates.append(type(error))
            raise

    with pytest.raises(RuntimeError, match="planted"):
        in_parallel(["decodes", "fails"], work, 2)
    assert_ended(pids(mark))
    end = time.monotonic() + 5
    while not fates and time.monotonic() < end:
        time.sleep(0.01)
    assert fates == [Ended]


def test_none_starts_in_a_batch_that_has_ended(heads: Path):
    batch = Batch()
    batch.end()
    try:
        batch.join()
        with pytest.raises(Ended):
            Decoder(name="good").decode(RAW)
    finally:
        Batch().join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_process_that_called_it(heads: Path, tmp_path: Path, number: int):
    mark = tmp_path / "mark"
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np; from qbench.spec.decoders import Decoder\n"
        f"Decoder(name='sleeps', options={{'mark': {str(mark)!r}}})"
        ".decode({'raw': np.zeros((2, 4))})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    running = pids(mark)
    parent.send_signal(number)
    assert parent.wait(timeout=10) != 0
    assert_ended(running)
    left = list(Path(os.environ["TMPDIR"]).glob("qbench-decoder-*"))
    assert number == signal.SIGKILL or not left


# --------------------------------------------------------------------------- in a run


@pytest.fixture
def detector(project, tmp_path: Path):
    """The project's network as a detector: its decoder is to be chosen."""
    install(Path(project.env["PYTHONPATH"]))
    with np.load(project.root / "blobs.npz") as blobs:
        images = blobs["images"]
    boxes = [[item, 3, 0, 0, 0.5, 0.5] for item in range(60)]
    np.savez(project.root / "boxes.npz", images=images, labels=np.array(boxes, np.float32))
    project.write(
        "datasets/boxes.yaml",
        {
            "name": "boxes", "licence": "CC0-1.0", "format": "npz", "truth": "boxes",
            "files": {"data": {"path": "boxes.npz"}}, "arrays": {"image": "images"},
            "labels": "labels", "items": 60, "classes": 10,
        },
    )  # fmt: skip

    def make(name: str, **options: str) -> None:
        import yaml

        card = yaml.safe_load((project.root / "models/net.yaml").read_text())
        card |= {
            "task": "object-detection", "metric": "mAP50",
            "decoder": {"name": name, "options": options},
            "evaluation": {"dataset": "boxes", "items": "20:60"},
            "calibration": {"dataset": "boxes", "items": "0:20"},
        }  # fmt: skip
        project.write("models/net.yaml", card)

    return make


def test_a_run_scores_its_boxes(project, detector):
    detector("good")
    project.run_json(project.suite())
    assert [(c["status"], c["accuracy"]) for c in project.cases()] == [("ok", 1.0)] * 2


def test_a_decoder_that_sleeps_is_a_timeout_with_a_sentence(project, detector, tmp_path: Path):
    detector("sleeps", mark=str(tmp_path / "mark"))
    project.run_json(project.suite(precisions=["fp32"], limits={"evaluate_timeout_s": 3}))
    (case,) = project.cases()
    assert case["status"] == "timeout"
    assert case["reason"] == "decoder sleeps: did not answer within 3 s"
    assert_ended(pids(tmp_path / "mark"))


def test_a_decoder_that_fails_leaves_its_traceback_in_the_log(project, detector):
    detector("fails")
    answer = project.run_json(project.suite(precisions=["fp32"]))
    (case,) = project.cases()
    assert case["status"] == "error" and "decoder fails: " in case["reason"]
    (line,) = (project.root / answer["bundle"] / "evaluate.jsonl").read_text().splitlines()
    assert "KeyError: 'none'" in json.loads(line)["log"]


def test_an_interrupt_while_it_decodes_leaves_nothing_behind(project, detector, tmp_path: Path):
    mark = tmp_path / "mark"
    detector("sleeps", mark=str(mark))
    process = subprocess.Popen(
        project.command("run", project.suite(precisions=["fp32"]), "--no-report"),
        cwd=project.root,
        env=project.env,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    running = pids(mark)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) != 0
    assert_ended(running)
    (bundle,) = (project.root / "results").glob("*/begin.json")
    assert (
        not (bundle.parent / "evaluate.jsonl").exists()
        or not (bundle.parent / "evaluate.jsonl").read_text()
    )
