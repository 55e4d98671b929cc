"""Puzzles worth looking at: their answers over the steps, for reports and animations."""

import torch
from torch import Tensor

from pir.rollout import Iterate, Rollout

LOOKED_AT = 100
"""So many of the first puzzles are looked at."""

EXAMPLES = 3
"""So many of them are kept with their answers."""


class AnswerSample:
    """The answers to the first puzzles: the start, then every step.

    Args:
        puzzles: the most puzzles.
    """

    def __init__(self, puzzles: int = LOOKED_AT) -> None:
        """Starts empty."""
        self.puzzles = puzzles
        self._kept: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        k, count = int(step.k[0]), min(len(step.k), self.puzzles - first)
        if count > 0:
            if k == 1:
                self._keep(0, step.before, count)
            self._keep(k, step.after, count)

    def _keep(self, k: int, now: Iterate, count: int) -> None:
        values = (now.answer, now.solved, now.score)
        part = tuple(value[:count].detach().cpu() for value in values)
        self._kept.setdefault(k, []).append((part[0], part[1], part[2]))

    def _stacked(self, which: int) -> Tensor:
        return torch.stack(
            [torch.cat([part[which] for part in self._kept[k]]) for k in sorted(self._kept)], 1
        )

    @property
    def answers(self) -> Tensor:
        """Uint8 of shape (M, K + 1, L)."""
        return self._stacked(0)

    @property
    def solved(self) -> Tensor:
        """Bool of shape (M, K + 1)."""
        return self._stacked(1)

    @property
    def score(self) -> Tensor:
        """Float32 of shape (M, K + 1)."""
        return self._stacked(2)


def changes(answers: Tensor) -> Tensor:
    """Says which steps change the answer: bool (M, K) from answers of shape (M, K + 1, L)."""
    return (answers[:, 1:] != answers[:, :-1]).any(2)


def most_instructive(answers: Tensor, solved: Tensor) -> list[int]:
    """Orders puzzles: those that end solved first, and among equals those that change most often.

    Args:
        answers: uint8 of shape (M, K + 1, L), the start and after every step.
        solved: bool of shape (M, K + 1), whether they are right.

    Returns:
        the M indices.
    """
    worth = solved[:, -1].long() * answers.shape[1] + changes(answers).sum(1)
    return torch.argsort(worth, descending=True, stable=True).tolist()
