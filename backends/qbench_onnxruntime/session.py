"""A program: one inference session.

Imported while measuring: the standard library, NumPy and onnxruntime only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qbench.kit.adapter import Program, Unsupported
from qbench.kit.feedback import check_states
from qbench.kit.feeds import canonical_specs, check_batch
from qbench.kit.model import UNKNOWN_RANK, Artifact, Feed, RunConfig, TensorSpec
from qbench.kit.operators import EffectivePrecision, Operator, Profile
from qbench.kit.reasons import sentence
from qbench_onnxruntime.options import (
    CudaHints,
    FileFacts,
    device_index,
    hints_of,
    providers,
    session_options,
)
from qbench_onnxruntime.stream import FeedingStream, OrtStream, Ports
from qbench_onnxruntime.tensors import dtype_name

if TYPE_CHECKING:
    import onnxruntime as ort

    from qbench_onnxruntime.cuda_stream import Cuda


class OrtProgram(Program):
    """One session. Streams share it and its weights; ``Run`` is thread-safe.

    ONNX Runtime's Python interface does not report a session's memory on a device.

    Attributes:
        ports: inputs and outputs, by canonical name and by the file's.
    """

    def __init__(self, artifact: Artifact, config: RunConfig, inspect: bool) -> None:
        self.artifact, self.config = artifact, config
        self._inspect = inspect
        self._index = device_index(config.device)
        self._hints = hints_of(config)
        self._providers = providers(config, self._hints, artifact.target.precision)
        facts = FileFacts.read(artifact.path)
        self._cuda = None if self._index is None else self._start_cuda(self._index)
        shapes = artifact.model.source_shapes(config.batch)
        self.session = self._load(session_options(config, self._hints, facts, shapes))
        inputs = _specs(self.session.get_inputs(), facts)
        outputs = _specs(self.session.get_outputs(), facts)
        self.inputs, self.outputs = canonical_specs(artifact.model, inputs, outputs)
        check_batch(self.inputs, self.outputs, config.batch)
        check_states(artifact.model, self.inputs, self.outputs)
        self.ports = Ports(artifact.model, config.batch, self.inputs, self.outputs, outputs)

    def _start_cuda(self, index: int) -> Cuda:
        """Load CUDA's libraries. For inspection, every kernel launch waits, so that the profiler,
        which reads the host's clock, sees the kernel's duration."""
        import onnxruntime

        from qbench.kit.cuda import NoCuda
        from qbench_onnxruntime import gpu
        from qbench_onnxruntime.cuda_stream import Cuda

        if self._inspect:
            os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # read when CUDA starts
        gpu.preload(onnxruntime)
        try:
            gpu.check_libraries(onnxruntime)
        except NoCuda as error:
            raise RuntimeError(str(error)) from error
        return Cuda(gpu.cuda_major(onnxruntime), index)

    def _load(self, options: ort.SessionOptions, graph: bool = True) -> ort.InferenceSession:
        """A session with exactly the requested providers: ONNX Runtime only warns about a provider
        that does not start, and continues without it.

        Args:
            graph: whether a requested CUDA graph is used.

        Raises:
            Unsupported: no such device; a CUDA graph though operators run outside the device.
            ValueError: a hint's value that the provider refuses.
        """
        import onnxruntime

        kept = self._providers
        if not graph:
            (first, given), *others = kept
            kept = [(first, {**given, "enable_cuda_graph": 0}), *others]
        try:
            session = onnxruntime.InferenceSession(
                str(self.artifact.file), options, kept, enable_fallback=0
            )
        except Exception as error:  # onnxruntime has a dozen classes of its own
            if "Invalid device ID" in str(error):
                raise Unsupported(f"there is no {self.config.device} here") from error
            if "parse provider option" in str(error):
                raise ValueError(f"a hint's value: {sentence(error)}") from error
            if "graph capture" in str(error):
                raise Unsupported(
                    "not all operators of this file run on the device, so there is no CUDA graph"
                ) from error
            raise
        wanted = [name for name, _ in self._providers]
        if session.get_providers() != wanted:
            raise RuntimeError(f"requested {wanted}, got {session.get_providers()}")
        return session

    def stream(self) -> OrtStream:
        return self._stream(self.session)

    def _stream(self, session: ort.InferenceSession) -> OrtStream:
        if self._cuda is None:
            feeds_back = bool(self.artifact.model.states)
            return (FeedingStream if feeds_back else OrtStream)(session, self.ports)
        from qbench_onnxruntime.cuda_stream import CudaStream

        transfers = isinstance(self._hints, CudaHints) and self._hints.transfers
        return CudaStream(session, self.ports, self._cuda, transfers)

    def effective(self) -> EffectivePrecision:
        """From the profile of one run. See ``effective.summary``."""
        from qbench_onnxruntime.effective import read_operators, summary

        operators = read_operators(self._of_one_run, *self._first_provider())
        return summary(operators, self.artifact.target.precision, self._index is not None)

    def mismatch(self) -> str | None:
        """Compared by the kernels' names and the shapes of their scales, as the profiler has
        them."""
        from qbench.kit.requested import mismatch
        from qbench_onnxruntime.requested import running_weights

        made = self.artifact.provenance.settings
        excluded = made.get("nodes_to_exclude", ())
        return mismatch(running_weights(self._of_one_run), self.artifact.target, excluded)

    @cached_property
    def _of_one_run(self) -> list[dict[str, Any]]:
        """Events of one inference, without packed weights."""
        feed = self.example or {
            name: np.zeros(spec.at(self.config.batch), spec.dtype)
            for name, spec in self.artifact.model.inputs.items()
        }
        return self._events(feed, calls=1, packed=False)

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Kernels and their mean times, in order of execution."""
        from qbench_onnxruntime.effective import notes_on, with_macs

        unpacked = self._operators(feed, calls=1, packed=False)
        timed = self._operators(feed, calls=1 + runs, packed=True, skip=1)
        if not any(operator.ns for operator in timed):
            raise RuntimeError("onnxruntime's profiler gave no times: all of them are zero")
        notes = ["the profiler counts whole microseconds, rounded down"]
        if self._index is not None:
            notes.append(
                "each kernel launch waits, so a time includes launch and execution; an inference, "
                "which launches ahead, takes less than their sum"
            )
        return Profile(tuple(with_macs(timed, unpacked)), (*notes, *notes_on(timed)))

    def _operators(self, feed: Feed, calls: int, packed: bool, skip: int = 0) -> list[Operator]:
        """Operators from :meth:`_events`. See ``effective.read_operators``."""
        from qbench_onnxruntime.effective import read_operators

        return read_operators(self._events(feed, calls, packed), *self._first_provider(), skip)

    def _first_provider(self) -> tuple[str, bool]:
        """The provider that all operators should run on, and whether it may round to TF32."""
        (first, options), *_ = self._providers
        return first, bool(options.get("use_tf32"))

    def _events(self, feed: Feed, calls: int, packed: bool) -> list[dict[str, Any]]:
        """The profiler's events of ``calls`` inferences in a separate session.

        Args:
            packed: whether kernels pack their weights for speed. Events leave packed weights out of
                a kernel's inputs, so multiply-accumulates are unknown then.
        """
        import tempfile  # not in a process that measures

        if not self._inspect:
            raise RuntimeError("this needs a program opened with inspect=True")
        facts = FileFacts.read(self.artifact.path)
        shapes = self.artifact.model.source_shapes(self.config.batch)
        options = session_options(self.config, self._hints, facts, shapes)
        with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "profile"))
            if not packed:
                options.add_session_config_entry("session.disable_prepacking", "1")
            # replaying a graph leaves no events, and capturing it does not compute
            session = self._load(options, graph=self._index is None)
            stream = self._stream(session)
            stream.bind(feed)
            for _ in range(calls):
                stream.infer()
            return json.loads(Path(session.end_profiling()).read_text())

    def close(self) -> None:
        vars(self).pop("session", None)


def _specs(nodes: Sequence[Any], facts: FileFacts) -> dict[str, TensorSpec]:
    """Specs of a session's inputs or outputs; an unknown size is named ``?``. ONNX Runtime reports
    scalars and tensors of an unknown rank alike."""
    specs = {}
    for node in nodes:
        scale, zero_point = facts.quantized.get(node.name, (None, None))
        shape = tuple("?" if size is None else size for size in node.shape) or UNKNOWN_RANK
        dtype = dtype_name(node.name, node.type)
        specs[node.name] = TensorSpec(dtype, shape, scale=scale, zero_point=zero_point)
    return specs
