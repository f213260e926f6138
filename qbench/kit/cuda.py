"""The CUDA devices of this machine, listed by NVIDIA's driver library through ctypes.

Adapters call this before they import a runtime that would crash without a device. A damaged driver
may crash or hang the calling process, so the driver is called in a separate one.
"""

from __future__ import annotations

import ctypes
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qbench.kit import apart
from qbench.kit.reasons import sentence

LIBRARY = "libcuda.so.1"
"""The driver's library; part of the driver, never of a Python package or the toolkit."""

KERNEL_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists while the kernel has NVIDIA's module loaded, in containers as well."""

DRIVER_SINCE = {11: "450", 12: "525", 13: "580"}
"""The first Linux driver branch that supports a major version of CUDA (CUDA Compatibility guide,
"Minor Version Compatibility")."""

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


class NoCuda(Exception):
    """No CUDA device is usable.

    Attributes:
        reason: one line, without a full stop.
        fix: the remedy, a sentence.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}. {fix}")
        self.reason, self.fix = reason, fix


@dataclass(frozen=True)
class Device:
    """A device as CUDA shows it to this process.

    Attributes:
        index: its CUDA index, after CUDA_VISIBLE_DEVICES; nvidia-smi may order otherwise.
        name: the product, such as ``NVIDIA H100 80GB HBM3``.
        compute_capability: such as ``9.0``.
        driver: the newest CUDA version that the driver supports, such as ``13.0``.
        memory_bytes: its total memory.
        pci_bus_id: ``domain:bus:device.function``, such as ``0000:3B:00.0``.
        uuid: as nvidia-smi writes it, ``GPU-...``, or ``MIG-...`` for a MIG instance.
        driver_release: the driver's own version, such as ``580.159.04``, or ``unknown``.
    """

    index: int
    name: str
    compute_capability: str
    driver: str
    memory_bytes: int
    pci_bus_id: str
    uuid: str
    driver_release: str = "unknown"

    @property
    def key(self) -> str:
        """The device's name in suites and answers, such as ``cuda:0``."""
        return f"cuda:{self.index}"

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability as two numbers, which compare correctly (12.0 > 9.0)."""
        major, minor = self.compute_capability.split(".")
        return int(major), int(minor)

    def facts(self) -> dict[str, Any]:
        """Return the facts for ``Ready.devices``."""
        return asdict(self)

    def require(self, cuda_major: int, what: str) -> None:
        """Check that the driver supports builds for a major version of CUDA. Within a major
        version, an older driver supports newer builds.

        Args:
            what: the package, for the message.

        Raises:
            NoCuda: the driver is too old.
        """
        if int(self.driver.split(".")[0]) < cuda_major:
            since = DRIVER_SINCE.get(cuda_major)
            raise NoCuda(
                f"{what} is built for CUDA {cuda_major}, and the driver supports CUDA "
                f"{self.driver} at most",
                f"Upgrade the NVIDIA driver{f' to {since} or newer' if since else ''}, or install "
                f"a build of {what} for an older CUDA.",
            )


def devices(timeout_s: float = 30) -> list[Device]:
    """List the devices that this process may use, at least one, without starting CUDA in this
    process.

    Args:
        timeout_s: listing takes seconds on a large machine whose GPUs are not in persistence mode.

    Raises:
        NoCuda: there is none; has the reason.
    """
    try:
        answer = apart.call(f"{__name__}:answer", timeout_s)
    except apart.Died as died:
        raise NoCuda(
            f"the NVIDIA driver {died.how} while listing devices",
            "Restart the machine; dmesg may show what the kernel's driver waits for."
            if died.hung
            else "Run nvidia-smi: if it fails as well, reinstall the driver; if not, check that "
            f"LD_LIBRARY_PATH leads to that driver's {LIBRARY}.",
        ) from died
    if "reason" in answer:
        raise NoCuda(answer["reason"], answer["fix"])
    return [Device(**facts) for facts in answer["devices"]]


def answer(step: apart.Step) -> dict[str, Any]:
    """Answer :func:`devices` in the other process."""
    step("devices")
    try:
        return {"devices": [device.facts() for device in _devices()]}
    except NoCuda as error:
        return {"reason": error.reason, "fix": error.fix}


def _devices() -> list[Device]:
    cuda = _library()
    _call(cuda, "cuInit", ctypes.c_uint(0))
    driver = _driver_version(cuda)
    count = ctypes.c_int()
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise _no_device()
    return [_device(cuda, index, driver) for index in range(count.value)]


def _library() -> ctypes.CDLL:
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        if LIBRARY not in str(error) or "cannot open shared object file" not in str(error):
            raise NoCuda(
                f"NVIDIA's driver library does not load: {sentence(error)}",
                "Reinstall the NVIDIA driver.",
            ) from error
        if KERNEL_DRIVER.exists():
            raise NoCuda(
                f"the kernel has NVIDIA's driver, but its library {LIBRARY} is missing",
                "Start the container with NVIDIA's container toolkit (docker run --gpus all), or "
                "put the library's folder into LD_LIBRARY_PATH.",
            ) from error
        raise NoCuda(
            f"no NVIDIA driver: there is no {LIBRARY}",
            "Run on a host with an NVIDIA GPU and its driver.",
        ) from error
    if not hasattr(cuda, "cuInit"):
        raise NoCuda(
            f"the {LIBRARY} that was loaded is not NVIDIA's driver library: it has no cuInit",
            "Remove that file's folder from LD_LIBRARY_PATH.",
        )
    return cuda


def _device(cuda: ctypes.CDLL, index: int, driver: str) -> Device:
    handle = ctypes.c_int()
    _call(cuda, "cuDeviceGet", ctypes.byref(handle), ctypes.c_int(index))
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGetName", name, ctypes.c_int(len(name)), handle)
    bus = ctypes.create_string_buffer(32)
    _call(cuda, "cuDeviceGetPCIBusId", bus, ctypes.c_int(len(bus)), handle)
    memory = ctypes.c_size_t()
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    identity = (ctypes.c_ubyte * 16)()
    _call(cuda, "cuDeviceGetUuid_v2", ctypes.byref(identity), handle)
    product = name.value.decode(errors="replace")
    return Device(
        index=index,
        name=product,
        compute_capability=f"{_attribute(cuda, _MAJOR, handle)}.{_attribute(cuda, _MINOR, handle)}",
        driver=driver,
        memory_bytes=memory.value,
        pci_bus_id=bus.value.decode(errors="replace"),
        # the driver returns a MIG instance's own UUID, and only its name says that it is one
        uuid=f"{'MIG' if ' MIG ' in product else 'GPU'}-{uuid.UUID(bytes=bytes(identity))}",
        driver_release=driver_release(KERNEL_DRIVER),
    )


def driver_release(file: Path) -> str:
    """Read the driver's release from ``/proc/driver/nvidia/version``: the first number with a point
    in ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build``."""
    try:
        found = re.search(r"NVRM version:.*?\s(\d+\.[\d.]+)\s", file.read_text(errors="replace"))
    except OSError:
        return "unknown"
    return found.group(1) if found else "unknown"


def _attribute(cuda: ctypes.CDLL, attribute: int, handle: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), handle)
    return value.value


def _driver_version(cuda: ctypes.CDLL) -> str:
    version = ctypes.c_int()  # 1000 * major + 10 * minor
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _call(cuda: ctypes.CDLL, function: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        NoCuda: the driver is too old to have it, or it returns an error.
    """
    try:
        status = getattr(cuda, function)(*arguments)
    except AttributeError as error:
        raise NoCuda(
            f"the NVIDIA driver is too old: it has no {function}",
            "Upgrade the NVIDIA driver to 525 or newer.",
        ) from error
    if status:
        raise refused(function, status)


