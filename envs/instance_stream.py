"""What all compiled generators share: the stream of instances, its split, and the draws.

A generator fills rows, one instance each: it draws until an instance is in the split and fits the
settings. For every row from `progress[0]` on it calls `open_row`, and before every draw
`ask_to_draw`, whose status it returns unless that is `DRAW`; a row is done when its key, modulo
`key_range`, lies from `low` up to `high`. `pir.envs.countdown.kernels.generate` shows the loop.

Only its parts are shared: numba cannot keep a function in its cache on disk that takes another
compiled function as an argument, so a shared loop would be compiled anew by every process.
`pir.system.slices.generate_rows` says what `progress` and `budget` are.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import open_stream

from pir.puzzle import KEY_RANGE, SPLITS, split_range
from pir.system.slices import BUSY, GIVEN_UP

DRAW = -1
"""One more draw may be made; differs from what a generator returns."""


class Stream(NamedTuple):
    """A stream of instances, for a compiled generator.

    Attributes:
        first_index: index of the first instance.
        seed: names the stream, with `split`.
        split: number of the split.
        key_range: modulus of the keys.
        low: least key % key_range of the split.
        high: one more than the greatest.
        max_draws: gives an instance up after so many draws.
    """

    first_index: int
    seed: int
    split: int
    key_range: int
    low: int
    high: int
    max_draws: int


def stream_of(split: str, seed: int, start: int, max_draws: int) -> Stream:
    """Returns the stream of a split, from the instance `start` on; see `Puzzle.sample`."""
    return Stream(start, seed, SPLITS.index(split), KEY_RANGE, *split_range(split), max_draws)


@njit(cache=True, nogil=True)
def open_row(stream: Stream, row: int, progress: np.ndarray) -> tuple[np.uint64, int]:
    """Returns the random stream of a row and the draws made for it: those kept, or new and 0."""
    if progress[0] == uint64(row) and progress[1] > uint64(0):
        return progress[2], np.int64(progress[1])
    return open_stream(stream.seed, stream.split, stream.first_index + row), 0


@njit(cache=True, nogil=True)
def keep_place(progress: np.ndarray, row: int, draws: int, state: np.uint64) -> None:
    """Notes where a generator stands."""
    progress[0], progress[1], progress[2] = uint64(row), uint64(draws), state


@njit(cache=True, nogil=True)
def ask_to_draw(
    stream: Stream, row: int, draws: int, state: np.uint64, progress: np.ndarray, budget: int
) -> int:
    """Returns `DRAW` where one more draw may be made, else what the generator is to return.

    Returns:
        `DRAW`; `GIVEN_UP` after `max_draws` draws; `BUSY` where the budget is spent, with the place
        noted.
    """
    if draws == stream.max_draws:
        return GIVEN_UP
    if budget <= 0:
        keep_place(progress, row, draws, state)
        return BUSY
    return DRAW
