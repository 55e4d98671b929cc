"""The seconds that work takes, by clocks that may jump."""

import time

LONGEST_WAIT, WAIT_PER_WORK = 10.0, 10.0
"""Seconds that may pass between two readings though the process does nothing, and how many times
the processor time that it spends."""


class Stopwatch:
    """Seconds since it was made, plus those of earlier sessions of the same run.

    Time is added from reading to reading, so that a clock that jumps, back or forward (a machine
    that slept, a process that was stopped), adds seconds and not a day: what lies between two
    readings counts as far as the processor time that the process spent in it makes it likely.

    Args:
        earlier: seconds of earlier sessions.
    """

    def __init__(self, earlier: float = 0.0) -> None:
        """Starts at once."""
        self.total, self.read, self.worked = earlier, time.monotonic(), time.process_time()

    def seconds(self) -> float:
        """Returns the total so far; it never falls."""
        now, worked = time.monotonic(), time.process_time()
        longest = max(LONGEST_WAIT, WAIT_PER_WORK * (worked - self.worked))
        self.total += min(max(0.0, now - self.read), longest)
        self.read, self.worked = now, worked
        return self.total

    def state_dict(self) -> dict[str, float]:
        """Returns the seconds so far, for a checkpoint."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Goes on from the seconds of a checkpoint."""
        self.seconds()
        self.total = state["seconds"]
