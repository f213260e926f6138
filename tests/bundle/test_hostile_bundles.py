"""Bundles from elsewhere that are damaged, foreign or meant to do harm, on the command line: each
command reports the problem or shows the content, and none crashes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from crafted import Crafted
from pages import Page

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import SCHEMA
from qbench.cli import main
from qbench.storage import digest_file

HARM = "<script>alert(1)</script><img src=x onerror=alert(2)>"
CONTROL = "\x1b]0;title\x07\x1b[31m\u202e"
TABLES = ("trials.parquet", "samples.parquet")
COMMANDS = ("show", "report", "export", "verify", "merge")


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def qbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Run:
    """The command line, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["qbench", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        return Done(int(ended.value.code or 0), told.out, told.err)

    return run


def command(name: str, bundle: Path, tmp_path: Path) -> list[str | Path]:
    out = {"report": ["-o", tmp_path / "page.html"], "merge": ["-o", tmp_path / "fleet"]}
    return [name, bundle, *out.get(name, [])]


def crafted(folder: Path, host: dict[str, Any] | None = None, **begin: Any) -> Crafted:
    machine = {
        "host_id": "h" * 12,
        "hostname": "here",
        "architecture": "x86_64",
        "cpu_model": "a processor",
        "cpu_flags": ["avx2"],
        "governor": None,
        "power_mode": None,
        "caches": None,
        **(host or {}),
    }
    made = Crafted(folder, host=machine, **begin)
    made.labels = np.arange(12) % 3
    exact = made.case("fp32")
    made.evaluation(exact, np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32))
    for number in range(2):
        made.trial(exact, number, 4.0 + number)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return crafted(tmp_path / "results").done().path


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def seal(bundle: Path) -> None:
    """Give a bundle edited by hand a manifest that agrees with it, as a forger would."""
    files = [p for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json"]
    listed = {str(p.relative_to(bundle)): digest_file(p) for p in files}
    edit(bundle / "manifest.json", lambda manifest: manifest.update(files=listed))


def lines_of(done: Done) -> list[str]:
    return [line for line in (done.out + done.err).splitlines() if line.strip()]


# --------------------------------------------------------------------------- foreign bundles


@pytest.mark.parametrize("name", COMMANDS)
def test_another_schema_is_refused_by_number(qbench: Run, bundle: Path, tmp_path: Path, name: str):
    edit(bundle / "begin.json", lambda begin: begin.update(schema=SCHEMA + 7))
    done = qbench(*command(name, bundle, tmp_path))
    assert done.code == 2 and f"schema {SCHEMA + 7}" in done.err
    assert "Run the suite again" in done.err
    assert not (tmp_path / "page.html").exists() and not (tmp_path / "fleet").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundle_of_another_architecture_is_read_as_any(qbench: Run, tmp_path: Path, name: str):
    host = {"architecture": "riscv64", "cpu_model": None, "cpu_flags": [], "host_id": "r" * 12}
    bundle = crafted(tmp_path / "results", host).done().path
    done = qbench(*command(name, bundle, tmp_path))
    assert done.code == 0, done.err


def test_two_architectures_in_one_report_and_one_collection(qbench: Run, tmp_path: Path):
    paths = []
    for run_id, host in (
        ("20260101-000000-a-0001", {}),
        ("20260102-000000-b-0002", {"architecture": "aarch64", "host_id": "a" * 12}),
    ):
        made = crafted(tmp_path / "results", host)
        made.run_id = run_id
        paths.append(made.done().path)
    assert qbench("report", *paths, "-o", tmp_path / "page.html").code == 0
    done = qbench("merge", *paths, "-o", tmp_path / "fleet", "--json")
    (pair,) = json.loads(done.out)["pairs"]
    assert pair["level"] == "different machine" and pair["regression"] == 0
    assert "host.architecture" in pair["differs"]


def test_no_common_case_is_shown_side_by_side(qbench: Run, tmp_path: Path):
    first = crafted(tmp_path / "results").done().path
    renamed = Crafted(tmp_path / "results", "20260102-000000-crafted-0002")
    renamed.trial(renamed.case("fp32", model="net-v2"), 0, 2.0)
    edit_id = "0123456789ab"
    renamed.cases[0]["case_id"] = renamed.trials[0][0]["case_id"] = edit_id
    second = renamed.done().path
    assert qbench("report", first, second, "-o", tmp_path / "page.html").code == 0
    done = qbench("merge", first, second, "-o", tmp_path / "fleet", "--json")
    assert json.loads(done.out)["pairs"][0]["common_cases"] == 0
    table = (tmp_path / "fleet" / "cases.csv").read_text()
    assert "net-v2" in table and edit_id in table


# --------------------------------------------------------------------------- damaged


def test_a_torn_journal_of_an_unfinished_run_is_shown_up_to_there(qbench: Run, tmp_path: Path):
    path = crafted(tmp_path / "results").open().path
    journal = path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    (row,) = json.loads(qbench("show", path, "--json").out)["cases"]
    assert row["rounds"] == 1
    assert qbench("export", path).code == 0
    done = qbench("verify", path)
    assert done.code == 1 and "incomplete" in done.out
    done = qbench("merge", path, "-o", tmp_path / "fleet")
    assert done.code == 2 and "incomplete" in done.err


@pytest.mark.parametrize("forged", [False, True])
def test_a_torn_journal_of_a_finished_run_is_found(qbench: Run, bundle: Path, forged: bool):
    journal = bundle / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    if forged:
        seal(bundle)
    done = qbench("verify", bundle)
    assert done.code == 1 and "journal.jsonl: its last line is torn" in lines_of(done)
    assert ("journal.jsonl was changed" in lines_of(done)) != forged
    for name in ("show", "report", "export", "merge"):
        done = qbench(*command(name, bundle, bundle.parent.parent))
        assert done.code == 2 and "journal" in done.err, name


@pytest.mark.parametrize("forged", [False, True])
def test_missing_samples_are_found(qbench: Run, bundle: Path, forged: bool):
    (bundle / "samples.parquet").unlink()
    if forged:
        seal(bundle)
    done = qbench("verify", bundle)
    assert done.code == 1 and "samples.parquet is missing" in lines_of(done)
    done = qbench("merge", bundle, "-o", "fleet")
    assert done.code == 2 and "samples.parquet is missing" in done.err
    assert qbench("report", bundle, "-o", "page.html").code == 2
    assert qbench("show", bundle).code == 0, "the derived table is there"


@pytest.mark.parametrize("content", ["", "\x00" * 40, "[1, 2", "{}"])
@pytest.mark.parametrize(
    "file",
    ["begin.json", "plan.json", "manifest.json", "evaluate.jsonl", *TABLES],
)
def test_a_file_that_is_something_else(qbench: Run, bundle: Path, file: str, content: str):
    (bundle / file).write_text(content + "\n")
    for name in ("show", "export", "report"):
        done = qbench(*command(name, bundle, bundle.parent.parent))
        assert done.code in (0, 2) and "Traceback" not in done.err
    done = qbench("verify", bundle)
    assert done.code in (1, 2) and file in done.out + done.err
    assert "Traceback" not in done.err
    done = qbench("merge", bundle, "-o", "fleet")
    assert done.code == 2 and "Traceback" not in done.err and not Path("fleet").exists()


# --------------------------------------------------------------------------- edited


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("begin.json", "a processor", "a better one"),
        ("plan.json", '"net"', '"ned"'),
        ("suite.yaml", "crafted", "another"),
        ("journal.jsonl", '"round": 0', '"round": 5'),
        ("evaluate.jsonl", '"accuracy": 0', '"accuracy": 1'),
    ],
)
def test_a_bundle_edited_by_hand_is_found_with_the_file(
    qbench: Run, bundle: Path, file: str, old: str, new: str
):
    text = (bundle / file).read_text()
    assert old in text
    (bundle / file).write_text(text.replace(old, new))
    done = qbench("verify", bundle)
    assert done.code == 1 and f"{file} was changed" in lines_of(done)
    done = qbench("merge", bundle, "-o", "fleet")
    assert done.code == 2 and f"{file} was changed" in done.err and not Path("fleet").exists()


