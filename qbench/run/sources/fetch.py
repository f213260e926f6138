"""The files that a suite's models need, and fetching them before a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qbench.data.download import cached, size_of
from qbench.data.files import find
from qbench.errors import UserError
from qbench.run.sources.catalog import Catalog
from qbench.spec.files import SourceFile

State = Literal["here", "to fetch", "by Keras", "not to be had"]


@dataclass(frozen=True)
class Need:
    """A file or folder that models need.

    Attributes:
        root: the folder of the card that names it.
        users: names of the models.
        bytes: what has to be downloaded; None if that is not known.
        get: makes it available; None if qbench cannot.
    """

    file: SourceFile
    root: Path
    users: tuple[str, ...]
    state: State
    bytes: int | None
    get: Callable[[], object] | None


def needs(catalog: Catalog, models: Iterable[str]) -> list[Need]:
    """The files of the models and of their data sets; asks servers for the sizes of those that are
    not here."""
    users: dict[str, tuple[SourceFile, Path, list[str]]] = {}
    for name in models:
        for file, root in catalog.files_of(catalog.card(name)):
            found = users.setdefault(file.label, (file, root, []))
            if name not in found[2]:
                found[2].append(name)
    return [_need(catalog, file, root, names) for file, root, names in users.values()]


def _need(catalog: Catalog, file: SourceFile, root: Path, users: Collection[str]) -> Need:
    state: State = "not to be had"
    if find(file, root) is not None or cached(file):
        state = "here"
    elif file.url or file.hub or file.git:
        state = "to fetch"
    elif file.remote:
        state = "by Keras"
    size = size_of(file) if state == "to fetch" else None
    get = None if state == "by Keras" else lambda: catalog.fetch(file, root)
    return Need(file, root, tuple(users), state, size, get)


def fetch(found: Iterable[Need]) -> Iterator[tuple[Need, UserError | None]]:
    """Fetch each file that is not here; yields it with its error, None if there was none."""
    for need in found:
        if need.get is None or need.state == "here":
            continue
        try:
            need.get()
            yield need, None
        except UserError as error:
            yield need, error


def missing_tools(
    catalog: Catalog, models: Iterable[str], formats: Mapping[str, Collection[str]]
) -> list[str]:
    """What is to be installed so that backends can run the models, as sentences.

    Args:
        formats: what each backend reads.
    """
    said: dict[str, None] = {}
    for name in models:
        card = catalog.card(name)
        for backend, forms in formats.items():
            if any(catalog.has(card, form) for form in forms):
                continue
            routes = [route for form in forms if (route := catalog.route(card, form))]
            if routes and all(route.missing for route in routes):
                first = routes[0]
                assert first.missing is not None
                said[
                    f"{backend} runs {name} after a conversion from {first.source} to "
                    f"{first.form}, but {first.missing.reason}: {first.missing.fix}"
                ] = None
    return list(said)
