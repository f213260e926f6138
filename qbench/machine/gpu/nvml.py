"""Calls of NVML, NVIDIA's management library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NVIDIA = "10de"
"""The PCI vendor id."""


class NoNvml(Exception):
    """NVML cannot be used here; the message says why."""


@contextmanager
def nvml() -> Iterator[Any]:
    """NVIDIA's management library (the module ``pynvml``), open while the block runs.

    Raises:
        NoNvml: its Python package, the library or the driver is missing.
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


def ask(library: Any, call: str, *args: Any) -> tuple[Any, str | None]:
    """What a function of NVML says, or why it does not: any of them may answer "Not Supported",
    and an older package or driver may lack it."""
    function: Callable[..., Any] | None = getattr(library, call, None)
    if function is None:
        return None, f"nvidia-ml-py has no {call}"
    try:
        value = function(*args)
    except library.NVMLError as error:
        return None, str(error)
    return value.decode() if isinstance(value, bytes) else value, None


def bus_id(text: str) -> str:
    """A place on the PCI bus, ``domain:bus:device.function``, as all of qbench writes it: NVML has
    more digits of the domain than CUDA has, and both know several cases of letters."""
    domain, colon, rest = text.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}{colon}{rest}"


def handles(library: Any) -> dict[int, Any]:
    """By index, NVML's handles of the GPUs that it lets this process see."""
    count, _ = ask(library, "nvmlDeviceGetCount")
    found = {n: ask(library, "nvmlDeviceGetHandleByIndex", n)[0] for n in range(count or 0)}
    return {index: handle for index, handle in found.items() if handle is not None}
