"""Losses of the last step alone, differentiated through the steps that led to it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step
from pir.objectives.base import RolloutTerm, label_nll
from pir.puzzle import Puzzle


class LastStep(RolloutTerm):
    """-log c_r(y*) in nats per cell, c_r the policy after the last step of the rollout.

    With `objective.depth` and `objective.backprop_steps=8` that is how recurrent-depth models are
    trained (arXiv:2502.05171, section 3.3).
    """

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the mean over lanes."""
        return label_nll(steps[-1], steps[-1].improved.logits).mean()


class Progressive(RolloutTerm):
    """The same after a random number of steps, from a random earlier state.

    n ~ U{0 .. K - 1} steps are taken without gradient, then m ~ U{1 .. K - n} with it: improving
    must not depend on where a rollout started or how far it went (deep thinking, Bansal et al.
    2022, arXiv:2202.05826, section 3.2). The m steps are taken again, at their cost.
    """

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the mean over lanes.

        Raises:
            UserError: if the reasoner reads its own answers, which these steps do not have.
        """
        if steps[0].reasoner.reads_own_answer:
            raise UserError("the progressive loss needs model.reads_own_answer=false")
        skipped = int(torch.randint(len(steps), ()))
        count = 1 + int(torch.randint(len(steps) - skipped, ()))
        step = steps[skipped]
        return label_nll(step, step.again(count=count).logits).mean()
