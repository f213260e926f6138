"""Read the vocabularies that cards name, and build tokenizers from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qbench.data.table import read_text
from qbench.errors import UserError
from qbench.kit.pipeline import tokens
from qbench.spec.preprocess import TokenizeOptions


def tokenizer(options: TokenizeOptions, vocab: Path) -> Callable[[str], np.ndarray]:
    """Return a function from a text to int64 ``[length]``.

    Raises:
        UserError: the vocabulary is not usable, or the package ``tokenizers`` is missing.
    """
    known = vocabulary(options, vocab)
    try:
        return tokens.tokenizer(options.model_dump(), known, str(vocab))
    except ValueError as error:
        raise UserError(str(error)) from None


def vocabulary(options: TokenizeOptions, path: Path) -> dict[str, int] | str:
    """Read the vocabulary for ``qbench.kit.pipeline.tokens``: ids by token, or for kind ``json``
    the text of the ``tokenizer.json``.

    Raises:
        UserError: it cannot be read.
    """
    return read_text(path) if options.kind == "json" else read_vocab(path)


def read_vocab(path: Path) -> dict[str, int]:
    """Read a vocabulary, one token a line; its id is the line's number from 0, or a number after a
    space.

    Raises:
        UserError: the file is empty, numbers only some of its tokens, or lists one twice.
    """
    lines = read_text(path).removesuffix("\n").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    numbered = re.fullmatch(r"\S+ \d{1,9}", lines[0]) is not None
    vocab: dict[str, int] = {}
    for index, line in enumerate(lines):
        token, number = line, str(index)
        if numbered:
            token, _, number = line.rpartition(" ")
        if not token or not re.fullmatch(r"[0-9]{1,9}", number):
            raise UserError(
                f"{path}:{index + 1}: '{line[:60]}' is not a token"
                + (" and its number, as in line 1" if numbered else "")
            )
        if token in vocab:
            raise UserError(f"{path}:{index + 1}: the token '{token[:60]}' is listed twice")
        vocab[token] = int(number)
    return vocab
