"""ONNX Runtime on CUDA devices, as far as it goes without one.

The driver is ``fake_libcuda``, the package a fake that processes of probes import, its CUDA
provider a library that is compiled here and needs what it is told to need. Where onnxruntime-gpu
is installed, its real provider runs on a stand-in for CUDA. tests/gpu has what needs a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_libcuda
import numpy as np
import pytest
import stand_in_cuda
from paths import FIXTURES, TESTS

from qbench.kit.adapter import Ready, Unavailable, Unsupported
from qbench.kit.model import Artifact, Model, PrepareTarget, RunConfig, SourceTensor
from qbench.kit.precisions import PRECISIONS
from qbench.run.workers.environments import backends_of
from qbench.run.workers.registry import Registry, package_versions
from qbench.spec.precisions import complete_options
from qbench.spec.suite import Environment
from qbench_onnxruntime import Backend, gpu
from qbench_onnxruntime.effective import read_operators, summary
from qbench_onnxruntime.options import FileFacts, hints_of, providers, session_options
from qbench_onnxruntime.precisions import CUDA_SINCE, NEVER_ON_CUDA

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

TESTS = TESTS
ZOO = TESTS.parent / "suites" / "zoo"
PROFILE = FIXTURES / "onnxruntime-cuda-profile.json"
"""Events of two inferences, recorded with the CUDA provider of onnxruntime-gpu 1.31.1 over a
stand-in of CUDA's libraries that computes nothing: types and places are the provider's, times and
numbers mean nothing. A product, a dense layer, a product of float16, and a determinant, for which
the provider has no kernel. Fields that nothing reads are left out."""
BACKEND = Backend()
CUDA = "CUDAExecutionProvider"

PACKAGE = """
__version__, cuda_version = "1.31.1", "{cuda}"
def get_available_providers():
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
def preload_dlls():
    print("Failed to load libcublasLt.so.13")
class SessionOptions:
    log_severity_level = 2
class InferenceSession:
    def __init__(self, model, options, providers, enable_fallback):
        assert not enable_fallback
        ((self.name, self.options),) = providers
        {start}
    def get_providers(self):
        return {providers}
    def run(self, names, feed):
        return [feed["x"] {doubling}]
"""


class Machine:
    """A machine with a GPU, its driver and onnxruntime-gpu, all of them fakes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.env = folder, monkeypatch
        monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_libcuda.build(folder / "lib")))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.package()
        self.library(gpu.CUDNN, folder / "lib")
        for name in ("shared", "cuda"):
            self.library(f"libonnxruntime_providers_{name}.so", self.capi)

    @property
    def capi(self) -> Path:
        return self.folder / "onnxruntime" / "capi"

    def package(
        self,
        start: str = "pass",
        doubling: str = "* 2",
        cuda: str = "13.0",
        providers: str = "[self.name, 'CPUExecutionProvider']",
    ) -> None:
        text = PACKAGE.format(start=start, doubling=doubling, cuda=cuda, providers=providers)
        self.capi.mkdir(parents=True, exist_ok=True)
        (self.capi.parent / "__init__.py").write_text(text)

    def library(self, name: str, folder: Path, needs: str | None = None) -> None:
        """A library that loads where ``needs`` is found, which is nowhere."""
        source = self.folder / "empty.c"
        source.write_text("int empty;\n")
        compiler = shutil.which("gcc") or shutil.which("cc") or ""
        command = [compiler, "-shared", "-fPIC", "-o", folder / name, source]
        if needs is None:
            subprocess.run(command, check=True)
            return
        gone = self.folder / needs
        soname = f"-Wl,-soname,{needs}"
        subprocess.run([compiler, "-shared", "-fPIC", soname, "-o", gone, source], check=True)
        subprocess.run([*command, "-Wl,--no-as-needed", gone], check=True)
        gone.unlink()

    def probe(self) -> Ready:
        answer = Registry().probe(["onnxruntime"])["onnxruntime"]
        assert isinstance(answer, Ready), answer
        assert "fp32" in answer.precisions["cpu"]  # come what may
        return answer

    def reason(self) -> str:
        """Why there is no cuda:0: the same for every precision that has a name."""
        answer = self.probe()
        assert not answer.precisions.get("cuda:0")
        reasons = answer.missing["cuda:0"]
        assert set(reasons) >= set(PRECISIONS)
        (reason,) = set(reasons.values())
        return reason


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    if sys.platform != "linux":
        pytest.skip("libraries are compiled for Linux")
    return Machine(tmp_path, monkeypatch)


