"""qbench.kit.reasons: whatever a tool says becomes one line that a person can read."""

from __future__ import annotations

import re
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from readable import assert_readable

from qbench.kit.adapter import PrepareError, Unsupported
from qbench.kit.reasons import LONGEST, Known, explain, sentence, short

PIECES = st.sampled_from(
    [
        "\x1b[31m", "\x1b[0m", "\x1b]0;title\x07", "\\x1b[1;31m", "\x9b1m", "\r\n", "\t", "\u2028",
        "/tmp/tmpab12cd/model.onnx", "/home/someone/models/a b.onnx", "/usr/lib/x.py", "/tmp/x",
        "0x7ffdc0ffee10", "<object at 0x55aa12>", "https://files.example.org/x?y=z", "localhost:80",
        "HTTPSConnectionPool(host='pypi.example.com', port=443)", "10.0.0.1:8080",
        "KeyError: ", "onnx.checker.ValidationError", "RuntimeError(", "[ShapeInferenceError] ",
        "[ONNXRuntimeError] : 1 : FAIL : ", "Exception from src/core/x.cpp:84:\n",
        "Check 'a == b' failed at src/x.hpp:12:\n", "/onnxruntime_src/core/graph/model.cc:256 ",
        "ns::f(const ns::T&, int) const ", "x was false. ", "<class 'torch.X'>: ", "Conv",
        " ", ": ", ". ", "'", "(", ")", "a", "0", "/", "\\", ".", "Error", "://", "x.cc:", "1",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=25).map("".join),
)


@settings(max_examples=300)
@given(TEXTS)
@example("0" + "0x1234" + "x1234")
@example("Key" + "KeyError" + "Error")
@example("/tmp" * 60)
def test_any_text_becomes_a_line_that_can_be_read(text: str):
    for told in (short(text), sentence(text)):
        if told:
            assert_readable(told)
        assert short(told) == told
    assert_readable(sentence(RuntimeError(text)))


WORDS = st.sampled_from(["abc", "xyz", "(conv)", "'x'", "[1,3]", "9", "dB"])


@given(st.lists(WORDS, min_size=1, max_size=25))
def test_plain_words_stay_as_they_are(words: list[str]):
    text = " ".join(words)
    assert short(text) == text


@given(st.lists(st.sampled_from(["model.0", "conv", "Conv_3", "layer1"]), min_size=2, max_size=5))
def test_an_operator_whose_name_looks_like_a_path_keeps_it(parts: list[str]):
    name = "/" + "/".join(parts)
    assert short(f"no kernel for '{name}'") == f"no kernel for '{name}'"


def test_a_file_keeps_its_name_and_a_temporary_one_has_none(tmp_path: Path):
    assert short(f"cannot read {tmp_path / 'weights.pb'}: it is short").startswith(
        "cannot read weights.pb: it"
    )
    assert short(f"cannot open {tempfile.gettempdir()}/tmpk3j2") == "cannot open a temporary file"


def test_long_text_ends_between_words():
    told = short("word " * 100)
    assert len(told) <= LONGEST and told.endswith("word…")


def test_time_grows_with_the_text_alone():
    """Patterns that backtrack would take minutes for these."""
    for piece in ("/a", "(a ", "Check '", "x::", "\x1b[", "a.cc:1 ", "://", "a.", "a", "1.1.1."):
        short(piece * 100_000)


# --------------------------------------------------------------------------- errors


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Unsupported("no batch of 2"), "skipped", "no batch of 2"),
        (PrepareError("the tool failed", "Conv"), "prepare_failed", "the tool failed"),
        (RuntimeError("it broke. Then more"), "error", "it broke"),
        (RuntimeError(), "error", "test_reasons.py, line"),
        (KeyError(0), "error", "has no entry 0"),
        (AttributeError("'NoneType' has no 'x'"), "error", "'NoneType' has no 'x'"),
        (AssertionError(), "error", "an internal error"),
        (MemoryError(), "oom", "out of memory"),
        (RuntimeError("std::bad_alloc"), "oom", "out of memory"),
        (PrepareError("tool failed: bad allocation"), "oom", "out of memory"),
        (FileNotFoundError(2, "No such file", "/tmp/a/w.pb"), "prepare_failed", "w.pb"),
        (ModuleNotFoundError("x", name="nncf"), "error", "'nncf' is not installed"),
        (SystemExit(3), "error", "exit code 3"),
    ],
)
def test_a_cause_has_one_status_and_a_sentence(error: BaseException, status: str, words: str):
    found = explain(raised(error))
    assert found.status == status and words in found.text, found
    assert_readable(found.text)


KNOWN = (
    Known(r"no kernel for (\w+)", "skipped", "the runtime has no operator {0}"),
    Known(r"(\w+) failed", "error", "{0} cannot run"),
)


def test_a_known_message_is_found_in_any_of_the_causes():
    deep = raised(RuntimeError("Exception from x.cpp:3:\nno kernel for Conv"))
    wrapped = raised(PrepareError("quantizer failed"), raised(ValueError("again"), deep))
    assert explain(wrapped, KNOWN) == ("skipped", "the runtime has no operator Conv")
    assert explain(deep, KNOWN) == explain(wrapped, KNOWN)
    assert explain(RuntimeError("Conv failed"), KNOWN) == ("error", "Conv cannot run")


def test_what_an_adapter_calls_unsupported_stays_so():
    assert explain(Unsupported("Conv failed at batch 2"), KNOWN).status == "skipped"
    assert explain(Unsupported("no kernel for Conv"), KNOWN).text.startswith("the runtime has no")


def test_an_error_that_causes_itself_ends():
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one
    assert explain(one).text == "one"


def test_the_place_of_an_internal_error_names_the_package():
    import numpy as np

    try:
        np.concatenate(3)  # type: ignore[call-overload]
    except TypeError as error:
        assert traceback.extract_tb(error.__traceback__)
        assert "test_reasons.py, line" in sentence(error)
    try:
        re.compile(None)  # type: ignore[call-overload]
    except TypeError as error:
        assert ".py, line" in sentence(error)


def test_a_name_that_no_file_can_have_is_cleaned_all_the_same():
    assert sentence(RuntimeError("Node failed at /" + "a" * 300 + "/b/c")).startswith("Node failed")
