"""Is a machine fit to measure? This one, and others by their files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machines
import pytest

from qbench.machine.doctor import Finding, examine, rows, verdict
from qbench.machine.lock import another_run, measuring_lock

CPU = machines.CPU


def found(root: Path, **given: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(root, watch_s=0.01, **given)}


def statuses(findings: dict[str, Finding], *checks: str) -> dict[str, str]:
    return {check: findings[check].status for check in checks}


# --------------------------------------------------------------------------- other machines


def test_a_laptop_on_its_battery_is_not_fit(tmp_path: Path):
    findings = found(machines.laptop(tmp_path))
    assert statuses(findings, "power source", "power mode", "temperature") == {
        "power source": "bad",
        "power mode": "bad",
        "temperature": "bad",
    }
    warned = ("frequency governor", "turbo", "SMT", "memory", "swap", "huge pages", "clock")
    assert set(statuses(findings, *warned).values()) == {"warn"}
    assert "101 °C" in findings["temperature"].found
    # 7 times a core, whatever its two hyperthreads say, and 3 times the package
    assert "throttled 10 times" in findings["temperature"].found
    assert "2.0 GB of 8.2 GB used" in findings["swap"].found
    assert findings["steal"].status == "good"
    assert "not fit" in verdict(list(findings.values()))


def test_every_command_mends_what_its_check_found(tmp_path: Path):
    """The commands are run on the copy, as the machine's owner would on the machine."""
    findings = found(machines.laptop(tmp_path))
    mended = ("frequency governor", "turbo", "huge pages", "clock", "power mode")
    for check in mended:
        command = findings[check].fix
        assert command is not None
        command = command.replace("sudo ", "").replace(" /sys", f" {tmp_path}/sys")
        subprocess.run(command, shell=True, check=True, capture_output=True)
    pages = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
    assert pages.read_text() == "madvise\n"
    pages.write_text("always [madvise] never")  # which the kernel makes of it
    again = found(tmp_path)
    assert set(statuses(again, *mended).values()) == {"good"}
    assert all(again[check].fix is None for check in mended)


def test_powersave_is_worse_where_the_processor_does_not_choose(tmp_path: Path):
    machines.laptop(tmp_path)
    for n in range(4):
        (tmp_path / f"{CPU}/cpu{n}/cpufreq/scaling_driver").write_text("acpi-cpufreq")
    assert found(tmp_path)["frequency governor"].status == "bad"
    (tmp_path / f"{CPU}/cpu3/cpufreq/scaling_governor").write_text("performance")
    mixed = found(tmp_path)["frequency governor"]
    assert mixed.found == "performance on 1, powersave on 3 processors (acpi-cpufreq)"


def test_a_board(tmp_path: Path):
    findings = found(machines.jetson(tmp_path))
    assert findings["temperature"].status == "warn", "6 °C below a passive trip point"
    assert "94 °C" in findings["temperature"].found
    assert findings["power mode"].found == "nvpmodel 1 (15W)"
    assert findings["power mode"].fix == "sudo nvpmodel -m 0 && sudo jetson_clocks"
    assert findings["swap"].status == "warn", "unused, but the kernel is eager"
    assert findings["swap"].fix == "sudo sysctl vm.swappiness=1"
    isolated = findings["isolated processors"]
    affinity = sorted(os.sched_getaffinity(0) & {4, 5})
    assert isolated.found == f"4-5; this process may run on {len(affinity)} of them"
    unreadable = ("turbo", "SMT", "steal", "virtualization", "huge pages")
    assert set(statuses(findings, *unreadable).values()) == {"unknown"}


def test_a_container_with_a_quota(tmp_path: Path):
    findings = found(machines.container(tmp_path))
    assert findings["processor quota"].status == "bad"
    assert findings["processor quota"].found.startswith("0.5 processors")
    assert "stopped 40 times" in findings["processor quota"].found
    assert findings["memory"].status == "bad", "100 MiB are left in the container"
    assert findings["steal"].found == "5.0% since boot"
    assert findings["steal"].status == "warn"
    assert "podman-5.2.2" in findings["virtualization"].found
    assert findings["SMT"].status == "unknown", "its guest cannot know"


def test_unreadable_checks_are_unknown(tmp_path: Path):
    findings = found(tmp_path)
    readable = {"another run", "isolated processors", "performance counters"}
    for finding in findings.values():
        if finding.check not in readable:
            assert finding.status == "unknown", finding
            assert finding.found and finding.why


def test_a_hypervisor_without_steal_is_not_trusted(tmp_path: Path):
    machines.container(tmp_path)
    (tmp_path / "proc/stat").write_text("cpu  1000 0 500 8000 10 0 5 0 0 0\n")
    assert found(tmp_path)["steal"].status == "unknown"