def test_a_forged_latency_is_found_by_recomputing(qbench: Run, bundle: Path):
    path = bundle / "samples.parquet"
    frame = pd.read_parquet(path)
    trial = frame["trial"].iloc[0]
    frame.loc[frame["trial"] == trial, "latency_ns"] //= 2
    frame.to_parquet(path, index=False)
    seal(bundle)
    assert qbench("verify", bundle).code == 0, "all digests agree"
    done = qbench("verify", bundle, "--recompute")
    assert done.code == 1 and trial in done.out
    done = qbench("merge", bundle, "-o", "fleet", "--recompute")
    assert done.code == 2 and trial in done.err


def test_a_case_renamed_in_the_plan_is_not_silently_another(qbench: Run, bundle: Path):
    """The plan's case no longer is the journal's."""
    edit(bundle / "plan.json", lambda plan: plan["cases"][0].update(case_id="ffffffffffff"))
    seal(bundle)
    done = qbench("verify", bundle)
    assert done.code == 1
    problems = [line for line in lines_of(done) if line.startswith("journal.jsonl: trial")]
    assert len(problems) == 2 and all("none of the plan's" in line for line in problems)


SEGMENT = {"p50_ns": 1.0, "p90_ns": 1.0, "p99_ns": 1.0, "mean_ns": 1.0, "cov": None}


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("journal.jsonl", "segments", {"calls": 20, "compute": {**SEGMENT, "p50_ns": "2"}}),
        ("journal.jsonl", "segments", {"calls": 0, "compute": SEGMENT}),
        ("journal.jsonl", "segments", [SEGMENT]),
        ("journal.jsonl", "device_memory", {"weights": "much"}),
        ("journal.jsonl", "device_memory", {"weights": -1}),
        ("journal.jsonl", "device_memory", None),
        ("journal.jsonl", "gpu", "fast"),
        ("journal.jsonl", "gpu", {"samples": 1, "missing": {}, "throttled": {"heat": 2.0}}),
        ("journal.jsonl", "gpu", {"samples": 1, "missing": {}, "sm_clock_mhz": True}),
        ("journal.jsonl", "gpu", {"samples": 1, "missing": {}, "memory_process_bytes": 1}),
        ("prepare.jsonl", "base", "../../outside"),
        ("prepare.jsonl", "compiled_for", "anything"),
    ],
)
def test_fields_of_a_gpu_have_their_types(
    qbench: Run, bundle: Path, file: str, field: str, value: Any
):
    first, _, rest = (bundle / file).read_text().partition("\n")
    assert qbench("report", bundle, "-o", "page.html").code == 0
    (bundle / file).write_text(json.dumps({**json.loads(first), field: value}) + "\n" + rest)
    seal(bundle)
    for name in ("verify", "report", "merge"):
        done = qbench(*command(name, bundle, bundle.parent.parent))
        assert done.code in (1, 2), name
        assert file in done.out + done.err and field in done.out + done.err, name
        assert "Traceback" not in done.err


