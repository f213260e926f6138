"""Which case of one side goes with which of the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Row = Mapping[str, Any]
"""A case's row of the case table."""
Column = Literal["environment", "backend", "precision"]
"""What the two sides of one bundle may differ in."""

_REQUESTED = (
    "model", "backend", "environment", "precision", "variant", "recipe", "device", "scenario",
    "scenario_options", "batch_size", "threads", "streams",
)  # fmt: skip
_OF_THE_MACHINE = (("threads", "streams"), ("device", "environment"))
"""What a suite leaves to the machine, the more usual first: two runs may differ in it."""
_FOLLOWS: dict[Column, tuple[str, ...]] = {
    "environment": (),
    "backend": ("options", "hints"),
    "precision": ("options", "hints", "recipe"),
}
"""Fields of a case that are given per backend or precision: cases may differ in these too, where
there is no counterpart that is equal in them."""


class Matches(NamedTuple):
    """What belongs together, and what is left over."""

    pairs: list[tuple[Row, Row]]
    only_a: list[Row]
    only_b: list[Row]


def match_runs(a: Sequence[Row], b: Sequence[Row]) -> Matches:
    """Cases of two runs: by their ids; of the others those that were requested alike, then but for
    what the machine decides, then those whose model is the same file under another name. What has
    more than one possible counterpart is left over.
    """
    without: list[str] = list(_REQUESTED)
    keys: list[Callable[[Row], Hashable]] = [_columns(["case_id"]), _columns(without)]
    for names in _OF_THE_MACHINE:
        without = [name for name in without if name not in names]
        keys.append(_columns(without))
    keys.append(_columns(["model_digest", *_REQUESTED[1:]]))
    pairs: list[tuple[Row, Row]] = []
    for key in keys:
        found = _unique_pairs(a, b, key)
        pairs += found
        a = _left(a, (first for first, _ in found))
        b = _left(b, (last for _, last in found))
    return Matches(pairs, list(a), list(b))


def match_within(
    a: Sequence[Row], b: Sequence[Row], column: Column, case_of: Mapping[str, Mapping[str, Any]]
) -> Matches:
    """Cases of one run that are equal in all fields but ``column``. Where a case has none, those
    that are equal but for what follows from the column: of several, as the variants of a
    precision, each makes a pair.

    Args:
        case_of: by case id, the case's fields (``plan.Case`` as JSON).
    """

    def but(names: Iterable[str]) -> Callable[[Row], Hashable]:
        left_out = {column, *names}
        return lambda row: repr(
            [(k, v) for k, v in sorted(case_of[row["case_id"]].items()) if k not in left_out]
        )

    pairs = _unique_pairs(a, b, but(()))
    a, b = _left(a, (first for first, _ in pairs)), _left(b, (last for _, last in pairs))
    loose = but(_FOLLOWS[column])
    of_b = _by_key(b, loose)
    more = [(first, last) for first in a for last in of_b.get(loose(first), ())]
    a, b = _left(a, (first for first, _ in more)), _left(b, (last for _, last in more))
    return Matches(pairs + more, list(a), list(b))


def _columns(names: Sequence[str]) -> Callable[[Row], Hashable]:
    def key(row: Row) -> Hashable:
        values = tuple(row[name] for name in names)
        return None if values[0] is None else values  # a digest that is not known matches none

    return key


def _unique_pairs(
    a: Sequence[Row], b: Sequence[Row], key: Callable[[Row], Hashable]
) -> list[tuple[Row, Row]]:
    """Those with a key that only one case of each side has, in A's order."""
    of_a, of_b = _by_key(a, key), _by_key(b, key)
    return [
        (rows[0], of_b[value][0])
        for value, rows in of_a.items()
        if len(rows) == len(of_b.get(value, ())) == 1
    ]


def _by_key(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> dict[Hashable, list[Row]]:
    found: dict[Hashable, list[Row]] = {}
    for row in rows:
        if (value := key(row)) is not None:
            found.setdefault(value, []).append(row)
    return found


def _left(rows: Sequence[Row], taken: Iterable[Row]) -> list[Row]:
    gone = {id(row) for row in taken}
    return [row for row in rows if id(row) not in gone]
