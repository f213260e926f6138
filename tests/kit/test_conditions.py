"""Machine conditions around the timed window: on made-up machines, and on this one."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.kit.readings import conditions
from qbench.kit.readings.conditions import Conditions
from qbench.kit.readings.memory import Memory

SECOND = 1_000_000_000
SPIN = """
import os
parent = os.getppid()
print("at it", flush=True)
while os.getppid() == parent:
    pass
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


class Machine:
    """A tree of files such as Linux shows them, and the process's own clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cpu_ns = 0

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def stat(self, *lines: str) -> None:
        """/proc/stat: user nice system idle iowait irq softirq steal guest guest_nice."""
        self.write("proc/stat", "\n".join(["cpu 9 9 9 9 9 9 9 9 9 9", *lines, "intr 1 2 3"]))

    def pressure(self, cpu_us: int, memory_us: int) -> None:
        for name, total in (("cpu", cpu_us), ("memory", memory_us)):
            some = f"some avg10=1.00 avg60=0.10 avg300=0.01 total={total}\n"
            self.write(f"proc/pressure/{name}", some + "full avg10=0 avg60=0 avg300=0 total=77\n")

    def thread(self, number: int, ran: int, waited: int, times: int = 1, cpu: int = 0) -> None:
        task = f"proc/self/task/{number}"
        self.write(f"{task}/schedstat", f"{ran} {waited} {times}\n")
        self.write(f"{task}/stat", f"{number} (a) name) R {'0 ' * 35}{cpu} 0 0\n")

    def end_thread(self, number: int) -> None:
        for file in (folder := self.root / f"proc/self/task/{number}").iterdir():
            file.unlink()
        folder.rmdir()

    def cpu(self, number: int, **files: int) -> None:
        places = {
            "now": "cpufreq/scaling_cur_freq",
            "most": "cpufreq/cpuinfo_max_freq",
            "core": "thermal_throttle/core_throttle_count",
            "package": "thermal_throttle/package_throttle_count",
            "package_id": "topology/physical_package_id",
            "core_id": "topology/core_id",
        }
        for name, value in files.items():
            self.write(f"sys/devices/system/cpu/cpu{number}/{places[name]}", f"{value}\n")

    def begun(self) -> Conditions:
        read = Conditions(self.root)
        read.begin()
        return read


@pytest.fixture
def machine(tmp_path: Path, monkeypatch) -> Machine:
    """One with two usable processors, 0 and 2, and not a file yet."""
    made = Machine(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    monkeypatch.setattr(time, "process_time_ns", lambda: made.cpu_ns)
    return made


OWN = {"involuntary_switches", "major_faults", "minor_faults", "cpus"}


def test_a_machine_without_readings(machine):
    told = machine.begun().end()
    assert {name for name, value in told.items() if value is not None} == OWN
    assert told["cpus"] == 2


# --------------------------------------------------------------------------- processors


def test_other_processes_use_busy_time_minus_own_time(machine):
    machine.stat(
        "cpu0 100 0 50 900 0 0 0 7 0 0", "cpu1 1 1 1 1 1 1 1 1 0 0", "cpu2 5 0 0 9 0 0 0 0"
    )
    read = machine.begun()
    # processor 0: 60 + 10 + 5 + 3 + 2 ticks busy, 200 idle, 40 stolen; 2: 30 busy; 1 is not ours
    machine.stat(
        "cpu0 160 10 55 1100 90 3 2 47 50 5", "cpu1 99 99 99 99 99 99 99 99 0 0",
        "cpu2 35 0 0 99 0 0 0 2",
    )  # fmt: skip
    machine.cpu_ns = 300_000_000
    told = read.end()
    assert told["others_cpu_ns"] == (80 + 30 - 30) * 10_000_000
    assert told["steal_ns"] == (40 + 2) * 10_000_000


def test_own_time_beyond_what_the_ticks_say_leaves_nothing_to_others(machine):
    machine.stat("cpu0 100 0 0 0 0 0 0 0", "cpu2 1 0 0 0 0 0 0 0")
    read = machine.begun()
    machine.stat("cpu0 109 0 0 0 0 0 0 0", "cpu2 1 0 0 0 0 0 0 0")
    machine.cpu_ns = 99_000_000
    assert read.end()["others_cpu_ns"] == 0


@pytest.mark.parametrize(
    "lines",
    [
        ("cpu0 0 0 0 0 0 0 0 0 0 0", "cpu2 0 0 0 0 0 0 0 0 0 0"),  # a sandbox that does not count
        ("cpu0 10 0 0 0 0 0 0 0 0 0",),  # one of the processors is not listed
        ("cpu0 10 0 0", "cpu2 10 0 0"),  # before Linux 2.6
        ("cpu0 much", "cpu2 more"),
    ],
)
def test_processor_time_that_is_not_kept_is_none(machine, lines):
    machine.stat(*lines)
    told = machine.begun().end()
    assert told["others_cpu_ns"] is None and told["steal_ns"] is None


def test_a_steal_of_0_since_the_start_says_nothing(machine):
    machine.stat("cpu0 10 0 0 0 0 0 0 0", "cpu2 10 0 0 0 0 0 0 0")
    told = machine.begun().end()
    assert told["steal_ns"] is None and told["others_cpu_ns"] == 0


def test_the_first_steal_of_a_fresh_machine_is_recorded(machine):
    machine.stat("cpu0 10 0 0 0 0 0 0 0", "cpu2 10 0 0 0 0 0 0 0")
    read = machine.begun()
    machine.stat("cpu0 30 0 0 0 0 0 0 20", "cpu2 30 0 0 0 0 0 0 0")
    assert read.end()["steal_ns"] == 200_000_000


def test_the_first_pressure_of_a_fresh_machine_is_recorded(machine):
    machine.pressure(0, 0)
    read = machine.begun()
    machine.pressure(250, 3)
    told = read.end()
    assert (told["cpu_pressure_ns"], told["memory_pressure_ns"]) == (250_000, 3_000)


def test_no_wait_for_memory_is_0_where_pressure_is_kept(machine):
    machine.pressure(0, 0)
    read = machine.begun()
    machine.pressure(250, 0)
    assert read.end()["memory_pressure_ns"] == 0


def test_pressure(machine):
    machine.pressure(1000, 0)
    read = machine.begun()
    machine.pressure(1250, 3)
    told = read.end()
    assert (told["cpu_pressure_ns"], told["memory_pressure_ns"]) == (250_000, 3_000)


def test_pressure_that_is_not_kept_is_none(machine):
    machine.pressure(0, 0)
    told = machine.begun().end()
    assert (told["cpu_pressure_ns"], told["memory_pressure_ns"]) == (None, None)


# --------------------------------------------------------------------------- threads


def test_waiting_of_threads_that_stay_and_come(machine):
    machine.thread(10, ran=5 * SECOND, waited=700)
    machine.thread(11, ran=0, waited=50)
    read = machine.begun()
    machine.thread(10, ran=6 * SECOND, waited=1000)
    machine.thread(12, ran=2 * SECOND, waited=80)
    machine.cpu_ns = 3 * SECOND
    assert read.end()["run_delay_ns"] == 300 + 80


def test_a_thread_that_did_no_work_may_go(machine):
    machine.thread(10, ran=0, waited=0)
    machine.thread(11, ran=9 * SECOND, waited=900)
    read = machine.begun()
    machine.thread(10, ran=SECOND, waited=40)
    machine.end_thread(11)
    machine.cpu_ns = SECOND
    assert read.end()["run_delay_ns"] == 40


def test_with_a_thread_that_worked_its_waiting_is_lost(machine):
    """The process used 2 s, the threads that are left tell of one."""
    machine.thread(10, ran=0, waited=0)
    machine.thread(11, ran=0, waited=0)
    read = machine.begun()
    machine.thread(10, ran=SECOND, waited=40)
    machine.end_thread(11)
    machine.cpu_ns = 2 * SECOND
    assert read.end()["run_delay_ns"] is None


def test_a_kernel_that_keeps_no_waiting_writes_zeros(machine):
    machine.thread(10, ran=0, waited=0, times=0)
    assert machine.begun().end()["run_delay_ns"] is None


# --------------------------------------------------------------------------- quotas


def test_a_cgroup_v2_quota_of_the_own_group_or_a_parent(machine):
    machine.write("proc/self/cgroup", "0::/pod/box\n")
    groups = "sys/fs/cgroup"
    line = "usage_usec 9\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}\n"
    machine.write(f"{groups}/cpu.stat", "usage_usec 12\nuser_usec 12\nsystem_usec 0\n")
    machine.write(f"{groups}/pod/cpu.stat", line.format(9, 4, 100))
    machine.write(f"{groups}/pod/box/cpu.stat", line.format(0, 0, 0))
    machine.write(f"{groups}/pod/other/cpu.stat", line.format(5, 5, 5))
    read = machine.begun()
    machine.write(f"{groups}/pod/cpu.stat", line.format(14, 7, 350))
    machine.write(f"{groups}/pod/other/cpu.stat", line.format(99, 99, 99))
    told = read.end()
    assert (told["throttled_ns"], told["throttled_periods"]) == (250_000, 3)


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("group", ["/box", "/not/seen/from/inside", "/../../outside"])
def test_a_quota_of_version_1(machine, folder, group):
    """A container sees its own group at the mount point, whatever the group's name."""
    machine.write("proc/self/cgroup", f"9:memory:/m\n4:cpu,cpuacct:{group}\n0::/\n")
    place = f"sys/fs/cgroup/{folder}/box" if group == "/box" else f"sys/fs/cgroup/{folder}"
    machine.write("outside/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 1\n")
    machine.write(f"{place}/cpu.stat", "nr_periods 2\nnr_throttled 1\nthrottled_time 5000\n")
    if folder == "cpu,cpuacct":
        (machine.root / "sys/fs/cgroup/cpu").symlink_to("cpu,cpuacct")
    read = machine.begun()
    machine.write("outside/cpu.stat", "nr_periods 9\nnr_throttled 9\nthrottled_time 9\n")
    machine.write(f"{place}/cpu.stat", "nr_periods 12\nnr_throttled 3\nthrottled_time 12000\n")
    told = read.end()
    assert (told["throttled_ns"], told["throttled_periods"]) == (7_000, 2)


