"""Set likelihood: the policy's probability of all right answers at once."""

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.objective import Term, cell_log_probs, right_answers
from pir.puzzle import Puzzle
from pir.reasoner import MASKED_LOGIT, Reasoner
from pir.rollout import Rollout


class SetLikelihood(Term):
    """-log sum_{y in Y} c(y) over the set Y of right answers, c the improved policy.

    With all right answers listed the sum is the expected verifier reward E_c[1{y solves}], so this
    is the logarithm of what a policy gradient estimates by sampling. Its gradient weights every
    right answer with c(y) / c(Y): an advantage-weighted regression with exact weights, which lets
    the policy settle on the answers that it finds easiest instead of averaging over them (maximum
    marginal likelihood, Guu et al. 2017, arXiv:1704.07926, section 3). Where the label is the only
    answer, or the puzzle does not list its answers, Y holds the label alone.

    Args:
        limit: at most so many right answers are enumerated; any of them then counts.
    """

    def __init__(self, limit: int = 32) -> None:
        """Keeps the limit."""
        if limit < 1:
            raise UserError(f"objective: the set likelihood's limit is {limit}; at least 1")
        self.limit = limit

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Enumerates the right answers."""
        answers, valid = right_answers(puzzle, puzzles, self.limit)
        return {"solutions": answers, "solutions_valid": valid}

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats per answer."""
        log_probs = cell_log_probs(rollout, rollout.puzzles["solutions"]).sum(-1)
        listed = torch.where(rollout.puzzles["solutions_valid"], log_probs, MASKED_LOGIT)
        return -listed.logsumexp(-1).mean()
