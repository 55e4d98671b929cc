"""Intervals and tests by resampling, seeded: the same data give the same numbers.

Intervals are 95 % percentile bootstrap intervals (Efron 1979). Tests are two-sided permutation
tests of a difference of means; they are exact where all arrangements can be listed, else a sample
of them gives p = (1 + as extreme) / (1 + drawn), which is never 0 (Phipson and Smyth 2010).
"""

import math
from itertools import combinations

import numpy as np

RESAMPLES = 2000
"""Bootstrap samples of an interval."""

ARRANGEMENTS = 10_000
"""Arrangements of a permutation test: all of them, if no more exist."""

FEW_SEEDS = 10
"""Below so many units a bootstrap interval is much too narrow: of 3 it covers about 75 %."""

SEED = 0
LEVEL = (2.5, 97.5)
ROUNDING = 1e-9
"""Sums that differ by rounding alone count as equal."""


def bootstrap_interval(*samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the interval of a mean, or of mean(second) - mean(first).

    Args:
        samples: one or two arrays of shape (units, B): B quantities, each measured on the same
            units. Units (puzzles or seeds) are drawn with replacement, for each sample by itself.

    Returns:
        Lower and upper ends, each of shape (B,).
    """
    # scipy.stats.bootstrap is ten times slower with thousands of puzzles, and refuses a single unit
    rng = np.random.default_rng(SEED)
    means = [_resampled_means(sample, rng) for sample in samples]
    low, high = np.percentile(means[-1] - (means[0] if len(means) > 1 else 0), LEVEL, axis=0)
    return low, high


def _resampled_means(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    units = len(sample)
    draws = [
        np.bincount(rng.integers(0, units, units), minlength=units) @ sample
        for _ in range(RESAMPLES)
    ]
    return np.stack(draws) / units


def sign_flip_test(differences: np.ndarray) -> float:
    """Tests whether paired differences of shape (units,) have mean zero, by flipping their signs.

    Returns:
        The p-value.
    """
    # scipy.stats.permutation_test is five times slower here with thousands of puzzles
    moved = differences[differences != 0]
    observed = abs(moved.sum())
    if len(moved) <= math.log2(ARRANGEMENTS):
        signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        return float(np.mean(np.abs(signs @ moved) >= observed - ROUNDING))
    rng = np.random.default_rng(SEED)
    extreme = 0
    for _ in range(ARRANGEMENTS):
        flipped = rng.random(len(moved)) < 0.5
        extreme += abs(moved.sum() - 2 * moved[flipped].sum()) >= observed - ROUNDING
    return float((1 + extreme) / (1 + ARRANGEMENTS))


def permutation_test(first: np.ndarray, second: np.ndarray) -> float:
    """Tests whether two samples of shapes (n,) and (m,) have one mean, by exchanging units.

    Returns:
        The p-value.
    """
    # scipy.stats.permutation_test refuses a single unit, and misses some ties (rounding)
    pooled = np.concatenate([first, second])
    total = pooled.sum()
    observed = abs(second.mean() - first.mean())

    def is_extreme(sum_of_second: float) -> bool:
        mean_of_first = (total - sum_of_second) / len(first)
        return bool(abs(sum_of_second / len(second) - mean_of_first) >= observed - ROUNDING)

    if math.comb(len(pooled), len(second)) <= ARRANGEMENTS:
        chosen = combinations(range(len(pooled)), len(second))
        return float(np.mean([is_extreme(pooled[list(units)].sum()) for units in chosen]))
    rng = np.random.default_rng(SEED)
    extreme = sum(
        is_extreme(rng.permutation(pooled)[: len(second)].sum()) for _ in range(ARRANGEMENTS)
    )
    return float((1 + extreme) / (1 + ARRANGEMENTS))


def smallest_p(first: int, second: int) -> float:
    """Returns the smallest p-value that `permutation_test` can give to samples of these sizes."""
    arrangements = math.comb(first + second, second)
    if arrangements > ARRANGEMENTS:  # as many of them are drawn
        return 1 / (1 + ARRANGEMENTS)
    return (2 if first == second else 1) / arrangements
