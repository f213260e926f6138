"""Strangers' models, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from visits import Models, Visit


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A stranger's file by name, made at its first use."""
    from strangers import STRANGERS

    folder, made = tmp_path_factory.mktemp("strangers"), dict[str, Path]()

    def find(name: str) -> Path:
        if name not in made:
            known = STRANGERS
            if name not in known:
                from other_formats import OTHERS

                known = OTHERS
            (folder / name).mkdir()
            made[name] = known[name].build(folder / name)
        return made[name]

    return find


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    folder = tmp_path / "visit"
    folder.mkdir()
    return Visit(folder)