# --------------------------------------------------------------------------- what probes say


def test_a_gpu_that_works(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DEVICES", "NVIDIA T4,7.5,16;NVIDIA H100,9.0,80")
    answer = machine.probe()
    assert answer.precisions["cuda:0"] == ("fp32", "fp16", "w8", "w4", "as-shipped")
    assert answer.precisions["cuda:1"] == ("fp32", "tf32", "fp16", "w8", "w4", "as-shipped")
    assert answer.devices["cuda:1"]["name"] == "NVIDIA H100"
    for device, offered in answer.precisions.items():
        assert set(offered) | set(answer.missing[device]) == set(PRECISIONS) | {"as-shipped"}
        assert not set(offered) & set(answer.missing[device])
    assert "7.5" in answer.missing["cuda:0"]["tf32"]
    assert "TensorRT" in answer.missing["cuda:1"]["int8-static"]
    assert answer.compiled == ()


def test_no_driver(machine: Machine) -> None:
    (machine.folder / "lib" / "libcuda.so.1").unlink()
    assert "libcuda.so.1" in machine.reason()


def test_no_gpu(machine: Machine) -> None:
    machine.env.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in machine.reason()


@pytest.mark.parametrize(
    ("library", "named"), [("libcublasLt.so.13", "CUDA libraries"), ("libcudnn_x.so.9", "cuDNN")]
)
def test_a_library_that_is_missing(machine: Machine, library: str, named: str) -> None:
    machine.library("libonnxruntime_providers_cuda.so", machine.capi, needs=library)
    reason = machine.reason()
    assert f"does not find {'the ' if named[1] == 'U' else ''}{named}" in reason
    assert f"there is no {library}" in reason
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in reason
    assert "preload_dlls()" in reason


def test_cudnn_is_looked_for_though_nothing_links_it(machine: Machine) -> None:
    (machine.folder / "lib" / gpu.CUDNN).unlink()
    assert f"does not find cuDNN: there is no {gpu.CUDNN}" in machine.reason()


def test_a_driver_that_is_too_old_for_the_build(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DRIVER", "12080")
    reason = machine.reason()
    assert "built for CUDA 13" in reason and "12.8" in reason and "580" in reason


def test_a_build_for_an_older_cuda_runs_on_that_driver(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DRIVER", "12080")
    machine.package(cuda="12.8")
    assert "fp32" in machine.probe().precisions["cuda:0"]


def test_no_code_for_a_gpu_concerns_that_gpu_alone(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DEVICES", "NVIDIA Old,6.1,8;NVIDIA H100,9.0,80")
    machine.package(
        "if self.options['device_id'] == 0: "
        "raise RuntimeError('CUDA error 209: no kernel image is available for execution')"
    )
    answer = machine.probe()
    assert answer.precisions["cuda:0"] == () and "fp32" in answer.precisions["cuda:1"]
    assert "has no code for NVIDIA Old (compute capability 6.1)" in answer.missing["cuda:0"]["fp32"]


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ({"providers": "['CPUExecutionProvider']"}, "does not start on NVIDIA Fake"),
        ({"doubling": "* 0"}, "computes 1 + 1 as 0"),
        ({"start": "raise RuntimeError('CUBLAS failure 3')"}, "CUBLAS failure 3"),
        ({"start": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"}, "died of SIGSEGV"),
    ],
)
def test_what_fails_when_computing(machine: Machine, package: dict[str, str], reason: str) -> None:
    machine.package(**package)
    assert reason in machine.reason()


def test_both_distributions_at_once(machine: Machine) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        described = machine.folder / f"{name.replace('-', '_')}-1.31.1.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Name: {name}\nVersion: 1.31.1\n")
    reason = machine.reason()
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed" in reason
    assert "pip uninstall onnxruntime onnxruntime-gpu" in reason


def test_a_build_without_cuda() -> None:
    """The installed one, if it is such."""
    if CUDA in ort.get_available_providers():
        pytest.skip("the installed onnxruntime has CUDA")
    answer = BACKEND.probe()
    assert isinstance(answer, Ready) and set(answer.precisions) == {"cpu"}
    assert set(answer.missing["cuda:0"]) >= set(PRECISIONS)
    reason = answer.missing["cuda:0"]["fp32"]
    assert "build without CUDA" in reason and "pip uninstall onnxruntime" in reason


def test_either_distribution_is_the_runtime() -> None:
    environment = Environment(requirements=["onnxruntime-gpu[cuda,cudnn]==1.31.*"])
    adapter = Registry().load("onnxruntime")
    assert not isinstance(adapter, Unavailable)
    assert backends_of("ort-cuda", environment, {"onnxruntime": adapter}) == ("onnxruntime",)
    known = package_versions(adapter.runtime_packages)
    assert ort.__version__ in (known["onnxruntime"], known["onnxruntime-gpu"])


# --------------------------------------------------------------------------- options


def cuda_options(precision: str, **hints: Any) -> dict[str, Any]:
    config = RunConfig("cuda:2", hints=hints)
    (name, options), (second, _) = providers(config, hints_of(config), precision)
    assert (name, second) == (CUDA, "CPUExecutionProvider")
    return options


def test_a_case_decides_device_and_tf32() -> None:
    assert cuda_options("fp32")["device_id"] == 2
    used = {p: cuda_options(p)["use_tf32"] for p in CUDA_SINCE}
    assert used == {p: int(p == "tf32") for p in CUDA_SINCE}


def test_hints_of_cuda() -> None:
    assert cuda_options("fp32")["enable_cuda_graph"] == 0
    options = cuda_options("fp32", cuda_graph=True, transfers=False, prefer_nhwc=True)
    assert options["enable_cuda_graph"] == options["prefer_nhwc"] == 1
    assert "transfers" not in options  # the provider knows no such option, and would refuse it
    assert cuda_options("fp32", cudnn_conv_algo_search="HEURISTIC") == {
        **cuda_options("fp32"),
        "cudnn_conv_algo_search": "HEURISTIC",
    }


@pytest.mark.parametrize(
    "hints", [{"cuda_graph": 1}, {"transfers": "no"}, {"gpu_mem_limit": True}, {"sdpa_kernel": "1"}]
)
def test_values_that_hints_do_not_take(hints: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(hints))):
        cuda_options("fp32", **hints)


@pytest.mark.parametrize("name", ["use_tf32", "device_id", "enable_cuda_graph", "user_stream"])
def test_hints_that_a_case_may_not_set(name: str) -> None:
    with pytest.raises(ValueError, match=f"no hint '{name}'.*cuda_graph"):
        hints_of(RunConfig("cuda:0", hints={name: 1}))


def test_hints_of_cuda_are_none_of_the_processors() -> None:
    config = RunConfig("cuda:0", hints={"cuda_graph": True})
    session_options(config, hints_of(config), FileFacts(), {})
    with pytest.raises(ValueError, match="no hint 'cuda_graph'"):
        hints_of(RunConfig("cpu", hints={"cuda_graph": True}))


def test_a_graph_has_one_stream() -> None:
    config = RunConfig("cuda:0", streams=2, hints={"cuda_graph": True})
    with pytest.raises(Unsupported, match="streams"):
        providers(config, hints_of(config), "fp32")


@pytest.mark.parametrize("device", ["cuda", "cuda:x", "cuda:-1", "npu:0"])
def test_devices_that_are_none(device: str) -> None:
    with pytest.raises(Unsupported, match=device):
        hints_of(RunConfig(device))


def test_the_processor_alone() -> None:
    config = RunConfig("cpu")
    assert providers(config, hints_of(config), "fp32") == [("CPUExecutionProvider", {})]


# --------------------------------------------------------------------------- artifacts


@pytest.fixture(scope="session")
def vit() -> Model:
    return described(ZOO / "digits_vit.onnx")


def described(path: Path) -> Model:
    described = BACKEND.describe(path)
    inputs, outputs = described.inputs, described.outputs
    names = {n: SourceTensor(n) for n in inputs}, {n: SourceTensor(n) for n in outputs}
    return Model("digits", "onnx", path, "0" * 64, "image-classification", inputs, outputs, *names)


def make(model: Model, precision: str, out: Path, device: str = "cuda") -> Artifact:
    out.mkdir()
    target = PrepareTarget(precision, complete_options(precision, {}), device)
    return Artifact(out, model, target, BACKEND.prepare(model, target, None, out))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "w8", "w4"])
