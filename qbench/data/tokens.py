"""From a text to the numbers that a model takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qbench.data.table import read_text
from qbench.errors import UserError
from qbench.files import SourceFile
from qbench.suite import PositiveInt
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
    return _words(options, vocab) if options.kind == "words" else _encoded(options, vocab)


def _words(options: TokenizeOptions, path: Path) -> Callable[[str], np.ndarray]:
    vocab = read_vocab(path)
    if "<UNKNOWN>" not in vocab:
        raise UserError(f"{path} has no token <UNKNOWN>, which words outside it need")
    start = [vocab["<START>"]] if "<START>" in vocab else []
    unknown, pad = vocab["<UNKNOWN>"], vocab.get("<PAD>", 0)

    def tokenize(text: str) -> np.ndarray:
        words = re.split(r"[^\w']+", text.lower() if options.lowercase else text)
        found = start + [vocab.get(word, unknown) for word in words if word]
        count = min(len(found), options.length)
        filling = {"ids": pad, "mask": 0, "types": 0}[options.give]
        result = np.full(options.length, filling, np.int64)
        result[:count] = {"ids": found[:count], "mask": 1, "types": 0}[options.give]
        return result

    return tokenize


def _encoded(options: TokenizeOptions, path: Path) -> Callable[[str], np.ndarray]:
    tool = _library_tokenizer(options, path)
    tool.enable_truncation(options.length)
    names = tool.get_vocab()
    pad = next((token for token in ("[PAD]", "<pad>") if token in names), None)
    if pad is None:
        raise UserError(f"{path} has no token [PAD] or <pad>, and short texts need one")
    tool.enable_padding(length=options.length, pad_id=names[pad], pad_token=pad)
    field = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}[options.give]

    def tokenize(text: str) -> np.ndarray:
        return np.asarray(getattr(tool.encode(text), field), np.int64)

    return tokenize


def _library_tokenizer(options: TokenizeOptions, path: Path) -> Any:
    try:
        from tokenizers import BertWordPieceTokenizer, Tokenizer
    except ImportError:
        raise UserError(
            f"the step tokenize of kind {options.kind} needs the package tokenizers",
            "pip install 'qbench[text]'",
        ) from None
    if options.kind == "json":
        try:
            return Tokenizer.from_str(read_text(path))
        except UserError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is no tokenizer.json: {error}") from None
    vocab = read_vocab(path)
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]") if token not in vocab]
    if missing:
        raise UserError(f"{path} is no vocabulary of BERT: it has no {', '.join(missing)}")
    return BertWordPieceTokenizer(vocab, lowercase=options.lowercase)


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
