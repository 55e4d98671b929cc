"""Losses of the last step alone, differentiated through the steps that led to it."""

import torch
from torch import Tensor

from pir.objective import Term, label_nll
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, replay


class LastStep(Term):
    """-log c_r(y*) in nats per cell, c_r the policy after the last step of the rollout.

    With `objective.depth` and `objective.backprop_steps=8` that is how recurrent-depth models are
    trained (arXiv:2502.05171, section 3.3).
    """

    whole_rollouts = True

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes."""
        last = rollout[-1]
        return label_nll(last.after.logits, last).mean()


class Progressive(Term):
    """The same after a random number of steps, from a random earlier state.

    n ~ U{0 .. K - 1} steps are taken without gradient, then m ~ U{1 .. K - n} with it: improving
    must not depend on where a rollout started or how far it went (deep thinking, Bansal et al.
    2022, arXiv:2202.05826, section 3.2). The m steps are taken again, at their cost.
    """

    whole_rollouts = True
    unrolls = True

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes."""
        skipped = int(torch.randint(len(rollout), ()))
        count = 1 + int(torch.randint(len(rollout) - skipped, ()))
        step = rollout[skipped]
        return label_nll(replay(reasoner, step, count).logits, step).mean()
