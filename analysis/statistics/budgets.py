"""Whether runs that stand beside one another were trained for as long."""

from collections.abc import Mapping, Sequence
from typing import Any

from pir.analysis.words import listed, number

BUDGETS = {
    "optimizer_steps": ("optimizer steps", 1),
    "training_forward_passes": ("forward passes", 1),
    "seconds": ("minutes", 60),
}
"""What training took, by its key in summary.json: its name, and by what it is divided."""

UNEQUAL = 1.25
"""Costs whose largest is more times the smallest are told; clocks and patience differ by less."""


def unequal(groups: Sequence[Sequence[Mapping[str, Any]]]) -> str | None:
    """Says in which costs of training groups of runs differ; None where they do not.

    Args:
        groups: summary.json of the runs of every group. A cost is the mean over a group, and one
            that a run lacks is not compared.
    """
    parts = []
    for key, (name, unit) in BUDGETS.items():
        costs = [[summary.get(key) for summary in group] for group in groups]
        known = [
            [cost / unit for cost in group if isinstance(cost, int | float) and cost > 0]
            for group in costs
        ]
        if len(groups) < 2 or [*map(len, known)] != [*map(len, costs)]:
            continue
        means = [sum(group) / len(group) for group in known]
        if max(means) > UNEQUAL * min(means):
            parts.append(f"{number(min(means))} to {number(max(means))} {name}")
    return listed(parts) if parts else None
