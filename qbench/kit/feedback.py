"""Feed outputs back into inputs: ``Model.states``. For adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qbench.kit.adapter import Unsupported
from qbench.kit.model import Feed, Model, TensorSpec


def check_states(
    model: Model,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
    converted: bool = False,
) -> None:
    """Check that the file's states can be fed back.

    Args:
        inputs, outputs: the program's.
        converted: whether the adapter converts them between types and scales.

    Raises:
        Unsupported: input and output differ in type, scale or layout.
    """
    for name, state in model.states.items():
        taken, given = inputs[name], outputs[state.output]
        for what in ("layout",) if converted else ("layout", "dtype", "scale", "zero_point"):
            have, want = getattr(given, what), getattr(taken, what)
            if have != want:
                raise Unsupported(
                    f"'{state.output}' cannot be fed back into '{name}' as it is: in the file its "
                    f"{what} is {have}, and {want} there"
                )


class Turns:
    """Two bound calls that run in turn and share all buffers but those of the states: where one
    leaves a state, the other takes it. So feeding back copies and allocates nothing.

    Args:
        calls: the two of them.
        states: two buffers by name. Call 0 takes the state from the first and leaves the next one
            in the second; call 1 does the reverse.

    Attributes:
        last: the call that ran last, 0 or 1; 0 before the first.
    """

    def __init__(
        self,
        calls: tuple[Callable[[], object], Callable[[], object]],
        states: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self._calls, self._states = calls, states
        self._next = self.last = 0

    def infer(self) -> None:
        """Run the next call."""
        this = self._next
        self._calls[this]()
        self.last, self._next = this, 1 - this

    def place(self, given: Mapping[str, np.ndarray]) -> None:
        """Copy states for the next call; others go on. The last outputs stay as they are.

        The last call runs once more, since it does not take its states from what it left.
        """
        if not given:
            return
        ran = self._next != self.last
        self._next = self.last
        for name, buffers in self._states.items():
            if name in given:
                np.copyto(buffers[self.last], given[name])
            elif ran:
                np.copyto(buffers[self.last], buffers[1 - self.last])

    def left(self) -> Feed:
        """The states that the last call left."""
        return {name: buffers[1 - self.last] for name, buffers in self._states.items()}
