"""What a process can read about itself from /proc. Elsewhere than on Linux: None."""

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

    The peak is the kernel's own high-water mark (VmHWM), set back by writing 5 to
    ``/proc/self/clear_refs``. Where that is not permitted, peaks are None rather than wrong.

    Attributes:
        baseline: resident size when this object was made.
        process_peak: the highest of all peaks read so far.
    """

    def __init__(self) -> None:
        self.baseline = _status_bytes(b"VmRSS:")
        self.process_peak = _status_bytes(b"VmHWM:")
        self._split = _split()
        self._resettable = self.reset()

    def reset(self) -> bool:
        """Begin a new peak. True if the kernel did it."""
        try:
            _CLEAR_REFS.write_bytes(b"5")
        except OSError:
            return False
        return True

    def peak(self) -> int | None:
        """The high-water mark since the last reset; None where it cannot be had."""
        if not self._resettable:
            return None
        peak = _status_bytes(b"VmHWM:")
        if peak is not None:
            self.process_peak = max(self.process_peak or 0, peak)
        return peak

    def over_baseline(self, peak: int | None) -> int | None:
        """``peak`` less the baseline, at least 0; None where either is not known."""
        if peak is None or self.baseline is None:
            return None
        return max(0, peak - self.baseline)

    def split(self) -> dict[str, int] | None:
        """What is resident now over the baseline, at least 0, by where it comes from:
        ``anonymous_bytes`` (heap, stacks: it must stay in memory, or be swapped) and
        ``file_bytes`` (libraries, mapped model files, shared memory). None where not told."""
        now = _split()
        if now is None or self._split is None:
            return None
        return {name: max(0, size - self._split[name]) for name, size in now.items()}


def _split() -> dict[str, int] | None:
    anonymous, mapped, shared = map(_status_bytes, (b"RssAnon:", b"RssFile:", b"RssShmem:"))
    if anonymous is None or mapped is None or shared is None:
        return None
    return {"anonymous_bytes": anonymous, "file_bytes": mapped + shared}
