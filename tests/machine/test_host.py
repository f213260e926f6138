"""The fingerprint of this machine, and of others by their files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import machines
import pytest

from qbench.machine.host import fingerprint, usable_cores


def of(root: Path, **environment: str) -> dict:
    return fingerprint(root, environment)


# --------------------------------------------------------------------------- this machine


def test_this_machine_is_described_in_a_third_of_a_second():
    fingerprint()  # the first pays for imports and cold files
    begin = time.process_time()  # whatever else the machine does
    facts = fingerprint()
    assert time.process_time() - begin < 0.3
    assert json.loads(json.dumps(facts)) == facts
    assert facts["kernel"] == platform.release()
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch("[0-9a-f]{12}", facts["host_id"])
    assert 1 <= facts["cores_usable"] <= facts["cores_logical"]


def test_the_packages_are_those_of_the_environment():
    packages = fingerprint()["packages"]
    assert packages["numpy"] == importlib.metadata.version("numpy")
    names = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in names} == set(packages)


@pytest.mark.skipif(sys.platform != "linux", reason="lscpu is Linux's")
def test_the_processor_is_what_lscpu_says():
    try:
        told = subprocess.run(["lscpu", "-J"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("lscpu is not installed")

    def fields(entries: list[dict]) -> dict[str, str]:
        found = {}
        for entry in entries:
            found[entry["field"].rstrip(":")] = entry["data"]
            found |= fields(entry.get("children", []))
        return found

    lscpu, facts = fields(json.loads(told)["lscpu"]), fingerprint()
    assert str(facts["cores_logical"]) == lscpu["CPU(s)"]
    if "Socket(s)" in lscpu:
        assert str(facts["sockets"]) == lscpu["Socket(s)"]
        cores = int(lscpu["Core(s) per socket"]) * int(lscpu["Socket(s)"])
        assert facts["cores_physical"] == cores
    if "NUMA node(s)" in lscpu:
        assert str(facts["numa_nodes"]) == lscpu["NUMA node(s)"]


def test_the_machine_stays_the_same_whatever_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machines.write(machines.jetson(tmp_path), {"etc/machine-id": "4f2a"})
    before = of(tmp_path)
    machines.write(tmp_path, {"proc/sys/kernel/osrelease": "6.8"})
    monkeypatch.setattr("platform.python_version", lambda: "3.99")
    monkeypatch.setattr("qbench.machine.host.software.installed", lambda: {"numpy": "99"})
    after = of(tmp_path, OMP_NUM_THREADS="2")
    for changed in ("kernel", "python", "packages_digest", "environment_variables"):
        assert after[changed] != before[changed]
    assert after["host_id"] == before["host_id"]
    machines.write(tmp_path, {"etc/machine-id": "5e3b"})
    assert of(tmp_path)["host_id"] != before["host_id"]
    assert "4f2a" not in json.dumps(before), "only its digest is told"


def test_the_machine_of_a_container_can_be_named(tmp_path: Path):
    (tmp_path / "proc").mkdir()
    one, two = of(tmp_path, QBENCH_MACHINE="rack-7"), of(tmp_path, QBENCH_MACHINE="rack-8")
    assert one["host_id"] != two["host_id"] != of(tmp_path)["host_id"]
    machines.write(tmp_path, {"etc/machine-id": "another"})
    assert of(tmp_path, QBENCH_MACHINE="rack-7")["host_id"] == one["host_id"]


# --------------------------------------------------------------------------- other machines


def test_a_board(tmp_path: Path):
    facts = of(machines.jetson(tmp_path))
    assert facts["cpu_model"] == "Cortex-A78AE"
    assert facts["cpu_flags"] == ["asimd", "asimddp", "i8mm"]
    assert (facts["sockets"], facts["cores_physical"], facts["cores_logical"]) == (1, 6, 6)
    assert facts["caches"] == [
        {"level": "L1d", "bytes": 64 * 1024, "instances": 6},
        {"level": "L3", "bytes": 2 * 1024**2, "instances": 2},
    ]
    assert facts["system_product"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert facts["power_mode"] == "nvpmodel 1 (15W)"
    assert facts["governor"] == "schedutil"
    assert facts["max_frequency_mhz"] == 1510
    assert facts["memory_bytes"] == 7_800_000 * 1024
    assert facts["os"] == "Ubuntu 22.04.5 LTS"
    assert facts["kernel"] == "5.15.148-tegra"
    assert facts["turbo"] is None, "the kernel does not say"
    assert facts["smt"] is None
    assert facts["hypervisor"] is None, "an ARM has no flag for it"
    assert facts["pci_accelerators"] is None


def test_cores_of_several_kinds_are_counted(tmp_path: Path):
    parts = ["0xd05"] * 4 + ["0xd0b"] * 2 + ["0xfff"]
    text = "\n\n".join(
        f"processor: {n}\nCPU implementer: 0x41\nCPU part: {p}" for n, p in enumerate(parts)
    )
    machines.write(tmp_path, {"proc/cpuinfo": text})
    assert of(tmp_path)["cpu_model"] == "4x Cortex-A55 + 2x Cortex-A76 + 1x ARM core 0x41:0xfff"


def test_a_laptop(tmp_path: Path):
    facts = of(machines.laptop(tmp_path))
    assert facts["cpu_model"] == "Intel(R) Core(TM) i5"
    assert facts["cpu_signature"] == "6/140/1"
    assert facts["microcode"] == "0xb6"
    assert (facts["cores_physical"], facts["cores_logical"]) == (2, 4)
    assert (facts["turbo"], facts["smt"], facts["hypervisor"]) == (True, True, False)
    assert facts["power_mode"] == "low-power"
    assert (facts["system_vendor"], facts["system_product"]) == ("LENOVO", "20XW")
    assert facts["pci_accelerators"] == [
        {"class": "display", "pci_id": "8086:9a49", "kernel_driver": None}
    ]


def test_a_container(tmp_path: Path):
    facts = of(machines.container(tmp_path))
    assert facts["cgroup"] == {"cpu_quota": 0.5, "memory_bytes": 2 << 30, "cpuset": "0-1"}
    assert facts["cores_usable"] == 1
    assert facts["hypervisor"] is True
    assert facts["container"] == {"engine": "podman-5.2.2", "image": "docker.io/library/bench:3"}
    assert "alice" not in json.dumps(facts), "no name that a person gave"
    told = of(tmp_path, QBENCH_CONTAINER_IMAGE="bench@sha256:12")
    assert told["container"] == {"engine": "podman-5.2.2", "image": "bench@sha256:12"}


def test_containers_are_recognized(tmp_path: Path):
    assert of(tmp_path)["container"] is None
    assert of(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1")["container"] == {
        "engine": "kubernetes",
        "image": None,
    }
    machines.write(tmp_path, {".dockerenv": ""})
    assert of(tmp_path)["container"] == {"engine": "docker", "image": None}


def test_a_machine_that_shows_nothing_is_described_by_none(tmp_path: Path):
    (tmp_path / "proc").mkdir()
    facts = of(tmp_path)
    for key in ("cores_physical", "memory_bytes", "governor", "turbo", "numa_nodes", "swap_bytes"):
        assert facts[key] is None, key
    assert facts["cgroup"] == {"cpu_quota": None, "memory_bytes": None, "cpuset": None}


# --------------------------------------------------------------------------- what is not told


def test_of_the_kernels_parameters_only_those_that_matter(tmp_path: Path):
    facts = of(machines.jetson(tmp_path))
    assert facts["kernel_parameters"] == {"isolcpus": "4-5", "nohz_full": "4-5"}
    assert "hunter2" not in json.dumps(facts)


def test_of_the_variables_only_those_that_matter_and_no_secrets(tmp_path: Path):
    told = of(
        tmp_path,
        OMP_NUM_THREADS="2",
        LD_PRELOAD="/home/alice/lib/libjemalloc.so.2:/usr/lib/libx.so",
        MALLOC_CONF="dirty_decay_ms:1000,narenas:2",
        TF_VAR_db_password="hunter2",
        NVIDIA_API_KEY="hunter2",
        ORT_HUB_TOKEN="hunter2",
        HOME="/home/alice",
        AWS_SECRET_ACCESS_KEY="hunter2",
    )["environment_variables"]
    assert told == {
        "LD_PRELOAD": "libjemalloc.so.2:libx.so",
        "MALLOC_CONF": "dirty_decay_ms:1000,narenas:2",
        "OMP_NUM_THREADS": "2",
    }


# --------------------------------------------------------------------------- quotas


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "120000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cores_are_as_many_as_the_quota_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], quota: int | None
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    machines.write(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert usable_cores(tmp_path) == (quota or 4)


def test_the_narrowest_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    machines.write(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/outer/inner\n0::/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/outer/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu/outer/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/outer/inner/cpu.cfs_quota_us": "600000",
            "sys/fs/cgroup/cpu/outer/inner/cpu.cfs_period_us": "100000",
        },
    )
    assert usable_cores(tmp_path) == 3


def test_a_path_of_the_hosts_leads_to_the_containers_own_group(tmp_path: Path):
    machines.write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/4f2a\n3:cpu:/../../etc",
            "proc/meminfo": "MemTotal: 8000000 kB",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(1 << 30),
        },
    )
    assert of(tmp_path)["cgroup"]["memory_bytes"] == 1 << 30
    machines.write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"})
    assert of(tmp_path)["cgroup"]["memory_bytes"] is None, "version 1's word for no limit"
