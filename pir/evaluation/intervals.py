"""The intervals of a share over puzzles and of a mean over seeds."""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95

NORMAL = 1.959964
"""Standard errors from a mean to the end of its interval."""


def wilson_interval(successes: float, trials: int, z: float = NORMAL) -> tuple[float, float]:
    """Returns the Wilson score interval of a share (Wilson 1927), 95 % by default.

    Args:
        successes: number of successes, in [0, trials].
        trials: number of trials; with none the interval is [0, 1].
        z: normal quantile of the level.
    """
    # scipy.stats.binomtest takes whole numbers only; a mean over several starts is none
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a mean of normal values (Student 1908), at least two of them."""
    from scipy.special import stdtrit  # as scipy.stats.t.ppf, but imported in a third of the time

    mean, freedom = statistics.fmean(values), len(values) - 1
    quantile = float(stdtrit(freedom, (1 + LEVEL) / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half
