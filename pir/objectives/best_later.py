"""Policy iteration within a rollout: every step is taught what later steps found."""

import torch
from torch import Tensor

from pir.errors import UserError
from pir.objective import Term, mean_over_written, token_log_probs
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout


class BestLater(Term):
    """-log c_k(y) of the best answer y that the rollout wrote in the steps k to k + m.

    Best by the verifier's score, the later of two equals. What m more steps of improvement lead to
    is the target of the step, as policy iteration makes the improved policy the next one (expert
    iteration, Anthony et al. 2017, arXiv:1705.08439, section 3, with steps in place of a search).
    No label is used.

    Args:
        ahead: m, at least 1.
    """

    whole_rollouts = True

    def __init__(self, ahead: int = 4) -> None:
        """Keeps m."""
        if ahead < 1:
            raise UserError(f"objective: ahead={ahead}; at least 1")
        self.ahead = ahead

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes and steps, in nats per cell."""
        target = self.targets(rollout)
        return -mean_over_written(token_log_probs(rollout.after.logits, target), rollout)

    def targets(self, rollout: Rollout) -> Tensor:
        """Returns the best answer from each step on, uint8 of shape (K, B, L)."""
        best = rollout.after.answer.clone()
        score = rollout.after.score.clone()
        for ahead in range(1, min(self.ahead, len(rollout) - 1) + 1):
            later, earned = rollout.after.answer[ahead:], rollout.after.score[ahead:]
            better = earned >= score[:-ahead]
            best[:-ahead] = torch.where(better[..., None], later, best[:-ahead])
            score[:-ahead] = torch.where(better, earned, score[:-ahead])
        return best