def test_a_group_without_bandwidth_control_has_no_quota(machine):
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write("sys/fs/cgroup/cpu.stat", "usage_usec 12\nuser_usec 12\nsystem_usec 0\n")
    told = machine.begun().end()
    assert told["throttled_ns"] is None and told["throttled_periods"] is None


# --------------------------------------------------------------------------- clock and heat


def test_the_clock_is_that_of_the_processors_it_ran_on(machine):
    machine.cpu(0, now=800_000, most=4_000_000)
    machine.cpu(1, now=3_900_000, most=4_000_000)
    machine.cpu(2, now=3_100_000, most=3_500_000)
    machine.thread(10, 0, 0, cpu=2)
    read = machine.begun()
    machine.cpu(2, now=2_200_000)
    told = read.end()
    keys = ("frequency_khz_begin", "frequency_khz_end", "frequency_max_khz")
    assert [told[key] for key in keys] == [3_100_000, 2_200_000, 3_500_000]


def test_heat_of_cores_and_package(machine):
    """The package's count is the same file for all its processors: counted once."""
    machine.cpu(0, core=5, package=100)
    machine.cpu(2, core=0, package=100)
    read = machine.begun()
    machine.cpu(0, core=7, package=110)
    machine.cpu(2, core=1, package=110)
    assert read.end()["thermal_throttles"] == 3 + 10


