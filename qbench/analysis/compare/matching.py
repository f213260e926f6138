"""Match the cases of the two sides of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from qbench.bundle.bundle import Bundle
from qbench.errors import UserError, check_known
from qbench.spec.case import Case
from qbench.spec.columns import CaseRow

Column = Literal["environment", "backend", "precision"]
"""The columns in which the two sides of one bundle may differ."""
COLUMNS: tuple[Column, ...] = ("environment", "backend", "precision")

_REQUESTED = (
    "model", "backend", "environment", "precision", "variant", "recipe", "device", "scenario",
    "scenario_options", "batch_size", "threads", "streams",
)  # fmt: skip
_OF_THE_MACHINE = (("threads", "streams"), ("device", "environment"))
"""Columns that a suite leaves to the machine, the more usual first: two runs may differ in them."""
_FOLLOWS: dict[Column, tuple[str, ...]] = {
    "environment": (),
    "backend": ("options", "hints"),
    "precision": ("options", "hints", "recipe"),
}
"""Fields of a case that depend on backend or precision: cases without an equal counterpart may
differ in these too."""


class Matches(NamedTuple):
    """Pairs of cases, and the rest of both sides."""

    pairs: list[tuple[CaseRow, CaseRow]]
    only_a: list[CaseRow]
    only_b: list[CaseRow]


def values_of(bundle: Bundle) -> dict[Column, list[str]]:
    """The values of each column that can be compared, in the plan's order."""
    cases = [entry.case for entry in bundle.plan.cases]
    return {
        column: list(dict.fromkeys(getattr(case, column) for case in cases)) for column in COLUMNS
    }


def find_column(bundle: Bundle, a: str, b: str) -> Column:
    """The column that has both names as values.

    Raises:
        UserError: there is none, or more than one.
    """
    values = values_of(bundle)
    found: list[Column] = [column for column in COLUMNS if {a, b} <= set(values[column])]
    if len(found) == 1 and a != b:
        return found[0]
    if a == b:
        raise UserError(f"'{a}' compared with itself says nothing", "Name two.")
    if found:
        raise UserError(
            f"in {bundle.run_id} '{a}' and '{b}' are names of {' and of '.join(map(_many, found))}",
            "Rename the environments in the suite.",
        )
    everything = dict.fromkeys(name for names in values.values() for name in names)
    for name in (a, b):
        check_known(
            name,
            everything,
            f"'{name}' is not a bundle, nor an environment, backend or precision of "
            f"{bundle.run_id}",
        )
    kinds = [next(column for column in COLUMNS if name in values[column]) for name in (a, b)]
    raise UserError(
        f"'{a}' is a name of {_many(kinds[0])}, and '{b}' of {_many(kinds[1])}",
        "Give two of one kind; --backend and --precision narrow it down.",
    )


def _many(column: str) -> str:
    return column + "s"


def match_runs(a: Sequence[CaseRow], b: Sequence[CaseRow]) -> Matches:
    """Match cases of two runs by ``run_keys``: each with the only one that has the same key. Cases
    with several possible counterparts are left over."""
    pairs: list[tuple[CaseRow, CaseRow]] = []
    for key in run_keys():
        found = _unique_pairs(a, b, key)
        pairs += found
        a = _left(a, (first for first, _ in found))
        b = _left(b, (last for _, last in found))
    return Matches(pairs, list(a), list(b))


def run_keys() -> list[Callable[[CaseRow], Hashable]]:
    """Keys by which cases of two runs are matched, the strictest first: their ids; their requests;
    their requests without the columns that the machine decides; their requests with the digest of
    the model's file in place of its name. A key of None matches nothing."""
    without: list[str] = list(_REQUESTED)
    keys: list[Callable[[CaseRow], Hashable]] = [_columns(["case_id"]), _columns(without)]
    for names in _OF_THE_MACHINE:
        without = [name for name in without if name not in names]
        keys.append(_columns(without))
    return [*keys, _columns(["model_digest", *_REQUESTED[1:]])]


def match_within(
    a: Sequence[CaseRow], b: Sequence[CaseRow], column: Column, case_of: Mapping[str, Case]
) -> Matches:
    """Match cases of one run that are equal in all fields except ``column``. A case without such a
    counterpart is matched with all that are equal except for fields that depend on the column, as
    the variants of a precision.

    Args:
        case_of: the cases by their ids.
    """

    def but(names: Iterable[str]) -> Callable[[CaseRow], Hashable]:
        left_out = {column, *names}
        return lambda row: repr(
            [(k, v) for k, v in sorted(vars(case_of[row.case_id]).items()) if k not in left_out]
        )

    pairs = _unique_pairs(a, b, but(()))
    a, b = _left(a, (first for first, _ in pairs)), _left(b, (last for _, last in pairs))
    loose = but(_FOLLOWS[column])
    of_b = _by_key(b, loose)
    more = [(first, last) for first in a for last in of_b.get(loose(first), ())]
    a, b = _left(a, (first for first, _ in more)), _left(b, (last for _, last in more))
    return Matches(pairs + more, list(a), list(b))


def _columns(names: Sequence[str]) -> Callable[[CaseRow], Hashable]:
    def key(row: CaseRow) -> Hashable:
        values = tuple(getattr(row, name) for name in names)
        return None if values[0] is None else values  # an unknown digest matches none

    return key


def _unique_pairs(
    a: Sequence[CaseRow], b: Sequence[CaseRow], key: Callable[[CaseRow], Hashable]
) -> list[tuple[CaseRow, CaseRow]]:
    """Pairs whose key only one case of each side has, in A's order."""
    of_a, of_b = _by_key(a, key), _by_key(b, key)
    return [
        (rows[0], of_b[value][0])
        for value, rows in of_a.items()
        if len(rows) == len(of_b.get(value, ())) == 1
    ]


def _by_key(
    rows: Sequence[CaseRow], key: Callable[[CaseRow], Hashable]
) -> dict[Hashable, list[CaseRow]]:
    found: dict[Hashable, list[CaseRow]] = {}
    for row in rows:
        if (value := key(row)) is not None:
            found.setdefault(value, []).append(row)
    return found


def _left(rows: Sequence[CaseRow], taken: Iterable[CaseRow]) -> list[CaseRow]:
    gone = {id(row) for row in taken}
    return [row for row in rows if id(row) not in gone]
