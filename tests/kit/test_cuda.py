"""The machine's CUDA devices, as reported by a scripted driver library."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import fake_libcuda
import pytest

from qbench.kit import apart, cuda

NO_INIT = "int cuInitialize(void) { return 0; }"
OLD = "int cuInit(unsigned flags) { return 0; }"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_libcuda.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The library is what processes find from here on; sets its answers."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def failure(timeout_s: float = 20) -> cuda.NoCuda:
    with pytest.raises(cuda.NoCuda) as caught:
        cuda.devices(timeout_s)
    return caught.value


def test_devices_as_the_driver_reports_them(driver: pytest.MonkeyPatch) -> None:
    driver.setenv("FAKE_CUDA_DEVICES", "NVIDIA A100,8.0,40;NVIDIA H100 MIG 1g.10gb,9.0,9.75")
    driver.setenv("FAKE_CUDA_DRIVER", "12080")
    whole, part = cuda.devices()
    assert whole.facts() == {
        "index": 0,
        "name": "NVIDIA A100",
        "compute_capability": "8.0",
        "driver": "12.8",
        "memory_bytes": 40 * 2**30,
        "pci_bus_id": "0000:3B:00.0",
        "uuid": "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f",
        "driver_release": cuda.driver_release(cuda.KERNEL_DRIVER),
    }
    assert part.key == "cuda:1"
    assert part.uuid.startswith("MIG-1011")
    assert part.memory_bytes == 9.75 * 2**30


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (  # of NVIDIA's two kernel modules, from public bug reports
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC "
            "2024\nGCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
            "(dvs-builder@U22-I3)\n",
            "580.65.06",
        ),
        ("something else", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_drivers_release_is_the_kernels(tmp_path: Path, text: str | None, release: str) -> None:
    file = tmp_path / "version"
    if text is not None:
        file.write_text(text)
    assert cuda.driver_release(file) == release


def test_capabilities_compare_as_numbers(driver: pytest.MonkeyPatch) -> None:
    driver.setenv("FAKE_CUDA_DEVICES", "a,12.0,1;b,9.0,1")
    newer, older = cuda.devices()
    assert newer.capability > older.capability


def test_a_driver_serves_builds_for_its_own_cuda_and_older_ones(driver: pytest.MonkeyPatch) -> None:
    driver.setenv("FAKE_CUDA_DRIVER", "12040")
    (device,) = cuda.devices()
    device.require(11, "onnxruntime-gpu")
    device.require(12, "onnxruntime-gpu")
    with pytest.raises(cuda.NoCuda, match=r"onnxruntime-gpu is built for CUDA 13.*12\.4 at most"):
        device.require(13, "onnxruntime-gpu")


CODES = (2, 3, 34, 35, 36, 46, 100, 101, 304, 801, 802, 803, 804, 805, 999, 719)
SIGNS = {
    34: "stub",
    100: "no CUDA device",
    802: "fabric manager",
    803: "different versions",
    804: "compat",
    805: "MPS",
    999: "nvidia_uvm",
    719: "CUDA error 719",
}


@pytest.mark.slow
def test_every_failure_has_its_own_reason_and_a_remedy(
    driver: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {}
    for code in CODES:
        driver.setenv("FAKE_CUDA_INIT", str(code))
        found[code] = failure()
    for how in ("segv", "abort"):
        driver.setenv("FAKE_CUDA_INIT", how)
        found[how] = failure()
    driver.setenv("FAKE_CUDA_INIT", "hang")
    found["hang"] = failure(timeout_s=2)
    driver.setenv("FAKE_CUDA_INIT", "0")
    driver.setenv("CUDA_VISIBLE_DEVICES", "")
    found["hidden"] = failure()
    driver.setenv("LD_LIBRARY_PATH", str(compiled(tmp_path / "other", NO_INIT)))
    found["other"] = failure()
    driver.setenv("LD_LIBRARY_PATH", str(compiled(tmp_path / "old", OLD)))
    found["old"] = failure()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "libcuda.so.1").write_text("not a library")
    driver.setenv("LD_LIBRARY_PATH", str(tmp_path / "text"))
    found["text"] = failure()

    reasons = [error.reason.split(" (CUDA error ")[0] for error in found.values()]
    assert len(set(reasons)) == len(reasons)
    for error in found.values():
        assert "\n" not in error.reason and not error.reason.endswith(".")
        assert fake_libcuda.ACTION.match(error.fix) and error.fix.endswith("."), error.fix
    for code, sign in SIGNS.items():
        assert sign in f"{found[code]}"
    assert "SIGSEGV" in found["segv"].reason and "SIGABRT" in found["abort"].reason
    assert "2 s" in found["hang"].reason
    assert "CUDA_VISIBLE_DEVICES is ''" in found["hidden"].reason
    assert "CUDA_VISIBLE_DEVICES" in found["hidden"].fix
    assert "has no cuInit" in found["other"].reason
    assert "too old" in found["old"].reason
    assert "does not load" in found["text"].reason


def compiled(folder: Path, text: str) -> Path:
    folder.mkdir()
    source = folder / "library.c"
    source.write_text(text)
    return fake_libcuda.build(folder, source=source)


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/version").exists() or "libcuda.so.1" in known_libraries():
        pytest.skip("this machine has NVIDIA's driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    error = failure()
    assert error.reason == "no NVIDIA driver: there is no libcuda.so.1"
    assert "NVIDIA GPU" in error.fix


def known_libraries() -> str:
    return subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout


def test_a_process_without_an_answer_is_reported_with_its_last_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "asked.py").write_text(
        "import os, sys\n"
        "def leave(step, code):\n"
        "    step('first'); step('second'); print('said'); sys.stdout.flush(); os._exit(code)\n"
        "def add(step, one, two):\n"
        "    print('noise'); return {'sum': one + two}\n"
        "def fail(step):\n"
        "    raise ValueError('planted')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert apart.call("asked:add", 20, one=1, two=2) == {"sum": 3}
    with pytest.raises(apart.Died) as left:
        apart.call("asked:leave", 20, code=3)
    assert (left.value.step, left.value.said) == ("second", "said")
    assert "exit code 3" in left.value.how
    with pytest.raises(apart.Died, match="ValueError: planted"):
        apart.call("asked:fail", 20)
