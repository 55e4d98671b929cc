"""Losses on the advantage margin: a step should gain, whatever its size."""

import torch
from torch import Tensor

from pir.errors import UserError
from pir.ledger.guidance import guided_log_policy, margin
from pir.noise import drawn
from pir.objective import Term, mean_over_written, token_log_probs
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout


class GuidedLikelihood(Term):
    """-log p_w(y*) of the policy guided from the step's reference to its improved policy.

    The weight w is drawn evenly from a range, for every step of every lane. The slope of this loss
    in w is minus the advantage margin (arXiv:2511.16886v2, Prop. 4.1): below w = 1 it asks the step
    to gain with a part of its length already, above it not to overshoot. The reference is held
    fixed.

    Args:
        scales: smallest and largest w, above 0 at the upper end.
    """

    def __init__(self, scales: tuple[float, float] = (0.5, 1.5)) -> None:
        """Checks and keeps the range."""
        if not 0 <= scales[0] <= scales[1] or scales[1] == 0:
            raise UserError(f"objective: scales={list(scales)}; 0 <= lowest <= highest, above 0")
        self.scales = scales

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats per cell."""
        low, high = self.scales
        chance = drawn(lambda rows: torch.rand(rows, device=rollout.k.device), rollout.numel())
        w = low + (high - low) * chance.view(*rollout.shape, 1)
        before, after = rollout.before.logits, rollout.after.logits
        guided = guided_log_policy(before, after, w.expand_as(rollout.written))
        return -mean_over_written(token_log_probs(guided, rollout.puzzles["solution"]), rollout)


class MarginHinge(Term):
    """max(0, m - margin) on every written cell, at the full step w = 1.

    The margin A(y*) - E_{a~c}[A(a)] says how much a step favours the right token over what the
    policy does now (arXiv:2511.16886, ICML version, Eq. 18). At w = 1 it is the step's gain less
    KL(c || u): above 0 the step gained and could have gone further. It vanishes where the step is
    sure of the right token, so that m is scaled by what is left to gain, 1 - c(y*).

    Args:
        target: m, in nats, above 0, for a token without probability.
    """

    def __init__(self, target: float = 0.1) -> None:
        """Checks and keeps the target."""
        if target <= 0:
            raise UserError(f"objective: target={target}; must be above 0")
        self.target = target

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats per cell."""
        before = rollout.before.logits.log_softmax(-1)
        after = rollout.after.logits.log_softmax(-1)
        label = rollout.puzzles["solution"]
        room = 1 - token_log_probs(after, label).exp().detach()
        short = self.target * room - margin(before, after, label)
        return mean_over_written(short.clamp(min=0), rollout)
