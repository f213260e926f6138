"""MLPerf's description of a system, from the machine's facts and the user's.

The names are those of MLPerf Inference's submission checker
(``SYSTEM_DESC_REQUIRED_FIELDS`` and ``..._POWER`` in mlcommons/inference,
tools/submission/submission_checker.py, v4.1).
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from qbench.spec.yamlfile import Strict, load


def _as_text(value: Any) -> Any:
    """Accept a number where a text is expected, such as `host_network_card_count: 2`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _as_date(value: Any) -> Any:
    """Accept a date as text, as in JSON and in YAML with quotes."""
    return datetime.date.fromisoformat(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_as_text), Field(min_length=1, max_length=2000)]


class Price(Strict):
    """The price of a system.

    Attributes:
        amount: of the whole measured system, in ``currency``.
        currency: ISO 4217, such as EUR.
        date: the day of the price.
        source: a shop, an offer or a price list.
    """

    amount: Annotated[float, Field(gt=0)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    date: Annotated[datetime.date, BeforeValidator(_as_date)]
    source: Text


class Power(Strict):
    """MLPerf's fields for systems with measured power, by its names."""

    power_management: Text | None = None
    filesystem: Text | None = None
    boot_firmware_version: Text | None = None
    management_firmware_version: Text | None = None
    other_hardware: Text | None = None
    number_of_type_nics_installed: Text | None = None
    nics_enabled_firmware: Text | None = None
    nics_enabled_os: Text | None = None
    nics_enabled_connected: Text | None = None
    network_speed_mbit: Text | None = None
    power_supply_quantity_and_rating_watts: Text | None = None
    power_supply_details: Text | None = None
    disk_drives: Text | None = None
    disk_controllers: Text | None = None
    system_power_only: Text | None = None


class System(Strict):
    """The user's description of a system; all fields are optional. All except the last three are
    MLPerf's, by its names (``accelerator_on_chip_memories`` has a hyphen there). The user's value
    takes precedence over the value read from the machine, which the bundle keeps, too.

    Attributes:
        form_factor: such as ``laptop``, ``2U server`` or ``100 x 80 mm board``.
        price: of the whole system.
        power: for measured power.
    """

    submitter: Text | None = None
    division: Literal["open", "closed", "network"] | None = None
    status: Literal["available", "preview", "rdi"] | None = None
    system_type: Literal["edge", "datacenter", "datacenter,edge", "edge,datacenter"] | None = None
    system_type_detail: Text | None = None
    system_name: Text | None = None
    host_processor_frequency: Text | None = None
    host_processor_interconnect: Text | None = None
    host_memory_configuration: Text | None = None
    host_storage_type: Text | None = None
    host_storage_capacity: Text | None = None
    host_networking: Text | None = None
    host_network_card_count: Text | None = None
    host_networking_topology: Text | None = None
    accelerators_per_node: Annotated[int, Field(ge=0)] | None = None
    accelerator_model_name: Text | None = None
    accelerator_frequency: Text | None = None
    accelerator_memory_capacity: Text | None = None
    accelerator_memory_configuration: Text | None = None
    accelerator_on_chip_memories: Text | None = None
    accelerator_host_interconnect: Text | None = None
    accelerator_interconnect: Text | None = None
    accelerator_interconnect_topology: Text | None = None
    cooling: Text | None = None
    hw_notes: Text | None = None
    sw_notes: Text | None = None
    form_factor: Text | None = None
    price: Price | None = None
    power: Power | None = None


FIELDS = (
    "submitter", "division", "status", "system_type", "system_type_detail", "system_name",
    "number_of_nodes", "host_processors_per_node", "host_processor_model_name",
    "host_processor_core_count", "host_processor_frequency", "host_processor_caches",
    "host_processor_interconnect", "host_memory_capacity", "host_memory_configuration",
    "host_storage_type", "host_storage_capacity", "host_networking", "host_network_card_count",
    "host_networking_topology", "accelerators_per_node", "accelerator_model_name",
    "accelerator_frequency", "accelerator_memory_capacity", "accelerator_memory_configuration",
    "accelerator_on-chip_memories", "accelerator_host_interconnect", "accelerator_interconnect",
    "accelerator_interconnect_topology", "cooling", "hw_notes", "framework", "operating_system",
    "other_software_stack", "sw_notes",
)  # fmt: skip
"""MLPerf's fields for every system."""


def load_system(path: Path | None = None) -> System | None:
    """Read the description in ``path``, else in $QBENCH_SYSTEM; None if neither is given.

    Raises:
        UserError: the file cannot be read, or is not a ``System``.
    """
    named = path or os.environ.get("QBENCH_SYSTEM")
    return load(Path(named), System)[0] if named else None


def mlperf_system(
    host: Mapping[str, Any], system: System | None, software: Mapping[str, str | None]
) -> dict[str, str | int | None]:
    """MLPerf's description: ``FIELDS``, and the given fields of ``Power``. None: unknown.

    Args:
        host: a fingerprint, such as a bundle's.
        software: versions of the inference software, by name.
    """
    given = system.model_dump(exclude={"price", "power", "form_factor"}) if system else {}
    given["accelerator_on-chip_memories"] = given.pop("accelerator_on_chip_memories", None)
    read = _read(host, software)
    fields = {n: given[n] if given.get(n) is not None else read.get(n) for n in FIELDS}
    power = system.power.model_dump(exclude_none=True) if system and system.power else {}
    return {**fields, **power}


def missing(fields: Mapping[str, Any]) -> list[str]:
    """The fields of a description that the user has to fill in."""
    return [name for name in FIELDS if fields.get(name) is None]


def _read(host: Mapping[str, Any], software: Mapping[str, str | None]) -> dict[str, Any]:
    """The fields that are read from the machine."""
    sockets, cores = host.get("sockets"), host.get("cores_physical")
    megahertz, size = host.get("max_frequency_mhz"), host.get("memory_bytes")
    names = dict.fromkeys([host.get("system_vendor"), host.get("system_product")])
    kernel = " ".join(str(host[key]) for key in ("system", "kernel") if host.get(key))
    return {
        "system_name": " ".join(name for name in names if name) or None,
        "number_of_nodes": 1,  # qbench measures one machine at a time
        "host_processors_per_node": sockets,
        "host_processor_model_name": host.get("cpu_model"),
        "host_processor_core_count": cores // sockets if cores and sockets else None,
        "host_processor_frequency": f"{megahertz} MHz" if megahertz else None,
        "host_processor_caches": _caches(host.get("caches") or []),
        "host_memory_capacity": _binary(size),
        "host_memory_configuration": host.get("memory_configuration"),
        **_accelerators(host),
        "framework": _listed(software.items()),
        "operating_system": _joined(host.get("os"), kernel),
        "other_software_stack": _stack(host),
    }


def _caches(caches: Sequence[Mapping[str, Any]]) -> str | None:
    """Such as ``8x L1d 32 KiB, 8x L1i 32 KiB, 8x L2 1 MiB, 1x L3 32 MiB``."""
    return _joined(*(f"{c['instances']}x {c['level']} {_binary(c['bytes'])}" for c in caches))


def _accelerators(host: Mapping[str, Any]) -> dict[str, Any]:
    gpus = host.get("gpus")
    if gpus:
        first = gpus[0]
        clock, lanes = first["max_clock_mhz"], first["pcie_lanes"]
        return {
            "accelerators_per_node": len(gpus),
            "accelerator_model_name": _joined(*dict.fromkeys(gpu["name"] for gpu in gpus)),
            "accelerator_frequency": f"{clock} MHz" if clock else None,
            "accelerator_memory_capacity": _binary(first["memory_bytes"]),
            "accelerator_host_interconnect": f"PCIe Gen{first['pcie_generation']} x{lanes}"
            if lanes and first["pcie_generation"]
            else None,
        }
    # A board's accelerator is not on the PCI bus: only on a PC does an empty bus mean none.
    if host.get("architecture") == "x86_64" and host.get("pci_accelerators") == []:
        none = [name for name in FIELDS if name.startswith("accelerator_")]
        return {"accelerators_per_node": 0, **dict.fromkeys(none, "N/A")}
    return {}


def _stack(host: Mapping[str, Any]) -> str | None:
    gpus: list[dict[str, Any]] = host.get("gpus") or [{}]
    gpu = gpus[0]
    versions: list[tuple[str, str | None]] = [
        (host.get("python_implementation") or "Python", host.get("python")),
        ("NVIDIA driver", gpu.get("driver")),
        ("CUDA driver", gpu.get("cuda")),
    ]
    return _joined(_listed(versions), host.get("libc"))


def _listed(versions: Any) -> str | None:
    return _joined(*(f"{name} {version}" for name, version in versions if version))


def _joined(*parts: str | None) -> str | None:
    return ", ".join(part for part in parts if part) or None


def _binary(size: int | None) -> str | None:
    """A size with its unit: 32768 is ``32 KiB``."""
    if size is None:
        return None
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= step:
            return f"{round(size / step, 1):g} {unit}"
    return f"{size / 1024:g} KiB"
