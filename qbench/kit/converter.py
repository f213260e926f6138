"""The converter contract: from a training framework's format to one that runtimes read.

A converter is a subclass of :class:`Converter`, named by an entry point::

    [project.entry-points."qbench.converters"]
    tensorflow = "qbench_tensorflow:Converter"

The parent process uses ``routes`` and ``probe``, so the converter's module must import nothing
heavy. ``describe`` and ``convert`` run in a fresh worker process.

qbench checks the result: it runs the converted file in a runtime that reads it, on the items that
the source was run on, and compares the outputs.

Python 3.10, standard library only.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qbench.kit.adapter import Description, PrepareError, Unavailable
from qbench.kit.model import Feed, Model, SourceTensor, TensorSpec, gathered, scattered
from qbench.kit.reasons import Known

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Source:
    """A model in its framework's format, with the card's description of it.

    Attributes:
        format: such as ``keras``, ``savedmodel`` or ``torch``.
        path: the file or folder; None if a library provides the model by name.
        inputs, outputs: by canonical name, the card's dtype, shape and layout, as in a feed.
        source_inputs, source_outputs: by canonical name, the source's name and layout according to
            the card; the name is "" if the card gives none.
        options: the card's other keys: ``callable``, ``model``, ``options``, ``signature``.
        weights: a file of weights outside ``path``; None for most.
        cache: folder that outlives the worker, for downloads of a library.
    """

    format: str
    path: Path | None
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    source_inputs: Mapping[str, SourceTensor]
    source_outputs: Mapping[str, SourceTensor]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weights: Path | None = None
    cache: Path | None = None

    def to_source(self, feed: Feed) -> Feed:
        """A canonical feed in the source's layouts, still by canonical name."""
        return self._layouts().to_source(feed)

    def from_source(self, outputs: Feed) -> Feed:
        """The source's outputs, by canonical name, in the card's layouts."""
        return self._layouts().from_source(outputs)

    def _layouts(self) -> Model:
        """A model whose file uses the canonical names, since ``Model`` converts layouts."""
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
        fields: dict[str, Any] = {
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
        return cls(**fields)


@dataclass(frozen=True)
class Converted:
    """Result of a conversion.

    Attributes:
        file: the only file in the output folder.
        inputs, outputs: by canonical name, the file's own names and layouts.
        reference: by canonical name, the *source's* outputs for the samples,
            ``[items, *TensorSpec.item]``, in the source's layout; dequantized if they are
            quantized. See :func:`run_twice`.
        tool: function or command, such as ``torch.onnx.export(dynamo=True)``.
        notes: sentences for the reader.
    """

    file: str
    inputs: Mapping[str, SourceTensor]
    outputs: Mapping[str, SourceTensor]
    reference: Feed
    tool: str
    notes: tuple[str, ...] = ()


class Converter(ABC):
    """One converter. Created without arguments; holds no state.

    Attributes:
        name: the entry point's.
        convert_version: raise it whenever ``convert`` makes something else of the same input.
        packages: distributions whose versions decide the result.
        routes: by source format, the formats that it converts to, each with the packages that it
            needs: distributions by name of their module.
        endings: for files without a card, the source format by ending of the file's name.
        described: source formats that ``describe`` reads.
        messages: what messages of its tools mean, as in ``Adapter``.
    """

    name: ClassVar[str]
    convert_version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]]
    routes: ClassVar[Mapping[str, Mapping[str, Mapping[str, str]]]]
    endings: ClassVar[Mapping[str, str]] = {}
    described: ClassVar[tuple[str, ...]] = ()
    messages: ClassVar[tuple[Known, ...]] = ()

    def probe(self, source: str, form: str) -> Unavailable | None:
        """None, or the first package that a route needs and that is not installed. Runs in the
        parent, and imports none of them."""
        packages = self.routes[source][form]
        for module, package in packages.items():
            if find_spec(module) is None:
                fix = f"pip install {' '.join(packages.values())}"
                return Unavailable(f"{package} is not installed", fix)
        return None

    def import_tools(self) -> None:
        """Import the modules that ``describe`` needs; called before it."""
        return

    def describe(self, path: Path) -> Description:
        """What a file or folder in one of the formats ``described`` says about its tensors, as
        ``Adapter.describe``.

        Raises:
            PrepareError: it cannot be read.
        """
        raise PrepareError(f"{self.name} does not describe files: write a model card")

    @abstractmethod
    def convert(self, source: Source, form: str, samples: Feed, out: Path) -> Converted:
        """Run the source on the samples, and convert it into one file in the empty folder ``out``.

        Args:
            form: format to convert to.
            samples: real inputs as the card describes them, ``[items, *TensorSpec.item]`` by
            canonical name.

        Raises:
            PrepareError: the source is not as the card describes it, or the tool failed.
            Unsupported: this is impossible, for a reason that is no fault (no network).
        """


def run_twice(source: Source, samples: Feed, infer: Callable[[Feed], Feed], batch: int = 1) -> Feed:
    """The outputs of a source for the samples (``Converted.reference``), which must be the same
    when it runs again.

    Args:
        infer: runs the source once; feed and outputs by canonical name, in the source's layouts.
        batch: items that it takes at once.

    Raises:
        PrepareError: they differ by more than a thousandth of the largest value, so that nothing
            can be compared with them.
    """
    import numpy as np

    first, second = (_outputs(source, samples, infer, batch) for _ in range(2))
    for name, array in first.items():
        apart = np.abs(np.subtract(array, second[name], dtype=np.float64)).max(initial=0)
        if not apart <= 1e-3 * np.abs(array).max(initial=0):
            raise PrepareError(
                f"the source gives other values of '{name}' when it runs again on the same inputs: "
                "it is random (a dropout left on?) or keeps a state; make it deterministic"
            )
    return first


def _outputs(source: Source, samples: Feed, infer: Callable[[Feed], Feed], batch: int) -> Feed:
    from qbench.kit.feeds import stacked

    items = len(next(iter(samples.values())))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in source.outputs}
    for start in range(0, items, batch):
        rows = [row if row < items else start for row in range(start, start + batch)]
        outputs = infer(source.to_source(gathered(samples, source.inputs, rows)))
        for name, array in scattered(outputs, source.outputs, batch).items():
            parts[name].append(array[: items - start])
    return {name: stacked(arrays) for name, arrays in parts.items()}


def match(what: str, wanted: Mapping[str, SourceTensor], found: Sequence[str]) -> dict[str, str]:
    """Map each canonical name to one of the source's own names.

    It is the card's name for it, else the canonical name, else the only tensor if source and card
    have one each.

    Args:
        what: ``input`` or ``output``, for the message.
        wanted: tensors of the card by canonical name; see ``Source``.
        found: the source's names.

    Raises:
        PrepareError: no such tensor, two names for the same tensor, or an input without a name.
    """
    result: dict[str, str] = {}
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


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """Distinct Python identifiers for canonical names: tools require them for arguments."""
    result: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name, flags=re.ASCII)
        word = word if word[:1].isalpha() else f"t_{word}"
        while word in result.values():
            word += "_"
        result[name] = word
    return result
