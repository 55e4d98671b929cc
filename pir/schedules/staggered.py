"""Every step a K-th of the lanes takes new puzzles, so that every update sees all steps k."""

from torch import Tensor

from pir.rollout import Rollout, lane_numbers
from pir.schedules.base import LaneSchedule


class Staggered(LaneSchedule):
    """Lane b takes a new puzzle after the steps t of the run with t = b (mod K)."""

    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """See `LaneSchedule.finished`."""
        return lane_numbers(step) % self.num_steps == steps_so_far % self.num_steps

    def finished_count(self, steps_so_far: int, lanes: range) -> int:
        """See `LaneSchedule.finished_count`."""
        return sum(lane % self.num_steps == steps_so_far % self.num_steps for lane in lanes)
