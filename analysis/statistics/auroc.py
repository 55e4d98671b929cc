"""How well a number tells two kinds apart: the area under the ROC curve, with its interval."""

from typing import NamedTuple

import numpy as np

from pir.evaluation.intervals import NORMAL

FEWEST = 10
"""With fewer of either kind no area is estimated: of eight, intervals hold the true area in 88 to
92 of 100 draws, of ten in 90 to 93. Columns add up those of the first kind."""


class Area(NamedTuple):
    """An estimate, all in [0, 1]; nan where too few were seen.

    Attributes:
        area: the probability that one of the first kind has the larger number, ties as half.
        low: lower end of the 95 % interval; nan where the area is 0 or 1.
        high: upper end.
    """

    area: float
    low: float
    high: float


def auroc(numbers: np.ndarray, positive: np.ndarray) -> Area:
    """Returns the area under the ROC curve (Mann and Whitney 1947) of a number, or a mean of areas.

    With columns, which belong to the same N (a puzzle's steps, say), it is the mean of their areas,
    weighted by how many are of the first kind; columns with one of these or none are left out. The
    standard error is that of the mean over N of what each adds to the estimate (DeLong, DeLong and
    Clarke-Pearson 1988, Biometrics 44:837-845, Eq. 4 and 5), so columns need not be independent of
    one another. The interval is the normal one of the area's logit, which keeps it inside of [0, 1]
    and holds better near its ends; an area of 0 or 1 has none.

    Args:
        numbers: of shape (N,) or (N, columns); those that are not finite are left out.
        positive: bool of the same shape, which are of the first kind.
    """
    from scipy.special import expit, logit  # takes half a second to import

    if numbers.ndim == 1:
        numbers, positive = numbers[:, None], positive[:, None]
    areas, counts, parts, kinds = [], [], [], []
    for column, first in zip(numbers.T, positive.T, strict=True):
        finite = np.isfinite(column)
        first = first & finite
        second = ~first & finite
        n, m = int(first.sum()), int(second.sum())
        if n < 2 or m < FEWEST:
            continue
        above = _shares_below(column[first], column[second])
        area = float(above.mean())
        part = np.zeros(len(column))
        part[first] = above - area
        part[second] = 1 - _shares_below(column[second], column[first]) - area
        areas.append(area)
        counts.append(n)
        # a mean over N of these is a mean over the first kind, and one over the second; its
        # variance is estimated with n - 1 and m - 1 degrees of freedom
        own, others = (len(column) / np.sqrt(count * (count - 1)) for count in (n, m))
        parts.append(part * np.where(first, own, others))
        kinds.append(first)
    if sum(counts) < FEWEST:
        return Area(np.nan, np.nan, np.nan)
    weights = np.array(counts) / sum(counts)
    mean = float(weights @ np.array(areas))
    # the weights are estimates too
    moved = (np.array(areas) - mean) @ (np.array(kinds) * (len(numbers) / sum(counts)))
    added = weights @ np.array(parts) + moved
    if not 0 < mean < 1:
        return Area(mean, np.nan, np.nan)
    error = added.std() / np.sqrt(len(added))
    half = NORMAL * error / (mean * (1 - mean))
    low, high = expit(logit(mean) - half), expit(logit(mean) + half)
    return Area(mean, float(low), float(high))


def _shares_below(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns for each number the share of others that are smaller, ties as half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, numbers, "left") + np.searchsorted(ordered, numbers, "right")
    shares: np.ndarray = below / (2 * len(others))
    return shares
