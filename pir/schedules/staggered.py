"""Every step a K-th of the lanes takes new puzzles, so that every update sees all steps k."""

import torch
from torch import Tensor

from pir.rollout import Rollout
from pir.schedules.base import LaneSchedule


class Staggered(LaneSchedule):
    """Lane b takes a new puzzle after the steps t of the run with t = b (mod K)."""

    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """See `LaneSchedule.finished`."""
        lane = torch.arange(len(step.k), device=step.k.device)
        return lane % self.num_steps == steps_so_far % self.num_steps
