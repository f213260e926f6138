"""From bundles to HTML. Nothing in a bundle is trusted; all defences are in this module.

- ``harmless`` processes every value first: characters that reorder or hide text become visible.
- Jinja2 escapes every value that the template prints.
- ``script_json`` makes data that cannot end the script element around it.
- The page's policy allows only scripts whose digests it lists, or those of the page's own site, and
  forbids the network.
- The page's own script writes text nodes only, and escapes markup before it calls plotly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from qbench import __version__
from qbench.bundle.bundle import Bundle
from qbench.bundle.redact import redacted
from qbench.present.page.content import page_content
from qbench.present.page.options import Options

PARTS = (
    "table", "scheme", "drawing", "figure", "picture", "charts", "speedup", "measuring",
    "scenarios", "energy", "roofline", "profile", "costs", "recommend", "page",
)  # fmt: skip
"""Files of the page's own script, in order."""
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories: controls, formats (bidirectional overrides, zero widths), surrogates, private
characters, and separators of lines and paragraphs."""


def render(bundles: Sequence[Bundle], options: Options) -> str:
    """The HTML of a page."""
    shown = [redacted(bundle) for bundle in bundles] if options.redact else bundles
    return fill("page/page.html.j2", PARTS, page_content(shown, options))


@dataclass(frozen=True)
class Shared:
    """Addresses, relative to a page, of the files that the pages of a site share.

    Attributes:
        style: of the result of ``style``.
        script: of the result of ``script``.
        plotly: of the result of ``plotly_script``; None on a page without charts.
    """

    style: str
    script: str
    plotly: str | None


def fill(
    template: str,
    parts: tuple[str, ...],
    content: Mapping[str, Any],
    shared: Shared | None = None,
) -> str:
    """Render a template with the common look.

    Args:
        template: a file of this package. In addition to ``content`` it gets ``version``,
            ``policy``, the elements ``style``, ``plotly`` and ``script``, ``shared`` (whether the
            page loads them), and ``data``: the ``charts`` of the content, for the script.
        parts: files of the page's own script, in order.
        content: not trusted; made harmless here.
        shared: files that the page loads; None: the page contains style and scripts.
    """
    content = harmless(content)
    page = _templates().get_template(template)
    return page.render(
        **content,
        **(_held(parts) if shared is None else _loaded(shared)),
        version=__version__,
        shared=shared is not None,
        data=Markup(script_json(content["charts"])),
    )


@cache
def _templates() -> jinja2.Environment:
    """Cached, since compiling the templates takes as long as rendering a page."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("qbench.present", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _held(parts: tuple[str, ...]) -> dict[str, str]:
    """Style and scripts inside the page, and a policy with the digests of these scripts."""
    plotly, own = plotly_script(), script(parts)
    digests = " ".join(map(_digest, (plotly, own)))
    return {
        "policy": _policy(digests, "'unsafe-inline'", "data: blob:"),
        "style": Markup(f"<style>{style()}</style>"),
        "plotly": Markup(f"<script>{plotly}</script>"),
        "script": Markup(f"<script>{own}</script>"),
    }


def _loaded(shared: Shared) -> dict[str, str]:
    """Style and scripts of the site. Digests would be stricter than ``'self'``, but browsers do not
    check them for files that are loaded from disk (``file:``)."""
    element = Markup('<script src="{}"></script>')
    charts = shared.plotly is not None
    return {
        "policy": _policy(
            "'self'",
            "'self' 'unsafe-inline'" if charts else "'self'",
            "data: blob:" if charts else "data:",
        ),
        "style": Markup('<link rel="stylesheet" href="{}">').format(shared.style),
        "plotly": element.format(shared.plotly) if charts else Markup(),
        "script": element.format(shared.script),
    }


def style() -> str:
    """The style sheet of every page."""
    return _read("page/page.css")


@cache
def script(parts: tuple[str, ...]) -> str:
    """A page's own script, from files of ``present/assets``; a name without a folder is of the
    folder ``page``."""
    paths = (part if "/" in part else f"page/{part}" for part in parts)
    return _lines("\n".join(_read(f"{path}.js") for path in paths))


@cache
def plotly_script() -> str:
    """The script of plotly: 4.8 MB."""
    from plotly.offline import get_plotlyjs

    return _lines(get_plotlyjs())


def _read(name: str) -> str:
    return files("qbench.present").joinpath("assets", name).read_text(encoding="utf-8")


def _lines(script: str) -> str:
    """With line feeds only, as a browser's parser has them, so that digests agree."""
    return script.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _policy(scripts: str, styles: str, images: str) -> str:
    """Content-Security-Policy: only the given sources, and no network."""
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src {images}; "
        "base-uri 'none'; form-action 'none'"
    )


def harmless(value: Any) -> Any:
    """The value with hidden characters written out, and None for numbers that are not finite."""
    if isinstance(value, str):
        return _visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {harmless(key): harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if all(type(inner) is float for inner in value):  # most of a page's values
            return [inner if math.isfinite(inner) else None for inner in value]
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
    """JSON that is safe in a script element: without ``<``, ``>``, ``&``, U+2028 and U+2029."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
