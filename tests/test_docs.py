"""The documents say what is true: links lead somewhere, commands exist, examples load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from qbench.analysis.columns import COLUMNS
from qbench.backend import PrepareTarget, Ready, Unavailable
from qbench.cards import ModelCard
from qbench.catalog import Catalog
from qbench.data.cards import DatasetCard
from qbench.precision import PRECISIONS, complete_options
from qbench.registry import Registry
from qbench.suite import PrecisionChoice, Suite, shipped_suites, suites_dir
from qbench.yamlfile import load

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_commands_in_the_documents_exist():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:^|`|&& )qbench ([a-z]+)\b", text, re.M))
    done = subprocess.run(
        [sys.executable, "-m", "qbench.cli", "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"^  ([a-z]+) ", done.stdout, re.M))
    prose = {"quantizes"}  # a paragraph's line may begin with the name
    assert named - prose <= known
    assert known <= named, "every command stands in a document"


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def test_the_examples_load(tmp_path: Path):
    (suite,) = blocks("suites.md")
    (asked,) = blocks("explain.md")
    model, data, short_model, short_data = blocks("model-cards.md")[:4]
    assert len((short_model + short_data).split("\n")) <= 15, "from a file to a table"
    options = "name: x\nmodels: [digits_cnn]\nbackends: [onnxruntime]\nprecisions:\n"
    examples = [
        *((text, Suite) for text in (suite, asked)),
        *((options + text, Suite) for text in blocks("precisions.md")),
        *((text, ModelCard) for text in (model, short_model)),
        *((text, DatasetCard) for text in (data, short_data)),
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
    for column in COLUMNS:
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
                choice.name in answers[name].precisions["cpu"]
                and backend.supports(model, PrepareTarget(choice.name, options)) is None
            )
            assert cell == ("yes" if taken else "no"), (example, name)


def test_every_shipped_suite_is_explained():
    rows = table("suites.md", "suite")[1:]
    assert {row[0].strip("`") for row in rows} == set(shipped_suites())


def test_the_template_has_the_defaults(tmp_path: Path):
    suite, _ = load(suites_dir() / "templates" / "suite.yaml", Suite)
    required = {"name", "description", "models", "precisions", "backends"}
    for key in suite.model_fields_set - required:
        assert getattr(suite, key) == Suite.model_fields[key].get_default(), key