def test_heat_of_every_package_counts(machine):
    """One has a large count of long ago; their cores have equal numbers."""
    machine.cpu(0, core=5, package=100, package_id=0, core_id=3)
    machine.cpu(2, core=0, package=2, package_id=1, core_id=3)
    read = machine.begun()
    machine.cpu(0, core=6, package=101)
    machine.cpu(2, core=4, package=9)
    assert read.end()["thermal_throttles"] == (1 + 4) + (1 + 7)


def test_heat_of_a_core_counts_once_for_both_hyperthreads(machine):
    for number in (0, 2):
        machine.cpu(number, core=5, package=7, package_id=0, core_id=1)
    read = machine.begun()
    for number in (0, 2):
        machine.cpu(number, core=8, package=7)
    assert read.end()["thermal_throttles"] == 3


def test_the_hottest_sensor_of_the_processor(machine):
    machine.write("sys/class/thermal/thermal_zone0/type", "iwlwifi_1\n")
    machine.write("sys/class/thermal/thermal_zone0/temp", "99000\n")
    assert machine.begun().end()["temperature_c"] == 99.0  # better than nothing
    machine.write("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n")
    machine.write("sys/class/thermal/thermal_zone1/temp", "61000\n")
    machine.write("sys/class/hwmon/hwmon3/name", "k10temp\n")
    machine.write("sys/class/hwmon/hwmon3/temp1_input", "70125\n")
    machine.write("sys/class/hwmon/hwmon3/temp2_input", "-274000\n")
    machine.write("sys/class/hwmon/hwmon4/name", "nvme\n")
    machine.write("sys/class/hwmon/hwmon4/temp1_input", "90000\n")
    assert machine.begun().end()["temperature_c"] == 70.125


