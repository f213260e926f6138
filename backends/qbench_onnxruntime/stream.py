"""A stream: one IOBinding on fixed buffers, or two where states are fed back.

Imported while measuring: the standard library, NumPy and onnxruntime only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qbench.kit.adapter import Stream
from qbench.kit.feedback import Turns
from qbench.kit.feeds import check_feed, convert
from qbench.kit.model import Feed, Model, TensorSpec
from qbench_onnxruntime.tensors import aligned_empty

if TYPE_CHECKING:
    import onnxruntime as ort


class Ports(NamedTuple):
    """The inputs and outputs of an opened program.

    Attributes:
        batch: items in one inference.
        inputs, outputs: by canonical name, with the file's dtypes.
        file_outputs: by the file's name, all outputs, including those that the card leaves out.
    """

    model: Model
    batch: int
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    file_outputs: Mapping[str, TensorSpec]


class OrtStream(Stream):
    """One IOBinding on buffers that never move. ``infer`` is the bound call itself, without a
    Python frame of ours."""

    def __init__(self, session: ort.InferenceSession, ports: Ports) -> None:
        self._ports = ports
        self._session = session
        self._binding = session.io_binding()
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray | None] = {}
        for name, spec in ports.file_outputs.items():
            self._outputs[name] = self._bind_output(name, spec)
        self.infer = _run_call(session, self._binding, (self._inputs, self._outputs))

    def _bind_output(self, name: str, spec: TensorSpec) -> np.ndarray | None:
        """A buffer bound to output ``name``; None if its size is known only after the run, so that
        ONNX Runtime allocates it."""
        shape = [size for size in spec.shape if isinstance(size, int)]
        if len(shape) != len(spec.shape):
            self._free_output(name)
            return None
        return self._output_buffer(name, shape, spec.dtype)

    def _free_output(self, name: str) -> None:
        """Let ONNX Runtime allocate output ``name``."""
        self._binding.bind_output(name, "cpu")

    def _input_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """A buffer bound to input ``name``."""
        buffer = aligned_empty(shape, dtype)
        _bind_input(self._binding, name, buffer)
        return buffer

    def _output_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """A buffer bound to output ``name``."""
        buffer = aligned_empty(shape, dtype)
        _bind_output(self._binding, name, buffer)
        return buffer

    def bind(self, feed: Feed) -> None:
        self._copy_in(self._converted(feed))

    def _converted(self, feed: Feed) -> Feed:
        """A feed in the file's names and types."""
        model = self._ports.model
        check_feed(feed, model.inputs, self._ports.batch, model.states)
        arrays = model.to_source(feed)
        return {
            tensor.name: convert(
                arrays[tensor.name], model.inputs[canonical], self._ports.inputs[canonical]
            )
            for canonical, tensor in model.source_inputs.items()
            if canonical in feed
        }

    def _copy_in(self, arrays: Feed) -> None:
        """Copy arrays into the buffers of inputs; bind one where there is none of its shape."""
        for name, array in arrays.items():
            buffer = self._inputs.get(name)
            if buffer is None or buffer.shape != array.shape:
                buffer = self._input_buffer(name, array.shape, array.dtype.name)
                self._inputs[name] = buffer
            np.copyto(buffer, array)
        for name, output in self._outputs.items():
            if output is None:  # else ONNX Runtime keeps the last size, which may be another now
                self._free_output(name)

    def read(self) -> Feed:
        model, have = self._ports.model, self._ports.outputs
        return {
            name: convert(array, have[name], model.outputs[name])
            for name, array in model.from_source(self.read_file()).items()
        }

    def read_file(self) -> Feed:
        """All outputs of the last ``infer``, unconverted, by the file's names."""
        arrays = {}
        if any(buffer is None for buffer in self._outputs.values()):
            values = self._ran_last().get_outputs()
            arrays = {n: v.numpy() for n, v in zip(self._outputs, values, strict=True)}
        for name, buffer in self._outputs.items():
            if buffer is not None:
                arrays[name] = buffer
        return arrays

    def _ran_last(self) -> ort.IOBinding:
        """The binding that ran last."""
        return self._binding


class FeedingStream(OrtStream):
    """Two IOBindings that run in turn, each on the buffers where the other one leaves the states.
    They share all other buffers."""

    def __init__(self, session: ort.InferenceSession, ports: Ports) -> None:
        model, shapes = ports.model, ports.model.source_shapes(ports.batch)
        self._other = session.io_binding()
        self._states: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._fed: dict[str, str] = {}
        for canonical, state in model.states.items():
            name, dtype = model.source_inputs[canonical].name, ports.inputs[canonical].dtype
            one, two = (aligned_empty(shapes[name], dtype) for _ in range(2))
            self._states[name] = one, two
            self._fed[model.source_outputs[state.output].name] = name
        super().__init__(session, ports)
        for name, (one, two) in self._states.items():
            _bind_input(self._binding, name, one)
            _bind_input(self._other, name, two)
        other = _run_call(session, self._other, (self._inputs, self._outputs))
        self._turns = Turns((self.infer, other), self._states)
        self.infer = self._turns.infer

    def _bind_output(self, name: str, spec: TensorSpec) -> np.ndarray | None:
        if name not in self._fed:
            return super()._bind_output(name, spec)
        one, two = self._states[self._fed[name]]
        _bind_output(self._binding, name, two)
        _bind_output(self._other, name, one)
        return two

    def _free_output(self, name: str) -> None:
        super()._free_output(name)
        self._other.bind_output(name, "cpu")

    def _input_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        buffer = super()._input_buffer(name, shape, dtype)
        _bind_input(self._other, name, buffer)
        return buffer

    def _output_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        buffer = super()._output_buffer(name, shape, dtype)
        _bind_output(self._other, name, buffer)
        return buffer

    def bind(self, feed: Feed) -> None:
        arrays = self._converted(feed)
        self._turns.place({name: arrays.pop(name) for name in self._states if name in arrays})
        self._copy_in(arrays)

    def read_file(self) -> Feed:
        left = self._turns.left()
        return {**super().read_file(), **{name: left[fed] for name, fed in self._fed.items()}}

    def _ran_last(self) -> ort.IOBinding:
        return self._other if self._turns.last else self._binding


def _bind_input(binding: ort.IOBinding, name: str, buffer: np.ndarray) -> None:
    shape, address = list(buffer.shape), buffer.ctypes.data
    binding.bind_input(name, "cpu", 0, buffer.dtype, shape, address)


def _bind_output(binding: ort.IOBinding, name: str, buffer: np.ndarray) -> None:
    shape, address = list(buffer.shape), buffer.ctypes.data
    binding.bind_output(name, "cpu", 0, buffer.dtype, shape, address)


def _run_call(
    session: ort.InferenceSession, binding: ort.IOBinding, buffers: object
) -> Callable[[], None]:
    """The cheapest call that runs ``binding``: the C++ method behind ``run_with_iobinding``, whose
    checks concern WebGPU and cost 0.5 µs of 2.5; the public method if the former is hidden.

    ``binding`` holds addresses only. The call itself keeps ``buffers`` and the session alive, for a
    caller that keeps ``stream.infer`` but not the stream.
    """
    inner = getattr(session, "_sess", None)
    inner_binding = getattr(binding, "_iobinding", None)
    if inner is None or inner_binding is None:
        call = partial(session.run_with_iobinding, binding)
    else:
        call = partial(inner.run_with_iobinding, inner_binding, None)
    call.__dict__["keeps"] = (session, buffers)
    return call
