"""Check the processors: clocks, heat, sharing."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from qbench.kit.readings.conditions import thermal_throttles
from qbench.machine.doctor.finding import Finding, Status, judged
from qbench.machine.host.processor import CPUS, is_virtual, power_mode, turbo
from qbench.machine.host.tree import Tree, cpu_numbers

GOOD_CLOCKS = {"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "timebase"}
"""Clock sources that are read without a system call (vDSO)."""
SLOW_CLOCK_NS = 300.0
"""A slower reading makes a system call; through the vDSO, Python takes about 50 to 100 ns."""
COARSE_CLOCK_NS = 1000
NEAR_TRIP_C = 10.0
"""Within this distance of a trip point, minutes of load will reach it."""


def governor(tree: Tree) -> Finding:
    """Check the frequency governor of every processor."""
    check = "frequency governor"
    found = Counter(tree.text(p) for p in tree.paths(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_governor"))
    if not found:
        return Finding(
            check,
            "unknown",
            "the kernel has no cpufreq (in a virtual machine the host controls the clock)",
            "when the clock changes, the same call takes a different time",
        )
    shown = ", ".join(f"{name} on {count}" for name, count in sorted(found.items(), key=str))
    driver = tree.text(f"{CPUS}/cpu0/cpufreq/scaling_driver") or "an unnamed driver"
    # under intel_pstate and amd-pstate-epp "powersave" means that the processor chooses
    chooses = driver.startswith(("intel_pstate", "amd-pstate-epp"))
    held = "powersave" in found and not chooses
    return judged(
        check,
        "good" if set(found) == {"performance"} else "bad" if held else "warn",
        f"{shown} processors ({driver})",
        "the clock stays at its minimum"
        if held
        else "the clock follows the load: calls after a start or a pause are slower",
        f"echo performance | sudo tee /{CPUS}/cpu*/cpufreq/scaling_governor",
    )


def boost(tree: Tree) -> Finding:
    """Check whether turbo clocks are on."""
    check, on = "turbo", turbo(tree)
    if on is None:
        return Finding(
            check,
            "unknown",
            "neither intel_pstate/no_turbo nor cpufreq/boost exists",
            "turbo clocks depend on heat and on the load of other cores",
        )
    intel = tree.exists(f"{CPUS}/intel_pstate/no_turbo")
    fix = f"{CPUS}/intel_pstate/no_turbo" if intel else f"{CPUS}/cpufreq/boost"
    return judged(
        check,
        "warn" if on else "good",
        "on" if on else "off",
        "turbo clocks depend on heat and on the load of other cores; to compare versions switch it "
        "off, to choose a machine leave it as in production",
        f"echo {int(intel)} | sudo tee /{fix}",
    )


def threads_per_core(tree: Tree) -> Finding:
    """Check simultaneous multithreading."""
    check = "SMT"
    active, control = tree.number(f"{CPUS}/smt/active"), tree.text(f"{CPUS}/smt/control")
    if active is None or (active == 0 and is_virtual(tree)):
        return Finding(
            check,
            "unknown",
            "the kernel does not report it"
            if active is None
            else "off in this virtual machine; only its host knows whether two of its processors "
            "share a core",
            "two threads on one core slow each other down",
        )
    return judged(
        check,
        "good" if active == 0 else "warn",
        "off" if active == 0 else f"on (control: {control})",
        "two threads on one core slow each other down",
        f"echo off | sudo tee /{CPUS}/smt/control",
    )


def heat(tree: Tree) -> Finding:
    """Compare temperatures with trip points, and count how often processors were throttled."""
    check, why = "temperature", "a hot processor lowers its clock"
    margins = []
    for zone in tree.paths("sys/class/thermal/thermal_zone*"):
        now = tree.number(zone / "temp")
        trips = [
            trip
            for path in tree.paths(f"{zone.relative_to(tree.root)}/trip_point_*_temp")
            if (trip := tree.number(path)) and trip > 0
            and tree.text(str(path).replace("_temp", "_type")) in ("passive", "hot", "critical")
        ]  # fmt: skip
        if now is not None and trips:
            name = tree.text(zone / "type") or zone.name
            margins.append(((min(trips) - now) / 1000, now / 1000, name))
    cores = {
        cpu: (
            tree.number(cpu / "topology/physical_package_id"),
            tree.text(cpu / "topology/core_cpus_list") or cpu.name,
        )
        for cpu in tree.paths(f"{CPUS}/cpu[0-9]*")
    }
    throttled = thermal_throttles(cores)
    shown = "" if throttled is None else f"throttled {throttled} times since boot"
    if not margins:
        if throttled:
            return Finding(check, "warn", shown, why, None)
        where = f"no thermal zone with a trip point; {shown}" if shown else "no thermal zone"
        return Finding(check, "unknown", where, why)
    margin, now, name = min(margins)
    status = "bad" if margin <= 0 else "warn" if margin < NEAR_TRIP_C or throttled else "good"
    below = f"{margin:.0f} °C below" if margin > 0 else f"{-margin:.0f} °C above"
    found = f"{name} at {now:.0f} °C, {below} its trip point" + (f"; {shown}" if shown else "")
    return judged(check, status, found, f"{why}: let it cool down, and check its cooling")


def power_source(tree: Tree) -> Finding | None:
    """Check whether a laptop runs on battery; None without a battery."""
    supplies = tree.paths("sys/class/power_supply/*")
    kinds = {path: tree.text(path / "type") for path in supplies}
    if "Battery" not in kinds.values():
        return None
    drained = [
        path
        for path, kind in kinds.items()
        if kind == "Battery" and tree.text(path / "status") == "Discharging"
    ]
    return judged(
        "power source",
        "bad" if drained else "good",
        "battery" if drained else "mains",
        "on battery the firmware lowers clocks: plug it in",
    )


def mode(tree: Tree) -> Finding | None:
    """Check the power mode of a Jetson or a laptop; None without power modes."""
    found = power_mode(tree)
    if found is None:
        return None
    why = "it lowers clocks; to choose a machine, measure in the mode used in production"
    if found.startswith("nvpmodel"):
        modes = re.findall(
            r"POWER_MODEL\s+ID=(\d+)\s+NAME=(MAXN\w*)", tree.text("etc/nvpmodel.conf") or ""
        )
        fix = f"sudo nvpmodel -m {modes[-1][0]} && sudo jetson_clocks" if modes else None
        return judged("power mode", "good" if "(MAXN" in found else "warn", found, why, fix)
    statuses: dict[str, Status] = {"performance": "good", "balanced": "warn"}
    status = statuses.get(found, "bad")
    fix = "echo performance | sudo tee /sys/firmware/acpi/platform_profile"
    return judged("power mode", status, found, why, fix)


def isolation(tree: Tree, affinity: set[int]) -> Finding:
    """Check whether this process runs on processors that the kernel isolates from other work."""
    isolated = cpu_numbers(tree.text(f"{CPUS}/isolated"))
    if not isolated:
        return Finding(
            "isolated processors", "good", "none: the scheduler chooses processors freely"
        )
    listed = tree.text(f"{CPUS}/isolated")
    return judged(
        "isolated processors",
        "good" if affinity <= isolated else "warn",
        f"{listed}; this process may run on {len(affinity & isolated)} of them",
        "this process runs on the others, together with other work",
        f"taskset -c {listed} qbench run ...",
    )


def huge_pages(tree: Tree) -> Finding:
    """Check transparent huge pages."""
    check, why = "huge pages", "some processes get huge pages and others do not"
    text = tree.text("sys/kernel/mm/transparent_hugepage/enabled")
    chosen = [word.strip("[]") for word in (text or "").split() if word.startswith("[")]
    if not chosen:
        return Finding(check, "unknown", "the kernel does not report it", why)
    return judged(
        check,
        "warn" if chosen[0] == "always" else "good",
        chosen[0],
        why,
        "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    )


def clock(tree: Tree) -> Finding:
    """Check the clock of latencies: its source, the time of a reading, and its resolution."""
    base = Path("sys/devices/system/clocksource/clocksource0")
    source = tree.text(base / "current_clocksource")
    cost, step = _clock_cost_ns()
    slow = cost > SLOW_CLOCK_NS or step > COARSE_CLOCK_NS
    status = "good" if source in GOOD_CLOCKS else "unknown" if source is None else "warn"
    available = (tree.text(base / "available_clocksource") or "").split()
    better = next((name for name in available if name in GOOD_CLOCKS), None)
    return judged(
        "clock",
        "bad" if slow else status,
        f"{source or 'unknown source'}; a reading takes {cost:.0f} ns, in steps of {step} ns",
        "every call is timed by two readings",
        f"echo {better} | sudo tee /{base}/current_clocksource" if better else None,
    )


def _clock_cost_ns() -> tuple[float, int]:
    """Return the time of ``perf_counter_ns`` (of the best of some blocks), and its smallest
    step."""
    read = time.perf_counter_ns
    costs, step = [], 10**9
    for _ in range(20):
        begin = last = read()
        for _ in range(200):
            now = read()
            if last < now < last + step:
                step = now - last
            last = now
        costs.append((last - begin) / 200)
    return min(costs), step
