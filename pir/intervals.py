"""The interval of a share over puzzles."""

import math


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
