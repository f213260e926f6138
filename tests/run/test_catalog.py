"""The catalog refuses wrong cards and data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from qbench.errors import UserError
from qbench.run.sources.catalog import Catalog

SHA256 = hashlib.sha256(b"weights").hexdigest()


def refused(action: Any, *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        action(*args)
    return str(caught.value)


# --------------------------------------------------------------------------- cards


def model_card(project, change: Any) -> Catalog:
    """The project's card of ``net`` as ``change`` leaves it."""
    path = project.root / "models" / "net.yaml"
    card = yaml.safe_load(path.read_text())
    change(card)
    project.write("models/net.yaml", yaml.safe_dump(card, sort_keys=False))
    return Catalog([project.root])


BAD_FILES = {
    "an absolute path": {"path": "/etc/passwd"},
    "a path upwards": {"path": "../net.fake"},
    "a path up and down": {"path": "a/../../net.fake"},
    "a backslash": {"path": "..\\net.fake"},
    "a url without its digest": {"path": None, "url": "http://127.0.0.1/net"},
    "a file url": {"url": "file:///etc/passwd", "sha256": SHA256},
    "neither path nor url": {"path": None},
    "a digest in capitals": {"sha256": SHA256.upper()},
    "a short digest": {"sha256": SHA256[:-1]},
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_card_cannot_name_a_file_outside_or_unverified(project, what: str):
    def change(card: dict[str, Any]) -> None:
        source = card["sources"]["fake"]
        source.update(BAD_FILES[what])
        card["sources"]["fake"] = {k: v for k, v in source.items() if v is not None}

    message = refused(model_card(project, change).card, "net")
    assert "net.yaml:" in message and "sources.fake" in message


def line_of(path: Path, words: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if words in line)


@pytest.mark.parametrize("items", ["0:21", "19:30", ":", "19:", "20:21"])
def test_items_that_are_both_calibrated_and_evaluated_on_are_refused(project, items: str):
    def change(card: dict[str, Any]) -> None:
        card["calibration"]["items"] = items

    catalog = model_card(project, change)
    message = refused(catalog.items, catalog.card("net"), "calibration")
    line = line_of(project.root / "models" / "net.yaml", "calibration:")
    both = len(
        set(range(60)[slice(*(int(n) if n else None for n in items.split(":")))])
        & set(range(20, 60))
    )
    assert f"net.yaml:{line}: {both} items are used for both" in message


def test_neighbouring_items_are_disjoint(project):
    assert Catalog([project.root]).card("net").evaluation.range(60) == range(20, 60)


def test_items_without_quotes_are_not_taken_for_minutes(project):
    """YAML 1.1 reads 20:50 as 1250, a number to the base of 60."""
    path = project.root / "models" / "net.yaml"
    text = path.read_text()
    assert "items: 20:60" in text or "items: '20:60'" in text
    path.write_text(text.replace("items: 20:60", "items: 20:50").replace("'20:60'", "20:50"))
    assert Catalog([project.root]).card("net").evaluation.range(60) == range(20, 50)


@pytest.mark.parametrize("items", ["1250", "-5:", "a:b", "1:2:3", "10", ""])
def test_items_in_another_form_are_refused_with_their_line(project, items: str):
    def change(card: dict[str, Any]) -> None:
        card["evaluation"] = {"dataset": "blobs", "items": items}

    message = refused(model_card(project, change).card, "net")
    line = line_of(project.root / "models" / "net.yaml", "evaluation:") + 2
    assert f"net.yaml:{line}: evaluation.items" in message


def test_names_of_cards_are_checked(project):
    assert "Did you mean 'net'?" in refused(Catalog([project.root]).card, "nte")
    assert "Did you mean 'blobs'?" in refused(Catalog([project.root]).dataset, "blob")

    def other_data(card: dict[str, Any]) -> None:
        card["evaluation"]["dataset"] = "blob"

    message = refused(model_card(project, other_data).card, "net")
    assert "unknown data set 'blob'" in message and "Did you mean 'blobs'?" in message

    def other_name(card: dict[str, Any]) -> None:
        card["evaluation"]["dataset"] = "blobs"
        card["name"] = "ten"

    message = refused(model_card(project, other_name).card, "net")
    line = line_of(project.root / "models" / "net.yaml", "name: ten")
    assert f"net.yaml:{line}: " in message and "calls itself 'ten'" in message


def test_a_card_next_to_the_suite_precedes_a_shipped_one(project, tmp_path):
    other = tmp_path / "other"
    (other / "models").mkdir(parents=True)
    text = (project.root / "models" / "net.yaml").read_text()
    (other / "models" / "net.yaml").write_text(text + "description: mine\n")
    (other / "datasets").mkdir()
    assert Catalog([other, project.root]).card("net").description == "mine"
    assert Catalog([project.root, other]).card("net").description == ""
