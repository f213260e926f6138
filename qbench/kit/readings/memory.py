"""Resident memory of this process, read from /proc. None on systems other than Linux."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _status_bytes(field: bytes) -> int | None:
    try:
        with _STATUS.open("rb") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


class Memory:
    """Resident memory of this process, in bytes, and its peak since the last ``reset``.

    The peak is the kernel's high-water mark (VmHWM), reset by writing 5 to
    ``/proc/self/clear_refs``. If that is not permitted, peaks are None.

    Attributes:
        baseline: resident size at creation.
        process_peak: maximum of all peaks read so far.
    """

    def __init__(self) -> None:
        self.baseline = _status_bytes(b"VmRSS:")
        self.process_peak = _status_bytes(b"VmHWM:")
        self._split = _split()
        self._resettable = self.reset()

    def reset(self) -> bool:
        """Reset the peak; return whether the kernel permits it."""
        try:
            _CLEAR_REFS.write_bytes(b"5")
        except OSError:
            return False
        return True

    def peak(self) -> int | None:
        """Return the peak since the last reset; None if it is unknown."""
        if not self._resettable:
            return None
        peak = _status_bytes(b"VmHWM:")
        if peak is not None:
            self.process_peak = max(self.process_peak or 0, peak)
        return peak

    def over_baseline(self, peak: int | None) -> int | None:
        """Return ``peak`` minus the baseline, at least 0; None if either is unknown."""
        if peak is None or self.baseline is None:
            return None
        return max(0, peak - self.baseline)

    def split(self) -> dict[str, int] | None:
        """Return the growth of resident memory over the baseline, at least 0, by kind:
        ``anonymous_bytes`` (heap and stacks, which stay in memory or are swapped) and
        ``file_bytes`` (libraries, mapped model files, shared memory). None if it is unknown."""
        now = _split()
        if now is None or self._split is None:
            return None
        return {name: max(0, size - self._split[name]) for name, size in now.items()}


def _split() -> dict[str, int] | None:
    anonymous, mapped, shared = map(_status_bytes, (b"RssAnon:", b"RssFile:", b"RssShmem:"))
    if anonymous is None or mapped is None or shared is None:
        return None
    return {"anonymous_bytes": anonymous, "file_bytes": mapped + shared}
