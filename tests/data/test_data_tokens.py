"""qbench.data.tokens: vocabularies written here, numbers worked out by hand."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_sets import data_card, made, model_card, refused
from hypothesis import given
from hypothesis import strategies as st

from qbench.data.items import make_items
from qbench.data.tokens import read_vocab, tokenizer
from qbench.errors import UserError
from qbench.spec.datasets import Split
from qbench.spec.preprocess import TokenizeOptions

WORDS = "<PAD> 0\n<START> 1\n<UNKNOWN> 2\nthe 3\na 4\nit 5\n's 6\ncaf\u00e9 7\n"
BERT = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n##ing\nthe\n,\ncafe\n"


def options(kind: str, length: int = 8, **more: Any) -> TokenizeOptions:
    content = {"kind": kind, "vocab": {"path": "vocab.txt"}, "length": length, **more}
    return TokenizeOptions.model_validate(content)


def numbers(folder: Path, vocab: str, text: str, kind: str, **more: Any) -> list[int]:
    path = folder / "vocab.txt"
    path.write_text(vocab)
    found = tokenizer(options(kind, **more), path)(text)
    assert found.dtype == np.int64
    return found.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The a", [1, 3, 4, 0, 0, 0]),
        ("it 's, THE caf\u00e9!", [1, 5, 6, 3, 7, 0]),
        ("it's", [1, 2, 0, 0, 0, 0]),  # an apostrophe does not split
        ("", [1, 0, 0, 0, 0, 0]),
        ("the " * 9, [1, 3, 3, 3, 3, 3]),
    ],
)
def test_words_are_looked_up_after_the_start(tmp_path: Path, text: str, expected: list[int]):
    assert numbers(tmp_path, WORDS, text, "words", length=6) == expected
    mask = numbers(tmp_path, WORDS, text, "words", length=6, give="mask")
    assert mask == [int(n != 0) for n in expected]
    assert numbers(tmp_path, WORDS, text, "words", length=6, give="types") == [0] * 6


def test_words_with_case_kept_and_without_a_start(tmp_path: Path):
    vocab = "<PAD>\n<UNKNOWN>\nThe\n"  # numbered by their lines
    assert numbers(tmp_path, vocab, "The the", "words", length=3, lowercase=False) == [2, 1, 0]


def test_wordpiece_as_bert_has_it(tmp_path: Path):
    text = "Playing, the Caf\u00e9 zzz"
    expected = [2, 4, 5, 7, 6, 8, 1, 3, 0, 0]
    assert numbers(tmp_path, BERT, text, "wordpiece", length=10) == expected
    mask = numbers(tmp_path, BERT, text, "wordpiece", length=10, give="mask")
    assert mask == [1] * 8 + [0] * 2
    assert numbers(tmp_path, BERT, text, "wordpiece", length=10, give="types") == [0] * 10
    # cut off with [SEP] still at the end
    assert numbers(tmp_path, BERT, text, "wordpiece", length=4) == [2, 4, 5, 3]
    kept = numbers(tmp_path, BERT, "The the", "wordpiece", length=4, lowercase=False)
    assert kept == [2, 1, 6, 3]


def test_a_tokenizer_json(tmp_path: Path):
    content = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "?": 1, "up": 2}, "unk_token": "?"},
        "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": [],
    }
    assert numbers(tmp_path, json.dumps(content), "up down", "json", length=4) == [2, 1, 0, 0]
    mask = numbers(tmp_path, json.dumps(content), "up down", "json", length=4, give="mask")
    assert mask == [1, 1, 0, 0]


BAD_VOCABULARIES = {
    "no unknown": ("words", "the 3\n", "no token <UNKNOWN>"),
    "a number missing": ("words", "the 3\na\n", ":2: 'a' is not a token and its number"),
    "a token twice": ("words", "the 3\nthe 4\n", ":2: the token 'the' is listed twice"),
    "an empty line": ("words", "the\n\na\n", ":2: '' is not a token"),
    "empty": ("words", "", ":1: '' is not a token"),
    "not BERT's": ("wordpiece", WORDS, r"has no \[UNK\], \[CLS\], \[SEP\], \[PAD\]"),
    "no JSON": ("json", "{", "is not a tokenizer.json"),
    "other JSON": ("json", "[1, 2]", "is not a tokenizer.json"),
}


@pytest.mark.parametrize("what", BAD_VOCABULARIES)
def test_a_bad_vocabulary_is_refused(tmp_path: Path, what: str):
    kind, vocab, words = BAD_VOCABULARIES[what]
    with pytest.raises(UserError, match=words):
        numbers(tmp_path, vocab, "the", kind)


def test_a_vocabulary_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path):
    (tmp_path / "vocab.txt").write_bytes(b"<UNKNOWN>\n\xff\n")
    with pytest.raises(UserError, match=r"vocab.txt:2: this is not UTF-8"):
        read_vocab(tmp_path / "vocab.txt")


def test_a_missing_library_is_named_with_its_remedy(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=re.escape("pip install tokenizers")):
        numbers(tmp_path, BERT, "the", "wordpiece")
    assert numbers(tmp_path, WORDS, "the", "words", length=2) == [1, 3]


@given(st.text(max_size=200), st.integers(1, 20))
def test_any_text_gives_indices_of_the_vocabulary(text: str, length: int):
    with tempfile.TemporaryDirectory() as folder:
        found = numbers(Path(folder), WORDS, text, "words", length=length)
    assert len(found) == length and set(found) <= set(range(8))


# --------------------------------------------------------------------------- in a card


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "vocab.txt").write_text(BERT)
    (folder / "a.tsv").write_text('text\tlabel\nplaying\t1\n"the, the\t0\n')
    return folder


def step(**more: Any) -> dict[str, Any]:
    return {"tokenize": {"kind": "wordpiece", "vocab": {"path": "vocab.txt"}, "length": 6, **more}}


def test_one_text_feeds_all_of_berts_inputs(root: Path):
    names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
    preprocess = {name: [step(give=give)] for name, give in names.items()}
    card = model_card({name: ["N", 6] for name in names}, preprocess, "int64")
    data = data_card("tsv", {"data": "a.tsv"}, labels="label", classes=2)
    files = {"data": root / "a.tsv"}
    found = make_items(card, data, files, Split(dataset="data"), print, root)
    fed = {name: np.load(path) for name, path in found.feeds.items()}
    assert fed["input_ids"].tolist() == [[2, 4, 5, 3, 0, 0], [2, 1, 6, 7, 6, 3]]
    assert fed["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert not fed["token_type_ids"].any() and fed["input_ids"].dtype == np.int64
    assert np.load(str(found.labels)).tolist() == [1, 0]


def test_another_vocabulary_gives_other_items(root: Path):
    data = data_card("tsv", {"data": "a.tsv"})
    first = made(root, data, ["N", 6], [step()], dtype="int32")
    (root / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n")
    second = made(root, data, ["N", 6], [step()], dtype="int32")
    assert first.digest != second.digest
    assert np.load(second.feeds["image"]).tolist() == [[2, 1, 3, 0, 0, 0], [2, 1, 4, 1, 4, 3]]


def test_texts_without_the_step_and_the_step_without_texts_are_refused(root: Path):
    data = data_card("tsv", {"data": "a.tsv"})
    assert "needs a step tokenize" in refused(root, data, ["N", 6], dtype="int32")
    np.savez(root / "a.npz", x=np.zeros((2, 6)))
    data = data_card("npz", {"data": "a.npz"})
    message = refused(root, data, ["N", 6], [step()], dtype="int32")
    assert "item 0: the step tokenize takes texts, not float64 [6]" in message


def test_a_missing_vocabulary_says_where_it_was_looked_for(root: Path, monkeypatch):
    monkeypatch.delenv("QBENCH_ASSETS", raising=False)
    (root / "vocab.txt").unlink()
    data = data_card("tsv", {"data": "a.tsv"})
    message = refused(root, data, ["N", 6], [step()], dtype="int32")
    assert "cannot find vocab.txt" in message and str(root) in message


def test_a_trained_text_classifier_reaches_its_published_accuracy(assets: Path):
    """The manifest's figure for these 436 sentences, with upstream's own vocabulary."""
    runtime = pytest.importorskip("onnxruntime")
    data = data_card(
        "tsv", {"data": "datasets/sst2_glue_dev/sst2_glue_dev_dev.tsv"}, labels="label", classes=2
    )
    vocab = {"path": "models/avgwordvec_sst2/vocab.txt"}
    words = {"tokenize": {"kind": "words", "vocab": vocab, "length": 256}}
    found = made(assets, data, [1, 256], [words], dtype="int32")
    model = runtime.InferenceSession(
        assets / "models/avgwordvec_sst2/model.onnx", providers=["CPUExecutionProvider"]
    )
    right = [
        model.run(None, {"input_1": item[None]})[0].argmax() == label
        for item, label in zip(
            np.load(found.feeds["image"]), np.load(str(found.labels)), strict=True
        )
    ]
    expected = json.loads((assets / "MANIFEST.json").read_text())["models"]["avgwordvec_sst2"]
    figure = expected["measured"]["model.onnx"]["sst2_glue_dev:acc"]
    assert len(right) == 436 and round(float(np.mean(right)), 4) == figure
