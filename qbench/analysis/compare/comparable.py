"""Which runs and cases can be compared, and on which fields two of them differ.

There are two levels. A *choice* (which machine, backend or precision?) needs the same work: model,
data, metric, batch and scenario, measured in the same way. A *regression* (is a new version
slower?) also needs the same artifact, on the same machine with the same settings. Even then, two
consecutive runs see the machine at two times: a verdict needs both versions interleaved in one run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from qbench.bundle.bundle import Bundle
from qbench.bundle.records.run import to_json
from qbench.spec.columns import CaseRow
from qbench.storage import leaves

Claim = Literal["choice", "regression"]
Level = Literal["same machine and software", "same machine", "different machine"]

WALL = "wall"
"""The only scope of energy that means the same on every machine: everything that the socket
supplies."""

_HOW = ("settings.warmup_s", "settings.timed_s", "software.qbench")
"""Settings that change how calls are measured on any machine: a window of another length has
another clock and temperature, and another version of qbench may count differently."""
_NOT_COMPARED = ("hostname", "host_id", "packages_digest")
"""Fields that the level covers, or the packages themselves."""
_UNDER_TEST = (
    "packages", "python", "python_implementation", "python_compiler", "libc", "container",
)  # fmt: skip
"""Software in the fingerprint whose regressions are looked for: a difference there is expected, and
no reason against a comparison."""
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
        a, b: its values; None: not known or missing.
        spoils: the claims that it invalidates.
    """

    field: str
    a: Any
    b: Any
    spoils: tuple[Claim, ...]

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.a)} against {_shown(self.b)}"


@dataclass(frozen=True)
class Comparability:
    """How far the bundles of two runs are comparable."""

    level: Level
    differences: tuple[Difference, ...]

    def reasons_against(self, claim: Claim) -> list[str]:
        """Reasons why the two runs do not support a claim; for two of their cases see ``same_work``
        and ``same_artifact``."""
        reasons = [str(d) for d in self.differences if claim in d.spoils]
        if claim == "regression" and self.level == "different machine":
            return ["they were measured on different machines", *reasons]
        return reasons


def compare_bundles(a: Bundle, b: Bundle) -> Comparability:
    """The fields of machine, software and settings on which two bundles differ. A field that only
    one of them has is a difference: unknown is not equal."""
    first, last = facts_of(a), facts_of(b)
    differences = tuple(
        Difference(name, first.get(name), last.get(name), spoiled(name))
        for name in dict.fromkeys([*first, *last])
        if first.get(name) != last.get(name)
    )
    level: Level = "same machine and software"
    if a.begin.host.host_id != b.begin.host.host_id:
        level = "different machine"
    elif any(is_software(difference.field) for difference in differences):
        level = "same machine"
    return Comparability(level, differences)


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """The fields that bundles are compared on, by name, without None and empty ones."""
    begin = bundle.begin
    host, settings = to_json(begin.host), to_json(begin.settings)
    facts = {
        "host": {key: value for key, value in host.items() if key not in _NOT_COMPARED},
        "system": to_json(begin.system) if begin.system else None,
        "software": begin.software,
        "backends": {
            **{name: probe.version for name, probe in begin.backends.items()},
            "environments": {name: built.resolved for name, built in begin.environments.items()},
        },
        # how the run is judged changes no figure
        "settings": {name: value for name, value in settings.items() if name != "gate"},
    }
    return dict(leaves(facts, split_lists=False))


def spoiled(field: str) -> tuple[Claim, ...]:
    """The claims that a difference in a field invalidates."""
    if field in _HOW:
        return ("choice", "regression")
    group, _, rest = field.partition(".")
    under_test = group == "host" and rest.partition(".")[0] in _UNDER_TEST
    if under_test or group == "backends" or group == "software":
        return ()
    return ("regression",)


def is_software(field: str) -> bool:
    """Whether a field describes software, not the machine or the measurement."""
    group, _, rest = field.partition(".")
    if group == "host":
        top, last = rest.partition(".")[0], rest.rpartition(".")[2]
        is_driver = top == "gpus" and last in _DRIVERS
        return is_driver or top in (*_UNDER_TEST, *_SYSTEM_SOFTWARE)
    return group in ("software", "backends")


def _shown(value: Any) -> str:
    return "not known" if value is None else str(value)


# --------------------------------------------------------------------------- two cases


