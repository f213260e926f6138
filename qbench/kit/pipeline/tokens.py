"""Tokenize texts. ``qbench.spec.preprocess.TokenizeOptions`` documents the options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qbench.kit.reasons import sentence


def tokenizer(
    options: Mapping[str, Any], vocab: Mapping[str, int] | str, name: str
) -> Callable[[str], np.ndarray]:
    """Return a function from a text to int64 ``[length]``.

    Args:
        options: ``kind``, ``length``, ``lowercase`` and ``give`` of ``TokenizeOptions``.
        vocab: ids by token; for kind ``json`` the text of a ``tokenizer.json``.
        name: names the vocabulary in messages.

    Raises:
        ValueError: the vocabulary is not usable, or the package ``tokenizers`` is missing.
    """
    if options["kind"] == "json":
        return _encoded(options, _from_json(_library(options), str(vocab), name), name)
    assert not isinstance(vocab, str)
    if options["kind"] == "words":
        return _words(options, vocab, name)
    return _encoded(options, _wordpiece(_library(options), options, vocab, name), name)


def _words(
    options: Mapping[str, Any], vocab: Mapping[str, int], name: str
) -> Callable[[str], np.ndarray]:
    if "<UNKNOWN>" not in vocab:
        raise ValueError(f"{name} has no token <UNKNOWN>, required for unknown words")
    start = [vocab["<START>"]] if "<START>" in vocab else []
    unknown, pad = vocab["<UNKNOWN>"], vocab.get("<PAD>", 0)
    length, give, lowercase = options["length"], options["give"], options["lowercase"]

    def tokenize(text: str) -> np.ndarray:
        words = re.split(r"[^\w']+", text.lower() if lowercase else text)
        found = start + [vocab.get(word, unknown) for word in words if word]
        count = min(len(found), length)
        filling = {"ids": pad, "mask": 0, "types": 0}[give]
        result = np.full(length, filling, np.int64)
        result[:count] = {"ids": found[:count], "mask": 1, "types": 0}[give]
        return result

    return tokenize


def _encoded(options: Mapping[str, Any], tool: Any, name: str) -> Callable[[str], np.ndarray]:
    tool.enable_truncation(options["length"])
    names = tool.get_vocab()
    pad = next((token for token in ("[PAD]", "<pad>") if token in names), None)
    if pad is None:
        raise ValueError(f"{name} has no token [PAD] or <pad>, required to pad short texts")
    tool.enable_padding(length=options["length"], pad_id=names[pad], pad_token=pad)
    field = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}[options["give"]]

    def tokenize(text: str) -> np.ndarray:
        return np.asarray(getattr(tool.encode(text), field), np.int64)

    return tokenize


def _library(options: Mapping[str, Any]) -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            f"the step tokenize of kind {options['kind']} needs the package tokenizers: "
            "pip install tokenizers"
        ) from None
    return tokenizers


def _from_json(library: Any, text: str, name: str) -> Any:
    try:
        return library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{name} is not a tokenizer.json: {sentence(error)}") from error


def _wordpiece(
    library: Any, options: Mapping[str, Any], vocab: Mapping[str, int], name: str
) -> Any:
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]") if token not in vocab]
    if missing:
        raise ValueError(f"{name} is not a BERT vocabulary: it has no {', '.join(missing)}")
    return library.BertWordPieceTokenizer(dict(vocab), lowercase=options["lowercase"])
