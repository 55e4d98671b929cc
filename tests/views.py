"""What the tests of the episode and of its views share."""

from pathlib import Path

import torch
from pir.envs.views.registration import environment_id, puzzle_names
from tensordict import TensorDict

from pir.puzzle import Puzzle

ROWS = 6
IDS = [environment_id(name) for name in puzzle_names()]
ROOT = Path(__file__).resolve().parent.parent


def guesses(puzzle: Puzzle, question: torch.Tensor, seed: int) -> torch.Tensor:
    """Random tokens everywhere, on given positions too."""
    generator = torch.Generator().manual_seed(seed)
    size = len(puzzle.vocabulary)
    return torch.randint(size, question.shape, generator=generator, dtype=torch.uint8)


def labelled(puzzle: Puzzle, count: int = ROWS) -> TensorDict:
    return puzzle.sample(count, "train", seed=5)
