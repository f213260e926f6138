"""The fingerprint of a machine: the facts needed to compare its results with another's."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qbench.machine.gpu.listing import nvidia_gpus
from qbench.machine.host.cgroup import limits, usable_cores
from qbench.machine.host.devices import board_facts, memory_facts, pci_accelerators
from qbench.machine.host.processor import processor_facts
from qbench.machine.host.software import software_facts
from qbench.machine.host.tree import Tree

__all__ = ["fingerprint", "usable_cores"]


def fingerprint(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Read facts of this machine and its software; None if one is unavailable.

    ``host_id`` is a digest of the machine's identity and processor, which do not depend on its
    software. In a container, whose name and identity are new each time, the environment variable
    QBENCH_MACHINE names the machine.

    Args:
        root: where the kernel's files are read; tests have another.
    """
    tree = Tree(root)
    group = limits(tree)
    facts = {
        "hostname": socket.gethostname(),
        "architecture": platform.machine(),
        **processor_facts(tree),
        "cores_usable": usable_cores(root),
        **memory_facts(tree),
        **board_facts(tree),
        "cgroup": {
            "cpu_quota": group.cpu_quota,
            "memory_bytes": group.memory_bytes,
            "cpuset": group.cpuset,
        },
        "gpus": nvidia_gpus(),
        "pci_accelerators": pci_accelerators(tree),
        **software_facts(tree, environment),
    }
    named = environment.get("QBENCH_MACHINE")
    identity = [named] if named else [tree.text("etc/machine-id"), facts["hostname"]]
    identity.append(facts["cpu_model"])
    facts["host_id"] = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    return facts
