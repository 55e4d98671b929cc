"""Deep supervision: after every step, cross-entropy against the label."""

import torch
from torch import Tensor

from pir.improvement import Step
from pir.objectives.base import Term, token_log_probs
from pir.puzzle import Puzzle


class DeepSupervision(Term):
    """The mean over written cells of -log c(y*), c the improved policy, y* the label.

    Source: TRM (arXiv:2510.04871, section 2.4 and figure 3), HRM (arXiv:2506.21734, section 2).
    The whole answer is the target of every step, whatever its number.
    """

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean cross-entropy in nats per cell."""
        log_probs = token_log_probs(step.improved.logits, step.puzzles["solution"])
        cells = step.written.sum(1).clamp(min=1)
        return -(torch.where(step.written, log_probs, 0.0).sum(1) / cells).mean()
