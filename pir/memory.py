"""Memory: what does not fit is refused with a sentence, before the system is short of it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pir.errors import UserError

CGROUP = Path("/sys/fs/cgroup/memory.max")


def total_memory() -> int | None:
    """Returns the bytes of memory that this machine (or container) has; None if unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(total, int(CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return total


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

    Only on Linux without a CUDA driver, whose address space is no memory.
    """
    total = total_memory()
    if not sys.platform.startswith("linux") or os.path.exists("/dev/nvidiactl") or total is None:
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
