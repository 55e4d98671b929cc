"""How many minutes a run trained until it solved a share of the validation puzzles.

Only what was measured counts: the first validation that found the share, and the first row of the
clock at that optimizer step or after it.
"""

from dataclasses import dataclass

import numpy as np
from pir.analysis.reading.runs import IMPROVEMENT, SUMMARY, TIMING, Run

from pir.errors import UserError

MINUTES = "minutes_to_share"
"""The name of the metric."""

SHARE = 0.95
"""The share of the validation puzzles, if none is given."""

ROUNDING = 1e-9
"""A share that is so little below another is the same one, rounded."""


@dataclass(frozen=True)
class TimeToShare:
    """What the validations of a run say about the share.

    Attributes:
        minutes: of training until the share was found; None if it never was.
        within: minutes of training that the validations looked at, or those until it was found.
        optimizer_step: of the validation that found it, or of the last one.
        solved: share of the validation puzzles solved there.
    """

    minutes: float | None
    within: float
    optimizer_step: int
    solved: float


def refuse_share(share: float) -> None:
    """Refuses what is no share.

    Raises:
        UserError: naming the setting and what is allowed.
    """
    if not 0 < share <= 1:
        raise UserError(f"share={share:g}: allowed are numbers above 0, up to 1 (0.95 is 95 %)")


def time_to_share(run: Run, share: float) -> TimeToShare | None:
    """Returns when a run first solved a share of its validation puzzles, at the trained depth.

    Args:
        run: the run.
        share: of the validation puzzles, above 0 and up to 1.

    Returns:
        None if there is no validation, or no clock that says when it was.

    Raises:
        UserError: if a file is damaged.
    """
    validation = run.table(IMPROVEMENT)
    if validation is None:
        return None
    deepest = np.max(validation["k"])
    model = run.config.get("model")
    depth = model.get("improvement_steps") if isinstance(model, dict) else None
    trained = min(depth, deepest) if isinstance(depth, int) else deepest
    validation = validation.where(validation["k"] == trained)
    steps, solved = validation["optimizer_step"], validation["solved"]
    if not len(steps):
        return None
    clock = _Clock(run)
    found = np.flatnonzero(solved >= share - ROUNDING)
    at = int(found[0]) if len(found) else len(steps) - 1
    seconds = clock.from_step(steps[at]) if len(found) else clock.up_to_step(steps[at])
    if not seconds:
        return None
    minutes = seconds / 60
    reached = minutes if len(found) else None
    return TimeToShare(reached, minutes, int(steps[at]), float(solved[at]))


class _Clock:
    """The seconds of training at optimizer steps; never less than were measured.

    Args:
        run: has rows in timing.csv, and its end in summary.json.
    """

    def __init__(self, run: Run) -> None:
        """Reads the files."""
        timing = run.table(TIMING)
        self.steps = np.empty(0) if timing is None else timing["optimizer_step"]
        self.seconds = np.empty(0) if timing is None else timing["seconds"]
        known = np.isfinite(self.steps) & np.isfinite(self.seconds)
        self.steps, self.seconds = self.steps[known], self.seconds[known]
        summary = run.content(SUMMARY) or {}
        step, seconds = summary.get("optimizer_steps"), summary.get("seconds")
        self.end: tuple[float, float] | None = None
        if step is not None and seconds is not None:
            self.end = (step, seconds)

    def from_step(self, step: float) -> float | None:
        """Returns the seconds at a step or at the first row after it, or else at the end."""
        later = np.flatnonzero(self.steps >= step)
        if len(later):
            return float(self.seconds[later[0]])
        return self.end[1] if self.end and self.end[0] >= step else None

    def up_to_step(self, step: float) -> float | None:
        """Returns the seconds that have surely passed at a step: at the last row up to it.

        At the end of the run they are those of its summary.
        """
        if self.end and self.end[0] == step:
            return self.end[1]
        earlier = np.flatnonzero(self.steps <= step)
        return float(self.seconds[earlier[-1]]) if len(earlier) else None
