"""A stream of inferences on preset inputs and preallocated outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from qbench.kit.feeds import check_feed, convert
from qbench.kit.model import Feed, TensorSpec
from qbench_onnxruntime.session import OrtProgram
from qbench_onnxruntime.tensors import aligned_empty

if TYPE_CHECKING:
    import onnxruntime as ort


class OrtStream:
    """One IOBinding over buffers that stay where they are.

    Attributes:
        infer: the bound call itself, so that a timed call costs no Python frame of ours.
    """

    infer: Callable[[], None]

    def __init__(self, program: OrtProgram, session: ort.InferenceSession) -> None:
        self._program = program
        self._session = session
        self._binding = session.io_binding()
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray | None] = {}
        for name, spec in program.file_outputs.items():
            self._outputs[name] = self._bind_output(name, spec)
        self.infer = _run_call(session, self._binding, (self._inputs, self._outputs))

    def _bind_output(self, name: str, spec: TensorSpec) -> np.ndarray | None:
        """A buffer bound to output ``name``; None if its size is known only after running, in
        which case ONNX Runtime allocates it."""
        shape = [size for size in spec.shape if isinstance(size, int)]
        if len(shape) != len(spec.shape):
            self._binding.bind_output(name, "cpu")
            return None
        return self._output_buffer(name, shape, spec.dtype)

    def _input_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """A buffer bound to input ``name``."""
        buffer = aligned_empty(shape, dtype)
        self._binding.bind_input(name, "cpu", 0, buffer.dtype, list(shape), buffer.ctypes.data)
        return buffer

    def _output_buffer(self, name: str, shape: Sequence[int], dtype: str) -> np.ndarray:
        """A buffer bound to output ``name``."""
        buffer = aligned_empty(shape, dtype)
        self._binding.bind_output(name, "cpu", 0, buffer.dtype, list(shape), buffer.ctypes.data)
        return buffer

    def bind(self, feed: Feed) -> None:
        """Copy ``feed`` (canonical names, card's dtypes and layouts) into the input buffers.

        Raises:
            ValueError: a name, dtype or shape that the model does not take.
        """
        model = self._program.artifact.model
        check_feed(feed, model.inputs, self._program.config.batch)
        arrays = model.to_source(feed)
        for canonical, tensor in model.source_inputs.items():
            want = self._program.inputs[canonical]
            array = convert(arrays[tensor.name], model.inputs[canonical], want)
            buffer = self._inputs.get(tensor.name)
            if buffer is None or buffer.shape != array.shape:
                buffer = self._input_buffer(tensor.name, array.shape, want.dtype)
                self._inputs[tensor.name] = buffer
            np.copyto(buffer, array)

    def read(self) -> Feed:
        """Outputs of the last ``infer``: canonical names, card's dtypes and layouts."""
        model, have = self._program.artifact.model, self._program.outputs
        return {
            name: convert(array, have[name], model.outputs[name])
            for name, array in model.from_source(self.read_file()).items()
        }

    def read_file(self) -> Feed:
        """Every output of the last ``infer`` as it is, by the file's names."""
        arrays = {}
        if any(buffer is None for buffer in self._outputs.values()):
            values = self._binding.get_outputs()
            arrays = {n: v.numpy() for n, v in zip(self._outputs, values, strict=True)}
        for name, buffer in self._outputs.items():
            if buffer is not None:
                arrays[name] = buffer
        return arrays


def _run_call(
    session: ort.InferenceSession, binding: ort.IOBinding, buffers: object
) -> Callable[[], None]:
    """The cheapest call that runs ``binding``: the C++ method behind ``run_with_iobinding``,
    whose checks concern WebGPU and cost 0.5 µs of 2.5; the public method where it is hidden.

    ``binding`` knows only addresses: the call itself holds ``buffers`` and the session, for a
    caller that keeps ``stream.infer`` and lets the stream go.
    """
    inner = getattr(session, "_sess", None)
    inner_binding = getattr(binding, "_iobinding", None)
    if inner is None or inner_binding is None:
        call = partial(session.run_with_iobinding, binding)
    else:
        call = partial(inner.run_with_iobinding, inner_binding, None)
    call.__dict__["keeps"] = (session, buffers)
    return call
