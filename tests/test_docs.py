"""The documents are true: links resolve, commands exist, examples load."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from ruamel.yaml import YAML

from qbench.cli import app
from qbench.errors import UserError
from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.cuda import Device
from qbench.kit.model import PrepareTarget
from qbench.kit.precisions import PRECISIONS
from qbench.run.sources.catalog import Catalog
from qbench.run.workers.registry import Registry
from qbench.spec.columns import COLUMNS
from qbench.spec.datasets import DatasetCard
from qbench.spec.models import ModelCard
from qbench.spec.precisions import complete_options
from qbench.spec.suite import PrecisionChoice, Suite, shipped_suites, suites_dir
from qbench.spec.yamlfile import load
from qbench_tensorrt.capability import offered
from qbench_tensorrt.options import Hints

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
REFERENCE = (ROOT / "docs" / "reference" / "commands.md").read_text()


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def commands_in(text: str) -> Iterator[tuple[str, bool]]:
    """Calls of qbench, each from ``qbench`` to the end of the command, and whether it is in prose,
    where required arguments may be left out."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    lines = [(line, False) for line in "".join(blocks).split("\n")]
    for line, in_prose in [*lines, *((line, True) for line in inline)]:
        before = r"(?:\$ )?(?:[A-Z_]+=\S+ |taskset -c \S+ )*"
        call = re.match(rf"\s*{before}(qbench .*)", line)
        for part in re.split(r"&&|;", call[1]) if call else ():
            if part.strip().startswith("qbench "):
                yield re.split(r" (?:[|>(]|# )|  ", part.strip())[0], in_prose


