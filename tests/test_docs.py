"""The documents say what is true: links lead somewhere, commands exist, examples load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qbench.analysis.columns import COLUMNS
from qbench.cards import ModelCard
from qbench.data.cards import DatasetCard
from qbench.precision import PRECISIONS
from qbench.suite import Suite
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
    model, data = blocks("model-cards.md")
    for text, kind in ((suite, Suite), (model, ModelCard), (data, DatasetCard)):
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
    for name in re.findall(r"\b(fp32|fp16|bf16|int8-[a-z]+)\b", table):
        assert name in PRECISIONS
