"""The depth of training's rollouts follows the ledger: it ends where steps improve too few puzzles.

A forward pass can go to one more step of a puzzle or to a fresh one. Which is better differs
between puzzles and changes while a model learns, so it is measured. The depth starts at one step;
it grows by one when the next step, which a few lanes always take, raises the score of enough
puzzles, and shrinks by one when the last step has died.
"""

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pir.rollout import Rollout, lane_numbers
from pir.schedules.base import LaneSchedule
from pir.system import processes

WORTH, DYING = Fraction(1, 3), Fraction(1, 6)
"""Shares of puzzles that a step must improve: to be taken from now on, and to go on being taken."""

SCOUTS = 16
"""Every so many lanes, one takes a step more than the others."""

DECIDE_EVERY, DECIDE_BY = 15, 24
"""Improvement steps, and puzzles that took the step in question, that a decision needs."""


class ByLedger(LaneSchedule):
    """As `Staggered`, with a depth between 1 and K steps, chosen by counts of improved puzzles.

    Args:
        num_steps: K, the most steps of a rollout.
        device: where the lanes are.
    """

    reads_outcomes = True

    def __init__(self, num_steps: int, device: torch.device) -> None:
        """Starts at one step."""
        super().__init__(num_steps, device)
        self.depth, self.seen = 1, 0
        self.improved, self.taken = torch.zeros(2, num_steps, dtype=torch.float32, device=device)

    @torch.no_grad()
    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """Chooses the lanes, then counts what the step improved and decides about the depth anew.

        As with staggered lanes each step refills a share of them, so that all steps are trained
        side by side; of the scouts a smaller share, for they go one step farther.
        """
        lane, lanes = lane_numbers(step), len(step.k) * processes.size()
        scout = (lane % SCOUTS == SCOUTS - 1) | (lane == min(lanes, SCOUTS) - 1)
        longest = torch.where(scout, min(self.depth + 1, self.num_steps), self.depth)
        place = torch.where(scout, lane // SCOUTS, lane)
        chosen = (place % longest == steps_so_far % longest) | (step.k >= longest)
        self._observe(step)
        return chosen

    def _observe(self, step: Rollout) -> None:
        """Counts the puzzles that a step improved, and decides anew from time to time."""
        gained = step.after.score > step.before.score
        counts = self.improved.new_zeros(2, self.num_steps)
        counts.index_add_(
            1, step.k - 1, torch.stack([gained, gained.new_ones(len(gained))]).float()
        )
        improved, taken = processes.total(counts)
        self.improved += improved
        self.taken += taken
        self.seen += 1
        following = min(self.depth, self.num_steps - 1)
        if self.seen >= DECIDE_EVERY and float(self.taken[following]) >= DECIDE_BY:
            self._decide()

    def _decide(self) -> None:
        # counts, so that no rounding decides whether a share is reached
        improved, taken = self.improved.long().tolist(), self.taken.long().clamp(min=1).tolist()
        following, last = self.depth, self.depth - 1
        if self.depth < self.num_steps and improved[following] >= WORTH * taken[following]:
            self.depth += 1
        elif self.depth > 1 and improved[last] < DYING * taken[last]:
            self.depth -= 1
        self.seen = 0
        self.improved.zero_()
        self.taken.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Returns everything, for a checkpoint."""
        counts = {"improved": self.improved, "taken": self.taken}
        return {"depth": self.depth, "seen": self.seen, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes everything back from a checkpoint."""
        self.depth, self.seen = state["depth"], state["seen"]
        self.improved.copy_(state["improved"])
        self.taken.copy_(state["taken"])