def test_artifacts_are_made_without_a_device(vit: Model, precision: str, tmp_path: Path) -> None:
    """What runs on a GPU is one file with what runs here, at the same precision."""
    assert BACKEND.supports(vit, PrepareTarget(precision, device="cuda")) is None
    made = make(vit, precision, tmp_path / "cuda")
    on_cpu = make(vit, "fp32" if precision == "tf32" else precision, tmp_path / "cpu", "cpu")
    assert made.file.read_bytes() == on_cpu.file.read_bytes()


@pytest.mark.parametrize("precision", sorted(NEVER_ON_CUDA))
def test_precisions_that_the_provider_has_not(vit: Model, precision: str) -> None:
    target = PrepareTarget(precision, device="cuda")
    assert BACKEND.supports(vit, target) == NEVER_ON_CUDA[precision]


def test_without_the_provider_nothing_goes_to_the_processor(vit: Model, tmp_path: Path) -> None:
    """ONNX Runtime would warn, and compute on the processor."""
    if CUDA in ort.get_available_providers():
        pytest.skip("the installed onnxruntime has CUDA")
    artifact = make(vit, "fp32", tmp_path / "out")
    with pytest.raises(RuntimeError, match=r"libonnxruntime_providers_cuda\.so"):
        BACKEND.open(artifact, RunConfig("cuda:0"))


