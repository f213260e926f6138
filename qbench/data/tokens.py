"""Tokenizers as cards describe them. ``qbench.worker.pipeline.tokens`` carries them out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from qbench.data.table import read_text
from qbench.errors import UserError
from qbench.files import SourceFile
from qbench.suite import PositiveInt
from qbench.worker.pipeline import tokens
from qbench.yamlfile import Strict


class TokenizeOptions(Strict):
    """How a text becomes ``length`` integers: cut off, or filled up with padding.

    Attributes:
        kind: ``words``: split at everything but letters, digits, ``_`` and ``'``, looked up whole,
            after <START> if the vocabulary has it, as TFLite's RegexTokenizer does;
            ``wordpiece``: BERT's;
            ``json``: whatever a Hugging Face ``tokenizer.json`` describes.
        vocab: words, wordpiece: a token in each line, with its number after a space or else the
            line's number from 0; json: the ``tokenizer.json``.
        lowercase: words, wordpiece: whether to fold case first (wordpiece: and strip accents).
        give: the tokens' numbers, or 1 for a token and 0 for padding (``mask``), or the segment
            of each (``types``).
    """

    kind: Literal["words", "wordpiece", "json"]
    vocab: SourceFile
    length: PositiveInt
    lowercase: bool = True
    give: Literal["ids", "mask", "types"] = "ids"


def tokenizer(options: TokenizeOptions, vocab: Path) -> Callable[[str], np.ndarray]:
    """A function from a text to int64 ``[length]``.

    Raises:
        UserError: the vocabulary cannot be used, or the package ``tokenizers`` is missing.
    """
    return tokens.tokenizer(options.model_dump(), vocabulary(options, vocab), str(vocab))


def vocabulary(options: TokenizeOptions, path: Path) -> dict[str, int] | str:
    """What ``qbench.worker.pipeline.tokens`` makes a tokenizer of: the tokens' numbers, or for kind
    ``json`` the text of the ``tokenizer.json``.

    Raises:
        UserError: it cannot be read.
    """
    return read_text(path) if options.kind == "json" else read_vocab(path)


def read_vocab(path: Path) -> dict[str, int]:
    """A vocabulary: a token in each line, numbered by the line or by a number after a space.

    Raises:
        UserError: it is empty, numbers only some of its tokens, or names one twice.
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
            raise UserError(f"{path}:{index + 1}: the token '{token[:60]}' is there already")
        vocab[token] = int(number)
    return vocab
