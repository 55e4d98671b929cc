"""Lanes that start late: in the state after many steps, which were taken without learning.

In use a network takes more steps than it is trained for, and answers that were right may be lost
in states that it has never learnt from. Here some of the refills of lanes begin in such states
(`chenglou/sotaku`, version 2.0.0, September 2026: a fifth of the batches, after 32, 64, 128, 256 or
512 iterations).
"""

import torch

from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Lanes, improve
from pir.settings.training import TrainerSettings

FEWEST = 32
"""Steps of the shortest burn-in, unless `trainer.late_steps` is less."""


def burn_in(settings: TrainerSettings) -> int:
    """Draws how many steps the lanes of a refill take before they start; 0 for none.

    From torch's global random state; nothing is drawn where `late_share` is 0.
    """
    if settings.late_share == 0 or float(torch.rand(())) >= settings.late_share:
        return 0
    lengths = [min(FEWEST, settings.late_steps)]
    while 2 * lengths[-1] <= settings.late_steps:
        lengths.append(2 * lengths[-1])
    return lengths[int(torch.randint(len(lengths), ()))]


@torch.no_grad()
def start_late(
    reasoner: Reasoner, puzzle: Puzzle, fresh: Lanes, settings: TrainerSettings
) -> Lanes:
    """Takes as many steps in fresh lanes as are drawn, as in use, and counts from 0 again."""
    lanes = fresh
    for _ in range(burn_in(settings)):
        lanes, _ = improve(reasoner, puzzle, lanes)
    lanes.k, lanes.first_solved = fresh.k, fresh.first_solved
    return lanes
