"""Evaluation: the ledger of every improvement step on held-out puzzles."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Lanes, improvement_steps, sample_answers
from pir.ledger import Ledger
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner

EVALUATION_SEED = 0

SAMPLED_PUZZLES = 500
"""Puzzles of which answers are sampled; listing all answers of more would take long."""

MOST_ANSWERS = 2048
"""Puzzles with more answers than that are left out of the coverage."""


def refuse_empty(puzzle: Puzzle, split: str) -> None:
    """Refuses a split that holds no puzzle.

    Raises:
        UserError: naming the split.
    """
    if puzzle.size(split) == 0:
        raise UserError(f"the puzzles given leave none for the {split} split")


def held_out(puzzle: Puzzle, split: str, count: int, device: torch.device) -> TensorDict:
    """Returns the first `count` puzzles of a split (all, if it has fewer), the same for every run.

    Raises:
        UserError: if the split is empty.
    """
    refuse_empty(puzzle, split)
    size = puzzle.size(split)
    wanted = count if size is None else min(count, size)
    return puzzle.sample(wanted, split, seed=EVALUATION_SEED).to(device)


@dataclass
class Evaluation:
    """What an evaluation measured.

    Attributes:
        ledger: sums over all puzzles.
        solved: bool of shape (N, K), whether the answer after each step is right.
        score: float32 of shape (N, K).
        sampled: what sampling from the policy found; None if it was not asked for.
    """

    ledger: Ledger
    solved: Tensor
    score: Tensor
    sampled: "Sampled | None" = None


class Sampled(NamedTuple):
    """Answers drawn from the policy after the trained number of steps (the last, if fewer).

    Attributes:
        solved: share of right ones among all that were drawn.
        coverage: distinct right ones over all right answers of the puzzle, mean over puzzles; None
            where the answers are not listed or too many.
        puzzles: how many puzzles that is measured on.
    """

    solved: float
    coverage: float | None
    puzzles: int


@torch.no_grad()
def evaluate(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    num_steps: int,
    batch_size: int,
    samples: int = 0,
) -> Evaluation:
    """Improves the answers to some puzzles `num_steps` times and records every step.

    Args:
        reasoner: the network, on the device of `puzzles`.
        puzzle: judges the answers.
        puzzles: `question` and `solution` of N puzzles.
        num_steps: improvement steps K, as many as you like.
        batch_size: puzzles improved at once; changes speed and memory only.
        samples: answers to draw for each of the first `SAMPLED_PUZZLES` puzzles after the step for
            which the reasoner was trained; 0 for none.
    """
    ledger = Ledger(num_steps, reasoner.passes_per_step, puzzles["question"].device)
    solved, score = [], []
    to_sample: list[tuple[Tensor, Tensor]] = []
    for batch in puzzles.split(batch_size):
        lanes = Lanes.begin(reasoner, puzzle, batch)
        verdicts = []
        for step in improvement_steps(reasoner, puzzle, lanes, num_steps):
            ledger.record(step)
            verdicts.append(step.after)
            if samples and int(step.k[0]) == min(reasoner.improvement_steps, num_steps):
                room = SAMPLED_PUZZLES - sum(len(question) for question, _ in to_sample)
                to_sample.append((batch["question"][:room], step.improved.logits[:room]))
        solved.append(torch.stack([verdict.solved for verdict in verdicts], 1))
        score.append(torch.stack([verdict.score for verdict in verdicts], 1))
    sampled = None
    if samples:
        question, logits = (torch.cat(parts) for parts in zip(*to_sample, strict=True))
        sampled = sample_policy(puzzle, question, logits, samples)
    return Evaluation(ledger, torch.cat(solved).cpu(), torch.cat(score).cpu(), sampled)


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


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the Wilson score interval of a share (Wilson 1927), 95 % by default.

    Args:
        successes: number of successes, in [0, trials].
        trials: number of trials; with none the interval is [0, 1].
        z: normal quantile of the level.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
