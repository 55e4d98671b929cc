"""The losses of the halt head: is the answer held now a right one, will a later one be?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pir.objective import Term
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, look_ahead


def exit_log_probs(halt_logits: Tensor) -> Tensor:
    """Returns the logarithm of `exit_distribution`, finite wherever the gate is all but sure."""
    leaves, stays = F.logsigmoid(halt_logits[:-1]), F.logsigmoid(-halt_logits[:-1])
    survival = torch.cat([torch.zeros_like(halt_logits[:1]), stays.cumsum(0)])
    return torch.cat([leaves + survival[:-1], survival[-1:]])


def exit_distribution(halt_logits: Tensor) -> Tensor:
    """Returns the distribution of the step at which the halt head, as a gate, ends a rollout.

    p(t) = lambda_t prod_{j < t} (1 - lambda_j) with lambda the halt probability; the last step
    takes what is left (LoopLM, arXiv:2510.25741, section 3).

    Args:
        halt_logits: of K steps, float32 of shape (K, B).

    Returns:
        float32 of shape (K, B), which sums to one over the steps.
    """
    return exit_log_probs(halt_logits).exp()


class Halting(Term):
    """Binary cross-entropy of the halt logit against whether the current answer is right.

    Source: TRM (arXiv:2510.04871, section 4.6), there against equality with the label.
    """

    outputs: tuple[str, ...] = ("halt_logit",)

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats."""
        after = rollout.after
        return F.binary_cross_entropy_with_logits(after.halt_logit, after.solved.float())


class QHalting(Halting):
    """Q-learning of both acts, to halt now and to go on (HRM, arXiv:2506.21734, section 2).

    Halting is worth 1 if the answer is right. Going on is worth the better act of the next step,
    max(Q_halt, Q_continue), and at the last step Q_halt of one step more: half the sum of both
    binary cross-entropies. The next step is taken without gradient, at its cost in forward passes.
    """

    outputs = ("halt_logit", "continue_logit")

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats."""
        halt = super().loss(rollout, puzzle, reasoner)
        steps = rollout.flatten(0, 1)
        following = look_ahead(reasoner, steps)
        assert following.halt_logit is not None
        assert following.continue_logit is not None
        last = steps.k >= reasoner.improvement_steps
        better = torch.maximum(following.halt_logit, following.continue_logit)
        worth = torch.where(last, following.halt_logit, better).sigmoid()
        go_on = F.binary_cross_entropy_with_logits(steps.after.continue_logit, worth)
        return (halt + go_on) / 2