def test_the_load(machine):
    machine.write("proc/loadavg", "1.25 0.75 0.50 2/300 12345\n")
    assert machine.begun().end()["load_average"] == 1.25


# --------------------------------------------------------------------------- files of any content

FILES = [
    "proc/stat", "proc/loadavg", "proc/pressure/cpu", "proc/pressure/memory", "proc/self/cgroup",
    "proc/self/task/7/schedstat", "proc/self/task/7/stat", "sys/fs/cgroup/cpu.stat",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
    "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp",
]  # fmt: skip
words = st.sampled_from(
    ["cpu", "cpu0", "cpu1", "some", "total=", "total=5", "nr_throttled", "throttled_usec", "0::/",
     "-1", "0", "7", "nan", "inf", ")", "\0", "\xff", "\n"]
)  # fmt: skip
contents = st.one_of(st.binary(max_size=60), st.lists(words, max_size=50).map(" ".join))


@settings(max_examples=60, deadline=None)
@given(st.lists(contents, min_size=2 * len(FILES), max_size=2 * len(FILES)))
def test_whatever_the_files_hold_the_answer_is_numbers_or_none(tmp_path_factory, held):
    root = tmp_path_factory.mktemp("root")
    texts = [text if isinstance(text, bytes) else text.encode("latin-1") for text in held]
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for name, text in zip(FILES, texts, strict=False):
        (root / name).write_bytes(text)
    read = Conditions(root)
    read.begin()
    for name, text in zip(FILES, texts[len(FILES) :], strict=True):
        (root / name).write_bytes(text)
    told = read.end()
    json.dumps(told, allow_nan=False)
    assert all(value is None or type(value) in (int, float) for value in told.values())


@given(st.lists(st.integers(0, 2**40), min_size=8, max_size=10), st.integers(0, 2**40))
def test_a_line_of_processor_time_adds_up(tmp_path_factory, fields, intr):
    file = tmp_path_factory.getbasetemp() / "stat"
    line = " ".join(map(str, fields))
    file.write_text(f"cpu {line}\ncpu5  {line}\nintr {intr} 0\n")
    busy, stolen = conditions._machine_time(file, [5])
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    assert busy == 10_000_000 * (user + nice + system + irq + softirq)
    assert stolen == 10_000_000 * steal


# --------------------------------------------------------------------------- this machine


def skip_unless_waiting_is_kept() -> None:
    kept = Path("/proc/self/schedstat")
    if not kept.exists() or kept.read_text().split() == ["0", "0", "0"]:
        pytest.skip("this kernel does not keep how long a thread waits")


