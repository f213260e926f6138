"""The contract of converters: from the format in which a model was made to one that runtimes read.

A converter is one class (a :class:`Converter`) that is named by an entry point::

    [project.entry-points."qbench.converters"]
    tensorflow = "qbench_tensorflow:Converter"

``routes`` and ``probe`` are used by the parent, so the converter's module must import nothing
heavy when it is imported. ``describe`` and ``convert`` run in a fresh worker process.

What it makes is checked: qbench runs the converted file in a runtime that reads it, on the items
that the source itself was run on, and compares the outputs.

This module belongs to the worker kit: standard library only, Python 3.10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qbench.kit.adapter import PrepareError, Unavailable
from qbench.kit.model import Feed, Model, SourceTensor, TensorSpec


@dataclass(frozen=True)
class Source:
    """A model as it was made, with the card's description of it.

    Attributes:
        format: such as ``keras``, ``savedmodel`` or ``torch``.
        path: the file or folder; None where a library provides the model by name.
        inputs, outputs: canonical names and what a feed holds: the card's dtype and layout.
        source_inputs, source_outputs: by canonical name, what the card says that the source calls
            it, and its layout there. Without a name where the card gives none.
        options: the card's other keys: ``callable``, ``model``, ``options``.
        weights: a file of weights that does not lie in ``path``; None for most.
        cache: a folder that outlives the worker, for what a library downloads.
    """

    format: str
    path: Path | None
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    source_inputs: Mapping[str, SourceTensor]
    source_outputs: Mapping[str, SourceTensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    cache: Path | None = None

    def to_source(self, feed: Feed) -> Feed:
        """A canonical feed in the source's layouts, by canonical name."""
        return self._layouts().to_source(feed)

    def from_source(self, outputs: Feed) -> Feed:
        """The source's outputs, by canonical name, in canonical layouts."""
        return self._layouts().from_source(outputs)

    def _layouts(self) -> Model:
        """A model whose file has the canonical names: ``Model`` knows how to change layouts."""
        names = {
            key: {n: SourceTensor(n, t.layout) for n, t in tensors.items()}
            for key, tensors in (("ins", self.source_inputs), ("outs", self.source_outputs))
        }
        return Model(
            "", self.format, Path(), "", "", self.inputs, self.outputs, names["ins"], names["outs"]
        )

    def to_json(self) -> dict[str, Any]:
        paths = {key: getattr(self, key) for key in ("path", "weights", "cache")}
        return {**asdict(self), **{key: path and str(path) for key, path in paths.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        return cls(
            **{
                **data,
                **{key: data[key] and Path(data[key]) for key in ("path", "weights", "cache")},
                **{
                    key: {n: TensorSpec.from_json(t) for n, t in data[key].items()}
                    for key in ("inputs", "outputs")
                },
                **{
                    key: {n: SourceTensor.from_json(t) for n, t in data[key].items()}
                    for key in ("source_inputs", "source_outputs")
                },
            }
        )


@dataclass(frozen=True)
class Converted:
    """What a converter made.

    Attributes:
        file: the one file in the folder that it was given.
        inputs, outputs: by canonical name, the file's own names and layouts.
        reference: by canonical name, the *source's* outputs for the samples, ``[items, ...]``, in
            the source's layout, real numbers where they are quantized.
        tool: function or command, such as ``torch.onnx.export(dynamo=True)``.
        notes: sentences for the reader.
    """

    file: str
    inputs: Mapping[str, SourceTensor]
    outputs: Mapping[str, SourceTensor]
    reference: Feed
    tool: str
    notes: tuple[str, ...] = ()


class Converter(Protocol):
    """A converter. Made without arguments; holds no state.

    Attributes:
        name: the entry point's.
        convert_version: raise it when ``convert`` would make something else of the same input.
        packages: distributions whose versions decide what it makes.
        routes: by source format, the formats that it converts to.
        endings: by the ending of a file's name, the source format that it tells, for files without
            a card.
        described: the source formats whose inputs and outputs ``describe`` can tell.
    """

    name: str
    convert_version: int
    packages: tuple[str, ...]
    routes: Mapping[str, tuple[str, ...]]
    endings: Mapping[str, str]
    described: tuple[str, ...]

    def probe(self, source: str, form: str) -> Unavailable | None:
        """Whether what a route needs is missing. Runs in the parent: looks for packages
        (``importlib.util.find_spec``), imports none."""
        ...

    def import_runtime(self) -> str:
        """Import the framework and return its version; as ``Backend.import_runtime``, so that
        files can be described in the same way."""
        ...

    def describe(self, path: Path) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
        """Inputs and outputs of a file, or folder, in one of the formats ``described``; as
        ``Backend.describe``.

        Raises:
            PrepareError: it cannot be read.
        """
        ...

    def convert(self, source: Source, form: str, samples: Feed, out: Path) -> Converted:
        """Run the source on the samples, and convert it into one file in the empty folder ``out``.

        Args:
            form: the format to convert to.
            samples: real inputs as the card describes them, ``[items, ...]`` by canonical name.

        Raises:
            PrepareError: the source is not what the card says, or the tool failed.
            Unsupported: this cannot be had, for a reason that is no fault (no network).
        """
        ...


def missing(packages: Mapping[str, str]) -> Unavailable | None:
    """For ``Converter.probe``: the packages that are not installed; None if all are.

    Args:
        packages: names of distributions by the name of their module.
    """
    from importlib.util import find_spec

    absent = [package for module, package in packages.items() if find_spec(module) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return Unavailable(
        f"{', '.join(absent)} {verb} not installed", f"pip install {' '.join(absent)}"
    )


def match(what: str, wanted: Mapping[str, SourceTensor], found: Sequence[str]) -> dict[str, str]:
    """For each canonical name, which of a source's own names is meant.

    That is the name which the card gives; else the canonical one; else, where source and card have
    one tensor only, that one.

    Args:
        what: ``input`` or ``output``, for the message.
        wanted: by canonical name, as the card has it; see ``Source``.
        found: the source's names.

    Raises:
        PrepareError: there is no such tensor, two names mean the same, or an input is left out.
    """
    result = {}
    for canonical, tensor in wanted.items():
        name = tensor.name or canonical
        if name not in found and not tensor.name and len(found) == len(wanted) == 1:
            name = found[0]
        if name not in found:
            raise PrepareError(
                f"the source has no {what} '{name}'; its {what}s are {', '.join(found)}: name them "
                f"in the card's sources"
            )
        result[canonical] = name
    if len(set(result.values())) < len(result):
        raise PrepareError(f"the card maps two {what}s to the same one of the source: {result}")
    if what == "input" and (left := set(found) - set(result.values())):
        raise PrepareError(f"the card does not name the source's inputs {sorted(left)}")
    return result


def short(error: BaseException) -> str:
    """The first line of a tool's error, at most 300 characters, for a message."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 300 else f"{line[:297]}..."


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """Canonical names as Python identifiers, which tools want for arguments; distinct."""
    result: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name, flags=re.ASCII)
        word = word if word[:1].isalpha() else f"t_{word}"
        while word in result.values():
            word += "_"
        result[name] = word
    return result
