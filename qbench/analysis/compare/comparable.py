"""What may be compared with what, and on which fields two runs or two cases differ.

There are two levels. A *choice* (which machine, backend or precision?) needs the same work: model,
data, metric, batch, scenario, measured in the same way. A *regression* (has a new version become
slower?) needs the same artifact besides, on the same machine as it was set up. Even then, two runs
one after the other see the machine at two times: a verdict takes both versions interleaved in one
run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qbench.bundle.bundle import Bundle

Claim = Literal["choice", "regression"]
Level = Literal["same machine and software", "same machine", "different machine"]

WALL = "wall"
"""The one scope of energy that means the same on every machine: all that the plug gives."""

_HOW = ("settings.warmup_s", "settings.timed_s", "software.qbench")
"""How calls are measured, on whatever machine: a window of another length meets another clock and
other heat, and another version of qbench may count otherwise."""
_NOT_COMPARED = ("hostname", "host_id", "packages_digest")
"""Which the level says, or the packages themselves."""
_UNDER_TEST = (
    "packages", "python", "python_implementation", "python_compiler", "libc", "container",
)  # fmt: skip
"""Of the fingerprint, the software that a regression is looked for in: a difference there is the
question, and no reason against an answer."""
_SYSTEM_SOFTWARE = ("os", "kernel", "kernel_parameters", "environment_variables")
_DRIVERS = ("driver", "cuda")

WORK = (
    "model", "dataset_digest", "accuracy_metric", "accuracy_items", "scenario",
    "scenario_options", "batch_size",
)  # fmt: skip
REQUEST = (
    "backend", "environment", "precision", "variant", "recipe", "device", "threads", "streams",
)  # fmt: skip
DIGESTS = ("model_digest", "dataset_digest", "artifact_digest")


# --------------------------------------------------------------------------- two runs


@dataclass(frozen=True)
class Difference:
    """A field that two runs differ on.

    Attributes:
        field: its name, such as ``host.governor`` or ``host.packages.numpy``.
        a, b: its values; None: not known, or not there.
        spoils: the claims that it speaks against.
    """

    field: str
    a: Any
    b: Any
    spoils: tuple[Claim, ...]

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.a)} against {_shown(self.b)}"


@dataclass(frozen=True)
class Comparability:
    """What the bundles of two runs have in common."""

    level: Level
    differences: tuple[Difference, ...]

    def reasons_against(self, claim: Claim) -> list[str]:
        """Why the two runs do not bear a claim; whether two of their cases do, is for ``same_work``
        and ``same_artifact`` to say."""
        reasons = [str(d) for d in self.differences if claim in d.spoils]
        if claim == "regression" and self.level == "different machine":
            return ["they were measured on different machines", *reasons]
        return reasons


def compare_bundles(a: Bundle, b: Bundle) -> Comparability:
    """On which fields of machine, software and settings two bundles differ. A field that only one
    of them knows is a difference: not known is not the same."""
    first, last = facts_of(a), facts_of(b)
    differences = tuple(
        Difference(name, first.get(name), last.get(name), spoiled(name))
        for name in dict.fromkeys([*first, *last])
        if first.get(name) != last.get(name)
    )
    level: Level = "same machine and software"
    if a.begin["host"]["host_id"] != b.begin["host"]["host_id"]:
        level = "different machine"
    elif any(is_software(difference.field) for difference in differences):
        level = "same machine"
    return Comparability(level, differences)


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """The fields that two bundles are compared on, by name; None and what is empty left out."""
    begin = bundle.begin
    host = {key: value for key, value in begin["host"].items() if key not in _NOT_COMPARED}
    backends = {name: found.get("version") for name, found in begin["backends"].items()}
    environments = {name: made["resolved"] for name, made in begin.get("environments", {}).items()}
    settings = {name: value for name, value in begin["settings"].items() if name != "gate"}
    facts = {
        "host": host,
        "system": begin.get("system"),
        "software": begin["software"],
        "backends": {**backends, "environments": environments},
        "settings": settings,  # but for how the run is judged, which changes no figure
    }
    return dict(_flat(facts, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Leaves by their path: ``host.gpus.0.driver``. Empty ones and None are as if not there."""
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        value = {str(index): part for index, part in enumerate(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value


def spoiled(field: str) -> tuple[Claim, ...]:
    """The claims that a difference in a field speaks against."""
    if field in _HOW:
        return ("choice", "regression")
    group, _, rest = field.partition(".")
    under_test = group == "host" and rest.partition(".")[0] in _UNDER_TEST
    if under_test or group == "backends" or group == "software":
        return ()
    return ("regression",)


def is_software(field: str) -> bool:
    """Whether a field tells of software, and not of the machine or of how it was measured."""
    group, _, rest = field.partition(".")
    if group == "host":
        top, last = rest.partition(".")[0], rest.rpartition(".")[2]
        is_driver = top == "gpus" and last in _DRIVERS
        return is_driver or top in (*_UNDER_TEST, *_SYSTEM_SOFTWARE)
    return group in ("software", "backends")


def _shown(value: Any) -> str:
    return "not known" if value is None else str(value)


# --------------------------------------------------------------------------- two cases


def same_work(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The columns that show that two cases of case tables did not do the same work; none if they
    did. A digest that is missing shows it too.

    Where two backends read files of different formats, the card's name stands for the model, since
    their digests cannot be equal; their outputs' fidelity is in the table.
    """
    same_format = a.get("source_format") == b.get("source_format")
    return _differing(a, b, [*WORK, *(["model_digest"] if same_format else [])])


def same_artifact(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The columns that show that two cases did not run the same artifact in the same way on the
    same work; none if they did."""
    found = same_work(a, b) + _differing(a, b, [*REQUEST, "artifact_digest"])
    requested_alike = a["case_id"] == b["case_id"]
    if not requested_alike and not [name for name in found if name not in DIGESTS]:
        found.append("case_id")  # settings of the runtime, which have no column
    return found


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if a.get(name) != b.get(name) or (name in DIGESTS and a.get(name) is None)
    ]


# --------------------------------------------------------------------------- energy


_ENERGIES = ("energy_mj_per_inference", "energy_gross_mj_per_inference")


class NotComparable(ValueError):
    """Two figures must not be compared; the message says why."""


def comparable_energy(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Why the energies of two cases must not be compared; None if they may be.

    Both have to be of one scope, found by one method (of a proxy that includes its figures and
    their source), and both with or both without the idle power subtracted. Across machines only
    what was measured at the wall is comparable: a counter covers other parts on each. At the wall
    every meter measures the same quantity, so its method does not matter.
    """
    for row in (a, b):
        if row.get("energy_mj_per_inference") is None:
            return f"there is no energy of case {row['case_id']}"
    return _found_otherwise(a, b)


def _found_otherwise(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """On what the ways differ in which the energies of two cases were found; None: on nothing that
    matters."""
    if a["energy_is_measured"] != b["energy_is_measured"]:
        return "one is measured and the other is a proxy"
    at_the_wall = a["energy_is_measured"] and a["energy_scope"] == b["energy_scope"] == WALL
    for name, words in (
        ("energy_scope", "they cover different parts of the machine"),
        ("energy_method", "they were found by different methods"),
    ):
        differ = a[name] is None or a[name] != b[name]
        if differ and not at_the_wall:
            return f"{words}: {_shown(a[name])} against {_shown(b[name])}"
    if (a.get("idle_w") is None) != (b.get("idle_w") is None):
        return "idle power was subtracted from one of them only"
    if a["host_id"] == b["host_id"] or at_the_wall:
        return None
    if not a["energy_is_measured"]:
        return "a proxy holds on one machine only, and these are two"
    return (
        f"the scope '{a['energy_scope']}' covers other parts on another machine; what is measured "
        "at the wall may be compared"
    )


def energy_key(row: Mapping[str, Any]) -> str | None:
    """Text that is the same for two cases whose energies may be compared, and for no others: what
    ``comparable_energy`` asks, of each case alone. None: with none."""
    measured, scope, method = (row[f"energy_{name}"] for name in ("is_measured", "scope", "method"))
    if row.get("energy_mj_per_inference") is None:
        return None
    if measured and scope == WALL:
        same = [WALL]
    elif scope is None or method is None:
        return None
    else:
        same = [measured, scope, method, row["host_id"]]
    return repr([*same, row.get("idle_w") is None])


def energy_ratio(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Energy per inference of ``b`` over that of ``a``.

    Raises:
        NotComparable: they must not be compared.
    """
    reason = comparable_energy(a, b)
    if reason is not None:
        raise NotComparable(reason)
    return float(b["energy_mj_per_inference"] / a["energy_mj_per_inference"])


def energy_groups(cases: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The cases that have an energy, if only the one with the idle share: those together that may
    be compared with each other."""
    groups: list[list[Mapping[str, Any]]] = []
    for case in cases:
        if all(case[name] is None for name in _ENERGIES):
            continue
        for group in groups:
            if _found_otherwise(group[0], case) is None:
                group.append(case)
                break
        else:
            groups.append([case])
    return groups
