"""File names made of names that come from bundles."""

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
"""What Windows takes for devices, whatever follows the first dot."""


def file_stem(name: str) -> str:
    """A file's name without its ending that stands for ``name``, and for no other name: the name
    itself where it is plain, else what is plain of it with its digest. Also on file systems that
    take capitals and small letters for the same."""
    plain = _PLAIN.fullmatch(name) and not _MARKED.fullmatch(name)
    if plain and name.partition(".")[0] not in _DEVICES:
        return name
    letters = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:40].strip("-_")
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{letters or 'name'}-{digest}"
