"""From bundles to HTML text. Nothing in a bundle is trusted; the defences all stand here.

- ``harmless`` goes over every value first: characters that reorder or hide text become visible.
- Jinja2 escapes every value that the template prints.
- ``script_json`` makes data that cannot end the script element it stands in.
- The page's policy lets only the scripts run whose digests it names, and forbids the network.
- The page's own script writes text nodes only, and escapes what plotly would read as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from qbench import __version__
from qbench.bundle import Bundle
from qbench.report.content import page_content

PARTS = ("table", "drawing", "charts", "measuring", "scenarios", "page")
"""The files of the page's own script, in their order."""
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories of controls, formats (bidirectional overrides, zero widths), surrogates,
private characters, and separators of lines and paragraphs."""


def render(bundles: Sequence[Bundle]) -> str:
    """The whole page."""
    return fill("page.html.j2", PARTS, page_content(bundles))


def fill(template: str, parts: Sequence[str], content: Mapping[str, Any]) -> str:
    """A page of this look.

    Args:
        template: a file of this package. Beside ``content`` it is given ``version``, ``policy``,
            ``style``, the scripts ``plotly_js`` and ``page_js``, and ``data``: what stands under
            ``charts``, for the script to draw.
        parts: the files of the page's own script, in their order.
        content: not trusted; made harmless here.
    """
    from plotly.offline import get_plotlyjs

    content = harmless(content)
    own = "\n".join(_read(f"{part}.js") for part in parts)
    scripts = [_lines(get_plotlyjs()), _lines(own)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qbench.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        **content,
        version=__version__,
        policy=_policy(scripts),
        style=Markup(_read("page.css")),
        plotly_js=Markup(scripts[0]),
        page_js=Markup(scripts[1]),
        data=Markup(script_json(content["charts"])),
    )


def _read(name: str) -> str:
    return files("qbench.report").joinpath(name).read_text(encoding="utf-8")


def _lines(script: str) -> str:
    """With the line ends that a browser's parser makes of them, so that digests agree."""
    return script.replace("\r\n", "\n").replace("\r", "\n")


def _policy(scripts: Sequence[str]) -> str:
    """Content-Security-Policy: these very scripts, inline styles, drawn images; nothing else."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def harmless(value: Any) -> Any:
    """The same value with hidden characters written out and what is no JSON number as None."""
    if isinstance(value, str):
        return _visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {harmless(key): harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(inner) for inner in value]
    return value


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"[U+{ord(c):04X}]" if c not in "\n\t" and unicodedata.category(c) in HIDDEN else c
        for c in text
    )


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, ``>``, ``&``, U+2028 or U+2029."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
