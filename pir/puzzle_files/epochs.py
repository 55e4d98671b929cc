"""An endless stream that goes through some rows in ever new orders."""

from functools import lru_cache

import numpy as np


def shuffled_epochs(length: int, count: int, seed: int, start: int) -> np.ndarray:
    """Returns a part of an endless stream that goes through 0 .. length - 1 in ever new orders.

    Returns:
        int64 of shape (count,), the entries `start .. start + count - 1` of the stream.
    """
    epochs = range(start // length, (start + count - 1) // length + 1)
    stream: np.ndarray = np.concatenate([_order(length, seed, epoch) for epoch in epochs])
    return stream[start - epochs[0] * length :][:count]


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> np.ndarray:
    order: np.ndarray = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
    return order