def commands() -> dict[str, Any]:
    """By its words, such as ``cache size``, each command that there is."""
    from typer.main import get_command

    found: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        found.update({f"{name} {word}": one for word, one in inner.items()} or {name: command})
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_in_the_documents_parse(page: Path):
    known = commands()
    for line, in_prose in commands_in(page.read_text()):
        words = shlex.split(re.sub(r"\[\w+\]", "", line))[1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        if name.startswith("-") or name == "cache":
            continue
        assert name in known, line
        given = words[len(name.split()) :]
        if given:  # a name alone only speaks of the command
            try:
                known[name].make_context(name, given)
            except Exception as error:
                left_out = re.search("^Missing |requires an argument", str(error))
                if not left_out or not (in_prose or page.name == "README.md"):
                    pytest.fail(f"{line}: {error}")


def test_every_command_stands_in_a_document():
    lines = [line for page in PAGES for line, _ in commands_in(page.read_text())]
    told = {" ".join(line.split()[1:3]) for line in lines}
    for name in commands():
        assert any(f"{words} ".startswith(f"{name} ") for words in told), name


def test_every_variable_is_explained():
    code = "".join(path.read_text() for path in (ROOT / "qbench").rglob("*.py"))
    for name in set(re.findall(r"\b(?:environ|environment)\S*[\[(]\"(QBENCH_\w+)\"", code)):
        assert f"| `{name}` |" in REFERENCE, name


TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that reads messages from the source, for the site."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return import_module("qbench_docs.messages")


@pytest.mark.parametrize(("marker", "kinds"), [("messages", "ERRORS"), ("reasons", "OUTCOMES")])
def test_every_message_has_one_place_in_troubleshooting(said, marker: str, kinds: str):
    named = re.findall(rf"<!-- generated: {marker} (.*?) -->", TROUBLESHOOTING)
    places = dict.fromkeys(" ".join(named).split(), 0)
    for module in said.sources():
        count = sum(message.kind in getattr(said, kinds) for message in said.messages(module))
        if count and module != "qbench.testing.fake":
            held = [place for place in places if f"{module}.".startswith(f"{place}.")]
            assert len(held) == 1, f"{module}: add it to a section of docs/troubleshooting.md"
            places[held[0]] += count
    assert [place for place, count in places.items() if not count] == [], "nothing to tell there"


@pytest.mark.parametrize(
    "command",
    [
        "run qick",
        "run",
        "plan no/such.yaml",
        "show nosuchrun",
        "compare latest fp32x --results empty",
        "accept 0123456789ab --until 2020-01-01 --reason x",
        "accept 0123456789ab --until 2099-01-01 --reason ''",
        "cache clean everything",
        "run quick --power-log a --power-command b",
        "export latest --format csvv --results empty",
        "merge empty -o fleet",
    ],
)
def test_messages_of_a_command_are_found_there(said, command: str, tmp_path: Path, monkeypatch):
    """Whatever a person sees has its line in troubleshooting, with what to do next."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        app(shlex.split(command), standalone_mode=False)
    fits = [
        message
        for module in said.sources()
        for message in said.messages(module)
        if message.kind in said.ERRORS
        and re.fullmatch(
            re.sub(r"<\w+>|…", ".*", re.sub(r"([().?*+|\[\]])", r"\\\1", message.says)),
            caught.value.message,
        )
    ]
    assert fits
    assert any(bool(message.fix) == bool(caught.value.fix) for message in fits)


def test_checks_of_the_doctor_are_found_there(said):
    from qbench.machine.doctor import examine
    from qbench.machine.lock import another_run

    table = said.check_table()
    for finding in examine(watch_s=0.01, others=[another_run()]):
        name = re.sub(r"(disk, |GPU )\w+", "", finding.check)
        assert name in table, finding.check


def test_the_table_of_what_ran_comes_from_the_bundles(project, monkeypatch: pytest.MonkeyPatch):
    project.run_json(project.suite())
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    read_back = import_module("qbench_docs.read_back")
    monkeypatch.setattr(read_back, "REFERENCE", project.root / "results")
    rows = re.findall(r"<tr>(.*?)</tr>", read_back.read_back_table())
    cells = [re.findall(r"<td>(?:<code>)?(.*?)(?:</code>)?</td>", row) for row in rows[1:]]
    assert [row[:4] for row in cells] == [
        ["fp32", "fake", "", "fp32"],
        ["int8-static", "fake", "fake.round", "int8"],
    ]


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def test_the_examples_load(tmp_path: Path):
    (suite,) = blocks("suites.md")
    (asked,) = blocks("explain.md")
    model, data = blocks("model-cards.md")[:2]
    options = "name: x\nmodels: [digits_cnn]\nbackends: [onnxruntime]\nprecisions:\n"
    examples = [
        *((text, Suite) for text in (suite, asked)),
        *((options + text, Suite) for text in blocks("precisions.md")),
        (model, ModelCard),
        (data, DatasetCard),
        *((text, DatasetCard) for text in blocks("data-sets.md")),
    ]
    for text, kind in examples:
        path = tmp_path / "example.yaml"
        path.write_text(text)
        load(path, kind)


def test_every_key_of_a_suite_is_explained():
    text = (ROOT / "docs" / "suites.md").read_text()
    for key in Suite.model_fields:
        assert re.search(rf"(`{key}`|^{key}:)", text, re.M), key


def test_the_case_table_document_is_the_code():
    text = (ROOT / "docs" / "case-table.md").read_text()
    for column in COLUMNS.values():
        assert f"| `{column.name}` | {column.doc} |" in text


def test_precision_names_in_the_readme_are_the_vocabulary():
    table = (ROOT / "README.md").read_text().split("## Backends")[1]
    for name in re.findall(r"\b(fp32|fp16|bf16|int8-[a-z]+|int16x8|w8|w4|as-shipped)\b", table):
        assert name in PRECISIONS


def table(page: str, first: str) -> list[list[str]]:
    """The rows of the table of a document whose first heading is ``first``, its own included."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        if not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_the_vocabulary_of_precisions_is_explained():
    rows = {row[0].strip("`"): row[1:] for row in table("precisions.md", "name")[1:]}
    assert list(rows) == list(PRECISIONS)
    for name, (weights, activations, _) in rows.items():
        assert (weights, activations) == (PRECISIONS[name].weights, PRECISIONS[name].activations)


def test_the_options_of_precisions_are_explained():
    rows = {row[0].strip("`"): row[1:] for row in table("precisions.md", "option")[1:]}
    found = {
        option: ({p for p in PRECISIONS if option in PRECISIONS[p].options}, PRECISIONS[name])
        for name in PRECISIONS
        for option in PRECISIONS[name].options
    }
    assert rows.keys() == found.keys()
    for option, (of, values, _) in rows.items():
        wanted, precision = found[option]
        assert set(of.split(", ")) == wanted, option
        for choice in precision.options[option].choices:
            assert f"`{choice}`" in values, option


def probes() -> dict[str, Ready]:
    every = Registry().probe(["onnxruntime", "openvino", "tflite"])
    missing = [name for name, answer in every.items() if not isinstance(answer, Ready)]
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    return {name: answer for name, answer in every.items() if isinstance(answer, Ready)}


def test_who_offers_which_precision():
    heading, *rows = table("precisions.md", "precision")
    assert [row[0].strip("`") for row in rows] == list(PRECISIONS)
    answers = probes()
    for name, *cells in rows:
        for backend, cell in zip(heading[1:], cells, strict=True):
            offered = name.strip("`") in answers[backend].precisions["cpu"]
            assert cell == "processor" or (cell != "no") == offered, (name, backend)


def test_who_takes_which_option():
    backends, *offers = table("precisions.md", "precision")
    depends = {
        (row[0].strip("`"), backend): cell == "processor"
        for row in offers
        for backend, cell in zip(backends[1:], row[1:], strict=True)
    }
    heading, *rows = table("precisions.md", "in a suite")
    catalog, answers = Catalog([suites_dir()]), probes()
    for example, *cells in rows:
        choice = PrecisionChoice.model_validate(YAML(typ="safe").load(example.strip("`")))
        options = complete_options(choice.name, choice.options)
        for name, cell in zip(heading[1:], cells, strict=True):
            backend = Registry().load(name)
            assert not isinstance(backend, Unavailable)
            model = catalog.model(catalog.card("digits_cnn"), backend.formats[0])
            taken = (
                choice.name in answers[name].precisions["cpu"] or depends[choice.name, name]
            ) and backend.supports(model, PrepareTarget(choice.name, options)) is None
            assert cell == ("yes" if taken else "no"), (example, name)


def test_the_hints_of_tensorrt_are_explained():
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("tensorrt.md", "hint")[1:]}
    hints = asdict(Hints())
    assert list(rows) == list(hints)
    for name, default in hints.items():
        if default is not None:
            assert rows[name] == str(default).lower()


def test_which_gpu_has_which_precision_with_tensorrt():
    def gpu(capability: float) -> Device:
        return Device(0, "a GPU", f"{capability:.1f}", "13.0", 2**30, "0000:01:00.0", "GPU-1")

    rows = {row[0].strip("`"): float(row[1]) for row in table("tensorrt.md", "precision")[1:]}
    assert set(rows) == set(offered(gpu(12.0)))
    for name, least in rows.items():
        assert name in offered(gpu(least)), name
        assert name not in offered(gpu(least - 0.1)), name


def test_every_shipped_suite_is_explained():
    rows = table("suites.md", "suite")[1:]
    assert {row[0].strip("`") for row in rows} == set(shipped_suites())


def test_the_template_has_the_defaults(tmp_path: Path):
    suite, _ = load(suites_dir() / "templates" / "suite.yaml", Suite)
    required = {"name", "description", "models", "precisions", "backends"}
    for key in suite.model_fields_set - required:
        assert getattr(suite, key) == Suite.model_fields[key].get_default(), key
