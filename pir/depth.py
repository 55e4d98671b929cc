"""The depth of training's rollouts: chosen from the ledger, or drawn at random.

By the ledger, dead steps are not taken. A forward pass can go to one more step of a puzzle or to a
fresh one. Which is better differs between puzzles and changes while a model learns, so it is
measured. The depth starts at one step; it grows by one when the next step, which a few lanes
always take, raises the score of enough puzzles, and shrinks by one when the last step has died.
"""

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step

WORTH, DYING = Fraction(1, 3), Fraction(1, 6)
"""Shares of puzzles that a step must improve: to be taken from now on, and to go on being taken."""

SCOUTS = 16
"""Every so many lanes, one takes a step more than the others."""

DECIDE_EVERY, DECIDE_BY = 15, 24
"""Improvement steps, and puzzles that took the step in question, that a decision needs."""


class LedgerDepth:
    """The depth of rollouts, between 1 and `most` steps, and the counts that it is chosen by.

    Args:
        most: the budget, improvement steps of the longest rollout.
        device: where the lanes are.
    """

    def __init__(self, most: int, device: torch.device) -> None:
        """Starts at one step."""
        self.most, self.depth, self.seen = most, 1, 0
        self.improved, self.taken = torch.zeros(2, most, device=device)

    @torch.no_grad()
    def observe(self, step: Step) -> None:
        """Counts the puzzles that a step improved, and decides anew from time to time."""
        gained = step.after.score > step.before.score
        self.improved.index_add_(0, step.k - 1, gained.float())
        self.taken.index_add_(0, step.k - 1, torch.ones_like(step.after.score))
        self.seen += 1
        following = min(self.depth, self.most - 1)
        if self.seen >= DECIDE_EVERY and float(self.taken[following]) >= DECIDE_BY:
            self._decide()

    def _decide(self) -> None:
        # counts, so that no rounding decides whether a share is reached
        improved, taken = self.improved.long().tolist(), self.taken.long().clamp(min=1).tolist()
        following, last = self.depth, self.depth - 1
        if self.depth < self.most and improved[following] >= WORTH * taken[following]:
            self.depth += 1
        elif self.depth > 1 and improved[last] < DYING * taken[last]:
            self.depth -= 1
        self.seen = 0
        self.improved.zero_()
        self.taken.zero_()

    def finished(self, k: Tensor, turn: int) -> Tensor:
        """Says which lanes, at steps k (B,), take a new puzzle at a turn: bool of shape (B,).

        As with staggered lanes each turn refills a share of them, so that all steps are trained
        side by side; of the scouts a smaller share, for they go one step farther.
        """
        lane = torch.arange(len(k), device=k.device)
        scout = (lane % SCOUTS == SCOUTS - 1) | (lane == min(len(k), SCOUTS) - 1)
        depth = torch.where(scout, min(self.depth + 1, self.most), self.depth)
        place = torch.where(scout, lane // SCOUTS, lane)
        return (place % depth == turn % depth) | (k >= depth)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything, for a checkpoint."""
        return {
            "depth": self.depth,
            "seen": self.seen,
            "improved": self.improved,
            "taken": self.taken,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes everything back from a checkpoint."""
        self.depth, self.seen = state["depth"], state["seen"]
        self.improved.copy_(state["improved"])
        self.taken.copy_(state["taken"])


class RandomDepth:
    """Draws how many steps a training rollout takes, so that none learns to be the last.

    r = min(Poisson(e^tau) + 1, 2 K) with tau ~ N(log K - s^2 / 2, s) (recurrent depth,
    arXiv:2502.05171, section 3.3; there without the cut), from torch's global random state.

    Args:
        deviation: s, of the logarithm of the rate.
    """

    def __init__(self, deviation: float = 0.5) -> None:
        """Keeps the deviation."""
        if not deviation >= 0:
            raise UserError(f"objective.depth.deviation={deviation}: must be at least 0")
        self.deviation = deviation

    def longest(self, mean: int) -> int:
        """Returns the most steps that are drawn around a mean K."""
        return 2 * mean

    def draw(self, mean: int) -> int:
        """Returns a number of steps, at least 1."""
        tau = math.log(mean) - self.deviation**2 / 2 + self.deviation * torch.randn(())
        return min(int(torch.poisson(tau.exp())) + 1, self.longest(mean))
