"""All lanes start together and take K steps."""

from torch import Tensor

from pir.rollout import Rollout
from pir.schedules.base import LaneSchedule


class Synchronous(LaneSchedule):
    """Lanes are refilled after whole rollouts."""

    whole_rollouts = True

    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """See `LaneSchedule.finished`."""
        return step.k >= length

    def finished_count(self, steps_so_far: int, lanes: range) -> int:
        """See `LaneSchedule.finished_count`."""
        return len(lanes) if steps_so_far % self.num_steps == 0 else 0
