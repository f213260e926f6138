"""Machine and software on the page: facts, missing facts, and differences between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qbench.analysis.compare.comparable import compare_bundles
from qbench.analysis.systems import described
from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.spec.system import missing

HOST_FACTS = {
    "hostname": "host name",
    "cpu_model": "processor",
    "cpu_signature": "family/model/stepping",
    "sockets": "sockets",
    "cores_physical": "cores, physical",
    "cores_logical": "cores, logical",
    "cores_usable": "cores, usable by the run",
    "smt": "several threads per core (SMT)",
    "cpu_flags": "instruction sets that matter",
    "microcode": "microcode",
    "architecture": "architecture",
    "caches": "caches",
    "numa_nodes": "NUMA nodes",
    "max_frequency_mhz": "highest clock, MHz",
    "governor": "frequency governor",
    "power_mode": "power mode",
    "turbo": "turbo",
    "memory_bytes": "memory",
    "memory_configuration": "memory modules",
    "swap_bytes": "swap",
    "gpus": "GPUs",
    "system_vendor": "vendor",
    "system_product": "product",
    "firmware_version": "firmware",
    "hypervisor": "virtual machine",
    "cgroup": "limits of the control group",
    "container": "container",
    "os": "operating system",
    "kernel": "kernel",
    "kernel_parameters": "kernel parameters that matter",
    "libc": "C library",
    "python": "Python",
    "python_compiler": "Python's compiler",
    "environment_variables": "environment variables that matter",
    "packages_digest": "digest of all packages",
    "host_id": "machine's digest",
}
MOST_DIFFERENCES = 200
LONGEST = 300
"""Maximum characters of a value on the page."""


def facts(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """``rows``: names with their value in each run; ``unknown``: names that have no value in any
    run."""
    rows = [
        (title, [_fact(key, to_json(bundle.begin.host).get(key)) for bundle in bundles])
        for key, title in HOST_FACTS.items()
    ]
    software = [bundle.begin.software for bundle in bundles]
    names = dict.fromkeys(name for versions in software for name in versions)
    rows += [(name, [_fact(name, versions.get(name)) for versions in software]) for name in names]
    known = [row for row in rows if any(value != "–" for value in row[1])]
    return {"rows": known, "unknown": [row[0] for row in rows if row not in known]}


def _fact(key: str, value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "–"
    if key.endswith("_bytes") and isinstance(value, int | float):
        return f"{value / 1e9:.1f} GB"
    if key == "caches":
        return ", ".join(_cache(cache) for cache in value)
    return _words(value)[:LONGEST]


def _cache(cache: Mapping[str, Any]) -> str:
    size = cache["bytes"] / 1024
    text = f"{size / 1024:g} MiB" if size >= 1024 else f"{size:g} KiB"
    count = "" if cache["instances"] is None else f"{cache['instances']} × "
    return f"{cache['level']} {count}{text}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        known = [f"{name} {_words(inner)}" for name, inner in value.items() if inner is not None]
        return ", ".join(known) or "–"
    if isinstance(value, list):
        return ", ".join(_words(inner) for inner in value)
    return str(value)


def mlperf_fields(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """MLPerf's description of the systems: ``rows``, fields with their value in each run, "" if a
    person has to fill it in; and ``missing``, their number in each run."""
    found = [described(bundle) for bundle in bundles]
    names = list(dict.fromkeys(name for fields in found for name in fields))
    rows = [
        (name, ["" if f.get(name) is None else str(f[name])[:LONGEST] for f in found])
        for name in names
    ]
    return {"rows": rows, "missing": [len(missing(fields)) for fields in found]}


def differences(letters: Sequence[str], bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
    """Differences of every run from the first: ``pair``, ``level``, whether the two runs allow
    claims of ``regression`` and ``choice``, ``rows`` (field, value in the first run, value in the
    other, claims that the difference rules out) and ``left_out``."""
    found = []
    for letter, bundle in zip(letters[1:], bundles[1:], strict=True):
        compared = compare_bundles(bundles[0], bundle)
        ordered = sorted(compared.differences, key=lambda d: not d.spoils)  # stable
        found.append(
            {
                "pair": (letters[0], letter),
                "level": compared.level,
                "regression": not compared.reasons_against("regression"),
                "choice": not compared.reasons_against("choice"),
                "rows": [
                    (d.field, _value(d.a), _value(d.b), ", ".join(d.spoils))
                    for d in ordered[:MOST_DIFFERENCES]
                ],
                "left_out": max(0, len(ordered) - MOST_DIFFERENCES),
            }
        )
    return found


def _value(value: Any) -> str:
    return "not known" if value is None else _words(value)[:LONGEST]
