"""One improvement step at its written cells: what the statistics of the ledger share.

u is the policy before the step, c the policy after it, y* the label, A = log c - log u the
advantage (`pir.ledger.guidance` has the mathematics). Shapes: B puzzles, C written cells in all of
them, V tokens.
"""

from functools import cached_property

import torch
from torch import Tensor

from pir.ledger.guidance import divergence, log_prob_gain, region
from pir.rollout import Rollout

IDLE_KL = 1e-3
"""Mean KL(c || u) per written cell, in nats, below which a dead step counts as idle."""


class Cells:
    """What the statistics share of one step: the policies at the written cells, computed once.

    On a CPU the written cells are picked. How many there are, the host would have to wait for on
    another device: there all cells take part, and values of those not written count as 0.

    Args:
        step: the step, of B puzzles.
        picked: whether the written cells are picked; None to decide by the device.

    Attributes:
        step: the step, of B puzzles.
        places: int64 of shape (C,), the written positions, or all, among all B * L.
        counts: bool of shape (C,), which of them are written; None for all.
        puzzle: int64 of shape (C,), the puzzle that each belongs to.
        count: int64 of shape (B,), written cells of each puzzle, at least 1.
        labelled: whether the puzzles came with a label.
    """

    def __init__(self, step: Rollout, picked: bool | None = None) -> None:
        """Finds the written cells."""
        self.step, written = step, step.written.flatten()
        if written.device.type == "cpu" if picked is None else picked:
            self.places, self.counts = written.nonzero().squeeze(1), None
        else:
            self.places = torch.arange(len(written), device=written.device)
            self.counts = written
        self.puzzle = self.places // step.written.shape[1]
        self.count = step.written.sum(1).clamp(min=1)
        self.labelled = "solution" in step.puzzles.keys()  # noqa: SIM118, a TensorDict has no `in`

    def take(self, values: Tensor) -> Tensor:
        """Returns the rows of the written cells: (B, L, ...) to (C, ...)."""
        return values.detach().flatten(0, 1).index_select(0, self.places)

    def counted(self, values: Tensor) -> Tensor:
        """Returns values of cells, float32 (C,), with 0 where a cell is not written."""
        numbers = values.float()
        return numbers if self.counts is None else torch.where(self.counts, numbers, 0.0)

    def sum(self, values: Tensor) -> Tensor:
        """Adds up values of cells by puzzle: (C,) to (B,)."""
        zeros = torch.zeros(len(self.count), dtype=torch.float32, device=values.device)
        return zeros.index_add_(0, self.puzzle, self.counted(values))

    def mean(self, values: Tensor) -> Tensor:
        """Averages values of cells by puzzle: (C,) to (B,)."""
        return self.sum(values) / self.count

    @cached_property
    def log_c(self) -> Tensor:
        """Log c, (C, V)."""
        return self.take(self.step.after.logits).log_softmax(-1)

    @cached_property
    def c(self) -> Tensor:
        """c, (C, V)."""
        return self.log_c.exp()

    @cached_property
    def log_u(self) -> Tensor:
        """Log u, (C, V)."""
        return self.take(self.step.before.logits).log_softmax(-1)

    @cached_property
    def kl(self) -> Tensor:
        """KL(c || u), (C,)."""
        return divergence(self.log_c, self.log_u)

    @cached_property
    def reverse_kl(self) -> Tensor:
        """KL(u || c), (C,)."""
        return divergence(self.log_u, self.log_c)

    @cached_property
    def answer(self) -> Tensor:
        """The token of the answer after the step, int64 (C,)."""
        return self.take(self.step.after.answer).long()

    @cached_property
    def previous(self) -> Tensor:
        """The token of the answer before the step, int64 (C,)."""
        return self.take(self.step.before.answer).long()

    @cached_property
    def label(self) -> Tensor:
        """y*, int64 (C,)."""
        return self.take(self.step.puzzles["solution"]).long()

    @cached_property
    def log_prob_gain(self) -> Tensor:
        """A(y*), (C,)."""
        return log_prob_gain(self.log_u, self.log_c, self.label)

    @cached_property
    def log_confidence(self) -> Tensor:
        """Log c of the answer's token, (C,)."""
        return self.log_c.gather(1, self.answer[:, None]).squeeze(1)

    @cached_property
    def score_gain(self) -> Tensor:
        """The score after the step minus the score before, (B,)."""
        return self.step.after.score - self.step.before.score

    @cached_property
    def region(self) -> Tensor:
        """The `Region` of each cell, -1 where the policy did not move, (C,)."""
        return torch.where(
            self.kl < IDLE_KL, -1, region(self.log_prob_gain, self.kl, self.reverse_kl)
        )

    # A step is dead if its score gain is not above 0: dead = idle + overshoot + busy, each once. It
    # is live above `LIVE_GAIN` (`pir.ledger.statistics`), so that a tiny gain is neither.

    @cached_property
    def dead(self) -> Tensor:
        """Whether the step gained nothing, bool (B,)."""
        return self.score_gain <= 0

    @cached_property
    def idle(self) -> Tensor:
        """Dead, and the policy hardly moved, bool (B,)."""
        return self.dead & (self.mean(self.kl) < IDLE_KL)

    @cached_property
    def overshoot(self) -> Tensor:
        """Dead, not idle, and a smaller step would have gained on the label, bool (B,).

        That is so where the log-probability of the label fell and its slope at the step's start,
        the margin at w = 0, is above 0. Without a label nothing counts as an overshoot.
        """
        if not self.labelled:
            return torch.zeros_like(self.dead)
        gained = self.sum(self.log_prob_gain)
        margin_at_0 = self.sum(self.log_prob_gain + self.reverse_kl)
        return self.dead & ~self.idle & (gained < 0) & (margin_at_0 > 0)

    @cached_property
    def busy(self) -> Tensor:
        """Dead, and neither idle nor an overshoot: the policy moved without a gain, bool (B,)."""
        return self.dead & ~self.idle & ~self.overshoot
