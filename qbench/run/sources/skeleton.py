"""Write the skeleton of a model's card from its file: ``qbench init --model FILE``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qbench.data.digests import digest_path
from qbench.data.madeup import made_up
from qbench.errors import UserError
from qbench.kit.adapter import Description
from qbench.kit.model import Feed, TensorSpec
from qbench.run.sources.adhoc import card_name, with_ranges
from qbench.run.sources.catalog import root_of
from qbench.run.sources.own_data import evident_layouts
from qbench.run.sources.readers import CARDS, Readers, companions
from qbench.run.sources.tensors import Asked, Tensors, settle
from qbench.spec.models import BATCH
from qbench.spec.sizes import GivenSizes

_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", ""}
"""Words that YAML 1.1 or 1.2 does not read as text."""


def card_text(path: Path, out: Path, given: GivenSizes, readers: Readers) -> tuple[str, list[str]]:
    """The text of a card, and what was found out about the file.

    Args:
        path: the model file, in the card's folder or below it.
        out: where the card will be.
        given: sizes and batch axes; what is left open stays a name.

    Raises:
        UserError: the file cannot be read or does not run, or lies elsewhere.
    """
    name = _name(out)
    source = _relative(path, root_of(out))
    form = readers.format_of(path)
    described = readers.describe(path, form)

    def two_items(specs: Mapping[str, TensorSpec]) -> Feed:
        return made_up(specs, "evaluation", described.ranges).arrays(2)

    run = readers.runner(path, form, described)
    tensors = settle(Asked(str(path), described, given, None, two_items, run, stays_open=True))
    files = {"path": source, "sha256": digest_path(path)}
    if readers.signature is not None:
        files["signature"] = readers.signature
    beside = [
        {"name": name, "sha256": digest_path(file)} for name, file in companions(path, form).items()
    ]
    lines = [
        f"# Written by qbench init from {_comment(path.name)}; see docs/model-cards.md.",
        f"name: {name}",
        "task: unknown # with data, such as image-classification",
        "licence: unknown",
        "inputs:",
        *_inputs(tensors, described),
        "outputs:",
        *_tensors(tensors.outputs, described.outputs),
        *_sizes(tensors),
        "sources:",
        f"  {form}:",
        *(f"    {key}: {_text(value)}" for key, value in files.items()),
        *([f"    companions: {_flow(beside)}"] if beside else []),
        *_data(tensors),
    ]
    return "\n".join(lines) + "\n", list(tensors.notes)


def _name(out: Path) -> str:
    """
    Raises:
        UserError: a card cannot have this file's name.
    """
    if out.suffix not in CARDS:
        raise UserError(f"{out} is no name of a card", f"Its suffix is one of {', '.join(CARDS)}.")
    if card_name(out) != out.stem:
        raise UserError(
            f"a card cannot be called '{out.stem}'",
            f"Take letters, digits, '.', '_' and '-': {card_name(out)}{out.suffix}.",
        )
    return out.stem


def _relative(path: Path, root: Path) -> str:
    """The model's path as the card has it.

    Raises:
        UserError: it is not below the card's folder.
    """
    whole, base = path.resolve(), root.resolve()
    if not whole.is_relative_to(base):
        raise UserError(
            f"{path} is not below {base}, the folder that the card's paths start from",
            f"Write the card next to the model: -o {path.parent / card_name(path)}.yaml",
        )
    return whole.relative_to(base).as_posix()


# --------------------------------------------------------------------------- parts of the text


def _inputs(tensors: Tensors, described: Description) -> Iterator[str]:
    inputs = with_ranges(tensors.inputs, described.ranges)
    lines = _tensors(inputs, described.inputs)
    for line, tensor in zip(lines, inputs.values(), strict=True):
        layouts = evident_layouts(_item(tensor))
        hint = f"layout: {layouts[0]}, if these are pictures" if len(layouts) == 1 else ""
        yield _commented(line, hint)


def _tensors(
    tensors: Mapping[str, Mapping[str, Any]], described: Mapping[str, TensorSpec]
) -> Iterator[str]:
    """A line for each tensor, with the scale of a quantized one as a comment."""
    for name, tensor in tensors.items():
        shown = {key: value for key, value in tensor.items() if not _is_usual(key, tensor)}
        spec = described[name]
        scale = (
            f"real = (q - {spec.zero_point}) * {spec.scale:.6g}" if spec.scale is not None else ""
        )
        yield _commented(f"  {_text(name)}: {_flow(shown)}", scale)


def _is_usual(key: str, tensor: Mapping[str, Any]) -> bool:
    """Whether a card need not say it: the batch's axis where it is the one called N, or the first,
    and that a scalar has none."""
    shape = tensor["shape"]
    usual = "none" if not shape else shape.index(BATCH) if BATCH in shape else 0
    return key == "batch" and tensor["batch"] == usual


def _sizes(tensors: Tensors) -> list[str]:
    names = dict.fromkeys(
        size
        for tensor in tensors.inputs.values()
        for axis, size in enumerate(tensor["shape"])
        if isinstance(size, str) and axis != tensor["batch"]
    )
    left = [name for name in names if name not in tensors.sizes]
    lines = [f"sizes: {_flow(tensors.sizes)}"] if tensors.sizes else []
    if left:
        example = _flow({**tensors.sizes, **dict.fromkeys(left, "VALUE")})
        lines = [f"# The file leaves {', '.join(map(_comment, left))} open: give values."]
        lines += [f"# sizes: {example}"]
    return lines


def _data(tensors: Tensors) -> list[str]:
    """The keys that only the user knows, commented out."""
    name, tensor = next(iter(tensors.inputs.items()))
    item, layouts = _item(tensor), evident_layouts(_item(tensor))
    steps: list[dict[str, Any]] = [{"normalize": {"mean": 127.5, "std": 127.5}}]
    if len(layouts) == 1:
        size = item[1:] if layouts[0] == "NCHW" else item[:2]
        steps = [{"resize": {"size": list(size)}}, *steps]
        steps += [{"layout": "NCHW"}] if layouts[0] == "NCHW" else []
    return [
        "# From stored items to the input; for pixels of 0 to 255, such as:",
        f"# preprocess: {{{_text(name)}: {_flow(steps)}}}",
        "# Other items by qbench run --model THIS --data FOLDER|NPZ, or from datasets/mydata.yaml:",
        "# evaluation: {dataset: mydata, sample: {count: 200, skip: 100}}",
        "# calibration: {dataset: mydata, sample: {count: 100}}",
        "# metric: top1",
        "# background: 1 # where the first class of the output is none of the labels'",
    ]


def _item(tensor: Mapping[str, Any]) -> tuple[int | str, ...]:
    return tuple(size for axis, size in enumerate(tensor["shape"]) if axis != tensor["batch"])


def _commented(line: str, comment: str) -> str:
    if not comment:
        return line
    return f"{line}; {comment}" if " # " in line else f"{line} # {comment}"


def _comment(text: str) -> str:
    """Text that stays in its comment."""
    return " ".join(text.split())


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(k))}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*|[0-9a-f]{64}", text, re.ASCII)
    usual = text == BATCH or text.lower() not in _RESERVED
    return text if plain and usual and not text.isdigit() else json.dumps(text)
