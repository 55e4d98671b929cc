"""Whether where a rollout began matters for where it ends."""

from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.rollouts import EVALUATION_SEED
from pir.improvement import Lanes, improvement_steps
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.reasoner import SHOWN, Reasoner, latents_of

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
        batches = [Lanes.begin(reasoner, puzzle, part) for part in puzzles.split(batch_size)]
        for own in batches:
            _improve(reasoner, puzzle, own, depth)
        # the last puzzle comes before the first one
        earlier = batches[-1].state[-1:]
        for own in batches:
            before = cast(TensorDict, torch.cat([earlier, own.state[:-1]]))
            earlier = own.state[-1:]
            swapped = own.state.clone().update(before.exclude(*SHOWN))
            other = Lanes.begin(reasoner, puzzle, own.puzzles, swapped)
            other.k = own.k.clone()
            _improve(reasoner, puzzle, own, depth)
            _improve(reasoner, puzzle, other, depth)
            here, there = (_flat(lanes.state) for lanes in (own, other))
            alignment.append(torch.cosine_similarity(here, there, dim=1))
            same.append((own.answer == other.answer).all(1))
    return {
        "alignment": float(torch.cat(alignment).mean()),
        "same_answer": float(torch.cat(same).float().mean()),
        "puzzles": len(puzzles),
    }


def _improve(reasoner: Reasoner, puzzle: Puzzle, lanes: Lanes, num_steps: int) -> None:
    for _ in improvement_steps(reasoner, puzzle, lanes, num_steps):
        pass


def _flat(state: TensorDict) -> Tensor:
    return torch.cat([latent.flatten(1) for latent in latents_of(state)], 1)