# --------------------------------------------------------------------------- what ran where


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return json.loads(PROFILE.read_text())


def test_precision_and_place_of_recorded_operators(events: list[dict[str, Any]]) -> None:
    found = {op.name: op for op in read_operators(events, CUDA)}
    ran = {name: (op.kind, op.role, op.precision, op.macs) for name, op in found.items()}
    assert ran["product"] == ("MatMul", "compute", "fp32", 2 * 8 * 16 * 8)
    assert ran["dense"] == ("Gemm", "compute", "fp32", 2 * 64 * 32)
    assert ran["half"] == ("MatMul", "compute", "fp16", 2 * 32 * 10)
    assert ran["softmax"][1] == "other"
    assert [name for name, op in found.items() if op.fallback] == ["determinant"]


def test_tf32_is_what_was_allowed(events: list[dict[str, Any]]) -> None:
    found = {op.name: op.precision for op in read_operators(events, CUDA, tf32=True)}
    assert found["product"] == found["dense"] == "tf32"
    assert found["half"] == "fp16"
    assert found["softmax"] == found["determinant"] == "fp32"


def test_what_the_device_did_not_take_is_told(events: list[dict[str, Any]]) -> None:
    effective = summary(read_operators(events, CUDA), "fp32", cuda=True)
    assert effective.precision == "fp32" and effective.fallback_ops == 1
    assert effective.operators == {"fp32": 2, "fp16": 1}
    assert any("Det (1)" in note and "0 of 3" in note for note in effective.notes)


