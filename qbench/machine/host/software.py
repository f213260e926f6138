"""Read facts of the software: system, libraries, packages and their settings.

Nothing secret or personal is recorded: only listed variables and kernel parameters, and only the
last part of paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from typing import Any

from qbench.machine.host.tree import Tree

KERNEL_PARAMETERS = {
    "mitigations", "nosmt", "pti", "nopti", "spectre_v2", "spec_store_bypass_disable",
    "isolcpus", "nohz", "nohz_full", "rcu_nocbs", "irqaffinity", "maxcpus", "nr_cpus", "mem",
    "intel_pstate", "amd_pstate", "cpufreq.default_governor", "idle", "processor.max_cstate",
    "intel_idle.max_cstate", "transparent_hugepage", "hugepages", "hugepagesz",
    "default_hugepagesz", "numa_balancing", "clocksource", "tsc", "preempt", "threadirqs",
}  # fmt: skip
"""Parameters that affect speed; the rest of the command line may hold secrets."""

VARIABLES = {
    "LD_PRELOAD", "GLIBC_TUNABLES", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING", "CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_PTX_JIT",
    "CUDA_CACHE_DISABLE", "CUDA_DEVICE_MAX_CONNECTIONS", "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE", "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_XLA_FLAGS", "TF_DISABLE_MKL",
    "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR", "TF_USE_LEGACY_KERAS", "XLA_FLAGS",
    "PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONOPTIMIZE", "PYTHON_GIL",
}  # fmt: skip
PREFIXES = (
    "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "ONEDNN_", "DNNL_", "ORT_",
    "OV_", "OPENVINO_", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "TBB_",
)  # fmt: skip
"""Environment variables that affect results or speed. Not all of TF_* and NVIDIA_*: Terraform keeps
passwords in TF_VAR_*, and NVIDIA_API_KEY is a secret."""

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.I)
IMAGE_VARIABLES = ("QBENCH_CONTAINER_IMAGE", "CI_JOB_IMAGE")
"""Variables with the name of the container's image (the second one is set by GitLab's runners)."""


def software_facts(tree: Tree, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read facts of the software; None if one is unavailable."""
    packages = installed()
    text = json.dumps(packages, sort_keys=True, separators=(",", ":"))
    return {
        "system": platform.system(),
        "kernel": tree.text("proc/sys/kernel/osrelease") or platform.release(),
        "kernel_parameters": kernel_parameters(tree),
        "os": _os_name(tree),
        "libc": _libc(),
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "python_compiler": platform.python_compiler(),
        "packages": packages,
        "packages_digest": hashlib.sha256(text.encode()).hexdigest(),
        "environment_variables": variables(environment),
        "container": container(tree, environment),
    }


def installed() -> dict[str, str]:
    """Return the version of every package of this environment, by normalized name; of a package
    that is installed twice, the one that is imported."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name, version = _name_and_version(distribution)
        if name and version:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))


def _name_and_version(distribution: Distribution) -> tuple[str | None, str | None]:
    """Read a distribution's name and version. Its properties of these names parse all metadata,
    which is ten times slower, and there may be hundreds of packages."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    name, version = (
        re.search(rf"^{field}: *(\S+)", text, re.M) for field in ("Name", "Version")
    )  # the first of each; both are at the top
    return name and name[1], version and version[1]


def kernel_parameters(tree: Tree) -> dict[str, str]:
    """Return the kernel's ``KERNEL_PARAMETERS``; "" for one without a value."""
    words = (tree.text("proc/cmdline") or "").split()
    pairs = (word.partition("=")[::2] for word in words)
    return {name: value for name, value in pairs if name in KERNEL_PARAMETERS}


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that affect results or speed, without secrets and folders."""
    return {
        name: _without_folders(value)
        for name, value in sorted(environment.items())
        if (name in VARIABLES or name.startswith(PREFIXES)) and not _SECRET.search(name)
    }


def _without_folders(value: str) -> str:
    return re.sub(r"(?:[^\s:;,=/]*/)+([^\s:;,=/]*)", r"\1", value)


def container(tree: Tree, environment: Mapping[str, str]) -> dict[str, str | None] | None:
    """Return this container's ``engine`` and, if known, its ``image``; None outside a container."""
    podman = tree.text("run/.containerenv")
    facts = dict(re.findall(r'^(\w+)="([^"\n]*)"$', podman or "", re.M))
    image = next((environment[name] for name in IMAGE_VARIABLES if environment.get(name)), None)
    engine = None
    if podman is not None:
        engine = facts.get("engine", "podman")
    elif "KUBERNETES_SERVICE_HOST" in environment:
        engine = "kubernetes"
    elif tree.exists(".dockerenv"):
        engine = "docker"
    else:
        engine = tree.text("run/systemd/container") or environment.get("container")
    if engine is None and image is None:
        return None
    return {"engine": engine, "image": image or facts.get("image") or None}


def _os_name(tree: Tree) -> str | None:
    for path in ("etc/os-release", "usr/lib/os-release"):
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', tree.text(path) or "", re.M)
        if found:
            return found[1]
    return None


def _libc() -> str | None:
    """Return such as ``glibc 2.36``."""
    try:
        known = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError, AttributeError):
        known = None
    return known or " ".join(part for part in platform.libc_ver(sys.executable) if part) or None
