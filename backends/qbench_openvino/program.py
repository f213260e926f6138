"""An opened artifact. Needs NumPy and OpenVINO only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.feeds import check_feed
from qbench.kit.model import Artifact, Feed, RunConfig, TensorSpec
from qbench.kit.operators import EffectivePrecision, Profile
from qbench_openvino.runtime import DEVICE, shorten
from qbench_openvino.settings import compile_settings, with_hints
from qbench_openvino.tensors import (
    find_ports,
    port_spec,
    reshape,
    sizes_in_source,
)


class OpenVinoProgram:
    """See ``qbench.kit.adapter.Program``.

    Attributes:
        compiled: the plugin's ``CompiledModel``.
        settings: what it was compiled with.
        model: the ``openvino.Model`` that was compiled; None unless opened with ``inspect``.
    """

    def __init__(self, openvino: Any, artifact: Artifact, config: RunConfig, inspect: bool) -> None:
        card = artifact.model
        self.openvino, self.artifact, self.config = openvino, artifact, config
        compiled, model, settings = compile_artifact(openvino, artifact, config, inspect=inspect)
        self.compiled: Any = compiled
        self.settings = settings
        self.model: Any = model if inspect else None
        self.input_ports = find_ports(self.compiled.inputs, card.source_inputs)
        self.output_ports = find_ports(self.compiled.outputs, card.source_outputs)
        self.inputs: Mapping[str, TensorSpec] = {
            name: port_spec(port, card.source_inputs[name].layout)
            for name, port in self.input_ports.items()
        }
        self.outputs: Mapping[str, TensorSpec] = {
            name: port_spec(port, card.source_outputs[name].layout)
            for name, port in self.output_ports.items()
        }
        _check_kinds("input", self.inputs, card.inputs)
        _check_kinds("output", self.outputs, card.outputs)

    def stream(self) -> OpenVinoStream:
        return OpenVinoStream(self)

    def effective(self) -> EffectivePrecision:
        from qbench_openvino.effective import read_back

        self._check_inspected("effective")
        return read_back(self, self._twin)

    def profile(self, feed: Feed, runs: int) -> Profile:
        from qbench_openvino.effective import profile

        self._check_inspected("profile")
        return profile(self, feed, runs)

    def _check_inspected(self, method: str) -> None:
        if self.model is None:
            raise RuntimeError(f"{method}() needs a program opened with inspect=True")

    def _twin(self, **changed: Any) -> Any:
        """The same model compiled with other settings, to compare with."""
        core = self.openvino.Core()
        return core.compile_model(self.model, DEVICE, {**self.settings, **changed})

    def __enter__(self) -> OpenVinoProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        # The plugin frees the program when the last reference goes; streams hold one too.
        self.compiled = None
        self.model = None
        self.input_ports, self.output_ports = {}, {}


def compile_artifact(
    openvino: Any,
    artifact: Artifact,
    config: RunConfig,
    change: Callable[[Any], None] | None = None,
    inspect: bool = False,
) -> tuple[Any, Any, dict[str, Any]]:
    """Load and compile for the batch of ``config``.

    Args:
        change: changes the model before it is compiled, such as by more outputs.
        inspect: whether the plugin measures the time of each operator.

    Returns:
        The ``CompiledModel``, the ``Model`` that it was made of, and its settings.

    Raises:
        Unsupported: a batch, threads or streams that cannot be had.
        ValueError: a hint that the plugin does not have or take.
    """
    card = artifact.model
    core = openvino.Core()
    prepared = artifact.provenance.settings
    settings = compile_settings(artifact.target.precision, config, prepared, inspect)
    settings = with_hints(core, settings, config.hints)
    model = core.read_model(artifact.file)
    sizes = {
        name: sizes_in_source(card.inputs[name], tensor.layout, config.batch)
        for name, tensor in card.source_inputs.items()
    }
    reshape(model, find_ports(model.inputs, card.source_inputs), sizes)
    if change is not None:
        change(model)
    return _compile(core, model, settings, config), model, settings


def _check_kinds(what: str, file: Mapping[str, TensorSpec], card: Mapping[str, TensorSpec]) -> None:
    """Refuse a file whose tensors are quantized where the card's are not: OpenVINO does not tell
    their scales."""
    for name, spec in file.items():
        if np.dtype(spec.dtype).kind != np.dtype(card[name].dtype).kind:
            raise Unsupported(
                f"{what} '{name}' is {spec.dtype} in the file and {card[name].dtype} in the card; "
                f"OpenVINO does not tell its scale, so the card has to say {spec.dtype}"
            )


def _compile(core: Any, model: Any, settings: dict[str, Any], config: RunConfig) -> Any:
    """Compile, and check that the plugin took the threads and streams it was given.

    Raises:
        Unsupported: it took fewer (it silently stops at the machine's cores).
        ValueError: a hint's value that the plugin does not take.
    """
    try:
        compiled = core.compile_model(model, DEVICE, settings)
    except RuntimeError as error:
        text = str(error)
        if config.hints and ("Wrong value" in text or "property" in text):
            reason = f"OpenVINO refused the hints {dict(config.hints)}: {shorten(error)}"
            raise ValueError(reason) from error
        raise
    for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        got = int(compiled.get_property(name))
        if got != settings[name]:
            raise Unsupported(
                f"{name} was set to {settings[name]} but OpenVINO uses {got} on this machine"
            )
    return compiled


class OpenVinoStream:
    """One inference request with input tensors of its own. See ``qbench.kit.adapter.Stream``.

    Attributes:
        request: the plugin's ``InferRequest``.
        infer: the request's own method with its argument bound; no wrapper stands around it.
            ``share_outputs`` leaves the outputs in the request instead of copying them.
    """

    infer: Callable[[], None]

    def __init__(self, program: OpenVinoProgram) -> None:
        self._card = program.artifact.model
        self._batch = program.config.batch
        self._new_tensor = program.openvino.Tensor
        self._input_ports, self._output_ports = program.input_ports, program.output_ports
        self._tensors: dict[str, Any] = {}
        self.request = program.compiled.create_infer_request()
        self.infer = cast("Callable[[], None]", partial(self.request.infer, share_outputs=True))

    def bind(self, feed: Feed) -> None:
        check_feed(feed, self._card.inputs, self._batch)
        arrays = self._card.to_source(feed)
        for name, port in self._input_ports.items():
            array = arrays[self._card.source_inputs[name].name]
            tensor = self._tensors.get(name)
            if tensor is None or tuple(tensor.shape) != array.shape:
                # OpenVINO allocates aligned memory; a caller's array need not be.
                tensor = self._new_tensor(port.get_element_type(), list(array.shape))
                self.request.set_tensor(port, tensor)
                self._tensors[name] = tensor
            np.copyto(tensor.data, array, casting="same_kind")

    def read(self) -> Feed:
        tensors = {
            self._card.source_outputs[name].name: self.request.get_tensor(port).data
            for name, port in self._output_ports.items()
        }
        return {
            name: array.astype(self._card.outputs[name].dtype, copy=False)
            for name, array in self._card.from_source(tensors).items()
        }
