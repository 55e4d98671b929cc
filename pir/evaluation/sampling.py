"""Several answers per puzzle: how many are right, and how many of all right ones they find.

Where rollouts draw random numbers themselves, every answer is the end of a rollout of its own;
otherwise the answers are drawn from the policy that the one rollout ends in.
"""

from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.rollouts import EVALUATION_SEED, evaluate
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, sample_answers, verify_answers

SAMPLED_PUZZLES = 500
"""Puzzles of which answers are sampled; listing all answers of more would take long."""

MOST_ANSWERS = 2048
"""Puzzles with so many answers or more are left out of the coverage."""


class Sampled(NamedTuple):
    """What several answers per puzzle amount to.

    Attributes:
        solved: share of right ones among all that were drawn.
        pass_at_k: share of puzzles for which at least one is right. The verifier needs no label,
            so a user can pick that answer.
        coverage: distinct right ones over all right answers of the puzzle, mean over the puzzles
            whose list of right answers is complete; None if there is no such puzzle.
        puzzles: how many puzzles that is measured on.
    """

    solved: float
    pass_at_k: float
    coverage: float | None
    puzzles: int


class PolicySample:
    """Keeps the policies of the first `SAMPLED_PUZZLES` puzzles at one step, and draws from them.

    Args:
        k: the step.
    """

    def __init__(self, k: int) -> None:
        """Starts empty."""
        self.k = k
        self.policies: list[tuple[Tensor, Tensor]] = []

    def see(self, step: Rollout, first: int) -> None:
        """See `pir.evaluation.rollouts.Observer`."""
        room = SAMPLED_PUZZLES - first
        if room > 0 and int(step.k[0]) == self.k:
            question = step.puzzles["question"]
            self.policies.append((question[:room], step.after.logits[:room]))

    def draw(self, puzzle: Puzzle, samples: int) -> Sampled:
        """Draws `samples` answers per puzzle, every token by itself."""
        question, logits = (torch.cat(parts) for parts in zip(*self.policies, strict=True))
        with by_puzzle(EVALUATION_SEED, question.device):
            answers = sample_answers(puzzle, question, logits, samples)
        return judge(puzzle, question, answers)


def sample_rollouts(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    samples: int,
    depth: int,
    batch_size: int,
) -> Sampled:
    """Rolls out every puzzle `samples` times over `depth` steps; for stochastic reasoners."""
    puzzles = puzzles[:SAMPLED_PUZZLES]
    ends = [
        evaluate(reasoner, puzzle, puzzles, depth, batch_size, seed=EVALUATION_SEED + number)
        for number in range(samples)
    ]
    question = puzzles["question"]
    answers = torch.stack([end.answers for end in ends], 1).to(question.device)
    return judge(puzzle, question, answers)


def judge(puzzle: Puzzle, question: Tensor, answers: Tensor) -> Sampled:
    """Verifies answers (B, S, L) to questions (B, L), and counts the different right ones."""
    solved = verify_answers(puzzle, question, answers).solved
    shares = []
    for row in range(len(question) if puzzle.lists_solutions else 0):
        listed = puzzle.solutions(question[row : row + 1], MOST_ANSWERS)
        if listed.complete.all() and listed.valid.any():
            # Right answers that are spelled in another way than listed would count twice.
            right = {tuple(answer) for answer in answers[row][solved[row]].tolist()}
            every = {tuple(answer) for answer in listed.answers[listed.valid].tolist()}
            shares.append(len(right & every) / len(every))
    coverage = sum(shares) / len(shares) if shares else None
    mean, found = (float(part.float().mean()) for part in (solved, solved.any(1)))
    return Sampled(mean, found, coverage, len(question))
