"""Engines that run: on fakes of tensorrt (10 and 11) and of CUDA, whose device does nothing until
somebody waits for it. Expected numbers come from ONNX Runtime on the same file, expected times from
the fake device's clock."""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fake_cuda
import fake_nvidia
import fake_tensorrt
import numpy as np
import onnx
import pytest
from fake_cuda import cudaError_t
from onnx import TensorProto, helper
from paths import FIXTURES, ROOT

from qbench.kit.adapter import Unsupported
from qbench.kit.model import (
    Artifact,
    Feed,
    Model,
    PrepareTarget,
    Provenance,
    RunConfig,
    SourceTensor,
    TensorSpec,
)
from qbench.testing.conformance import AdapterConformance
from qbench_tensorrt.io import Io

SIGNATURES = FIXTURES / "cuda-bindings" / "12.9.10.json"
SPIN, BLOCKING = 1, 4


@pytest.fixture(params=["10", "11"])
def nvidia(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake tensorrt of both versions, on a fresh fake device."""
    fake_cuda.install(monkeypatch)
    trt = fake_tensorrt.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """By version of TensorRT, variables that let a process find the fakes."""
    return {
        full: fake_nvidia.environment(tmp_path_factory.mktemp("nvidia"), version)
        for version, full in fake_tensorrt.VERSIONS.items()
    }


class TestConformance(AdapterConformance):
    target = "qbench_tensorrt:Backend"
    device = "cuda:0"

    @pytest.fixture(autouse=True)
    def machine(
        self, nvidia: Any, machines: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For processes that the tests start, too."""
        for name, value in machines[nvidia.__version__].items():
            monkeypatch.setenv(name, value)
        nvidia.__version__ += fake_nvidia.MARK


# --------------------------------------------------------------------------- small models


def linear(folder: Path, batch: int | str = "N", features: int = 12) -> Model:
    """``scores = image @ weights``, and ``image`` doubled, which the card leaves out."""
    weights = np.random.default_rng(3).normal(size=(features, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", "weights"], ["scores"]),
            helper.make_node("Add", ["image", "image"], ["doubled"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, features])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5]),
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, [batch, features]),
        ],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    inputs = {"image": TensorSpec("float32", (batch, features))}
    outputs = {"scores": TensorSpec("float32", (batch, 5))}
    return model(folder, graph, inputs, outputs)


def same(folder: Path, types: Mapping[str, int], cards: Mapping[str, str]) -> Model:
    """For each type an input that comes out as it went in, but for its sign or so."""
    nodes, ins, outs = [], [], []
    for name, kind in types.items():
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"]))
        ins.append(helper.make_tensor_value_info(name, kind, ["N", 4]))
        outs.append(helper.make_tensor_value_info(f"{name}_out", kind, ["N", 4]))
    graph = helper.make_graph(nodes, "same", ins, outs)
    inputs = {name: TensorSpec(card, ("N", 4)) for name, card in cards.items()}
    outputs = {f"{name}_out": TensorSpec(card, ("N", 4)) for name, card in cards.items()}
    return model(folder, graph, inputs, outputs)


def model(
    folder: Path,
    graph: onnx.GraphProto,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
) -> Model:
    """The file, and a card whose names are the file's."""
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    return Model(
        name=graph.name,
        format="onnx",
        path=folder / "model.onnx",
        digest="0" * 64,
        task="image-classification",
        inputs=inputs,
        outputs=outputs,
        source_inputs={name: SourceTensor(name) for name in inputs},
        source_outputs={name: SourceTensor(name) for name in outputs},
    )


def compiled(source: Model, batch: int = 1, device: str = "cuda:0") -> Artifact:
    """What compiling leaves of a model's file, as a folder beside it."""
    from qbench_tensorrt.build import compile_engine

    target = PrepareTarget("fp32", device="cuda")
    folder = source.path.parent
    described = onnx.load(source.path).graph
    Io(_described(described.input), _described(described.output)).write(folder)
    portable = Artifact(folder, source, target, Provenance("model.onnx"))
    out = folder / f"engine-{batch}"
    out.mkdir()
    made = compile_engine(portable, RunConfig(device, batch=batch), folder / "kept", out)
    return Artifact(out, source, target, made)