def same_work(a: CaseRow, b: CaseRow) -> list[str]:
    """The columns on which the work of two cases differs; none if they did the same work. A missing
    digest counts as a difference.

    If two backends read files of different formats, whose digests cannot be equal, the name of the
    card identifies the model; the fidelity of their outputs is in the table.
    """
    same_format = a.source_format == b.source_format
    return _differing(a, b, [*WORK, *(["model_digest"] if same_format else [])])


def same_artifact(a: CaseRow, b: CaseRow) -> list[str]:
    """The columns on which two cases differ in artifact, request or work; none if they ran the same
    artifact in the same way."""
    found = same_work(a, b) + _differing(a, b, [*REQUEST, "artifact_digest"])
    requested_alike = a.case_id == b.case_id
    if not requested_alike and not [name for name in found if name not in DIGESTS]:
        found.append("case_id")  # settings of the runtime, which have no column
    return found


def _differing(a: CaseRow, b: CaseRow, names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        first, last = getattr(a, name), getattr(b, name)
        if first != last or (name in DIGESTS and first is None):
            found.append(name)
    return found


# --------------------------------------------------------------------------- energy


class NotComparable(ValueError):
    """Two figures must not be compared; the message says why."""


def comparable_energy(a: CaseRow, b: CaseRow) -> str | None:
    """Why the energies of two cases must not be compared; None if they may be.

    Both need the same scope and method (of a proxy that includes its figures and their source), and
    both with or both without the idle power subtracted. Across machines only energies measured at
    the wall are comparable: a counter covers other parts on each machine. At the wall every meter
    measures the same quantity, so the method does not matter.
    """
    for row in (a, b):
        if row.energy_mj_per_inference is None:
            return f"there is no energy of case {row.case_id}"
    return _found_otherwise(a, b)


def _found_otherwise(a: CaseRow, b: CaseRow) -> str | None:
    """How the methods of two cases' energies differ; None if they do not differ in anything that
    matters."""
    if a.energy_is_measured != b.energy_is_measured:
        return "one is measured and the other is a proxy"
    at_the_wall = a.energy_is_measured and a.energy_scope == b.energy_scope == WALL
    for first, last, words in (
        (a.energy_scope, b.energy_scope, "they cover different parts of the machine"),
        (a.energy_method, b.energy_method, "they were found by different methods"),
    ):
        if (first is None or first != last) and not at_the_wall:
            return f"{words}: {_shown(first)} against {_shown(last)}"
    if (a.idle_w is None) != (b.idle_w is None):
        return "idle power was subtracted from one of them only"
    if a.host_id == b.host_id or at_the_wall:
        return None
    if not a.energy_is_measured:
        return "a proxy holds on one machine only, and these are two"
    return (
        f"the scope '{a.energy_scope}' covers other parts on another machine; what is measured "
        "at the wall may be compared"
    )


def energy_key(row: CaseRow) -> str | None:
    """A key that is equal for two cases exactly if their energies may be compared
    (``comparable_energy``); None for a case without energy."""
    measured, scope, method = row.energy_is_measured, row.energy_scope, row.energy_method
    if row.energy_mj_per_inference is None:
        return None
    if measured and scope == WALL:
        same = [WALL]
    elif scope is None or method is None:
        return None
    else:
        same = [measured, scope, method, row.host_id]
    return repr([*same, row.idle_w is None])


def energy_ratio(a: CaseRow, b: CaseRow) -> float:
    """Energy per inference of ``b`` over that of ``a``.

    Raises:
        NotComparable: they must not be compared.
    """
    reason = comparable_energy(a, b)
    if reason is not None:
        raise NotComparable(reason)
    assert a.energy_mj_per_inference is not None and b.energy_mj_per_inference is not None
    return b.energy_mj_per_inference / a.energy_mj_per_inference


Row = TypeVar("Row", bound=CaseRow)


def energy_groups(cases: Iterable[Row]) -> list[list[Row]]:
    """Group the cases that have an energy, at least the one with the idle share, by
    comparability."""
    groups: list[list[Row]] = []
    for case in cases:
        if case.energy_mj_per_inference is None and case.energy_gross_mj_per_inference is None:
            continue
        for group in groups:
            if _found_otherwise(group[0], case) is None:
                group.append(case)
                break
        else:
            groups.append([case])
    return groups