# --------------------------------------------------------------------------- errors


def _no_device() -> NoCuda:
    """Explain why a working driver finds no device."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return NoCuda(
            f"no CUDA device: CUDA_VISIBLE_DEVICES is '{visible}', which leaves none",
            "Unset CUDA_VISIBLE_DEVICES, or name a device that nvidia-smi -L lists.",
        )
    return NoCuda(
        "no CUDA device: the driver finds no usable GPU",
        "Run nvidia-smi: if it lists a GPU, give this user or container access to it (docker run "
        "--gpus all); if not, run on a host with an NVIDIA GPU.",
    )


def refused(function: str, status: int) -> NoCuda:
    """Explain a CUDA error.

    Args:
        function: the function that returned it.
        status: error code of the driver API or the runtime API, which share their numbers.
    """
    if status == 100:  # CUDA_ERROR_NO_DEVICE
        return _no_device()
    name, meaning, fix = _ERRORS.get(
        status,
        ("", "the NVIDIA driver does not work", "See nvidia-smi and dmesg for the cause."),
    )
    code = f"CUDA error {status}{f', {name}' if name else ''}"
    return NoCuda(f"{meaning} ({code}, of {function})", fix)


_ERRORS: Mapping[int, tuple[str, str, str]] = {
    2: (
        "OUT_OF_MEMORY",
        "not enough memory to start the driver",
        "End other processes that use the GPU (nvidia-smi lists them), or wait for them.",
    ),
    3: (
        "NOT_INITIALIZED",
        "the driver was started before this process was forked",
        "Start qbench from a process that does not use CUDA itself.",
    ),
    34: (
        "STUB_LIBRARY",
        f"the {LIBRARY} that was loaded is the toolkit's stub, not the driver",
        "Remove the toolkit's folder 'stubs' from LD_LIBRARY_PATH.",
    ),
    35: (
        "INSUFFICIENT_DRIVER",
        "the NVIDIA driver is older than this CUDA needs",
        "Upgrade the NVIDIA driver.",
    ),
    36: (
        "CALL_REQUIRES_NEWER_DRIVER",
        "the driver's library needs a newer kernel driver",
        "Upgrade the NVIDIA driver, and restart the machine.",
    ),
    46: (
        "DEVICE_UNAVAILABLE",
        "another process uses the GPU exclusively",
        "Wait for that process (nvidia-smi lists it), or set the compute mode 'Default'.",
    ),
    101: (
        "INVALID_DEVICE",
        "the GPU is not usable as configured",
        "Check CUDA_VISIBLE_DEVICES and, for a virtual GPU, its licence (nvidia-smi -q).",
    ),
    304: (
        "OPERATING_SYSTEM",
        "the system denies access to the GPU",
        "Check the rights on /dev/nvidia*; in a container, start it with NVIDIA's container "
        "toolkit.",
    ),
    801: (
        "NOT_SUPPORTED",
        "this machine or virtual GPU does not allow CUDA",
        "Use a virtual GPU profile with compute, or a whole GPU.",
    ),
    802: (
        "SYSTEM_NOT_READY",
        "the machine's GPUs are not ready: their NVLink fabric is not initialized",
        "Start the driver's version of the fabric manager (systemctl start nvidia-fabricmanager).",
    ),
    803: (
        "SYSTEM_DRIVER_MISMATCH",
        "the driver's library and the kernel's driver are of different versions",
        "Restart the machine after the driver's upgrade; in a container, remove its own driver "
        "library.",
    ),
    804: (
        "COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "CUDA's forward compatibility package does not work with this GPU",
        "Remove the folder 'compat' from LD_LIBRARY_PATH, and upgrade the NVIDIA driver instead.",
    ),
    805: (
        "MPS_CONNECTION_FAILED",
        "CUDA's MPS server does not answer",
        "Restart it (nvidia-cuda-mps-control), or unset CUDA_MPS_PIPE_DIRECTORY.",
    ),
    999: (
        "UNKNOWN",
        "the driver does not start for an unknown reason, as after a suspend or without the kernel "
        "module nvidia_uvm",
        "Reload that module (rmmod nvidia_uvm; modprobe nvidia_uvm), or restart the machine.",
    ),
}
"""Name, meaning and remedy by error code of the driver API (cuda.h, CUresult; 35 is the runtime
API's)."""
