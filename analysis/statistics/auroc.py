"""How well a number tells two kinds apart: the area under the ROC curve, with its interval."""

from typing import NamedTuple

import numpy as np

FEWEST = 5
"""With fewer of either kind no area is estimated."""


class Area(NamedTuple):
    """An estimate, all in [0, 1]; nan where there are too few.

    Attributes:
        area: the probability that one of the first kind has the larger number, ties as half.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    area: float
    low: float
    high: float


def auroc(numbers: np.ndarray, positive: np.ndarray) -> Area:
    """Returns the area under the ROC curve (Mann and Whitney 1947) of a number.

    The interval is the normal one with the standard error of Hanley and McNeil (1982,
    Radiology 143:29-36, Eq. 1 to 3).

    Args:
        numbers: of shape (N,); those that are not finite are left out.
        positive: bool of shape (N,), which are of the first kind.
    """
    from scipy.stats import norm, rankdata  # takes half a second to import

    finite = np.isfinite(numbers)
    numbers, positive = numbers[finite], positive[finite]
    n, m = int(positive.sum()), int((~positive).sum())
    if min(n, m) < FEWEST:
        return Area(np.nan, np.nan, np.nan)
    rank = rankdata(numbers)[positive].sum()
    area = (rank - n * (n + 1) / 2) / (n * m)
    both, either = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n - 1) * (both - area**2) + (m - 1) * (either - area**2)
    half = norm.ppf(0.975) * np.sqrt(max(variance, 0.0) / (n * m))
    return Area(float(area), float(max(0.0, area - half)), float(min(1.0, area + half)))
