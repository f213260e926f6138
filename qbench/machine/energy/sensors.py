"""Find the energy counters and power sensors of this machine: RAPL, hwmon and INA3221.

Sensors differ in scope and overlap, so they are never added up: a package's counter includes its
cores', and a board's rail feeds the package. The one exception is the packages of a machine with
several sockets, which are disjoint and form one sensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qbench.machine.energy.integral import Kind
from qbench.machine.energy.nvml import nvml_sensors
from qbench.machine.energy.sensor import Refused, Scope, Sensor, SensorError

LONGEST_READING = 64
"""Maximum length of a sensor file, which holds one number; longer content is rejected."""

RAPL_HIDDEN = "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj (until the next boot)"
"""The kernel restricts RAPL's counters to root, since they leak keys (CVE-2020-8694)."""

GPU_DRIVERS = ("amdgpu", "i915", "xe", "nouveau")
"""hwmon's names of drivers that report a GPU's power."""
BOARD_DRIVERS = ("power_meter",)
"""... and the board's: ACPI's power meter (ACPI specification, section 10.4)."""
BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""INA3221 channels that feed a whole Jetson module, from NVIDIA's developer guides (TX1, TX2, Nano,
Xavier NX, Orin NX, Orin Nano). AGX modules have channels of parts only."""


@dataclass(frozen=True)
class Found:
    """The sensors of a machine: the readable ones, and the others."""

    sensors: Sequence[Sensor]
    refused: Sequence[Refused]


def find_sensors(root: Path = Path("/"), nvml: Any = None) -> Found:
    """Find sensors, and read each once.

    Args:
        root: the root of the file system; tests have another.
        nvml: the module ``pynvml``; if None, it is imported, if installed.
    """
    sensors: list[Sensor] = []
    refused: list[Refused] = []
    for candidate in (*_rapl(root), *_hwmon(root), *_tegra_iio(root), *nvml_sensors(root, nvml)):
        if isinstance(candidate, Refused):
            refused.append(candidate)
            continue
        try:
            candidate.read()
        except SensorError as error:
            refused.append(Refused(candidate.name, str(error)))
        else:
            sensors.append(candidate)
    return Found(tuple(sensors), tuple(refused))


def read_integer(path: Path, hint: str = "") -> int:
    """Read an integer from a file of sysfs.

    Raises:
        SensorError: the file is unreadable, or not an integer.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_READING + 1)
    except OSError as error:
        fix = f": {hint}" if hint and isinstance(error, PermissionError) else ""
        raise SensorError(f"{path}: {error.strerror}{fix}") from None
    if len(text) > LONGEST_READING or not re.fullmatch(rb"-?[0-9]+\n?", text):
        raise SensorError(f"{path} holds no integer: {text[:20]!r}")
    return int(text)


def file_name(*parts: str) -> str:
    """Return a file name made of the machine's own names."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(parts))


# --------------------------------------------------------------------------- RAPL


class _Domain(NamedTuple):
    """A RAPL domain: its name, its counter's file, and the range after which that wraps."""

    name: str
    path: Path
    range_uj: int


class _Wrapping:
    """Sum of counters that wrap at ``range_uj``, in joules since the first reading.

    At most one wrap between two readings is corrected; RAPL wraps after a minute at the earliest.
    """

    def __init__(self, domains: Sequence[_Domain]) -> None:
        self._domains = domains
        self._last: list[int] | None = None
        self._total_uj = 0

    def __call__(self) -> float:
        now = [read_integer(domain.path, RAPL_HIDDEN) for domain in self._domains]
        steps = []
        for domain, before, after in zip(self._domains, self._last or now, now, strict=True):
            step = after - before if after >= before else after - before + domain.range_uj
            if step < 0:
                raise SensorError(
                    f"{domain.path} fell from {before} by more than its range {domain.range_uj}"
                )
            steps.append(step)
        self._total_uj += sum(steps)  # all or none, since the next reading starts from here
        self._last = now
        return self._total_uj * 1e-6


