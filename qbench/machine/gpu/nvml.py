"""Calls to NVML, NVIDIA's management library, through the module ``pynvml`` (nvidia-ml-py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

NVIDIA = "10de"
"""NVIDIA's PCI vendor id."""


class NoNvml(Exception):
    """NVML is not usable on this machine; the message is the reason."""


class Answer(NamedTuple):
    """Result of one NVML call.

    Attributes:
        value: the result; None if the call failed.
        reason: why the call failed; None if it succeeded.
    """

    value: Any
    reason: str | None


class Reported(NamedTuple):
    """Values by name, None where the GPU does not report one, and the reasons for these."""

    values: dict[str, Any]
    missing: dict[str, str]


@contextmanager
def nvml() -> Iterator[Any]:
    """Initialize NVML for the block, and yield the module ``pynvml``.

    Raises:
        NoNvml: the Python package, the library or the driver is missing.
    """
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        raise NoNvml("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvml(f"NVML: {error}") from None
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def ask(library: Any, call: str, *args: Any) -> Answer:
    """Call a function of NVML. Any function may answer "Not Supported", and an older package or
    driver may lack it."""
    function = getattr(library, call, None)
    if function is None:
        return Answer(None, f"nvidia-ml-py has no {call}")
    try:
        value = function(*args)
    except library.NVMLError as error:
        return Answer(None, str(error))
    return Answer(value.decode() if isinstance(value, bytes) else value, None)


def bus_id(text: str) -> str:
    """Normalize a PCI address (``domain:bus:device.function``) to lower case with a domain of four
    digits: NVML writes more digits than CUDA, and both write letters of either case."""
    domain, colon, rest = text.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}{colon}{rest}"


def handles(library: Any) -> dict[int, Any]:
    """Return the handles of the GPUs that this process may see, by NVML's index."""
    count = ask(library, "nvmlDeviceGetCount").value or 0
    found = {n: ask(library, "nvmlDeviceGetHandleByIndex", n).value for n in range(count)}
    return {index: handle for index, handle in found.items() if handle is not None}
