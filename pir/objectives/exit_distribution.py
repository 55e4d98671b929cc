"""The two stages in which a looped transformer learns when to leave (LoopLM, arXiv:2510.25741).

First the network learns with its gate: the loss at every loop, weighted by the probability of
leaving there. Then the gate alone learns from what every loop in fact gained.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pir.errors import UserError
from pir.exits import worth_going_on
from pir.improvement import Step
from pir.objectives.base import RolloutTerm, Term, label_nll
from pir.objectives.halting import exit_log_probs, halt_logits
from pir.puzzle import Puzzle


class ExitDistribution(RolloutTerm):
    """Stage I: sum_t p(t) L_t - beta H(p), L_t the loss of step t, p the distribution of the exit.

    The entropy is, up to a constant, minus the divergence of p from a uniform prior over depths;
    without it p collapses to the last step (section 3.3). L_t is -log c_t(y*), in nats per cell.

    Args:
        weight: see `Term`.
        beta: weight of the entropy, at least 0; published 0.1, later 0.05.
        from_step: see `Term`.
        until_step: see `Term`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        beta: float = 0.1,
        from_step: int = 0,
        until_step: int | None = None,
    ) -> None:
        """Keeps beta."""
        super().__init__(weight, from_step, until_step)
        if not beta >= 0:
            raise UserError(f"objective: beta={beta}; at least 0")
        self.beta = beta

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the mean over lanes, in nats."""
        log_exits = exit_log_probs(halt_logits(steps))
        losses = torch.stack([label_nll(step, step.improved.logits) for step in steps])
        return (log_exits.exp() * (losses + self.beta * log_exits)).sum(0).mean()


class ExitImprovement(Term):
    """Stage II: the gate goes on where the step has gained.

    mean_t BCE(1 - lambda_t, w_t) over steps t >= 2, with w_t = sigmoid(50 (I_t - 0.005)) and
    I_t = max(0, L_(t-1) - L_t) (section 3.4). The gate reads the state without gradient, so with no
    other term only the read-out learns: the gate, and where it reads a coda's output
    (`RecurrentDepth`), the coda.
    """

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean over the lanes at a step after the first, in nats."""
        halt_logits([step])  # refuses a model without a halt head
        logit = step.reasoner.read_out(step.state_after).halt_logit
        assert logit is not None
        with torch.no_grad():
            before, after = (label_nll(step, c) for c in (step.reference, step.improved.logits))
            goes_on = worth_going_on((before - after).clamp(min=0))
        losses = F.binary_cross_entropy_with_logits(-logit, goes_on, reduction="none")
        later = step.k > 1
        return torch.where(later, losses, 0.0).sum() / later.sum().clamp(min=1)

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the mean over the steps after the first."""
        return super().rollout_loss(puzzle, steps[1:] or steps, experience)