def _described(values: Any) -> dict[str, TensorSpec]:
    specs = {}
    for value in values:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value or d.dim_param or "?" for d in kind.shape.dim)
        specs[value.name] = TensorSpec(helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
    return specs


def opened(artifact: Artifact, batch: int = 1, streams: int = 1, **hints: Any) -> Any:
    from qbench_tensorrt.session import TrtProgram

    return TrtProgram(artifact, RunConfig("cuda:0", batch=batch, streams=streams, hints=hints))


def images(batch: int, seed: int = 0, features: int = 12) -> Feed:
    values = np.random.default_rng(seed).normal(size=(batch, features))
    return {"image": values.astype(np.float32)}


def expected(source: Model, feed: Feed) -> Feed:
    """By ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(source.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feed)), strict=True))  # type: ignore[arg-type]


# --------------------------------------------------------------------------- the fake of CUDA


def offered() -> Iterator[str]:
    return (name for name in vars(fake_cuda) if name.startswith("cuda"))


def test_the_fake_offers_nothing_that_the_real_bindings_lack() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    for name in offered():
        there, here = getattr(real, name), getattr(fake_cuda, name)
        if inspect.isfunction(here):
            words = _parameters(there.__doc__.strip().splitlines()[0])
            assert words == list(inspect.signature(here).parameters), name
        elif isinstance(here, int):
            assert int(there) == here, name
        elif issubclass(here, int):
            for member in here:
                assert int(getattr(there, member.name)) == member, member.name
    for member in cudaError_t:
        _, text = real.cudaGetErrorString(getattr(real.cudaError_t, member.name))
        assert fake_cuda.cudaGetErrorString(member)[1] == text


def test_its_calls_are_those_of_cuda_12_too() -> None:
    """``12.9.10.json``: first lines of the real docstrings, read off that version."""
    real = json.loads(SIGNATURES.read_text())["signatures"]
    for name in offered():
        if inspect.isfunction(getattr(fake_cuda, name)):
            words = list(inspect.signature(getattr(fake_cuda, name)).parameters)
            assert words == _parameters(real[name]), name


def _parameters(line: str) -> list[str]:
    """Names in a signature such as ``cudaSetDevice(int device)``."""
    inside = line.partition("(")[2].rpartition(")")[0]
    return [re.sub(r":.*", "", part).split()[-1] for part in inside.split(",") if part]


def test_the_adapter_calls_nothing_that_the_real_bindings_lack() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    folder = ROOT / "backends" / "qbench_tensorrt"
    used = {
        word
        for file in folder.glob("*.py")
        for word in re.findall(r"runtime\.(cuda\w+(?:\.\w+)?)", file.read_text())
    }
    assert {"cudaGraphLaunch", "cudaMemcpyAsync"} <= used
    for word in used:
        name, _, member = word.partition(".")
        assert hasattr(real, name), name
        assert not member or hasattr(getattr(real, name), member), word


@pytest.mark.parametrize(
    "wait", ["cudaStreamSynchronize", "cudaEventSynchronize", "cudaEventQuery"]
)
def test_work_that_nobody_waits_for_is_not_done(wait: str) -> None:
    fake_cuda.reset()
    done: list[int] = []
    _, stream = fake_cuda.cudaStreamCreateWithFlags(fake_cuda.cudaStreamNonBlocking)
    _, event = fake_cuda.cudaEventCreate()
    fake_cuda.enqueue(stream, lambda: done.append(1))
    fake_cuda.cudaEventRecord(event, stream)
    assert not done
    assert fake_cuda.leaks() == ["stream", "event"]
    waited_for = stream if wait == "cudaStreamSynchronize" else event
    assert getattr(fake_cuda, wait)(waited_for) == (cudaError_t.cudaSuccess,)
    assert done == [1]
    fake_cuda.cudaEventDestroy(event)
    fake_cuda.cudaStreamDestroy(stream)
    assert fake_cuda.leaks() == []


# --------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("transfers", [True, False])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_those_of_onnxruntime(
    nvidia: Any, tmp_path: Path, batch: int, graph: bool, transfers: bool
) -> None:
    source = linear(tmp_path)
    artifact = compiled(source, batch)
    with opened(artifact, batch, cuda_graph=graph, transfers=transfers) as program:
        stream = program.stream()
        for seed in range(3):
            feed = images(batch, seed)
            stream.bind(feed)
            feed["image"][:], kept = 0, feed["image"].copy()
            stream.infer()
            want = expected(source, {"image": kept})
            np.testing.assert_allclose(stream.read()["scores"], want["scores"], rtol=1e-5)
            every = stream.read_file()
            assert set(every) == {"scores", "doubled"}, "those that the card leaves out, too"
            np.testing.assert_allclose(every["doubled"], want["doubled"], rtol=1e-5)
        assert list(stream.read()) == ["scores"]


def test_binding_leaves_the_last_outputs_alone(nvidia: Any, tmp_path: Path) -> None:
    artifact = compiled(linear(tmp_path))
    for transfers in (True, False):
        with opened(artifact, transfers=transfers) as program:
            stream = program.stream()
            stream.bind(images(1))
            stream.infer()
            first = stream.read()["scores"]
            stream.bind(images(1, seed=1))
            np.testing.assert_array_equal(stream.read()["scores"], first)
            stream.infer()
            assert not np.array_equal(stream.read()["scores"], first)


def test_what_is_read_before_the_first_call_is_no_number(nvidia: Any, tmp_path: Path) -> None:
    artifact = compiled(linear(tmp_path))
    for transfers in (True, False):
        with opened(artifact, transfers=transfers) as program:
            stream = program.stream()
            stream.bind(images(1))
            assert np.isnan(stream.read()["scores"]).all()


def test_outputs_outlive_the_program(nvidia: Any, tmp_path: Path) -> None:
    source = linear(tmp_path)
    with opened(compiled(source)) as program:
        stream = program.stream()
        stream.bind(images(1))
        stream.infer()
        scores = stream.read()["scores"]
    np.testing.assert_allclose(scores, expected(source, images(1))["scores"], rtol=1e-5)
    with pytest.raises(AttributeError):
        stream.infer()


def test_types_pass_through(nvidia: Any, tmp_path: Path) -> None:
    kinds = {
        "long": (TensorProto.INT64, "int64", [[1 << 40, -3, 0, 7]]),
        "flag": (TensorProto.BOOL, "bool", [[True, False, True, True]]),
        "small": (TensorProto.INT8, "int8", [[-128, 127, 0, 5]]),
        "half": (TensorProto.FLOAT16, "float32", [[0.5, -2, 65504, 1e-3]]),
        "narrow": (TensorProto.INT32, "int64", [[1, 2, 3, 4]]),
    }
    source = same(
        tmp_path,
        {name: kind for name, (kind, _, _) in kinds.items()},
        {name: card for name, (_, card, _) in kinds.items()},
    )
    feed = {name: np.array(values, card) for name, (_, card, values) in kinds.items()}
    with opened(compiled(source)) as program:
        stream = program.stream()
        stream.bind(feed)
        stream.infer()
        outputs = stream.read()
        assert program.inputs["half"].dtype == "float16"
        for name, array in feed.items():
            assert outputs[f"{name}_out"].dtype == array.dtype, name
            np.testing.assert_allclose(outputs[f"{name}_out"], array, rtol=1e-3, err_msg=name)
        with pytest.raises(ValueError, match="narrow"):
            stream.bind({**feed, "narrow": np.array([[1 << 40, 0, 0, 0]])})


def test_bfloat16_goes_in_and_out_as_float32(nvidia: Any, tmp_path: Path) -> None:
    """Rounded to its nearest neighbour, ties to even: 8 bits of a significand are kept."""
    source = same(tmp_path, {"x": TensorProto.BFLOAT16}, {"x": "float32"})
    given = np.array([[1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.nan]], np.float32)
    with opened(compiled(source)) as program:
        assert program.inputs["x"].dtype == "bfloat16"
        stream = program.stream()
        stream.bind({"x": given})
        stream.infer()
        got = stream.read()["x_out"]
    np.testing.assert_array_equal(got, np.array([[1.0, 1.0, 1 + 2**-6, np.nan]], np.float32))


def test_what_does_not_fit_is_refused(nvidia: Any, tmp_path: Path) -> None:
    with opened(compiled(linear(tmp_path))) as program:
        stream = program.stream()
        with pytest.raises(ValueError, match="image"):
            stream.bind(images(2))
        with pytest.raises(ValueError, match="image"):
            stream.bind(images(1, features=11))
        with pytest.raises(ValueError, match="other"):
            stream.bind({"other": images(1)["image"]})


def test_streams_do_not_mix(nvidia: Any, tmp_path: Path) -> None:
    source = linear(tmp_path)
    with opened(compiled(source), streams=2) as program:
        streams = [program.stream(), program.stream()]
        for seed, stream in enumerate(streams):
            stream.bind(images(1, seed))
        threads = [threading.Thread(target=stream.infer) for stream in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, stream in enumerate(streams):
            want = expected(source, images(1, seed))["scores"]
            np.testing.assert_allclose(stream.read()["scores"], want, rtol=1e-5)


def test_the_second_device_is_used_from_any_thread(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread begins with device 0, on which a stream of device 1 is none."""
    from qbench_tensorrt.session import TrtProgram

    monkeypatch.setenv("QBENCH_FAKE_CUDA_DEVICES", "2")
    fake_cuda.reset()
    source = linear(tmp_path)
    artifact = compiled(source, device="cuda:1")
    failures: list[BaseException] = []

    def infer(stream: Any) -> None:
        try:
            stream.infer()
        except BaseException as error:
            failures.append(error)

    with TrtProgram(artifact, RunConfig("cuda:1", streams=2)) as program:
        stream = program.stream()
        stream.bind(images(1))
        thread = threading.Thread(target=infer, args=(stream,))
        thread.start()
        thread.join()
        assert not failures
        assert fake_cuda.device_bytes(1) > 0
        assert fake_cuda.device_bytes(0) == 0
        want = expected(source, images(1))["scores"]
        np.testing.assert_allclose(stream.read()["scores"], want, rtol=1e-5)


# --------------------------------------------------------------------------- how it is called


@pytest.mark.parametrize(
    ("hints", "calls"),
    [
        ({}, ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaMemcpyAsync"]),
        ({"cuda_graph": False}, ["cudaMemcpyAsync", "cudaMemcpyAsync"]),
        ({"transfers": False}, ["cudaGraphLaunch"]),
        ({"transfers": False, "cuda_graph": False}, []),
    ],
)
def test_a_call_is_copies_launch_and_one_wait(
    nvidia: Any, tmp_path: Path, hints: dict[str, Any], calls: list[str]
) -> None:
    with opened(compiled(linear(tmp_path)), **hints) as program:
        stream = program.stream()
        stream.bind(images(1))
        before = len(fake_cuda.calls())
        stream.infer()
        assert fake_cuda.calls()[before:] == [*calls, "cudaStreamSynchronize"]


def test_a_call_that_forgot_to_wait_would_be_seen(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(compiled(linear(tmp_path))) as program:
        monkeypatch.setattr(
            fake_cuda, "cudaStreamSynchronize", lambda stream: (cudaError_t.cudaSuccess,)
        )
        stream = program.stream()
        stream.bind(images(1))
        stream.infer()
        assert np.isnan(stream.read()["scores"]).all() or (stream.read()["scores"] == 0).all()


@pytest.mark.parametrize(
    "step", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_what_cannot_be_recorded_is_launched_kernel_by_kernel(
    nvidia: Any, tmp_path: Path, step: str
) -> None:
    source = linear(tmp_path)
    with opened(compiled(source)) as program:
        fake_cuda.fail(step, cudaError_t.cudaErrorStreamCaptureUnsupported)
        stream = program.stream()
        assert "each kernel by itself" in stream.note
        assert "cudaErrorStreamCaptureUnsupported" in stream.note
        stream.bind(images(1))
        stream.infer()
        want = expected(source, images(1))["scores"]
        np.testing.assert_allclose(stream.read()["scores"], want, rtol=1e-5)
        assert "cudaGraphLaunch" not in fake_cuda.calls()
        assert "as one CUDA graph" in program.stream().note, "the next one can be recorded"
    assert fake_cuda.leaks() == []


def test_an_engine_that_waits_while_it_is_recorded_is_launched_kernel_by_kernel(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = nvidia.IExecutionContext.execute_async_v3

    def waits(context: Any, stream_handle: int) -> bool:
        done = execute(context, stream_handle)
        return fake_cuda.cudaStreamSynchronize(stream_handle)[0] == 0 and done

    monkeypatch.setattr(nvidia.IExecutionContext, "execute_async_v3", waits)
    source = linear(tmp_path)
    with opened(compiled(source)) as program:
        stream = program.stream()
        assert "each kernel by itself" in stream.note
        stream.bind(images(1))
        stream.infer()
        want = expected(source, images(1))["scores"]
        np.testing.assert_allclose(stream.read()["scores"], want, rtol=1e-5)


@pytest.mark.parametrize("graph", [True, False])
def test_segments_are_those_of_the_devices_clock(nvidia: Any, tmp_path: Path, graph: bool) -> None:
    with opened(compiled(linear(tmp_path)), cuda_graph=graph) as program:
        stream = program.stream()
        stream.bind(images(1))
        stream.infer()
        scores = stream.read()["scores"]
        series = stream.segments(5)
        assert {name: array.shape for name, array in series.items()} == dict.fromkeys(
            ("h2d", "compute", "d2h", "enqueue"), (5,)
        )
        given, answered = 12 * 4, 256 + 12 * 4  # each tensor begins at a multiple of 256 bytes
        np.testing.assert_allclose(series["h2d"], fake_cuda.COPY_NS + given)
        np.testing.assert_allclose(series["compute"], fake_cuda.KERNEL_NS)
        np.testing.assert_allclose(series["d2h"], fake_cuda.COPY_NS + answered)
        assert (series["enqueue"] > 0).all()
        np.testing.assert_array_equal(stream.read()["scores"], scores)
    assert fake_cuda.leaks() == []


def test_data_that_stays_on_the_device_has_no_transfers(nvidia: Any, tmp_path: Path) -> None:
    with opened(compiled(linear(tmp_path)), transfers=False) as program:
        stream = program.stream()
        stream.bind(images(1))
        series = stream.segments(3)
        assert set(series) == {"compute", "enqueue"}
        np.testing.assert_allclose(series["compute"], fake_cuda.KERNEL_NS)


@pytest.mark.parametrize(("spin", "flag"), [(True, SPIN), (False, BLOCKING)])
def test_waiting_is_a_setting_of_the_process(
    nvidia: Any, tmp_path: Path, spin: bool, flag: int
) -> None:
    with opened(compiled(linear(tmp_path)), spin=spin):
        assert fake_cuda.flags() == flag


def test_what_runs_is_told_with_how_it_is_launched(nvidia: Any, tmp_path: Path) -> None:
    """The product's work: 12 x 5 multiply-accumulates."""
    artifact = compiled(linear(tmp_path))
    for graph, how in ((True, "as one CUDA graph"), (False, "each kernel by itself")):
        with opened(artifact, cuda_graph=graph) as program:
            told = program.effective()
            assert told.precision == "fp32"
            assert told.macs == {"fp32": 60}
            assert any(how in note for note in told.notes)
            profile = program.profile(images(1), runs=3)
            assert sum(operator.ns or 0 for operator in profile.operators) > 0
    assert fake_cuda.leaks() == []


# --------------------------------------------------------------------------- memory


def test_device_memory_is_told_by_purpose(nvidia: Any, tmp_path: Path) -> None:
    with opened(compiled(linear(tmp_path)), streams=2) as program:
        for _ in range(2):
            program.stream()
        told = program.device_memory_bytes()
        assert told["io"] == fake_cuda.device_bytes()
        assert told["weights"] == 12 * 5 * 4
        assert told["activations"] == 2 * program.engine.device_memory_size_v2


def test_launches_are_not_annotated_in_detail(nvidia: Any, tmp_path: Path) -> None:
    """An engine that tells its layers in detail would; TensorRT says that this slows launches."""
    with opened(compiled(linear(tmp_path))) as program:
        level = program.stream().context.nvtx_verbosity
    assert level == nvidia.ProfilingVerbosity.LAYER_NAMES_ONLY


def test_memory_is_given_back_only_when_the_device_is_done_with_it(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench_tensorrt import memory

    done: list[str] = []
    with opened(compiled(linear(tmp_path))) as program:
        for name in ("cudaStreamSynchronize", "cudaFree", "cudaFreeHost"):
            real = getattr(memory.runtime, name)
            monkeypatch.setattr(
                memory.runtime, name, lambda *a, n=name, f=real: (done.append(n), f(*a))[1]
            )
        stream = program.stream()
        done.clear()
        stream.close()
    assert done[0] == "cudaStreamSynchronize"
    assert {"cudaFree", "cudaFreeHost"} <= set(done)


def test_the_logger_of_the_plugins_lives_on(nvidia: Any, tmp_path: Path) -> None:
    """Nothing holds it but a bare address (``nvinfer1::plugin::gLogger``)."""
    with opened(compiled(linear(tmp_path))) as program:
        log = weakref.ref(program.log)
    del program
    gc.collect()
    assert log() is not None


def test_all_is_given_back(nvidia: Any, tmp_path: Path) -> None:
    with opened(compiled(linear(tmp_path)), streams=3) as program:
        for _ in range(3):
            stream = program.stream()
            stream.bind(images(1))
            stream.infer()
            stream.segments(2)
        assert fake_cuda.leaks()
    assert fake_cuda.leaks() == []


@pytest.mark.parametrize(
    "step",
    ["cudaStreamCreateWithFlags", "cudaMalloc", "cudaMallocHost", "cudaMemcpyAsync"],
)
def test_a_failure_on_the_way_leaves_nothing_behind(nvidia: Any, tmp_path: Path, step: str) -> None:
    from qbench_tensorrt.memory import CudaError

    with opened(compiled(linear(tmp_path))) as program:
        fake_cuda.fail(step, cudaError_t.cudaErrorInvalidValue)
        with pytest.raises(CudaError, match=rf"{step}: invalid argument \(cudaErrorInvalidValue\)"):
            program.stream()
        assert fake_cuda.leaks() == []


def test_a_full_device_is_out_of_memory(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench.kit.reasons import explain

    monkeypatch.setenv("QBENCH_FAKE_CUDA_MEMORY", "256")
    fake_cuda.reset()
    with opened(compiled(linear(tmp_path, features=100))) as program:
        with pytest.raises(MemoryError, match="cudaErrorMemoryAllocation") as caught:
            program.stream()
        assert explain(caught.value).status == "oom"
    assert fake_cuda.leaks() == []


def test_a_context_without_memory_is_out_of_memory(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = compiled(linear(tmp_path))
    with opened(artifact, streams=2) as program:

        def full(engine: Any) -> None:
            program.log.log(nvidia.ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size ...)")

        monkeypatch.setattr(nvidia.ICudaEngine, "create_execution_context", full)
        program.stream()
        with pytest.raises(MemoryError, match="OutOfMemory"):
            program.stream()


# --------------------------------------------------------------------------- what fails


@pytest.mark.parametrize("graph", [True, False])
def test_errors_of_launched_work_are_raised_by_the_call(
    nvidia: Any, tmp_path: Path, graph: bool
) -> None:
    from qbench_tensorrt.memory import CudaError

    with opened(compiled(linear(tmp_path)), cuda_graph=graph) as program:
        stream = program.stream()
        stream.bind(images(1))
        fake_cuda.fault(cudaError_t.cudaErrorIllegalAddress)
        with pytest.raises(CudaError, match="an illegal memory access") as caught:
            stream.infer()
        assert caught.value.name == "cudaErrorIllegalAddress"
        with pytest.raises(CudaError):
            stream.infer()
        with pytest.raises(CudaError):
            stream.segments(1)


def test_an_engine_that_does_not_start_says_why(
    nvidia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call answers False, and tells the reason to the log."""
    execute, refusing = nvidia.IExecutionContext.execute_async_v3, threading.Event()
    with opened(compiled(linear(tmp_path)), cuda_graph=False) as program:

        def refuses(context: Any, stream_handle: int) -> bool:
            if refusing.is_set():
                program.log.log(nvidia.ILogger.ERROR, "Error Code 3: address is not aligned")
                return False
            return execute(context, stream_handle)

        monkeypatch.setattr(nvidia.IExecutionContext, "execute_async_v3", refuses)
        stream = program.stream()
        stream.bind(images(1))
        refusing.set()
        for call in (stream.infer, program.stream):
            with pytest.raises(RuntimeError, match=r"execute_async_v3: .*address is not aligned"):
                call()


def test_a_device_that_failed_while_recording_is_no_matter_of_graphs(
    nvidia: Any, tmp_path: Path
) -> None:
    from qbench_tensorrt.memory import CudaError

    with opened(compiled(linear(tmp_path))) as program:
        fake_cuda.fault(cudaError_t.cudaErrorECCUncorrectable)
        with pytest.raises(CudaError, match="cudaErrorECCUncorrectable"):
            program.stream()


def test_an_engine_of_another_batch_is_unsupported(nvidia: Any, tmp_path: Path) -> None:
    artifact = compiled(linear(tmp_path), batch=4)
    with pytest.raises(Unsupported, match=r"for \[4, 12\] as 'image', not \[1, 12\]"):
        opened(artifact, batch=1)


def test_an_engine_of_a_fixed_file_is_for_its_batch(nvidia: Any, tmp_path: Path) -> None:
    artifact = compiled(linear(tmp_path, batch=2), batch=2)
    with opened(artifact, batch=2) as program:
        assert program.inputs["image"].shape == (2, 12)
    with pytest.raises(Unsupported, match=r"for \[2, 12\] as 'image', not \[1, 12\]"):
        opened(artifact, batch=1)


def test_an_output_that_stays_at_one_item_is_unsupported(nvidia: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["image"], ["scores"], axes=[0], keepdims=1)],
        "most",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 12])],
    )
    spec = {"image": TensorSpec("float32", ("N", 12))}
    source = model(tmp_path, graph, spec, {"scores": TensorSpec("float32", ("N", 12))})
    with opened(compiled(source)) as program:
        assert program.outputs["scores"].shape == (1, 12)
    with pytest.raises(Unsupported, match="'scores' stays at batch 1"):
        opened(compiled(source, batch=2), batch=2)


def test_an_output_of_unknown_size_is_unsupported(nvidia: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["image"], ["where"])],
        "where",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 12])],
        [helper.make_tensor_value_info("where", TensorProto.INT64, [2, "found"])],
    )
    spec = {"image": TensorSpec("float32", ("N", 12))}
    source = model(tmp_path, graph, spec, {"where": TensorSpec("int64", (2, "found"))})
    with pytest.raises(Unsupported, match="'where' depends on the input values"):
        opened(compiled(source))


def test_a_damaged_engine_says_what_tensorrt_says(nvidia: Any, tmp_path: Path) -> None:
    artifact = compiled(linear(tmp_path))
    artifact.file.write_bytes(b"no engine")
    with pytest.raises(RuntimeError, match="Serialization"):
        opened(artifact)


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        ({"no_such_hint": 1}, "no hint 'no_such_hint'.*Known: builder_optimization_level, cuda_gr"),
        ({"cuda_graph": 1}, "cuda_graph is true or false, not 1"),
        ({"workspace_mb": 0}, "workspace_mb is a whole number from 1 up, not 0"),
        ({"builder_optimization_level": 6}, "from 0 to 5, not 6"),
        ({"builder_optimization_level": True}, "from 0 to 5, not True"),
    ],
)
def test_hints_are_checked(hints: dict[str, Any], says: str) -> None:
    options = importlib.import_module("qbench_tensorrt.options")
    with pytest.raises(ValueError, match=says):
        options.hints_of(RunConfig("cuda:0", hints=hints))


def test_other_devices_and_threads_are_unsupported(nvidia: Any, tmp_path: Path) -> None:
    from qbench_tensorrt.session import TrtProgram

    artifact = compiled(linear(tmp_path))
    with pytest.raises(Unsupported, match="not on cpu"):
        TrtProgram(artifact, RunConfig())
    with pytest.raises(Unsupported, match="threads to 1"):
        TrtProgram(artifact, RunConfig("cuda:0", threads=2))


def test_a_measuring_process_imports_the_runtime_alone() -> None:
    code = (
        "import sys, types, numpy, fake_cuda; before = set(sys.modules);"
        "cuda, bindings = types.ModuleType('cuda'), types.ModuleType('cuda.bindings');"
        "bindings.runtime = fake_cuda; trt = types.ModuleType('tensorrt'); trt.ILogger = object;"
        "sys.modules.update({'cuda': cuda, 'cuda.bindings': bindings, 'tensorrt': trt});"
        "import qbench_tensorrt.session;"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=True,
    )
    imported = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert imported == {"cuda", "qbench", "qbench_tensorrt", "tensorrt"}
