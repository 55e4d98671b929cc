"""Memory: what does not fit is refused with a sentence, before the system is short of it."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pir.errors import UserError

if TYPE_CHECKING:  # commands that compute nothing need not wait for it
    import torch

GPU_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
"""Where the drivers of NVIDIA (under Windows' Linux too) and AMD show."""


def total_memory() -> int | None:
    """Returns the bytes of memory that this machine (or control group) has; None if unknown."""
    limits = [_group_limit(line.split(":")) for line in _lines(Path("/proc/self/cgroup"))]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit is not None), default=None)


def _group_limit(entry: list[str]) -> int | None:
    """Returns the least memory limit of a control group and those around it, of either version."""
    controllers, path = entry[1], Path(entry[2].lstrip("/"))
    if controllers not in ("", "memory"):
        return None
    root = Path("/sys/fs/cgroup", controllers)
    name = "memory.limit_in_bytes" if controllers else "memory.max"
    found = [line for place in (path, *path.parents) for line in _lines(root / place / name)]
    return min((int(line) for line in found if line.isdigit()), default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")[:-1]
    except OSError:
        return []


def memory_in_use(device: "torch.device") -> int:
    """Returns the bytes that this process holds: on a CUDA device there; 0 where it is unknown.

    What was freed does not count; on Linux the process gives it back first.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    _give_back()
    return next((_bytes(line) for line in _status() if line.startswith("VmRSS:")), 0)


def _give_back() -> None:
    """Has the process give freed memory back to the system, on Linux."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _status() -> list[str]:
    return _lines(Path("/proc/self/status"))


def _bytes(line: str) -> int:
    return 1024 * int(line.split()[1])


class PeakMemory:
    """The most memory that is in use from now on: on a CUDA device there, else of this process.

    On Linux the process gives back what it has freed, and the system begins to watch anew;
    elsewhere the most since the process began is known.

    Args:
        device: computes.
    """

    def __init__(self, device: "torch.device") -> None:
        """Begins to watch."""
        self.device = device
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        elif sys.platform.startswith("linux"):
            _give_back()
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """Returns the bytes; 0 where nothing is known."""
        if self.device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self.device)
        for line in _status():
            if line.startswith("VmHWM:"):
                return _bytes(line)
        try:
            import resource
        except ImportError:  # Windows
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def require_memory(size: int, what: str) -> None:
    """Refuses what cannot fit.

    Args:
        size: bytes that are needed at least.
        what: the setting that needs them, as key=value.

    Raises:
        UserError: if the machine has less.
    """
    total = total_memory()
    if total is not None and size > total:
        raise UserError(f"{what}: needs {_gib(size)} of memory at least, there are {_gib(total)}")


@contextmanager
def limited_memory() -> Iterator[None]:
    """Makes allocations fail that are beyond the machine's memory, instead of the whole system.

    Only on Linux without the driver of a GPU, whose address space is no memory.
    """
    total = total_memory()
    driver = any(map(os.path.exists, GPU_DRIVERS))
    if not sys.platform.startswith("linux") or driver or total is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min(limit for limit in (total, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error is that of an allocation that failed, in Python, NumPy or torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
