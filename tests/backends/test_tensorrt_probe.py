"""What the TensorRT adapter says of a machine: on fakes of the driver and of the packages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import fake_libcuda
import pytest

from qbench.cli.listing import backends
from qbench.kit.adapter import Ready, Unavailable
from qbench.kit.cuda import Device
from qbench.kit.model import Model, PrepareTarget
from qbench.kit.precisions import PRECISIONS
from qbench.run.workers.registry import Registry
from qbench.testing.conformance import AdapterConformance
from qbench_tensorrt import Backend, capability
from qbench_tensorrt.probe import probe

TENSORRT = """
__version__ = "{version}"
class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
class Builder:
    def __init__(self, logger):
        {builder}
"""
CUDA = """
def cudaSetDevice(index):
    {open}
    return ({status},)
"""
NULL = "raise TypeError('pybind11::init(): factory function returned nullptr')"


class TestConformance(AdapterConformance):
    target = "qbench_tensorrt:Backend"
    device = "cuda:0"


class Machine:
    """A machine with a GPU, its driver, TensorRT and CUDA's bindings, all of them fakes that the
    processes of probes find."""

    def __init__(self, folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.env = folder, monkeypatch
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.tensorrt()
        self.cuda()

    def package(self, name: str, text: str) -> None:
        path = self.folder.joinpath(*name.split("."), "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tensorrt(self, version: str = "11.4.0.106", builder: str = "pass") -> None:
        self.package("tensorrt", TENSORRT.format(version=version, builder=builder))

    def cuda(self, version: str = "13.5.0", status: int = 0, open: str = "pass") -> None:
        self.package("cuda", "")
        self.package("cuda.bindings", f"__version__ = '{version}'")
        self.package("cuda.bindings.runtime", CUDA.format(status=status, open=open))

    def distribution(self, name: str) -> None:
        """Metadata of an installed package."""
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")

    def devices(self, *devices: str) -> None:
        self.env.setenv("FAKE_CUDA_DEVICES", ";".join(devices))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_libcuda.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, library, monkeypatch)


def driver_mismatch(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_INIT", "803")


def driver_crash(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_INIT", "segv")


def driver_hang(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_INIT", "hang")


def hidden_devices(machine: Machine) -> None:
    machine.env.setenv("CUDA_VISIBLE_DEVICES", "")


def old_gpu(machine: Machine) -> None:
    machine.devices("Tesla V100,7.0,16")


def new_gpu(machine: Machine) -> None:
    machine.devices("NVIDIA B200,10.0,180")
    machine.tensorrt("10.7.0.23")


def no_tensorrt(machine: Machine) -> None:
    machine.package("tensorrt", MISSING.format("tensorrt"))


MISSING = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"


def tensorrt_in_part(machine: Machine) -> None:
    machine.package("tensorrt", "import tensorrt_bindings_of_no_one")


def no_libraries(machine: Machine) -> None:
    machine.package("tensorrt", shared_object("libnvinfer.so.11"))


def no_cuda_runtime(machine: Machine) -> None:
    machine.package("tensorrt", shared_object("libcudart.so.13"))


def shared_object(name: str) -> str:
    said = f"{name}: cannot open shared object file: No such file or directory"
    return f"raise ImportError({said!r})"


def damaged_tensorrt(machine: Machine) -> None:
    machine.package("tensorrt", "raise RuntimeError('undefined symbol: createInferBuilder')")


def another_tensorrt(machine: Machine) -> None:
    machine.package("tensorrt", "__version__ = '10.13.0.35'")


def old_tensorrt(machine: Machine) -> None:
    machine.tensorrt("8.6.1")


def tensorrt_crash(machine: Machine) -> None:
    machine.package("tensorrt", "import os; os.kill(os.getpid(), 11)")


def no_bindings(machine: Machine) -> None:
    machine.package("cuda.bindings", MISSING.format("cuda.bindings"))


def damaged_bindings(machine: Machine) -> None:
    machine.package("cuda.bindings.runtime", "raise ImportError('undefined symbol: cuGetProc')")


def bindings_too_new(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DRIVER", "12040")


def tensorrt_too_new(machine: Machine) -> None:
    machine.env.setenv("FAKE_CUDA_DRIVER", "12040")
    machine.cuda("12.9.0")
    machine.distribution("tensorrt_cu13_bindings")


def gpu_taken(machine: Machine) -> None:
    machine.cuda(status=46)


def gpu_hang(machine: Machine) -> None:
    machine.cuda(open="import time; time.sleep(60)")


def no_builder(machine: Machine) -> None:
    machine.tensorrt(builder=NULL)


def no_builder_for_the_driver(machine: Machine) -> None:
    machine.tensorrt(builder=logged("CUDA initialization failure with error: 35. Please check"))


def builder_in_part(machine: Machine) -> None:
    machine.tensorrt(builder=logged("Unable to load library: libnvinfer_builder_resource.so.11"))


def logged(message: str) -> str:
    return f"logger.log(logger.ERROR, {message!r}); {NULL}"


def builder_crash(machine: Machine) -> None:
    machine.tensorrt(builder="import os; os.kill(os.getpid(), 11)")


def builder_abort(machine: Machine) -> None:
    machine.tensorrt(builder="import os; os.abort()")


ABSENCES: dict[Callable[[Machine], None], str] = {
    driver_mismatch: "803",
    driver_crash: "the NVIDIA driver died of SIGSEGV",
    driver_hang: "the NVIDIA driver did not answer",
    hidden_devices: "CUDA_VISIBLE_DEVICES is ''",
    old_gpu: "Tesla V100 has compute capability 7.0",
    new_gpu: "TensorRT 10.7.0.23 does not know",
    no_tensorrt: "the package tensorrt is not installed",
    tensorrt_in_part: "no tensorrt_bindings_of_no_one",
    no_libraries: "libnvinfer.so.11",
    no_cuda_runtime: "libcudart.so.13",
    damaged_tensorrt: "undefined symbol: createInferBuilder",
    another_tensorrt: "not NVIDIA's package",
    old_tensorrt: "8.6.1 is too old",
    tensorrt_crash: "the import of tensorrt died of SIGSEGV",
    no_bindings: "cuda-bindings is not installed",
    damaged_bindings: "cuda-bindings does not load",
    bindings_too_new: "cuda-bindings is built for CUDA 13",
    tensorrt_too_new: "tensorrt is built for CUDA 13",
    gpu_taken: "CUDA error 46",
    gpu_hang: "the opening of the GPU did not answer",
    no_builder: "factory function returned nullptr",
    no_builder_for_the_driver: "CUDA error 35",
    builder_in_part: "libnvinfer_builder_resource.so.11",
    builder_crash: "the creation of a builder died of SIGSEGV",
    builder_abort: "the creation of a builder died of SIGABRT",
}


@pytest.mark.slow
def test_each_way_of_not_being_there_has_its_own_reason_and_remedy(
    library: Path, tmp_path: Path
) -> None:
    answers = {}
    for absence, sign in ABSENCES.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            absence(Machine(tmp_path / absence.__name__, library, monkeypatch))
            answer = probe(timeout_s=4 if "hang" in absence.__name__ else 40)
        assert isinstance(answer, Unavailable), absence.__name__
        assert sign in answer.reason, absence.__name__
        assert "\n" not in answer.reason
        assert fake_libcuda.ACTION.match(answer.fix) and answer.fix.endswith("."), answer.fix
        answers[absence.__name__] = answer.reason
    assert len(set(answers.values())) == len(answers)


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_a_machine_that_has_all(machine: Machine, version: str) -> None:
    machine.tensorrt(version)
    machine.devices("NVIDIA H100,9.0,80", "NVIDIA T4,7.5,15", "Tesla P100,6.0,16")
    answer = probe()
    assert isinstance(answer, Ready)
    assert answer.version == version
    assert answer.compiled == ("cuda:0", "cuda:1")
    assert set(answer.precisions) == set(answer.devices) == {"cuda:0", "cuda:1", "cuda:2"}
    assert set(answer.precisions["cuda:1"]) == {"fp32", "fp16", "int8-static", "as-shipped"}
    assert answer.precisions["cuda:2"] == ()
    assert "P100" in answer.missing["cuda:2"]["fp32"]
    assert answer.devices["cuda:0"]["name"] == "NVIDIA H100"
    assert answer.devices["cuda:1"]["pci_bus_id"] == "0000:3C:00.0"


def test_the_first_gpu_that_is_served_is_tried(machine: Machine) -> None:
    machine.devices("Tesla P100,6.0,16", "NVIDIA T4,7.5,15")
    machine.cuda(open="assert index == 1, index")
    answer = probe()
    assert isinstance(answer, Ready), answer
    assert answer.compiled == ("cuda:1",)


def test_through_the_registry_and_the_command(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.devices("NVIDIA A100,8.0,39.5", "NVIDIA A100,8.0,39.5", "Tesla P100,6.0,16")
    assert isinstance(Registry().probe(["tensorrt"])["tensorrt"], Ready)
    assert backends(as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["tensorrt"]
    assert told["ready"] and told["devices"]["cuda:0"]["memory_bytes"] == 39.5 * 2**30

    machine.env.setenv("COLUMNS", "250")
    assert backends() == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "tensorrt 11.4.0.106 cuda:1 fp32, tf32, fp16, bf16, int8-static, w4, as-shipped" in lines
    assert "tensorrt 11.4.0.106 cuda:2 none" in lines
    assert "cuda:0 NVIDIA A100 8.0 39.5 GiB 13.0 0000:3B:00.0" in lines
    (fp8,) = [line for line in lines if line.startswith("tensorrt, cuda:0, cuda:1: no fp8: ")]
    assert "8.9 does" in fp8
    (old,) = [line for line in lines if line.startswith("tensorrt, cuda:2: no fp32, tf32, ")]
    assert "7.5 or more" in old


def test_the_command_says_why_not_and_what_to_do(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    no_libraries(machine)
    machine.env.setenv("COLUMNS", "400")
    assert backends() == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(" tensorrt")]
    assert "there is no libnvinfer.so.11. Install its package of libraries" in line


#        precision       7.5    8.0    8.6    8.9    9.0   10.0   12.0   (NVIDIA's support matrix)
MATRIX = {
    "fp32": "1111111",
    "tf32": "0111111",
    "fp16": "1111111",
    "bf16": "0111111",
    "int8-static": "1111111",
    "fp8": "0001111",
    "w4": "0111111",
}
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


def device(compute_capability: str) -> Device:
    return Device(0, "a GPU", compute_capability, "13.0", 2**30, "0000:3B:00.0", "GPU-0")


@pytest.mark.parametrize("column", range(len(CAPABILITIES)), ids=CAPABILITIES)
def test_precisions_by_compute_capability(column: int) -> None:
    gpu = device(CAPABILITIES[column])
    offered = capability.offered(gpu)
    assert set(offered) - {"as-shipped"} == {p for p, row in MATRIX.items() if row[column] == "1"}
    missing = capability.missing(gpu)
    assert set(offered) | set(missing) == set(PRECISIONS)
    assert not set(offered) & set(missing)
    assert len(set(missing.values())) == len(missing)


@pytest.mark.parametrize(
    ("target", "sign"),
    [
        (PrepareTarget("fp16", device="cuda"), None),
        (PrepareTarget("fp16", device="cpu"), "runs on cuda"),
        (PrepareTarget("int8-dynamic", device="cuda"), "fixed in the file"),
        (PrepareTarget("w8", device="cuda"), "4 bits"),
        (PrepareTarget("int8-static", {"quantizer": "nncf"}, device="cuda"), "nncf"),
        (PrepareTarget("int8-static", {"preset": "mixed"}, device="cuda"), "no option preset"),
        (PrepareTarget("int8-static", {"max_accuracy_drop": 0.01}, device="cuda"), "accuracy"),
    ],
)
def test_what_cannot_be_prepared_is_told_ahead(
    target: PrepareTarget, sign: str | None, tmp_path: Path
) -> None:
    model = Model("net", "onnx", tmp_path, "0", "any", {}, {}, {}, {})
    reason = Backend().supports(model, target)
    assert (reason is None) if sign is None else (reason and sign in reason)