def test_sensors_that_only_root_may_read():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # into pytest's nobody else may look
        zone = f"{name}/sys/class/powercap/intel-rapl:0"
        files = {"name": "package-0", "max_energy_range_uj": "262143328850", "energy_uj": "5"}
        machines.write(Path(zone), files)
        (Path(zone) / "energy_uj").chmod(0)
        Path(name).chmod(0o755)
        nobody, owner = 65534, os.geteuid()
        if owner == 0:
            os.seteuid(nobody)
        try:
            finding = found(Path(name))["energy sensors"]
        finally:
            os.seteuid(owner)
        assert finding.status == "warn"
        assert finding.fix and finding.fix.startswith("sudo chmod a+r /sys/class/powercap/")
        command = finding.fix.replace("sudo ", "").replace("/sys", f"{name}/sys")
        subprocess.run(command, shell=True, check=True)
        assert found(Path(name))["energy sensors"].status == "good"


# --------------------------------------------------------------------------- this machine


def test_this_machine():
    findings = examine(folders={"results": Path.cwd(), "cache": Path("/nowhere/yet")})
    checks = [finding.check for finding in findings]
    assert len(set(checks)) == len(checks) >= 18
    order = ["bad", "warn", "unknown", "good"]
    assert [f.status for f in findings] == sorted((f.status for f in findings), key=order.index)
    by_name = {finding.check: finding for finding in findings}
    assert by_name["clock"].found.startswith(
        Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
    )
    assert {"disk, results", "disk, cache"} <= set(by_name)
    assert all(len(row) == 5 for row in rows(findings))


def test_a_busy_process_is_named(tmp_path: Path):
    code = "print(flush=True)\nwhile True: pass"
    spinning = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        for _ in os.sched_getaffinity(0)
    ]
    try:
        for process in spinning:
            assert process.stdout
            process.stdout.readline()
        (load,) = (f for f in examine(Path("/"), watch_s=0.5) if f.check == "other work")
    finally:
        for process in spinning:
            process.kill()
            process.communicate()
    assert load.status == "bad"
    assert Path(sys.executable).resolve().name[:6] in load.found


def test_another_run_is_seen():
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, "some", "suite"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    try:
        finding = another_run()
        assert finding.status == "bad"
        assert "some suite" in finding.found
    finally:
        holder.kill()
        holder.communicate()
    assert another_run().status == "good"
    with measuring_lock():
        pass  # the doctor keeps nothing


HOLD = """
import sys
from qbench.machine.lock import measuring_lock
with measuring_lock():
    print("held", flush=True)
    sys.stdin.read()
"""


# --------------------------------------------------------------------------- GPUs


class NvmlError(Exception):
    pass


class Nvml:
    """``pynvml`` with one GPU, by the same names; ``refuses``: what answers "Not Supported"."""

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_FEATURE_ENABLED = 1
    NVML_COMPUTEMODE_DEFAULT, NVML_COMPUTEMODE_EXCLUSIVE_THREAD = 0, 1
    NVML_COMPUTEMODE_PROHIBITED, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 2, 3
    nvmlClocksThrottleReasonSwPowerCap = 0x4
    nvmlClocksThrottleReasonHwSlowdown = 0x8
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self, *, refuses: tuple[str, ...] = (), **told: Any) -> None:
        process = SimpleNamespace(pid=99_999_999)  # of another container: it has no name here
        answers: dict[str, Any] = {
            "SystemGetDriverVersion": "580.65",
            "SystemGetCudaDriverVersion": 13010,
            "DeviceGetCount": 1,
            "DeviceGetHandleByIndex": "handle",
            "DeviceGetName": b"NVIDIA H200",
            "DeviceGetMemoryInfo": SimpleNamespace(total=150_754_820_096, used=1),
            "DeviceGetEnforcedPowerLimit": 700_000,
            "DeviceGetMaxClockInfo": 1980,
            "DeviceGetMaxPcieLinkGeneration": 5,
            "DeviceGetMaxPcieLinkWidth": 16,
            "DeviceGetCurrPcieLinkWidth": 16,
            "DeviceGetPciInfo": SimpleNamespace(busId="00000000:3B:00.0"),
            "DeviceGetPowerManagementDefaultLimit": 700_000,
            "DeviceGetEccMode": [1, 1],
            "DeviceGetComputeMode": 0,
            "DeviceGetMigMode": [0, 0],
            "DeviceGetComputeRunningProcesses": [process],
            "DeviceGetUtilizationRates": SimpleNamespace(gpu=93),
            "DeviceGetCurrentClocksThrottleReasons": 0x40 | 0x1,
            "DeviceGetClockInfo": 1200,
            "DeviceGetTemperature": 88,
            "DeviceGetPowerUsage": 650_000,
            "DeviceGetTotalEnergyConsumption": 10,
            "DeviceGetPersistenceMode": 0,
            **told,
        }
        self.open = 0
        for name, answer in answers.items():
            setattr(self, f"nvml{name}", self._answer(answer, name in refuses))

    @staticmethod
    def _answer(answer: Any, refused: bool):
        def call(*args: Any) -> Any:
            if refused:
                raise NvmlError("Not Supported")
            return answer

        return call

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1


