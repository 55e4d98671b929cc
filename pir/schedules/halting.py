"""A lane ends as soon as its halt head says so (TRM, arXiv:2510.04871, section 4.6)."""

from torch import Tensor

from pir.reasoner import halts
from pir.rollout import Rollout
from pir.schedules.base import LaneSchedule


class Halting(LaneSchedule):
    """A lane ends after K steps, or when the halt head takes its answer for right."""

    outputs = ("halt_logit",)

    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """See `LaneSchedule.finished`."""
        return (step.k >= length) | halts(step.after.halt_logit, step.after.continue_logit)
