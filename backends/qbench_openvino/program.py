"""An opened artifact. Needs NumPy and OpenVINO only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from qbench.kit.adapter import Program, Stream, Unsupported
from qbench.kit.feedback import Turns, check_states
from qbench.kit.feeds import check_feed
from qbench.kit.model import Artifact, Feed, Model, RunConfig, TensorSpec
from qbench.kit.operators import EffectivePrecision, Profile
from qbench.kit.reasons import sentence
from qbench_openvino.graph import has_fused_products
from qbench_openvino.runtime import DEVICE, import_openvino
from qbench_openvino.settings import compile_settings, with_hints
from qbench_openvino.tensors import (
    find_ports,
    port_spec,
    reshape,
)

if TYPE_CHECKING:
    from qbench_openvino.effective import Inspected


class OpenVinoProgram(Program):
    """A compiled model.

    Attributes:
        compiled: the plugin's ``CompiledModel``; None once closed.
        settings: the settings it was compiled with.
        model: the ``openvino.Model`` it was compiled from; None unless opened with ``inspect``.
    """

    def __init__(self, artifact: Artifact, config: RunConfig, inspect: bool) -> None:
        if config.device != "cpu":
            raise Unsupported(f"this adapter runs OpenVINO on the cpu only, not on {config.device}")
        card = artifact.model
        self._artifact, self._config = artifact, config
        made = compile_artifact(artifact, config, inspect=inspect)
        self.compiled: Any = made.compiled
        self.settings = made.settings
        self.model: Any = made.model if inspect else None
        self._inputs = find_ports(self.compiled.inputs, card.source_inputs)
        self._outputs = find_ports(self.compiled.outputs, card.source_outputs)
        self.inputs = {
            name: port_spec(port, card.source_inputs[name].layout, card.inputs[name].batch)
            for name, port in self._inputs.items()
        }
        self.outputs = {
            name: port_spec(port, card.source_outputs[name].layout, card.outputs[name].batch)
            for name, port in self._outputs.items()
        }
        _check_kinds("input", self.inputs, card.inputs)
        _check_kinds("output", self.outputs, card.outputs)
        check_states(card, self.inputs, self.outputs)

    def stream(self) -> OpenVinoStream:
        card, batch = self._artifact.model, self._config.batch
        kind = FeedingStream if card.states else OpenVinoStream
        return kind(self.compiled, card, batch, self._inputs, self._outputs)

    def effective(self) -> EffectivePrecision:
        from qbench_openvino.effective import read_back

        def compiled_with(**changed: Any) -> Any:
            core = import_openvino().Core()
            return core.compile_model(self.model, DEVICE, {**self.settings, **changed})

        return read_back(self._inspected("effective"), compiled_with)

    def mismatch(self) -> str | None:
        """Exclusions are compared in the plugin's graph, scales in the model that it compiled."""
        from qbench.kit.requested import mismatch
        from qbench_openvino.effective import running_weights

        artifact = self._artifact
        excluded = artifact.provenance.settings.get("ignored_operators", ())
        return mismatch(running_weights(self._inspected("mismatch")), artifact.target, excluded)

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Times have a resolution of 1 µs.

        The plugin reports the mean over all inferences since compilation, including the slow first
        one, so the model is compiled again and the first inference subtracted.
        """
        from qbench_openvino.effective import profile

        self._inspected("profile")
        with OpenVinoProgram(self._artifact, self._config, inspect=True) as fresh:
            stream = fresh.stream()
            stream.bind(feed)
            return profile(fresh._inspected("profile"), stream.request, stream.infer, runs)

    def _inspected(self, method: str) -> Inspected:
        from qbench_openvino.effective import Inspected

        if self.model is None:
            raise RuntimeError(f"{method}() needs a program opened with inspect=True")
        dynamic = self._artifact.target.precision == "int8-dynamic"
        return Inspected(self.compiled, self.model, self.settings, dynamic)

    def close(self) -> None:
        # the plugin frees the program with its last reference; streams hold one too
        self.compiled = self.model = None
        self._inputs, self._outputs = {}, {}


class Compiled(NamedTuple):
    """A ``CompiledModel``, the ``Model`` it was compiled from, and its settings."""

    compiled: Any
    model: Any
    settings: dict[str, Any]


def compile_artifact(
    artifact: Artifact,
    config: RunConfig,
    change: Callable[[Any], None] | None = None,
    inspect: bool = False,
) -> Compiled:
    """Load and compile for the batch of ``config``.

    Args:
        change: changes the model before it is compiled, such as by adding outputs.
        inspect: whether the plugin measures the time of each operator.

    Raises:
        Unsupported: impossible batch, threads or streams.
        ValueError: a hint that the plugin does not have or accept.
    """
    card = artifact.model
    core = import_openvino().Core()
    prepared = artifact.provenance.settings
    settings = compile_settings(artifact.target.precision, config, prepared, inspect)
    settings = with_hints(core, settings, config.hints)
    model = core.read_model(artifact.file)
    inputs = find_ports(model.inputs, card.source_inputs)
    reshape(model, inputs, find_ports(model.outputs, card.source_outputs), card, config.batch)
    if change is not None:
        change(model)
    return Compiled(_compile(core, model, settings, config), model, settings)


def _check_kinds(kind: str, file: Mapping[str, TensorSpec], card: Mapping[str, TensorSpec]) -> None:
    """Refuse a file with quantized tensors where the card's are not: OpenVINO does not report their
    scales."""
    for name, spec in file.items():
        if np.dtype(spec.dtype).kind != np.dtype(card[name].dtype).kind:
            raise Unsupported(
                f"{kind} '{name}' is {spec.dtype} in the file and {card[name].dtype} in the card; "
                f"OpenVINO does not report its scale, so the card has to say {spec.dtype}"
            )


def _compile(core: Any, model: Any, settings: dict[str, Any], config: RunConfig) -> Any:
    """Compile, and check that the plugin uses the given threads and streams.

    With one thread, the plugin (2026.4.1) generates one piece of code for a chain of matrix
    products. Quantized ones it then computes in float32, or wrongly: of two products after a
    quantized input, the output is 0 dB of the right one. For float64 inputs it fails. So these
    models are compiled without such code, and ``settings`` say so.

    Raises:
        Unsupported: it uses fewer (it silently stops at the machine's cores), or quantized float64.
        ValueError: a hint's value that the plugin refuses.
    """
    compiled: Any = None
    try:
        compiled = _compile_once(core, model, settings, config)
    except RuntimeError as error:
        if "Subgraph" not in str(error):
            raise
        compiled = None
    if compiled is None or has_fused_products(compiled.get_runtime_model(), model):
        settings["SNIPPETS_MODE"] = "DISABLE"
        compiled = _compile_once(core, model, settings, config)
    for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        got = int(compiled.get_property(name))
        if got != settings[name]:
            raise Unsupported(
                f"{name} was set to {settings[name]} but OpenVINO uses {got} on this machine"
            )
    return compiled


def _compile_once(core: Any, model: Any, settings: dict[str, Any], config: RunConfig) -> Any:
    try:
        return core.compile_model(model, DEVICE, settings)
    except RuntimeError as error:
        text = str(error)
        if config.hints and ("Wrong value" in text or "property" in text):
            reason = f"OpenVINO refused the hints {dict(config.hints)}: {sentence(error)}"
            raise ValueError(reason) from error
        if "does not support f64" in text:
            raise Unsupported(
                "OpenVINO's CPU plugin does not quantize float64 inputs: save the model in float32"
            ) from error
        raise


class OpenVinoStream(Stream):
    """One inference request with its own input tensors.

    ``infer`` is the request's method with its argument bound, without a wrapper.
    ``share_outputs`` leaves the outputs in the request instead of copying them.

    Attributes:
        request: the plugin's ``InferRequest``.
    """

    def __init__(
        self,
        compiled: Any,
        card: Model,
        batch: int,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
    ) -> None:
        """
        Args:
            inputs, outputs: ports by canonical name.
        """
        self._card, self._batch = card, batch
        self._new_tensor = import_openvino().Tensor
        self._inputs, self._outputs = inputs, outputs
        self._tensors: dict[str, Any] = {}
        self.request = compiled.create_infer_request()
        self.infer = _bound_call(self.request)

    def bind(self, feed: Feed) -> None:
        for name, array in self._arrays(feed).items():
            self._place(name, array)

    def _arrays(self, feed: Feed) -> Feed:
        """A feed in the file's layouts, by canonical name."""
        check_feed(feed, self._card.inputs, self._batch, self._card.states)
        arrays = self._card.to_source(feed)
        return {name: arrays[self._card.source_inputs[name].name] for name in feed}

    def _place(self, name: str, array: np.ndarray) -> None:
        """Copy ``array`` into the tensor of input ``name``; set one if there is none of its
        shape."""
        tensor = self._tensors.get(name)
        if tensor is None or tuple(tensor.shape) != array.shape:
            tensor = self._tensors[name] = self._tensor(name, array.shape)
            self._set(name, tensor)
        np.copyto(tensor.data, array, casting="same_kind")

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Any:
        """A tensor for input ``name``. OpenVINO allocates aligned memory; a caller's array need not
        be aligned."""
        return self._new_tensor(self._inputs[name].get_element_type(), list(shape))

    def _set(self, name: str, tensor: Any) -> None:
        """Make ``tensor`` input ``name``."""
        self.request.set_tensor(self._inputs[name], tensor)

    def _ran_last(self) -> Any:
        """The request that ran last."""
        return self.request

    def read(self) -> Feed:
        request = self._ran_last()
        tensors = {
            self._card.source_outputs[name].name: request.get_tensor(port).data
            for name, port in self._outputs.items()
        }
        return {
            name: array.astype(self._card.outputs[name].dtype, copy=False)
            for name, array in self._card.from_source(tensors).items()
        }


class FeedingStream(OpenVinoStream):
    """Two inference requests that run in turn, each on the tensors where the other one leaves the
    states. They share all other inputs."""

    def __init__(
        self,
        compiled: Any,
        card: Model,
        batch: int,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
    ) -> None:
        super().__init__(compiled, card, batch, inputs, outputs)
        self._other = compiled.create_infer_request()
        shapes = card.source_shapes(batch)
        buffers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, state in card.states.items():
            shape = shapes[card.source_inputs[name].name]
            one, two = (self._tensor(name, shape) for _ in range(2))
            for request, taken, left in ((self.request, one, two), (self._other, two, one)):
                request.set_tensor(inputs[name], taken)
                request.set_tensor(outputs[state.output], left)
            buffers[name] = one.data, two.data
        self._turns = Turns((self.infer, _bound_call(self._other)), buffers)
        self.infer = self._turns.infer

    def bind(self, feed: Feed) -> None:
        arrays = self._arrays(feed)
        states = {name: arrays.pop(name) for name in self._card.states if name in arrays}
        self._turns.place(states)
        for name, array in arrays.items():
            self._place(name, array)

    def _set(self, name: str, tensor: Any) -> None:
        super()._set(name, tensor)
        self._other.set_tensor(self._inputs[name], tensor)

    def _ran_last(self) -> Any:
        return self._other if self._turns.last else self.request


def _bound_call(request: Any) -> Callable[[], None]:
    return cast("Callable[[], None]", partial(request.infer, share_outputs=True))
