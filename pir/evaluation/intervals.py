"""The intervals of a share over puzzles and of a mean over seeds."""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the Wilson score interval of a share (Wilson 1927), 95 % by default.

    Args:
        successes: number of successes, in [0, trials].
        trials: number of trials; with none the interval is [0, 1].
        z: normal quantile of the level.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a mean of normal values (Student 1908), at least two of them."""
    mean, freedom = statistics.fmean(values), len(values) - 1
    half = student_quantile(freedom) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def student_quantile(freedom: int) -> float:
    """Returns the t that |T| exceeds in 5 % of cases, by so many degrees of freedom.

    For whole degrees the distribution is a finite sum over the angle atan(t / sqrt(freedom))
    (Abramowitz and Stegun 26.7.3 and 26.7.4), which halving inverts.
    """

    def probability(angle: float) -> float:
        cosine, odd = math.cos(angle), freedom % 2
        term = total = (cosine if freedom > 1 else 0.0) if odd else 1.0
        for i in range(2 + odd, freedom - 1, 2):
            term *= (i - 1) / i * cosine * cosine
            total += term
        below = math.sin(angle) * total
        return (angle + below) * 2 / math.pi if odd else below

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < LEVEL else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
