"""Targets of improvement: what the answer should be after every step on the way to the label."""

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice
from pir.noise import drawn
from pir.puzzle import PAD, Puzzle

Order = Literal["random", "solver"]
Unresolved = Literal["draft", "masked"]

TIES = 1 << 32
"""Random numbers that order cells of one rank are drawn below this."""


class TargetGenerator(ABC):
    """Makes one target for every improvement step; none is farther from the label than the last."""

    @abstractmethod
    def targets(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> Tensor:
        """Returns the targets of K steps, the last of which is the label.

        Args:
            puzzle: says what is written, and what it may hold.
            puzzles: `question` and `solution`, uint8 of shape (B, L).
            num_steps: K, at least 1.

        Returns:
            uint8 of shape (B, K, L). Positions that are not written repeat the question; `PAD` at a
            written one means that the step has no target there yet.
        """


class Identity(TargetGenerator):
    """The label at every step: deep supervision."""

    def targets(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> Tensor:
        """Repeats the label; see `TargetGenerator.targets`."""
        solution: Tensor = puzzles["solution"]
        return solution[:, None].repeat(1, num_steps, 1)


class NestedEdits(TargetGenerator):
    """A first frame, its wrong cells put right bit by bit (DIS, arXiv:2511.16886v2, section 4).

    Of the n cells in which the first frame differs from the label, the target of step k has the
    first floor(k n / K) put right.

    Args:
        order: "random", or "solver": that of `Puzzle.solution_order`, ties at random.
        unresolved: what a cell holds before. "draft": the question's own token where the position
            may hold it, else a random one; the step is asked for it too. "masked": no target.

    Raises:
        UserError: if there is no such order or filling.
    """

    def __init__(self, order: Order = "random", unresolved: Unresolved = "draft") -> None:
        """Checks and keeps the settings."""
        check_choice("targets: order", order, get_args(Order))
        check_choice("targets: unresolved", unresolved, get_args(Unresolved))
        self.order, self.unresolved = order, unresolved

    def targets(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> Tensor:
        """Draws from torch's global generator; see `TargetGenerator.targets`."""
        question, solution = puzzles["question"], puzzles["solution"]
        draft = self.unresolved == "draft"
        first = _draft(puzzle, question) if draft else torch.full_like(question, PAD)
        first = puzzle.clamp(question, first)
        wrong = first != solution
        length, device = puzzle.length, question.device
        turn = drawn(lambda n: torch.randint(TIES, (n, length), device=device), len(question))
        if self.order == "solver":
            turn += TIES * puzzle.solution_order(question, solution)
        places = turn.masked_fill(~wrong, torch.iinfo(turn.dtype).max).argsort(1)
        rank = torch.empty_like(places).scatter_(
            1, places, torch.arange(puzzle.length, device=places.device).expand_as(places)
        )
        step = torch.arange(1, num_steps + 1, device=question.device)
        right = step * wrong.sum(1, keepdim=True) // num_steps
        return torch.where(rank[:, None] < right[..., None], solution[:, None], first[:, None])


def _draft(puzzle: Puzzle, question: Tensor) -> Tensor:
    """Fills positions with the question's token where they may hold it, else with a random one."""
    allowed = puzzle.slot_mask.to(question.device).float()
    allowed[:, PAD] = 0
    place = torch.arange(puzzle.length, device=question.device)
    keeps = allowed[place, question.long()] > 0
    allowed[allowed.sum(1) == 0, PAD] = 1  # positions that are never written
    filled = drawn(lambda n: allowed.multinomial(n, replacement=True).T, len(question))
    return torch.where(keeps, question, filled.to(question.dtype))
