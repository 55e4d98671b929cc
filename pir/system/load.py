"""How busy other programs keep the processor: two jobs on all cores slow each other down.

The threads of a job wait for one another at every operation, and a core that they share with
another job makes all of them wait for its time slices.
"""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
"""Where Linux counts what its processors have done."""

FREE = 0.5
"""Cores that may be missing; small programs always run."""


class OtherPrograms:
    """Measures from when it is made to when it is read.

    Programs that this one has started and waited for, such as a compiler, are not others.
    Elsewhere than on Linux the system's load average stands for it, which takes minutes to rise.
    """

    def __init__(self) -> None:
        """Starts at once."""
        self.busy, self.at, self.own = _busy_seconds(), time.monotonic(), _own_seconds()

    def cores(self) -> float:
        """Returns how many cores other programs have kept busy."""
        busy = _busy_seconds()
        if busy is None or self.busy is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        own, taken = _own_seconds() - self.own, time.monotonic() - self.at
        return max(0.0, busy - self.busy - own) / max(taken, 1e-9)

    def room(self, threads: int, chosen: bool) -> tuple[int, str | None]:
        """Returns how many threads a run shall take, and what to tell of it.

        Args:
            threads: that it would take.
            chosen: whether a user said so; they stay then.
        """
        cores, others = usable_cores(), self.cores()
        if threads < 2 or others + threads <= cores + FREE:
            return threads, None
        left = min(threads, max(1, cores - round(others)))
        busy = f"other programs keep {others:.1f} of {cores} cores busy"
        if chosen:
            return threads, (
                f"warning: {busy}, and this run takes {threads} threads: jobs side by side are "
                f"faster with trainer.threads={left} each"
            )
        return left, f"{busy}: this run takes {left} of {threads} threads (trainer.threads)"


def usable_cores() -> int:
    """Returns the cores that this process may use."""
    return len(_usable()) or os.cpu_count() or 1


def _usable() -> set[int]:
    """Returns their numbers, none where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _own_seconds() -> float:
    """Returns the seconds that this process and the programs that it has waited for have worked."""
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """Returns the seconds that the usable cores have worked since the start; None if unknown.

    Cores that this process may not use are left out: on a shared machine others keep them busy.
    """
    total, usable = 0, {f"cpu{number}" for number in _usable()}
    try:
        for line in STAT.read_text().splitlines():
            name, *words = line.split()
            if name in usable:
                ticks = list(map(int, words[:8]))  # user nice system idle iowait irq softirq steal
                total += sum(ticks) - ticks[3] - ticks[4]
        return total / os.sysconf("SC_CLK_TCK") if total else None
    except (OSError, ValueError, IndexError):
        return None
