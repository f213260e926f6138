"""Exports: columns by choice, several bundles, spreadsheets, papers, and MLPerf's systems."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from crafted import Crafted
from hypothesis import given
from hypothesis import strategies as st

from qbench.analysis.systems import MAY_BE_EMPTY, system_files
from qbench.bundle.bundle import Bundle
from qbench.errors import UserError
from qbench.present.exports.latex import escaped
from qbench.present.exports.tables import export_bundles, export_table
from qbench.spec.system import FIELDS

HOSTILE = r"\input{/etc/passwd} & 100% $x^2$ #1 {_} ~ [*] <b> '' \\ |" + "\u202e你"
HOST = {
    "cpu_model": "a processor",
    "cpu_flags": [],
    "governor": None,
    "power_mode": None,
    "caches": None,
}


def content(bundles: Sequence[Bundle], form: str, columns: Sequence[str] = ()) -> bytes:
    (file,) = export_bundles(bundles, form, columns)
    return file.content


def measured(folder: Path, run_id: str = "20260101-000000-crafted-0001", **begin: Any) -> Bundle:
    """float32 of 4 ms and int8 of 2 ms in six rounds, one of twelve answers apart; and one case
    that was skipped. Both vary by 2.5 %, and against each other."""
    crafted = Crafted(folder, run_id, **begin)
    crafted.labels = np.arange(12) % 3
    exact, quantized = crafted.case("fp32"), crafted.case("int8-static")
    scores = np.eye(3, dtype=np.float32)[crafted.labels]
    crafted.evaluation(exact, scores)
    wrong = scores.copy()
    wrong[0] = [0, 1, 0]
    crafted.evaluation(quantized, wrong, reference=exact)
    crafted.cases[1]["calibration_items"] = 100
    crafted.case("fp16", skip="not here")
    for number in range(6):
        crafted.trial(exact, number, 4.1 if number % 2 else 3.9)
        crafted.trial(quantized, number, 1.95 if number % 2 else 2.05)
    return crafted.done()


# --------------------------------------------------------------------------- tables


def test_columns_are_those_that_were_asked_for_in_their_order(tmp_path: Path):
    bundle = measured(tmp_path)
    asked = ["precision", "latency_p50_ms", "model"]
    heading, *lines = content([bundle], "csv", asked).decode().splitlines()
    assert heading == ",".join(asked)
    exact, _, skipped = (line.split(",") for line in lines)
    assert exact[::2] == ["fp32", "net"] and float(exact[1]) == pytest.approx((3.9 * 4.1) ** 0.5)
    assert skipped == ["fp16", "", "net"]
    (first, *_) = json.loads(content([bundle], "json", asked))
    assert list(first) == asked
    heading = content([bundle], "markdown", ["reason", "model"]).decode().splitlines()[0]
    assert [cell.strip() for cell in heading.split("|")[1:-1]] == ["reason", "model"]


def test_an_unknown_column_is_answered_by_the_nearest(tmp_path: Path):
    bundle = measured(tmp_path)
    for form in ("csv", "latex", "markdown"):
        with pytest.raises(UserError, match="latency_p50"):
            content([bundle], form, ["model", "latency_p50"])
    with pytest.raises(UserError, match="Did you mean 'parquet'"):
        content([bundle], "parket")


def test_several_bundles_are_one_table_with_run_and_machine(tmp_path: Path):
    bundles = [
        measured(tmp_path, f"20260101-000000-crafted-{name}", host={**HOST, "host_id": name})
        for name in ("0001", "0002")
    ]
    table = pq.read_table(io.BytesIO(content(bundles, "parquet")))
    rows = table.to_pylist()
    assert [(row["run_id"][-4:], row["host_id"]) for row in rows] == [
        *[("0001", "0001")] * 3,
        *[("0002", "0002")] * 3,
    ]
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert kinds["rounds"] == kinds["calibration_items"] == "int64"
    assert kinds["latency_p50_ms"] == "double" and kinds["noisy"] == "bool"
    assert "string" in kinds["model"]
    with pytest.raises(UserError, match="holds one run"):
        content(bundles, "pytest-benchmark")


def as_csv(**columns: Any) -> list[dict[str, str]]:
    frame = pd.DataFrame({name: [value] for name, value in columns.items()}, dtype=object)
    content = export_table(frame, "csv").decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_words_are_no_formula_and_come_back(words: str):
    (row,) = as_csv(model="net", reason=words, latency_p50_ms=1.5)
    cell = row["reason"]
    assert not re.match(r"[=+\-@＝＋－＠\t\r\n]", cell)
    assert re.sub(r"^'(?='*[=+\-@＝＋－＠\t\r\n])", "", cell) == "\n".join(
        re.split(r"\r\n?", words)
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_exact_and_have_no_apostrophe(value: float):
    (row,) = as_csv(model="net", accuracy_delta=value, latency_p50_ms=1.5)
    assert float(row["accuracy_delta"]) == value


def test_half_a_surrogate_does_not_stop_an_export():
    frame = pd.DataFrame({"model": ["a\ud800b"], "reason": [None]}, dtype=object)
    for form in ("csv", "json", "markdown", "parquet"):
        assert b"a?b" in export_table(frame, form)


def test_names_do_nothing_in_markdown():
    frame = pd.DataFrame({"model": ["![x](http://evil) | <img>"]}, dtype=object)
    *_, line = export_table(frame, "markdown").decode().splitlines()
    assert line.strip("| ") == r"\!\[x\](http://evil) \| &lt;img&gt;"


# --------------------------------------------------------------------------- LaTeX


SAFE = re.compile(
    r"""(?: [A-Za-z0-9 .,:;!?/()+=@'-]      # nothing special
        | \\[&%$\#_{}] | \{[\[\]*]\} | \{\}
        | \\text(?:backslash|ascii(?:tilde|circum)|less|greater|bar)\{\} | \\symbol\{\d+\}
        | \$(?: - | \\(?:pm|times|Delta|approx|mu) | \^\\circ )\$ | \\dots\{\} | ~
        | \{\\[`'^~=u."rHvc]\{(?:\\i|\\j|[A-Za-z])\}\} )*""",
    re.VERBOSE,
)


@given(st.text())
def test_no_name_leaves_a_special_character(text: str):
    assert SAFE.fullmatch(escaped(text))


@pytest.mark.parametrize(
    ("text", "set_as"),
    [
        ("int8_static", r"int8\_static"),
        ("a--b", "a-{}-b"),
        ("naïve Ångström", r"na{\"{\i}}ve {\r{A}}ngstr{\"{o}}m"),
        ("[5 µs]", r"{[}5 $\mu$s{]}"),
        ("你", "{[}U+4F60{]}"),
        (r"\write18{x}", r"\textbackslash{}write18\{x\}"),
    ],
)
def test_text_in_latex(text: str, set_as: str):
    assert escaped(text) == set_as


def test_a_paper_gets_figures_with_intervals_and_what_they_are_of(tmp_path: Path):
    text = content([measured(tmp_path)], "latex").decode()
    lines = text.splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    exact, quantized = ([part.strip() for part in row.split("&")] for row in body)
    assert exact[:3] == ["net", "fake", "fp32"]
    # t(0.975, 5) = 2.571; half the interval is 2.571 / sqrt(6) deviations of the logarithms
    assert exact[3] == r"4.00 {\scriptsize {[}3.89 \dots{} 4.12{]}}"
    assert quantized[2] == "int8-static"
    assert quantized[4] == "2.00", "paired by rounds"
    assert quantized[5] == "92", "11 of 12, known to ±17 points"
    assert re.fullmatch(r"\$-\$8(\.\d)?\$\^{\\approx}\$", quantized[6]), "one answer may be chance"
    assert r"$\approx$: the interval includes no change" in text
    chosen = content([measured(tmp_path / "b")], "latex", ["speedup"]).decode()
    assert r"2.00 {\scriptsize {[}1.89 \dots{} 2.12{]}}" in chosen
    assert exact[4] == "--" and exact[-1] == r"0.500 \\"
    assert "20260101-000000-crafted-0001: a processor, 6 rounds, qbench 0" in text
    assert "blobs: 12 items" in text and "Left out: 1 case without" in text


def test_a_paper_lists_the_conditions_that_differ(tmp_path: Path):
    crafted = Crafted(tmp_path)
    for batch in (1, 4):
        crafted.trial(crafted.case("fp32", batch_size=batch), 0, 4.0)
    text = content([crafted.done()], "latex").decode()
    assert r"Model & Backend & Precision & \texttt{batch\_size} & p50 (ms) & Size (MB) \\" in text
    assert r"net & fake & fp32 & 4 & 4.00 & 0.500 \\" in text


def hostile(folder: Path) -> Bundle:
    crafted = Crafted(folder, software={"qbench": HOSTILE})
    for batch, name in ((1, HOSTILE), (2, "[x"), (4, "*"), (8, "m" * 500)):
        crafted.trial(crafted.case("fp32", model=name, batch_size=batch), 0, 4.0)
    return crafted.done()


def test_a_table_of_hostile_names_is_whole(tmp_path: Path):
    text = content([hostile(tmp_path)], "latex").decode("ascii")
    lines = text.splitlines()
    begin = lines.index(r"\midrule")
    for line in lines[begin + 1 : lines.index(r"\bottomrule")]:
        assert len(re.findall(r"(?<!\\)&", line)) == 5, "as many as in the heading"
        assert line.endswith(r" \\") and not line.startswith(("[", "*"))
        assert len(line) < 500
    assert not re.search(r"\\(?:input|write)", text)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_a_table_of_hostile_names_is_set(tmp_path: Path):
    table = content([hostile(tmp_path)], "latex").decode()
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{table}\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "paper"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "LaTeX Warning" not in done.stdout


# --------------------------------------------------------------------------- systems


# What the submission checker refuses empty: SYSTEM_DESC_MEANINGFUL_RESPONSE_REQUIRED_FIELDS of
# mlcommons/inference, tools/submission.
MEANINGFUL = """
division submitter system_type status system_name number_of_nodes host_processor_model_name
host_processors_per_node host_processor_core_count host_memory_capacity host_memory_configuration
host_storage_capacity host_storage_type host_networking host_network_card_count
host_networking_topology accelerators_per_node accelerator_model_name accelerator_memory_capacity
accelerator_host_interconnect accelerator_memory_configuration accelerator_interconnect cooling
framework operating_system other_software_stack
"""


def test_optional_fields_are_those_that_the_checker_accepts_empty():
    assert set(FIELDS) - set(MAY_BE_EMPTY) == set(MEANINGFUL.split())


def system_of(folder: Path, number: int, name: str, **host: Any) -> Bundle:
    crafted = Crafted(
        folder,
        f"2026010{number}-000000-crafted-000{number}",
        host={**HOST, "host_id": f"host{number}", **host},
        system={"system_name": name, "status": "available"},
    )
    crafted.case("fp32", skip="not here")
    return crafted.done()


def test_a_system_is_described_as_the_checker_reads_it(tmp_path: Path):
    host = {"architecture": "x86_64", "pci_accelerators": [], "sockets": 2, "cores_physical": 16}
    (file,) = system_files([system_of(tmp_path, 1, "Bench 3", **host)])
    fields = json.loads(file.content)
    assert list(fields) == list(FIELDS)
    assert all(isinstance(value, str) for value in fields.values())
    assert file.name == "Bench_3.json"
    assert fields["host_processor_core_count"] == "8"
    assert fields["accelerators_per_node"] == "0", "the number 0 would be refused as empty"
    assert fields["cooling"] == fields["hw_notes"] == ""
    assert "cooling" in file.needed and "hw_notes" in file.wanted
    assert {*file.needed, *file.wanted} == {name for name in FIELDS if not fields[name]}


def test_one_description_for_each_system(tmp_path: Path):
    made = [
        system_of(tmp_path, 1, "one"),
        system_of(tmp_path, 2, "one"),
        system_of(tmp_path, 3, "two"),
    ]
    assert [file.name for file in system_files(made)] == ["one.json", "two.json"]
    other = system_of(tmp_path, 4, "one", cpu_model="another processor")
    assert [file.name for file in system_files([*made, other])][2] == "one-2.json"
    taken = system_of(tmp_path, 7, "one-2", cpu_model="a third")
    names = [file.name for file in system_files([taken, *made, other])]
    assert names == ["one-2.json", "one.json", "two.json", "one-3.json"]
    evil = system_of(tmp_path, 5, "../../etc/passwd\0", host_id="..")
    assert [file.name for file in system_files([evil])] == ["etc_passwd.json"]
    assert [file.name for file in system_files([system_of(tmp_path, 6, "你")])] == ["host6.json"]


# --------------------------------------------------------------------------- the command


def test_the_command_writes_what_the_files_ending_says(project):
    bundles = [measured(project.root), measured(project.root, "20260102-000000-crafted-0002")]
    names = [bundle.path.name for bundle in bundles]
    done = project.qbench("export", *names, "-o", "t.tex", "--columns", "model, latency_p50_ms")
    assert done.returncode == 0, done.stderr
    assert r"Model & p50 (ms) \\" in (project.root / "t.tex").read_text()
    done = project.qbench("export", names[0], "--columns", "precision")
    assert done.stdout.split() == ["precision", "fp32", "int8-static", "fp16"]
    done = project.qbench("export", names[0], "-o", "nowhere/t.csv")
    assert done.returncode == 2 and "there is no folder nowhere" in done.stderr
    done = project.qbench("export", names[0], "--format", "latx")
    assert done.returncode == 2 and "Did you mean 'latex'" in done.stderr


def test_the_command_lists_fields_that_mlperf_misses(project):
    one, two = system_of(project.root, 1, "one"), system_of(project.root, 2, "two")
    done = project.qbench("export", one.path.name, "--format", "system")
    assert done.returncode == 0 and json.loads(done.stdout)["system_name"] == "one"
    assert "one.json: MLPerf requires: submitter, division" in done.stderr
    both = [one.path.name, two.path.name, "--format", "system"]
    done = project.qbench("export", *both)
    assert done.returncode == 2 and "these runs make 2 files" in done.stderr
    done = project.qbench("export", *both, "-o", "systems")
    assert done.returncode == 0
    assert sorted(path.name for path in (project.root / "systems").iterdir()) == [
        "one.json",
        "two.json",
    ]


def test_a_redacted_export_names_no_user(project):
    crafted = Crafted(project.root)
    crafted.case("fp32", skip="cannot read /home/alice/model.onnx")
    name = crafted.done().path.name
    asked = ("export", name, "--columns", "reason")
    assert "alice" in project.qbench(*asked).stdout
    done = project.qbench(*asked, "--redact")
    assert done.returncode == 0 and "alice" not in done.stdout and "model.onnx" in done.stdout
