"""The boards of the published set-up, arXiv:2511.16886, made anew; `rules` says what they are."""

from functools import cache

import numpy as np
from pir.envs.queens import kernels

PUBLISHED_BOARDS = {"train": (800, 42), "val": (200, 2042), "test": (200, 1042)}
"""Boards and seed of every split of the published set-up; it has no validation split."""


@cache
def published_boards(n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the published set-up's boards and labels, int64 of shape (7200 or 200, n).

    Labels come from row-wise back-tracking with columns in random order, which favours some
    solutions, as in the published code; the number of given queens is uniform on 0 .. n - 1.
    """
    count, seed = PUBLISHED_BOARDS[split]
    rng = np.random.Generator(np.random.Philox(key=[seed, n]))
    labels = np.array([_back_track(rng, n, []) for _ in range(count)])
    boards = labels.copy()
    for board in boards:
        board[rng.permutation(n)[rng.integers(n) :]] = -1
    if split != "train":
        return boards, labels
    images = np.zeros((2, 9, count, n), np.int64)
    for part, originals in enumerate((boards, labels)):
        images[part, 8] = originals
        for which, row in np.ndindex(8, count):
            kernels.image(originals[row], which, images[part, which, row])
    return images[0].reshape(-1, n), images[1].reshape(-1, n)


def _back_track(rng: np.random.Generator, n: int, placed: list[int]) -> list[int]:
    """Completes a board row by row, columns in random order; returns [] if that is impossible."""
    row = len(placed)
    if row == n:
        return placed
    for column in rng.permutation(n).tolist():
        if all(c != column and abs(c - column) != row - r for r, c in enumerate(placed)):
            full = _back_track(rng, n, [*placed, column])
            if full:
                return full
    return []
