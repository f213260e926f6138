"""What qbench says of models that cannot run as they are: one sentence, exit code 2, and the option
to type."""

from __future__ import annotations

import pytest
from visits import Models, Visit

LONGEST = 200  # characters in a sentence

SIZES = {
    "conv_free": ("H", "W"),
    "conv_dense": ("H", "W"),
    "conv_minus_one": ("images.2", "images.3"),
    "conv_nameless": ("x.2", "x.3"),
    "encoder_mask": ("L",),
    "conv_time": ("T",),
    "lstm_tnc": ("N",),
    "vad": ("L",),
}
"""Free sizes that no file decides, by model."""


@pytest.mark.parametrize(("name", "sizes"), SIZES.items())
def test_free_sizes_are_named_with_the_option_to_type(
    name: str, sizes: tuple[str, ...], models: Models, visit: Visit
):
    said = visit.refused(models(name), "-b", "onnxruntime")
    reason, remedy = sentences(said)
    assert all(size in reason for size in sizes), reason
    assert all(f"{size}=" in remedy for size in sizes) and "--size" in remedy, remedy


def test_a_batch_axis_leaves_the_others_open(models: Models, visit: Visit):
    said = visit.refused(models("lstm_tnc"), "--batch-axis", "x=1", "-b", "onnxruntime")
    assert "--size T=" in said


REFUSED = {
    "unknown_rank": ("images", "--shape images="),
    "strings": ("words", "str"),
    "zipmap": ("told", "map"),
    "sequence": ("parts", "sequence"),
    "no_inputs": ("no inputs", ""),
    "weights_missing": ("gone.bin", ""),
    "not_a_model": ("ONNX", ""),
}
"""Words of the reason and of the remedy, by model."""


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_what_cannot_run_is_named(name: str, words: tuple[str, str], models: Models, visit: Visit):
    said = visit.refused(models(name), "-b", "onnxruntime")
    assert all(word in said for word in words), said
    assert all(len(line.strip()) <= LONGEST for line in sentences(said)), said


WRONG = {
    "a size of no input": (["--size", "height=16,W=16"], "height"),
    "a tensor of no model": (["--shape", "picture=1x3x16x16"], "picture"),
    "another rank": (["--shape", "images=3x16x16"], "images"),
    "another fixed size": (["--shape", "images=1x4x16x16"], "3"),
    "no size": (["--size", "H=tall,W=16"], "tall"),
    "a size of zero": (["--shape", "images=1x3x0x16"], "images"),
    "an axis that is not there": (["--batch-axis", "images=4", "--size", "H=16,W=16"], "images"),
    "an item beyond memory": (["--size", "H=1000000,W=1000000"], "values"),
}


@pytest.mark.parametrize(("options", "word"), WRONG.values(), ids=list(WRONG))
def test_wrong_sizes_are_refused_before_anything_runs(
    options: list[str], word: str, models: Models, visit: Visit
):
    said = visit.refused(models("conv_free"), "-b", "onnxruntime", *options)
    assert word in said, said
    assert not (visit.folder / "results").exists()


def sentences(said: str) -> list[str]:
    """Reason and remedy."""
    lines = said.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("qbench: ")]
    assert len(starts) == 1, said
    return [line.strip() for line in lines[starts[0] :]]
