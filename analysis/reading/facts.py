"""The types of eval.json, as `pir.runs.records` has them."""

from pir.runs.records import Facts, Statistic
from pir.runs.typed import MOST_STEPS

__all__ = ["MOST_STEPS", "Facts", "Statistic"]
