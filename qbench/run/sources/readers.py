"""Describe and run model files that have no card, by the adapters and converters that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qbench.errors import UserError
from qbench.kit.adapter import Description, PrepareError, Ready, Unavailable
from qbench.kit.model import Feed, Model, PrepareTarget, SourceTensor, TensorSpec
from qbench.kit.onnxfile.external import external_files
from qbench.kit.tflitefile import several_signatures
from qbench.run.sources.convert import Converters
from qbench.run.sources.tensors import Ran, Runner
from qbench.run.workers.isolate import run_job, scratch_folder
from qbench.run.workers.registry import Registry

TRY_TIMEOUT_S = 300
CARDS = (".yaml", ".yml")


def endings(registry: Registry) -> dict[str, str]:
    """Formats that the installed adapters and converters read, by suffix of a file's name."""
    loaded = [registry.load(name) for name in registry.names]
    formats = {
        f for backend in loaded if not isinstance(backend, Unavailable) for f in backend.formats
    }
    return {f".{form}": form for form in sorted(formats - {"savedmodel"})} | Converters().endings()


def is_savedmodel(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def companions(path: Path, form: str) -> dict[str, Path]:
    """Files with an ONNX file's weights, by their path from its folder.

    Raises:
        UserError: it is no ONNX file, or one of them is not there.
    """
    if form != "onnx":
        return {}
    try:
        names = external_files(path)
    except PrepareError as error:
        raise UserError(f"{path} cannot be read", str(error)) from None
    found = {name: path.parent / name for name in names}
    for name, file in found.items():
        if not file.is_file():
            raise UserError(
                f"{path} keeps weights in {name}, which is missing", f"Put it at {file}."
            )
    return found


@dataclass(frozen=True)
class Readers:
    """The adapters and converters that read model files, the chosen backends' first.

    Attributes:
        signature: the one to read, of files with several; None: files have one.
    """

    registry: Registry
    chosen: list[str]
    signature: str | None = None

    def format_of(self, path: Path) -> str:
        """
        Raises:
            UserError: unknown.
        """
        known = endings(self.registry)
        form = "savedmodel" if is_savedmodel(path) else known.get(path.suffix)
        if form is None:
            raise UserError(
                f"{path}: its suffix is of no known format",
                f"Known suffixes: {', '.join(known)}, {', '.join(CARDS)} (a model card); a torch "
                "module needs a card (docs/model-cards.md).",
            )
        return form

    def describe(self, path: Path, form: str) -> Description:
        """Describe a file with the first adapter that reads the format, else with a converter.

        Raises:
            UserError: none can read the file, or its signature is not known.
        """
        if self.signature is not None and form != "tflite":
            raise UserError(
                f"{path}: --signature is for TFLite files", "A card names a SavedModel's signature."
            )
        keys = several_signatures(path) if form == "tflite" else []
        if keys and self.signature is None:
            raise UserError(
                f"{path} has the signatures {', '.join(keys)}", "Choose one by --signature KEY."
            )
        reasons: list[str] = []
        refusals: list[str] = []
        adapters = self._adapters(form, reasons)
        converter = Converters().readers().get(form)
        for reader, target in [*adapters, *([("the converter", converter)] if converter else [])]:
            with scratch_folder() as folder:
                name, files = _source(path, form)
                request = {
                    "path": name,
                    "companions": [n for n in files if n != name],
                    "signature": self.signature,
                }
                outcome = run_job("describe", target, request, folder, files, timeout_s=120)
            if outcome.status == "ok":
                return Description.from_json(outcome.result)
            refusals.append(f"{reader}: {outcome.reason}")
        if refusals:
            raise UserError(f"{path} cannot be read", "; ".join(refusals))
        raise UserError(
            f"no backend here reads {form} files",
            "; ".join(reasons) or "`qbench backends` lists them.",
        )

    def runner(self, path: Path, form: str, described: Description) -> Runner | None:
        """Runs the file in the first adapter that can; None if none here runs the format as it is,
        without a conversion."""
        source = _as_file(path, form, described.inputs, described.outputs)
        targets = [t for name, t in self._adapters(form, []) if self._takes(name, source)]
        if not targets:
            return None

        def run(specs: Mapping[str, TensorSpec], batch: int, feeds: Sequence[Feed]) -> Ran:
            model = _as_file(path, form, specs, described.outputs)
            model = replace(model, signature=self.signature)
            first = None
            for target in targets:
                ran = _run_in(target, model, batch, feeds)
                if ran.refusal is None:
                    return ran
                first = first or ran
            assert first is not None
            return first

        return run

    def _takes(self, name: str, model: Model) -> bool:
        backend = self.registry.load(name)
        return not isinstance(backend, Unavailable) and not backend.supports(
            model, PrepareTarget("fp32")
        )

    def _adapters(self, form: str, reasons: list[str]) -> Iterator[tuple[str, str]]:
        """Yield name and ``module:Class`` of the adapters that read a format and work here, those
        first that read it best; append to ``reasons`` why others do not."""
        ranks: dict[str, int] = {}
        for name in dict.fromkeys([*self.chosen, *self.registry.names]):
            backend = self.registry.load(name)
            if not isinstance(backend, Unavailable) and form in backend.formats:
                ranks[name] = list(backend.formats).index(form)
        for name in sorted(ranks, key=lambda name: ranks[name]):
            probe = self.registry.probe([name])[name]
            if isinstance(probe, Ready):
                yield name, self.registry.targets[name]
            else:
                reasons.append(f"{name}: {probe.reason}")


def _source(path: Path, form: str) -> tuple[str, dict[str, Path]]:
    """A file's name in a worker's folder, and all files by their names there."""
    name = f"source/model{path.suffix}"
    return name, {name: path, **{f"source/{n}": f for n, f in companions(path, form).items()}}


def _as_file(
    path: Path, form: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Model:
    """The model with the file's own names; outputs without a batch axis."""
    return Model(
        name=path.stem,
        format=form,
        path=path,
        digest="",
        task="unknown",
        inputs=inputs,
        outputs={name: replace(spec, batch=None) for name, spec in outputs.items()},
        source_inputs={name: SourceTensor(name) for name in inputs},
        source_outputs={name: SourceTensor(name) for name in outputs},
        companions=companions(path, form),
    )


def _run_in(target: str, model: Model, batch: int, feeds: Sequence[Feed]) -> Ran:
    """Run the file in one adapter."""
    with scratch_folder() as folder, scratch_folder() as given:
        name, files = _source(model.path, model.format)
        companions = {n: f"source/{n}" for n in model.companions}
        request: dict[str, Any] = {
            "model": {**model.to_json(), "path": name, "companions": companions},
            "batch": batch,
            "feeds": [],
        }
        for number, feed in enumerate(feeds):
            names = {n: f"feed-{number}-{index}.npy" for index, n in enumerate(feed)}
            for n, array in feed.items():
                np.save(given / names[n], array)
                files[names[n]] = given / names[n]
            request["feeds"].append(names)
        outcome = run_job("tryout", target, request, folder, files, timeout_s=TRY_TIMEOUT_S)
        if outcome.status != "ok":
            return Ran(refusal=outcome.reason)
        found = outcome.result["outputs"]
        return Ran([{n: np.load(folder / file) for n, file in one.items()} for one in found])