@contextmanager
def competing(count: int) -> Iterator[None]:
    """So many processes that keep a processor busy each, from the beginning of the block on."""
    command = [sys.executable, "-c", SPIN]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout and process.stdout.readline() == b"at it\n"
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def around(action) -> dict[str, int | float | None]:
    read = Conditions()
    read.begin()
    action()
    return read.end()


@linux
@pytest.mark.usefixtures("undisturbed")
def test_competing_processes_show():
    """More of them than processors: somebody uses the processors, and this process waits."""
    skip_unless_waiting_is_kept()
    usable = len(os.sched_getaffinity(0))
    with competing(2 * usable):
        told = around(lambda: work(1.0))
    if told["others_cpu_ns"] is None:
        pytest.skip("this system does not count processor time")
    # of three on a processor, fair shares are two thirds for the others and for waiting
    assert told["others_cpu_ns"] > 0.3 * SECOND * min(usable, 2)
    assert told["run_delay_ns"] is not None and told["run_delay_ns"] > 0.1 * SECOND
    assert told["involuntary_switches"] is not None and told["involuntary_switches"] > 0


@linux
def test_fresh_memory_faults():
    def touch() -> None:
        with mmap.mmap(-1, 64 * mmap.PAGESIZE) as pages:
            for page in range(64):
                pages[page * mmap.PAGESIZE] = 1

    faults = around(touch)["minor_faults"]
    assert faults is not None and 1 <= faults < 10_000  # huge pages may serve many at once


@linux
def test_a_thread_that_says_when_it_ends_is_counted():
    skip_unless_waiting_is_kept()

    def in_thread(tells: bool) -> None:
        def body() -> None:
            while time.thread_time() < 0.1:
                pass
            if tells:
                conditions.thread_ends()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()  # returns before the kernel's thread has ended
        while Path(f"/proc/self/task/{thread.native_id}").exists():
            time.sleep(0.001)

    assert around(lambda: in_thread(False))["run_delay_ns"] is None
    assert around(lambda: in_thread(True))["run_delay_ns"] is not None


@linux
@pytest.mark.usefixtures("undisturbed")
def test_a_thread_that_says_so_and_has_not_ended_yet_is_counted_once():
    skip_unless_waiting_is_kept()
    said, may_end = threading.Event(), threading.Event()

    def body() -> None:
        while time.thread_time() < 0.05:
            pass
        conditions.thread_ends()
        said.set()
        may_end.wait()

    def waited_ns(thread_id: int) -> int:
        return int(Path(f"/proc/self/task/{thread_id}/schedstat").read_text().split()[1])

    read, me = Conditions(), threading.get_native_id()
    with competing(2 * len(os.sched_getaffinity(0))):
        mine_ns = -waited_ns(me)
        read.begin()
        thread = threading.Thread(target=body)
        thread.start()
        said.wait()
        counted = read.end()["run_delay_ns"]
        mine_ns += waited_ns(me)
        its_ns = waited_ns(thread.native_id or 0)
        may_end.set()
        thread.join()
    assert counted is not None and its_ns > 0.01 * SECOND
    assert counted <= its_ns + mine_ns


@linux
def test_reading_costs_little():
    """The best of several readings takes at most 1 % of a window of 0.3 s."""
    read, seconds = Conditions(), []
    for _ in range(10):
        begin = time.perf_counter()
        read.begin()
        read.end()
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.003


# --------------------------------------------------------------------------- memory, in two


@linux
def test_resident_memory_by_where_it_comes_from(tmp_path):
    size = 32 << 20
    (tmp_path / "file").write_bytes(b"\1" * size)
    memory = Memory()
    kept = bytearray(os.urandom(1)) * size
    first = memory.split()
    with (tmp_path / "file").open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert sum(view[i] for i in range(0, size, mmap.PAGESIZE)) == size // mmap.PAGESIZE
        second = memory.split()
        view.close()
    assert first is not None and second is not None and len(kept) == size
    assert first["anonymous_bytes"] == pytest.approx(size, rel=0.1)
    assert first["file_bytes"] < size / 4
    assert second["file_bytes"] == pytest.approx(size, rel=0.1)
    assert second["anonymous_bytes"] == pytest.approx(size, rel=0.1)