def on_the_processor(events: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """The events as if these operators had had no kernel on the device."""
    moved = json.loads(json.dumps(events))
    for event in moved:
        if event.get("args", {}).get("op_name") in kinds:
            event["args"]["provider"] = "CPUExecutionProvider"
    return moved


def test_some_of_the_work_on_the_processor(events: list[dict[str, Any]]) -> None:
    operators = read_operators(on_the_processor(events, "Gemm"), CUDA, tf32=True)
    effective = summary(operators, "tf32", cuda=True)
    assert effective.fallback_ops == 2
    assert effective.operators == {"tf32": 1, "fp32": 1, "fp16": 1}
    assert any("1 of 3 computing operators" in note for note in effective.notes)


def test_all_of_the_work_on_the_processor(events: list[dict[str, Any]]) -> None:
    operators = read_operators(on_the_processor(events, "MatMul", "Gemm"), CUDA)
    with pytest.raises(Unsupported, match=r"no kernel for this file's operators: .*MatMul"):
        summary(operators, "fp32", cuda=True)
    assert summary(operators, "fp32").fallback_ops == 4  # only a device's case is refused


# --------------------------------------------------------------------------- the processor's path


def test_an_inference_on_the_processor_is_one_bound_call(vit: Model, tmp_path: Path) -> None:
    """No Python frame of ours is timed, and no module of CUDA's is imported for it."""
    artifact = make(vit, "fp32", tmp_path / "out", "cpu")
    with BACKEND.open(artifact, RunConfig()) as program:
        stream = program.stream()
        stream.bind({n: np.zeros(s.at(1), s.dtype) for n, s in vit.inputs.items()})
        stream.infer()
        assert not hasattr(stream.infer, "__code__") and not hasattr(stream.infer, "__func__")
        assert stream.segments(1) is None


# --------------------------------------------------------------------------- the real provider

ON_STAND_IN = """
import sys, threading
from pathlib import Path
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from qbench.kit.model import Artifact, Model, PrepareTarget, RunConfig, SourceTensor
from qbench.kit.adapter import Unsupported
from qbench_onnxruntime import Backend, gpu

gpu.preload = lambda onnxruntime: None  # or it takes CUDA's own libraries, which find no device
backend, folder = Backend(), Path(sys.argv[1])

def artifact(name, nodes, weights=(), shape=("N", 8), precision="fp32"):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
              for n, s in (("x", shape), ("y", shape[:1] if nodes[0].op_type == "Det" else shape))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(weights))
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / f"{name}.onnx")
    names = {"x": SourceTensor("x")}, {"y": SourceTensor("y")}
    path = folder / f"{name}.onnx"
    found = backend.describe(path)
    model = Model(name, "onnx", path, "0" * 64, "none", found.inputs, found.outputs, *names)
    out = folder / f"{name}-{precision}"
    out.mkdir()
    target = PrepareTarget(precision, {}, "cuda")
    return Artifact(out, model, target, backend.prepare(model, target, None, out))

def config(**more):
    return RunConfig("cuda:0", **{"batch": 4, **more})

x = np.arange(32, dtype=np.float32).reshape(4, 8)
same = artifact("same", [helper.make_node("Identity", ["x"], ["y"])])
"""


def on_stand_in(tmp_path: Path, code: str) -> None:
    """Run ``code`` with the CUDA provider of the installed onnxruntime-gpu, and no GPU."""
    if CUDA not in ort.get_available_providers():
        pytest.skip("the installed onnxruntime has no CUDA provider")
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(stand_in_cuda.build(provider, libraries)),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-c", ON_STAND_IN + code, str(tmp_path)]
    subprocess.run(command, check=True, env=environment)


def test_data_goes_to_the_device_and_comes_back(tmp_path: Path) -> None:
    """Kernels compute nothing there, but a copy is a copy."""
    on_stand_in(
        tmp_path,
        """
for hints in ({}, {"transfers": False}, {"cuda_graph": True}):
    with backend.open(same, config(hints=hints)) as program:
        stream = program.stream()
        # a graph is recorded, and a stand-in that replays one copies nothing
        for given in (x,) if "cuda_graph" in hints else (x, x + 1):
            stream.bind({"x": given})
            for _ in range(4):
                stream.infer()
            assert np.array_equal(stream.read()["y"], given), hints
        copies = {"h2d", "d2h"} if hints.get("transfers", True) else set()
        parts = stream.segments(3)
        assert set(parts) == {"compute", "enqueue"} | copies
        assert all(times.shape == (3,) and (times > 0).all() for times in parts.values())
        assert (parts["enqueue"] <= parts["compute"]).all()

for device in ("cuda:0", "cuda:1"):
    right = []
    with backend.open(same, RunConfig(device, batch=4, streams=3)) as program:
        streams = [program.stream() for _ in range(3)]
        for n, stream in enumerate(streams):
            stream.bind({"x": x + n})
        def lane(n):  # in another thread than the one that bound
            for _ in range(100):
                streams[n].infer()
            right.append(np.array_equal(streams[n].read()["y"], x + n))
        lanes = [threading.Thread(target=lane, args=(n,)) for n in range(3)]
        [t.start() for t in lanes]
        [t.join() for t in lanes]
    assert right == [True] * 3, device
""",
    )


def test_the_provider_takes_what_it_is_told(tmp_path: Path) -> None:
    """Every hint by its name, and what cannot be had with its reason."""
    on_stand_in(
        tmp_path,
        """
from typing import get_type_hints
from qbench_onnxruntime.options import CudaHints, Hints

values = {bool: True, bool | None: True, int | None: 1 << 30}
own = {n: t for n, t in get_type_hints(CudaHints).items() if n not in get_type_hints(Hints)}
hints = {name: values[kind] for name, kind in own.items() if kind in values}
hints |= {"sdpa_kernel": 1, "cudnn_conv_algo_search": "HEURISTIC"}
hints |= {"arena_extend_strategy": "kSameAsRequested"}
assert set(hints) == set(own)
with backend.open(same, config(hints=hints)) as program:
    took = program.session.get_provider_options()[gpu.CUDA_PROVIDER]
    assert took["cudnn_conv_algo_search"] == "HEURISTIC" and took["use_tf32"] == "0"
product = [helper.make_node("MatMul", ["x", "w"], ["y"])]
weights = [numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")]
for precision, tf32 in (("fp32", "0"), ("tf32", "1")):
    made = artifact("product", product, weights, precision=precision)
    with backend.open(made, config(), inspect=True) as program:
        took = program.session.get_provider_options()[gpu.CUDA_PROVIDER]
        assert took["use_tf32"] == tf32
        assert program.effective().precision == precision
        assert program.effective().fallback_ops == 0
with backend.open(made, config(hints={"cuda_graph": True}), inspect=True) as program:
    # kernels have events of their own in every inference, which a replayed graph has not
    names = [event["name"] for event in program._events({"x": x}, 3, True)]
    assert names.count("model_run") == 3
    assert sum(name.endswith("_kernel_time") for name in names) == 3

def refused(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

wrong = config(hints={"cudnn_conv_algo_search": "X"})
refused(ValueError, "cudnn_conv_algo_search", lambda: backend.open(same, wrong))
refused(Unsupported, "cuda:3", lambda: backend.open(same, RunConfig("cuda:3", batch=4)))
lost = artifact("lost", [helper.make_node("Det", ["x"], ["y"])], shape=("N", 8, 8))
graph = config(hints={"cuda_graph": True})
refused(Unsupported, "no CUDA graph", lambda: backend.open(lost, graph))
with backend.open(lost, config(), inspect=True) as program:
    refused(Unsupported, "Det", program.effective)
""",
    )
