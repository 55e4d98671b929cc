"""Every step a K-th of the lanes takes new puzzles, so that every update sees all steps k."""

import torch
from torch import Tensor

from pir.rollout import Rollout
from pir.schedules.base import LaneSchedule


class Staggered(LaneSchedule):
    """Lane b takes a new puzzle at the turns t with t = b (mod K)."""

    def finished(self, step: Rollout, turn: int, depth: int) -> Tensor:
        """See `LaneSchedule.finished`."""
        lane = torch.arange(len(step.k), device=step.k.device)
        return lane % self.num_steps == turn % self.num_steps
