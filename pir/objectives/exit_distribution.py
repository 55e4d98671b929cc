"""The two stages in which a looped transformer learns when to leave (LoopLM, arXiv:2510.25741).

First the network learns with its gate: the loss at every loop, weighted by the probability of
leaving there. Then the gate alone learns from what every loop in fact gained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pir.errors import UserError
from pir.exits.rules import worth_going_on
from pir.objective import Term, label_nll
from pir.objectives.halting import exit_log_probs
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout
from pir.system import processes


class ExitDistribution(Term):
    """Stage I: sum_t p(t) L_t - beta H(p), L_t the loss of step t, p the distribution of the exit.

    The entropy is, up to a constant, minus the divergence of p from a uniform prior over depths;
    without it p collapses to the last step (section 3.3). L_t is -log c_t(y*), in nats per cell.

    Args:
        beta: weight of the entropy, at least 0; published 0.1, later 0.05.
    """

    outputs = ("halt_logit",)
    whole_rollouts = True

    def __init__(self, beta: float = 0.1) -> None:
        """Keeps beta."""
        if not beta >= 0:
            raise UserError(f"objective: beta={beta}; at least 0")
        self.beta = beta

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats."""
        log_exits = exit_log_probs(rollout.after.halt_logit)
        losses = label_nll(rollout.after.logits, rollout)
        loss: Tensor = (log_exits.exp() * (losses + self.beta * log_exits)).sum(0).mean()
        return loss


class ExitImprovement(Term):
    """Stage II: the gate goes on where the step has gained.

    mean_t BCE(1 - lambda_t, w_t) over steps t >= 2, with w_t = sigmoid(50 (I_t - 0.005)) and
    I_t = max(0, L_(t-1) - L_t) (section 3.4). The gate reads the state without gradient, so with no
    other term only the read-out learns: the gate, and where it reads a coda's output
    (`RecurrentDepth`), the coda.
    """

    outputs = ("halt_logit",)
    whole_batch = True

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over the steps after the first, in nats."""
        steps = rollout.flatten(0, 1)
        logit = reasoner.read_out(steps.after.state.detach()).halt_logit
        assert logit is not None
        with torch.no_grad():
            before, after = (label_nll(at.logits, steps) for at in (steps.before, steps.after))
            goes_on = worth_going_on((before - after).clamp(min=0))
        losses = F.binary_cross_entropy_with_logits(-logit, goes_on, reduction="none")
        later = steps.k > 1
        count = processes.mean(later.sum()).clamp(min=1 / processes.size())
        loss: Tensor = torch.where(later, losses, 0.0).sum() / count
        return loss
