"""Reports as the tests read them: written, and parsed."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from qbench.bundle.bundle import Bundle
from qbench.present.page import write_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\u202eevil\u2028</style>"


class Page(HTMLParser):
    """The elements and the text of a page, scripts and styles aside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def rows(self, having: str) -> list[dict[str, str | None]]:
        return [row for row in self.all("tr") if having in row]

    @property
    def ids(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}

    @property
    def addresses(self) -> list[str]:
        return [
            str(attributes[name])
            for _, attributes in self.elements
            for name in ("href", "src")
            if attributes.get(name)
        ]

    @property
    def policy(self) -> str:
        return str(next(meta["content"] for meta in self.all("meta") if "http-equiv" in meta))

    @property
    def cases(self) -> list[str | None]:
        return [row["data-case"] for row in self.rows("data-case")]

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def measured(project, **suite) -> Bundle:
    return Bundle(project.root / project.run_json(project.suite(**suite))["bundle"])


def written(*bundles: Bundle, path: Path) -> tuple[str, Page]:
    write_report(list(bundles), path)
    html = path.read_text(encoding="utf-8")
    return html, Page(html)