def test_a_hot_gpu_that_others_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    findings = found(tmp_path)
    users, clocks = findings["GPU 0, users"], findings["GPU 0, clocks"]
    assert (users.status, users.found) == ("bad", "compute processes: 99999999; 93 % busy")
    assert clocks.status == "bad"
    assert clocks.found == "hardware thermal slowdown; 1200 MHz now, 88 °C"
    assert findings["GPU 0, persistence"].fix == "sudo nvidia-smi -i 0 -pm 1"


def test_a_gpu_that_answers_nothing_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refuses = (
        "DeviceGetComputeRunningProcesses",
        "DeviceGetUtilizationRates",
        "DeviceGetCurrentClocksThrottleReasons",
        "DeviceGetPersistenceMode",
    )
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(refuses=refuses))
    findings = found(tmp_path)
    for check in ("users", "clocks", "persistence"):
        finding = findings[f"GPU 0, {check}"]
        assert (finding.status, finding.found) == ("unknown", "Not Supported")


def test_a_quiet_gpu_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = SimpleNamespace(pid=os.getpid())
    library = Nvml(
        DeviceGetComputeRunningProcesses=[own],
        DeviceGetUtilizationRates=SimpleNamespace(gpu=0),
        DeviceGetCurrentClocksThrottleReasons=0x1,  # idle, which is no slow-down
        DeviceGetPersistenceMode=1,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    findings = found(tmp_path)
    checks = [
        f"GPU 0, {check}"
        for check in (
            "users", "clocks", "persistence", "power limit", "ECC", "parts", "compute mode", "PCIe",
        )
    ]  # fmt: skip
    assert set(statuses(findings, *checks).values()) == {"good"}


def test_reasons_for_a_slow_gpu_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library = Nvml(
        DeviceGetEnforcedPowerLimit=400_000,
        DeviceGetEccMode=[0, 1],
        DeviceGetMigMode=[1, 1],
        DeviceGetComputeMode=2,
        DeviceGetCurrPcieLinkWidth=4,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    findings = found(tmp_path)
    told = {
        check: (findings[f"GPU 0, {check}"].status, findings[f"GPU 0, {check}"].found)
        for check in ("power limit", "ECC", "parts", "compute mode", "PCIe")
    }
    assert told == {
        "power limit": ("warn", "400 W, the default is 700 W"),
        "ECC": ("warn", "off"),
        "parts": ("warn", "split into MIG instances"),
        "compute mode": ("bad", "prohibited"),
        "PCIe": ("warn", "4 of 16 lanes"),
    }
    assert findings["GPU 0, power limit"].fix == "sudo nvidia-smi -i 0 -pl 700"


def test_the_fingerprint_names_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from qbench.machine.host import fingerprint

    library = Nvml(refuses=("DeviceGetMigMode",))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert fingerprint(tmp_path, {})["gpus"] == [
        {
            "vendor": "NVIDIA",
            "name": "NVIDIA H200",
            "memory_bytes": 150_754_820_096,
            "max_clock_mhz": 1980,
            "pcie_generation": 5,
            "pcie_lanes": 16,
            "mig": None,
            "power_limit_w": 700.0,
            "power_limit_default_w": 700.0,
            "ecc": True,
            "persistence": False,
            "compute_mode": "default",
            "driver": "580.65",
            "cuda": "13.1",
        }
    ]
    assert library.open == 0, "closed again"


def test_a_missing_package_is_reported_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    machines.laptop(tmp_path)
    assert found(tmp_path)["GPU"].status == "good", "its display is Intel's"
    device = "sys/bus/pci/devices/0000:01:00.0"
    machines.write(
        tmp_path,
        {f"{device}/class": "0x030200", f"{device}/vendor": "0x10de", f"{device}/device": "0x2335"},
    )
    finding = found(tmp_path)["GPU"]
    assert (finding.status, finding.fix) == ("unknown", "pip install nvidia-ml-py")