def _rapl(root: Path) -> Iterator[Sensor | Refused]:
    """Yield the counters of Intel's and AMD's RAPL: package, platform (psys) and memory."""
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    by_kind: dict[str, list[_Domain]] = {}
    for zone in zones:
        try:
            name = _text(zone / "name")
            range_uj = read_integer(zone / "max_energy_range_uj")
        except SensorError as error:
            yield Refused(file_name("rapl", zone.name), str(error))
            continue
        kind = name.partition("-")[0]
        if kind in ("package", "psys", "dram"):
            by_kind.setdefault(kind, []).append(_Domain(name, zone / "energy_uj", range_uj))
    scopes: dict[str, Scope] = {"package": "cpu package", "psys": "platform", "dram": "dram"}
    for kind, domains in by_kind.items():
        method = f"rapl {' + '.join(sorted(domain.name for domain in domains))}"
        read = _Wrapping(domains)
        yield Sensor(file_name("rapl", kind), method, scopes[kind], "counter", read)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_READING).decode(errors="replace").strip()
    except OSError as error:
        raise SensorError(f"{path}: {error.strerror}") from None


# --------------------------------------------------------------------------- hwmon


def _hwmon(root: Path) -> Iterator[Sensor | Refused]:
    """Yield hwmon's power and energy sensors (Documentation/hwmon/sysfs-interface.rst), and those
    of the INA3221, whose mainline driver reports volts and amperes
    (Documentation/hwmon/ina3221.rst)."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        try:
            driver = _text(folder / "name")
        except SensorError as error:
            yield Refused(folder.name, str(error))
            continue
        if driver == "ina3221":
            yield from _ina3221(folder)
        else:
            yield from _powers(folder, driver)


def _powers(folder: Path, driver: str) -> Iterator[Sensor]:
    scope: Scope = "rail"
    if driver in GPU_DRIVERS:
        scope = "gpu"
    elif driver in BOARD_DRIVERS:
        scope = "board"
    kinds: tuple[tuple[str, str, Kind], ...] = (
        ("energy", r"energy(\d+)_input", "counter"),
        ("power", r"power(\d+)_input", "power"),
        ("power", r"power(\d+)_average", "power"),
    )
    seen: set[str] = set()
    for word, pattern, kind in kinds:
        for path, number in _numbered(folder, pattern):
            channel = f"{word}{number}"
            if channel in seen:  # some drivers report both the value and its average
                continue
            seen.add(channel)
            label = _label(folder / f"{channel}_label")
            yield Sensor(
                file_name(folder.name, channel),
                f"hwmon {driver} {label or channel}",
                scope,
                kind,
                lambda path=path: read_integer(path) * 1e-6,
            )


def _ina3221(folder: Path) -> Iterator[Sensor | Refused]:
    for path, number in _numbered(folder, r"in([123])_input"):
        name = file_name(folder.name, f"in{number}")
        label = _label(folder / f"in{number}_label")
        if (folder / f"in{number}_enable").exists():
            try:
                enabled = read_integer(folder / f"in{number}_enable")
            except SensorError as error:
                yield Refused(name, str(error))
                continue
            if not enabled:
                yield Refused(name, f"channel {label or number} is disabled")
                continue
        amperes = folder / f"curr{number}_input"
        yield _rail("hwmon ina3221", name, label or f"channel {number}", path, amperes)


def _rail(driver: str, name: str, label: str, millivolts: Path, milliamperes: Path) -> Sensor:
    def read() -> float:
        return read_integer(millivolts) * read_integer(milliamperes) * 1e-6

    scope: Scope = "board" if label in BOARD_RAILS else "rail"
    return Sensor(name, f"{driver} {label}", scope, "power", read)


def _tegra_iio(root: Path) -> Iterator[Sensor]:
    """Yield the rails of the INA3221 with NVIDIA's driver ina3221x, in Jetson Linux up to release
    32 (its developer guide, "Software-Based Power Consumption Modeling")."""
    chips = (root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")
    for folder in sorted(chips):
        for path, number in _numbered(folder, r"in_voltage([012])_input"):
            label = _label(folder / f"rail_name_{number}") or f"channel {number}"
            name = file_name("ina3221x", folder.parent.name, number)
            amperes = folder / f"in_current{number}_input"
            yield _rail("iio ina3221x", name, label, path, amperes)


def _numbered(folder: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield the files whose names match, with the number in each name."""
    for path in sorted(folder.iterdir()):
        if match := re.fullmatch(pattern, path.name):
            yield path, match.group(1)


def _label(path: Path) -> str:
    try:
        return _text(path)
    except SensorError:  # labels are optional
        return ""
