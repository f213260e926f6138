"""Files of other machines below a folder: what Linux shows of a board, a laptop, a container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CPU = "sys/devices/system/cpu"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def _meminfo(total_kb: int, available_kb: int, swap_kb: int = 0, free_swap_kb: int = 0) -> str:
    return (
        f"MemTotal: {total_kb} kB\nMemAvailable: {available_kb} kB\n"
        f"SwapTotal: {swap_kb} kB\nSwapFree: {free_swap_kb} kB"
    )


def jetson(root: Path) -> Path:
    """A Jetson Orin Nano: six Cortex-A78AE in two clusters, no DMI, no turbo, 15 W mode."""
    core = (
        "processor\t: {}\nFeatures\t: fp asimd asimddp i8mm\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd42"
    )
    files = {
        "proc/cpuinfo": "\n\n".join(core.format(n) for n in range(6)),
        "proc/meminfo": _meminfo(7_800_000, 5_000_000, 3_900_000, 3_900_000),
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/sys/kernel/osrelease": "5.15.148-tegra",
        "proc/sys/vm/swappiness": "60",
        "proc/cmdline": "root=/dev/nvme0n1p1 password=hunter2 isolcpus=4-5 nohz_full=4-5 quiet",
        "var/lib/nvpmodel/status": "pmode:0001",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"',
        f"{CPU}/isolated": "4-5",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "93500",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "99000",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "35000",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "active",
    }
    for n in range(6):
        cluster = "0-3" if n < 4 else "4-5"
        files |= {
            f"{CPU}/cpu{n}/topology/core_cpus_list": str(n),
            f"{CPU}/cpu{n}/topology/physical_package_id": "0",
            f"{CPU}/cpu{n}/cpufreq/scaling_governor": "schedutil",
            f"{CPU}/cpu{n}/cpufreq/scaling_driver": "tegra194",
            f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": "1510400",
            f"{CPU}/cpu{n}/cache/index0/level": "1",
            f"{CPU}/cpu{n}/cache/index0/type": "Data",
            f"{CPU}/cpu{n}/cache/index0/size": "64K",
            f"{CPU}/cpu{n}/cache/index0/shared_cpu_list": str(n),
            f"{CPU}/cpu{n}/cache/index3/level": "3",
            f"{CPU}/cpu{n}/cache/index3/type": "Unified",
            f"{CPU}/cpu{n}/cache/index3/size": "2M",
            f"{CPU}/cpu{n}/cache/index3/shared_cpu_list": cluster,
        }
    return write(root, files)


def laptop(root: Path) -> Path:
    """A laptop on its battery: two cores with two threads each, powersave, turbo and SMT on."""
    core = (
        "processor\t: {}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 140\n"
        "model name\t: Intel(R) Core(TM) i5\nstepping\t: 1\nmicrocode\t: 0xb6\n"
        "flags\t\t: fpu avx2 avx512f avx512_vnni"
    )
    files = {
        "proc/cpuinfo": "\n\n".join(core.format(n) for n in range(4)),
        "proc/meminfo": _meminfo(16_000_000, 400_000, 8_000_000, 6_000_000),
        "proc/sys/vm/swappiness": "60",
        "proc/stat": "cpu  1000 0 500 9000 10 0 5 0 0 0",
        f"{CPU}/smt/active": "1",
        f"{CPU}/smt/control": "on",
        f"{CPU}/intel_pstate/no_turbo": "0",
        "sys/firmware/acpi/platform_profile": "low-power",
        "sys/class/dmi/id/sys_vendor": "LENOVO",
        "sys/class/dmi/id/product_name": "20XW",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "sys/bus/pci/devices/0000:00:02.0/class": "0x030000",
        "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086",
        "sys/bus/pci/devices/0000:00:02.0/device": "0x9a49",
        "sys/bus/pci/devices/0000:00:1f.3/class": "0x040380",
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone0/temp": "101000",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "100000",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "7",
        f"{CPU}/cpu2/thermal_throttle/core_throttle_count": "7",  # the same core
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
        "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet",
    }
    for n in range(4):
        files |= {
            f"{CPU}/cpu{n}/topology/core_cpus_list": f"{n % 2},{n % 2 + 2}",
            f"{CPU}/cpu{n}/topology/physical_package_id": "0",
            f"{CPU}/cpu{n}/thermal_throttle/package_throttle_count": "3",
            f"{CPU}/cpu{n}/cpufreq/scaling_governor": "powersave",
            f"{CPU}/cpu{n}/cpufreq/scaling_driver": "intel_pstate",
            f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": "4200000",
        }
    return write(root, files)


def container(root: Path) -> Path:
    """A Podman container with half a processor and 2 GiB, in a virtual machine whose host took
    time away; control groups of version 2, the quota on the group around its own."""
    return write(
        root,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu hypervisor avx2",
            "proc/meminfo": _meminfo(64_000_000, 60_000_000),
            "proc/stat": "cpu  1000 0 500 8000 10 0 5 500 0 0",
            "proc/self/cgroup": "0::/pod/box",
            "sys/fs/cgroup/pod/cpu.max": "50000 100000",
            "sys/fs/cgroup/pod/cpu.stat": "nr_periods 100\nnr_throttled 40\nthrottled_usec 99",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
            "sys/fs/cgroup/pod/box/memory.max": str(2 << 30),
            "sys/fs/cgroup/pod/box/memory.current": str((2 << 30) - (100 << 20)),
            "sys/fs/cgroup/pod/box/cpuset.cpus.effective": "0-1",
            f"{CPU}/smt/active": "0",
            f"{CPU}/cpu0/topology/core_cpus_list": "0",
            "run/.containerenv": 'engine="podman-5.2.2"\nname="alice"\nid="4f"\n'
            'image="docker.io/library/bench:3"\nimageid="12"',
        },
    )
