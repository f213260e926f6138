"""Compare the weights that an opened program runs with the options that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from qbench.kit.model import PrepareTarget

NAME = 60
"""Characters of a name in a sentence: its last ones."""


@dataclass(frozen=True)
class RunningWeights:
    """The weights of one operator, as the runtime holds them.

    Attributes:
        names: names of the operators that it runs, as the adapter excludes them from quantization.
        integer: whether it computes with integer weights, or unpacks them.
        scales: number of scales of its weights; None if unknown.
        channels: number of its output channels.
        length: number of weights of one output channel.
    """

    names: Collection[str]
    integer: bool
    scales: int | None = None
    channels: int = 1
    length: int = 1


def mismatch(
    weights: Iterable[RunningWeights], target: PrepareTarget, excluded: Collection[str] = ()
) -> str | None:
    """Where the running weights are not what ``target`` asks for, in one sentence; None if they
    are.

    Args:
        excluded: operators that are left in floating point, as in ``RunningWeights.names``.
    """
    if target.recipe != "best":  # the file was made for all backends
        return None
    for one in weights:
        if one.integer and (reason := _departs(one, target, excluded)):
            return reason
    return None


def _departs(one: RunningWeights, target: PrepareTarget, excluded: Collection[str]) -> str | None:
    name = next(iter(one.names), "an operator")[-NAME:]
    if left := next((name for name in one.names if name in excluded), None):
        return f"'{left[-NAME:]}' is excluded from quantization, but runs with integer weights"
    if one.scales is None or one.channels < 2:
        return None
    per_channel, group = target.options.get("per_channel"), target.options.get("group_size")
    if per_channel and one.scales < one.channels:
        return (
            f"per_channel: '{name}' has {one.channels} output channels, but {one.scales} scales run"
        )
    if per_channel is False and one.scales > 1:
        return f"per_channel is false, but '{name}' runs with {one.scales} scales"
    if group is not None and one.scales != one.channels * (
        1 if group == -1 else -(-one.length // group)
    ):
        return (
            f"group_size {group}: '{name}' runs with {one.scales} scales for {one.channels} "
            f"channels of {one.length} weights"
        )
    return None
