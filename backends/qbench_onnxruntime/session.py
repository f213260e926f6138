"""Running: IOBinding on fixed buffers, streams, programs.

Imported while measuring: the standard library, NumPy and onnxruntime only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Artifact, Feed, RunConfig, SourceTensor, TensorSpec
from qbench.kit.operators import EffectivePrecision, Operator, Profile
from qbench_onnxruntime.options import (
    FileFacts,
    device_index,
    providers,
    session_options,
)
from qbench_onnxruntime.stream import OrtStream
from qbench_onnxruntime.tensors import dtype_name

if TYPE_CHECKING:
    import onnxruntime as ort

    from qbench_onnxruntime.cuda_stream import Cuda


class OrtProgram:
    """One session. Streams share it, and with it the weights; ``Run`` is thread-safe.

    What memory a session holds on a device ONNX Runtime's Python interface does not tell.

    Attributes:
        inputs, outputs: by canonical name, with the file's dtypes.
        file_outputs: by the file's name, every output, also those the card leaves out.
    """

    def __init__(self, artifact: Artifact, config: RunConfig, inspect: bool) -> None:
        self.artifact, self.config = artifact, config
        self._inspect = inspect
        self._index = device_index(config.device)
        self._providers = providers(config, artifact.target.precision)
        facts = FileFacts.read(artifact.path)
        if self._index is not None:
            self._cuda = self._start_cuda(self._index)
        self.session = self._load(session_options(config, facts))
        model = artifact.model
        file_inputs = _specs(self.session.get_inputs(), facts)
        self.file_outputs = _specs(self.session.get_outputs(), facts)
        self.inputs = _canonical("input", model.source_inputs, file_inputs)
        self.outputs = _canonical("output", model.source_outputs, self.file_outputs)
        _check_batch(self.inputs, self.outputs, config.batch, bool(facts.batch_symbols))

    def _start_cuda(self, index: int) -> Cuda:
        """CUDA's libraries, loaded. Kernels that are inspected are waited for one by one, so that
        the profiler, which reads the host's clock, sees how long they take."""
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
        """A session of the providers asked for, and of no others: ONNX Runtime goes on without
        one that does not start, with no more than a warning.

        Args:
            graph: whether to keep to a CUDA graph, where one is asked for.

        Raises:
            Unsupported: a device that is not there; a CUDA graph of operators that are not all on
                the device.
            ValueError: a hint with a value that the provider does not take.
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
                raise ValueError(f"a hint's value: {error}") from error
            if "graph capture" in str(error):
                raise Unsupported(
                    "not all operators of this file run on the device, so there is no CUDA graph"
                ) from error
            raise
        wanted = [name for name, _ in self._providers]
        if session.get_providers() != wanted:
            raise RuntimeError(f"asked for {wanted}, got {session.get_providers()}")
        return session

    def stream(self) -> OrtStream:
        return self._stream(self.session)

    def _stream(self, session: ort.InferenceSession) -> OrtStream:
        if self._index is None:
            return OrtStream(self, session)
        from qbench_onnxruntime.cuda_stream import CudaStream

        return CudaStream(self, session, self._cuda, self.config.hints.get("transfers", True))

    def effective(self) -> EffectivePrecision:
        """Run once on zeros and read the profile. See ``effective.summary``."""
        from qbench_onnxruntime.effective import summary

        zeros = {
            name: np.zeros(spec.sized(self.config.batch), spec.dtype)
            for name, spec in self.artifact.model.inputs.items()
        }
        operators = self._operators(zeros, calls=1, packed=False)
        return summary(operators, self.artifact.target.precision, self._index is not None)

    def profile(self, feed: Feed, runs: int) -> Profile:
        """Kernels and their times, in the order of execution. See
        ``qbench.kit.adapter.Program``."""
        from qbench_onnxruntime.effective import notes_on, with_macs

        unpacked = self._operators(feed, calls=1, packed=False)
        timed = self._operators(feed, calls=1 + runs, packed=True, skip=1)
        if not any(operator.ns for operator in timed):
            raise RuntimeError("onnxruntime's profiler gave no times: all of them are zero")
        notes = ["the profiler counts whole microseconds, rounded down"]
        if self._index is not None:
            notes.append(
                "each kernel is waited for, so a time is that of its launch and its execution; "
                "inference, where launching runs ahead, takes less than their sum"
            )
        return Profile(tuple(with_macs(timed, unpacked)), (*notes, *notes_on(timed)))

    def _operators(self, feed: Feed, calls: int, packed: bool, skip: int = 0) -> list[Operator]:
        """What :meth:`_events` tells. See ``effective.read_operators``."""
        from qbench_onnxruntime.effective import read_operators

        (first, options), *_ = self._providers
        tf32 = bool(options.get("use_tf32"))
        return read_operators(self._events(feed, calls, packed), first, skip, tf32)

    def _events(self, feed: Feed, calls: int, packed: bool) -> list[dict[str, Any]]:
        """The profiler's events of ``calls`` inferences in a session of their own.

        Args:
            packed: whether kernels pack their weights for speed. Packed ones are missing from
                the inputs that are noted, so that nobody can tell the multiply-accumulates.
        """
        import tempfile  # not in a process that measures

        if not self._inspect:
            raise RuntimeError("this needs a program that was opened with inspect=True")
        options = session_options(self.config, FileFacts.read(self.artifact.path))
        with tempfile.TemporaryDirectory(prefix="qbench-ort-") as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "profile"))
            if not packed:
                options.add_session_config_entry("session.disable_prepacking", "1")
            # a graph is replayed without events, and what captures it does not compute
            session = self._load(options, graph=self._index is None)
            stream = self._stream(session)
            stream.bind(feed)
            for _ in range(calls):
                stream.infer()
            return json.loads(Path(session.end_profiling()).read_text())

    def __enter__(self) -> OrtProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        if hasattr(self, "session"):
            del self.session


def _specs(nodes: Sequence[Any], facts: FileFacts) -> dict[str, TensorSpec]:
    """What a session says of its inputs or outputs; a size it does not know is named ``?``."""
    specs = {}
    for node in nodes:
        scale, zero_point = facts.quantized.get(node.name, (None, None))
        shape = tuple("?" if size is None else size for size in node.shape)
        dtype = dtype_name(node.name, node.type)
        specs[node.name] = TensorSpec(dtype, shape, scale=scale, zero_point=zero_point)
    return specs


def _canonical(
    kind: str, names: Mapping[str, SourceTensor], specs: Mapping[str, TensorSpec]
) -> dict[str, TensorSpec]:
    result = {}
    for canonical, tensor in names.items():
        if tensor.name not in specs:
            have = ", ".join(specs)
            raise ValueError(f"the file has no {kind} '{tensor.name}'. It has: {have}.")
        spec = specs[tensor.name]
        result[canonical] = TensorSpec(
            spec.dtype, spec.shape, tensor.layout, spec.scale, spec.zero_point
        )
    if kind == "input" and (left := set(specs) - {t.name for t in names.values()}):
        raise ValueError(f"the model card leaves out the file's input '{left.pop()}'")
    return result


def _check_batch(
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
    batch: int,
    free: bool,
) -> None:
    for spec in inputs.values():
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] != batch:
            raise Unsupported(f"the file is fixed at batch {spec.shape[0]}")
    for name, spec in outputs.items():
        first = spec.shape[0] if spec.shape else batch
        if free and isinstance(first, int) and first != batch:
            raise Unsupported(
                f"output '{name}' stays at batch {first} when the inputs take {batch}"
            )
