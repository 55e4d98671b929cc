"""The losses of the halt head: is the answer held now a right one, will a later one be?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step
from pir.objectives.base import Term
from pir.puzzle import Puzzle


def halt_logits(steps: Sequence[Step]) -> list[Tensor]:
    """Returns the halt logits of K steps, each of shape (B,).

    Raises:
        UserError: if the model has no halt head.
    """
    logits = [step.improved.halt_logit for step in steps]
    known = [logit for logit in logits if logit is not None]
    if len(known) < len(logits):
        raise UserError("the objective reads a halt head: set model.halt_head=true")
    return known


def exit_log_probs(halts: Sequence[Tensor]) -> Tensor:
    """Returns the logarithm of `exit_distribution`, finite wherever the gate is all but sure."""
    gate = torch.stack(list(halts))
    leaves, stays = F.logsigmoid(gate[:-1]), F.logsigmoid(-gate[:-1])
    survival = torch.cat([torch.zeros_like(gate[:1]), stays.cumsum(0)])
    return torch.cat([leaves + survival[:-1], survival[-1:]])


def exit_distribution(halts: Sequence[Tensor]) -> Tensor:
    """Returns the distribution of the step at which the halt head, as a gate, ends a rollout.

    p(t) = lambda_t prod_{j < t} (1 - lambda_j) with lambda the halt probability; the last step
    takes what is left (LoopLM, arXiv:2510.25741, section 3).

    Args:
        halts: the halt logits of K steps, each of shape (B,).

    Returns:
        float32 of shape (K, B), which sums to one over the steps.
    """
    return exit_log_probs(halts).exp()


class Halting(Term):
    """Binary cross-entropy of the halt logit against the verifier's word on the current answer.

    Source: TRM (arXiv:2510.04871, section 4.6), there against equality with the label.
    """

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean over lanes, in nats.

        Raises:
            UserError: if the model has no halt head.
        """
        (logit,) = halt_logits([step])
        return F.binary_cross_entropy_with_logits(logit, step.after.solved.float())


class QHalting(Halting):
    """Q-learning of both acts, to halt now and to go on (HRM, arXiv:2506.21734, section 2).

    Halting is worth 1 if the answer is right. Going on is worth the better act of the next step,
    max(Q_halt, Q_continue), and at the last step Q_halt of one step more: half the sum of both
    binary cross-entropies. The next step is taken without gradient, at its cost in forward passes.
    """

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean over lanes, in nats.

        Raises:
            UserError: if the model lacks one of the two heads.
        """
        halt = super().loss(puzzle, step)
        if step.improved.continue_logit is None:
            raise UserError("the objective trains a continue head: set model.continue_head=true")
        following = step.look_ahead()
        assert following.halt_logit is not None
        assert following.continue_logit is not None
        last = step.k >= step.reasoner.improvement_steps
        better = torch.maximum(following.halt_logit, following.continue_logit)
        worth = torch.where(last, following.halt_logit, better).sigmoid()
        go_on = F.binary_cross_entropy_with_logits(step.improved.continue_logit, worth)
        return (halt + go_on) / 2
