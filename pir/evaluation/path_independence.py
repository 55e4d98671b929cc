"""Path independence: whether the end of a rollout depends on its start."""

from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.rollouts import EVALUATION_SEED
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner, latents_of
from pir.rollout import Lanes, begin, improve

PUZZLES = 256
"""Puzzles that it is measured on."""


@torch.no_grad()
def path_independence(
    reasoner: Reasoner, puzzle: Puzzle, puzzles: TensorDict, batch_size: int = PUZZLES
) -> dict[str, Any]:
    """Compares rollouts that go on from their own state with ones that go on from another's.

    After the trained K steps every puzzle is given the latents of the puzzle before it, and both
    are improved for K steps more (asymptotic alignment, Anil et al. 2022, arXiv:2211.09961, section
    4, there from the first step on).

    Returns:
        `alignment`, the mean cosine of the two ends, over all latents; `same_answer`, the share of
        puzzles with the same answer at both; and how many `puzzles`. Empty for a single puzzle.
    """
    puzzles = puzzles[:PUZZLES]
    if len(puzzles) < 2:
        return {}
    depth, device = reasoner.improvement_steps, puzzles["question"].device
    alignment, same = [], []
    with by_puzzle(EVALUATION_SEED, device):
        batches = [begin(reasoner, puzzle, part) for part in puzzles.split(batch_size)]
        batches = [_improved(reasoner, puzzle, own, depth) for own in batches]
        # the last puzzle comes before the first one
        earlier = batches[-1].now.state[-1:]
        for own in batches:
            swapped = cast(TensorDict, torch.cat([earlier, own.now.state[:-1]]))
            earlier = own.now.state[-1:]
            other = begin(reasoner, puzzle, own.puzzles, swapped)
            other.k, other.now.context = own.k, own.now.context
            own = _improved(reasoner, puzzle, own, depth)
            other = _improved(reasoner, puzzle, other, depth)
            here, there = (_flat(lanes.now.state) for lanes in (own, other))
            alignment.append(torch.cosine_similarity(here, there, dim=1))
            same.append((own.now.answer == other.now.answer).all(1))
    return {
        "alignment": float(torch.cat(alignment).mean()),
        "same_answer": float(torch.cat(same).float().mean()),
        "puzzles": len(puzzles),
    }


def _improved(reasoner: Reasoner, puzzle: Puzzle, lanes: Lanes, num_steps: int) -> Lanes:
    for _ in range(num_steps):
        lanes, _ = improve(reasoner, puzzle, lanes)
    return lanes


def _flat(state: TensorDict) -> Tensor:
    return torch.cat([latent.flatten(1) for latent in latents_of(state)], 1)
