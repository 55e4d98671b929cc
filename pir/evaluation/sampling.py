"""Answers drawn from the policy: how many are right, and how many of all right ones they find."""

from typing import NamedTuple

import torch
from torch import Tensor

from pir.evaluation.rollouts import EVALUATION_SEED
from pir.improvement import Step, sample_answers
from pir.puzzle import Puzzle

SAMPLED_PUZZLES = 500
"""Puzzles of which answers are sampled; listing all answers of more would take long."""

MOST_ANSWERS = 2048
"""Puzzles with more answers than that are left out of the coverage."""


class Sampled(NamedTuple):
    """Answers drawn from the policy at one step.

    Attributes:
        solved: share of right ones among all that were drawn.
        coverage: distinct right ones over all right answers of the puzzle, mean over puzzles; None
            where the answers are not listed or too many.
        puzzles: how many puzzles that is measured on.
    """

    solved: float
    coverage: float | None
    puzzles: int


class PolicySample:
    """Keeps the policies of the first `SAMPLED_PUZZLES` puzzles at one step, and draws from them.

    Args:
        k: the step.
    """

    def __init__(self, k: int) -> None:
        """Has seen nothing."""
        self.k = k
        self.policies: list[tuple[Tensor, Tensor]] = []

    def see(self, step: Step, first: int) -> None:
        """See `pir.evaluation.rollouts.Observer`."""
        room = SAMPLED_PUZZLES - first
        if room > 0 and int(step.k[0]) == self.k:
            question = step.puzzles["question"]
            self.policies.append((question[:room], step.improved.logits[:room]))

    def draw(self, puzzle: Puzzle, samples: int) -> Sampled:
        """Draws `samples` answers per puzzle."""
        question, logits = (torch.cat(parts) for parts in zip(*self.policies, strict=True))
        return sample_policy(puzzle, question, logits, samples)


def sample_policy(puzzle: Puzzle, question: Tensor, logits: Tensor, samples: int) -> Sampled:
    """Draws answers to questions (B, L) from their policies (B, L, V)."""
    generator = torch.Generator(question.device).manual_seed(EVALUATION_SEED)
    answers = sample_answers(puzzle, question, logits, samples, generator)
    repeated = question.repeat_interleave(samples, 0)
    solved = puzzle.verify(repeated, answers.flatten(0, 1)).solved.view(-1, samples)
    shares = []
    for row in range(len(question)):
        try:
            listed, valid = puzzle.solutions(question[row : row + 1], MOST_ANSWERS)
        except NotImplementedError:
            break
        if valid.any() and not valid.all():
            # Right answers that are spelled in another way than listed would count twice.
            right = {tuple(answer) for answer in answers[row][solved[row]].tolist()}
            every = {tuple(answer) for answer in listed[valid].tolist()}
            shares.append(len(right & every) / len(every))
    coverage = sum(shares) / len(shares) if shares else None
    return Sampled(float(solved.float().mean()), coverage, len(question))