def test_every_kind_of_stranger_among_the_files_is_named(qbench: Run, bundle: Path):
    outside = bundle.parent / "outside"
    outside.mkdir()
    (bundle / "predictions" / "extra.npy").write_bytes(b"x")
    (bundle / "predictions" / "away").symlink_to(outside)
    (bundle / "near").symlink_to(bundle / "plan.json")
    os.mkfifo(bundle / "pipe")
    edit(
        bundle / "manifest.json",
        lambda manifest: manifest["files"].update({"../outside": "0" * 64, "gone": "0" * 64}),
    )
    done = qbench("verify", bundle)
    assert done.code == 1
    assert {
        "predictions/extra.npy was added",
        "predictions/away is a link that leads out of the bundle",
        "near is a link",
        "pipe is neither file nor folder",
        "../outside is not a file of a bundle",
        "gone is missing",
    } <= set(lines_of(done))


def test_a_problem_is_one_line_whatever_a_bundle_says(qbench: Run, bundle: Path):
    edit(
        bundle / "plan.json",
        lambda plan: plan["cases"][0]["case"].update(precision=f"x\nall is well{CONTROL}"),
    )
    (bundle / "a\nfiles agree").write_text("")
    done = qbench("verify", bundle)
    assert done.code == 1
    assert "all is well" not in lines_of(done) and "files agree was added" not in lines_of(done)
    assert not set("\x1b\x07\u202e") & set(done.out + done.err)


# --------------------------------------------------------------------------- words that do harm


@pytest.fixture
def harmful(tmp_path: Path) -> Path:
    """Every word of it that a person may read is HTML, and steers the terminal."""
    word = HARM + CONTROL
    host = {"hostname": word, "cpu_model": word, "governor": word, "kernel": word, "os": word}
    made = crafted(tmp_path / "results", host, suite=word, software={"qbench": word, word: word})
    made.case("fp16", skip=word, model=word)
    on_gpu = made.case("fp16", device=word)
    made.prepared[f"a{on_gpu}"]["compiled_for"] = {"name": word}
    throttled = {"samples": 1, "missing": {word: word}, "throttled": {word: 1.0}}
    made.trial(on_gpu, 0, 1.0, gpu=throttled, device_memory={word: 1})
    return made.done().path


def test_html_in_a_host_name_stays_text_on_the_page(qbench: Run, harmful: Path, tmp_path: Path):
    assert qbench("report", harmful, harmful, "-o", tmp_path / "page.html").code == 0
    page = Page((tmp_path / "page.html").read_text())
    assert not any(re.match(r"\s*alert\(", script) for script in page.scripts)
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]


def test_control_characters_reach_no_terminal(qbench: Run, harmful: Path):
    for args in (
        ["show"],
        ["verify"],
        ["merge", "-o", "fleet"],
        ["export", "--format", "markdown"],
    ):
        done = qbench(args[0], harmful, *args[1:])
        assert done.code == 0, (args, done.err)
        assert not set("\x1b\x07\u202e") & set(done.out + done.err), args


def test_html_is_escaped_in_markdown_and_whole_in_data(qbench: Run, harmful: Path, tmp_path: Path):
    assert "<script>" not in qbench("export", harmful, "--format", "markdown").out
    qbench("merge", harmful, "-o", tmp_path / "fleet")
    found = json.loads((tmp_path / "fleet" / "collection.json").read_text())
    assert found["bundles"][0]["host"]["hostname"] == HARM + CONTROL


def test_a_bundle_within_a_link_is_read_and_copied_as_files(qbench: Run, bundle: Path):
    link = bundle.parent.parent / "link"
    link.symlink_to(bundle)
    assert qbench("merge", link, "-o", "fleet").code == 0
    copied = Path("fleet") / bundle.name
    assert not copied.is_symlink() and Bundle(copied).problems() == []
    shutil.rmtree(bundle)
    assert qbench("show", copied).code == 0
