"""File names for names that come from bundles."""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_DIGEST_CHARACTERS = 20
_MARKED = re.compile(rf".*-[0-9a-f]{{{_DIGEST_CHARACTERS}}}")
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""Names of devices on Windows, with any ending."""


def file_stem(name: str) -> str:
    """The stem of a file name, unique for ``name``: the name itself if it is plain, else its plain
    characters and its digest. Unique on case-insensitive file systems as well."""
    plain = _PLAIN.fullmatch(name) and not _MARKED.fullmatch(name)
    if plain and name.partition(".")[0] not in _DEVICES:
        return name
    letters = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:40].strip("-_")
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{letters or 'name'}-{digest}"
