"""Evaluation: the ledger of every improvement step on held-out puzzles."""

import math
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.improvement import Lanes, improvement_steps
from pir.ledger import Ledger
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner

EVALUATION_SEED = 0


def held_out(puzzle: Puzzle, split: str, count: int, device: torch.device) -> TensorDict:
    """Returns the first `count` held-out puzzles of a split, the same for every run."""
    return puzzle.sample(count, split, seed=EVALUATION_SEED).to(device)


@dataclass
class Evaluation:
    """What an evaluation measured.

    Attributes:
        ledger: sums over all puzzles.
        solved: bool of shape (N, K), whether the answer after each step is right.
        score: float32 of shape (N, K).
    """

    ledger: Ledger
    solved: Tensor
    score: Tensor


@torch.no_grad()
def evaluate(
    reasoner: Reasoner, puzzle: Puzzle, puzzles: TensorDict, num_steps: int, batch_size: int
) -> Evaluation:
    """Improves the answers to some puzzles `num_steps` times and records every step.

    Args:
        reasoner: the network, on the device of `puzzles`.
        puzzle: judges the answers.
        puzzles: `question` and `solution` of N puzzles.
        num_steps: improvement steps K, as many as you like.
        batch_size: puzzles improved at once; changes speed and memory only.
    """
    ledger = Ledger(num_steps, reasoner.passes_per_step, puzzles["question"].device)
    solved, score = [], []
    for batch in puzzles.split(batch_size):
        lanes = Lanes.begin(reasoner, puzzle, batch)
        verdicts = []
        for step in improvement_steps(reasoner, puzzle, lanes, num_steps):
            ledger.record(step)
            verdicts.append(step.after)
        solved.append(torch.stack([verdict.solved for verdict in verdicts], 1))
        score.append(torch.stack([verdict.score for verdict in verdicts], 1))
    return Evaluation(ledger, torch.cat(solved).cpu(), torch.cat(score).cpu())


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
