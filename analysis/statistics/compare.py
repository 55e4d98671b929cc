"""Runs against each other at equal forward passes: differences, intervals, tests.

A budget is a number of forward passes per puzzle; a run is worth what it reaches at its deepest
step within it. The test is made once, at the *common budget*: the smallest trained depth of the
runs, in forward passes (or what the first step of the dearest run costs, if that is more).

What an interval is over decides what it speaks of. Groups with several seeds each are compared
over seeds; otherwise over puzzles, paired where both were evaluated on the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pir.analysis.reading.groups import Group, group_by_seed
from pir.analysis.reading.runs import PER_PUZZLE, PER_STEP, SUMMARY, Run
from pir.analysis.statistics.resampling import (
    bootstrap_interval,
    permutation_test,
    sign_flip_test,
    smallest_p,
)

from pir.checks import suggest
from pir.errors import UserError
from pir.runs.records import Statistic
from pir.system.stored import refuse

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Side:
    """A group of runs and its metric.

    Attributes:
        group: the runs.
        metric: name of the statistic.
        passes: forward passes after every step, of shape (K,).
        values: the metric of every seed, of shape (seeds, K).
        count: only so many puzzles of every run count, the first ones; None for all.
    """

    group: Group
    metric: str
    passes: np.ndarray
    values: np.ndarray
    count: int | None

    @property
    def seeds(self) -> int:
        """How many runs."""
        return len(self.group.runs)

    @property
    def trained_passes(self) -> int:
        """Forward passes at the smallest trained depth of the group."""
        depth = min(run.facts.trained_steps for run in self.group.runs)
        return int(self.passes[min(depth, len(self.passes)) - 1])

    def step(self, budget: float) -> int:
        """Returns the index of the deepest step within a budget."""
        return max(0, int(np.searchsorted(self.passes, budget, side="right")) - 1)

    def cost(self, key: str) -> float | None:
        """Returns a training cost of summary.json, mean over seeds; None if a run lacks it."""
        contents = [run.content(SUMMARY) or {} for run in self.group.runs]
        values = [content.get(key) for content in contents]
        if not all(isinstance(value, int | float) for value in values):
            return None
        return float(np.mean([value for value in values if value is not None]))

    @cached_property
    def puzzles(self) -> list[str] | None:
        """The puzzles evaluated, None where the seeds of the group had different ones."""
        texts = [
            run.required(PER_PUZZLE)["puzzle"].tolist()[: self.count] for run in self.group.runs
        ]
        return texts[0] if all(text == texts[0] for text in texts) else None

    @cached_property
    def per_puzzle(self) -> np.ndarray:
        """The metric of every puzzle, (N, K): mean over seeds, or all seeds' one after the other.

        Raises:
            UserError: if the evaluation has no values per puzzle.
        """
        depth = len(self.passes)
        cut = [_of_puzzles(run, self.metric)[: self.count, :depth] for run in self.group.runs]
        return np.concatenate(cut) if self.puzzles is None else np.mean(cut, axis=0)


@dataclass(frozen=True)
class Difference:
    """A group minus the first group.

    Attributes:
        first: the group compared with.
        second: the group compared.
        over: "seeds" or "puzzles".
        paired: whether both were measured on the same units.
        units: how many units each side has.
        difference: at every budget, shape (B,).
        low: lower end of the 95 % interval, shape (B,).
        high: upper end, shape (B,).
        p: of the test at the common budget.
    """

    first: Side
    second: Side
    over: str
    paired: bool
    units: tuple[int, int]
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: float

    @property
    def other_puzzles(self) -> bool:
        """Whether the groups are known to have been evaluated on different puzzles."""
        sides = (self.first, self.second)
        if not all(run.has(PER_PUZZLE) for side in sides for run in side.group.runs):
            return False
        return self.first.puzzles is None or self.first.puzzles != self.second.puzzles

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that the test could have given."""
        return smallest_p(*self.units) if self.over == "seeds" else 0.0


@dataclass(frozen=True)
class Comparison:
    """Every group against the first.

    Attributes:
        statistic: the metric.
        budgets: forward passes, ascending, shape (B,).
        common: index of the budget at which the test is made.
        sides: the groups.
        differences: of all sides but the first.
    """

    statistic: Statistic
    budgets: np.ndarray
    common: int
    sides: list[Side]
    differences: list[Difference]


def compare(runs: Sequence[Run], metric: str) -> Comparison:
    """Compares runs by a statistic of the ledger.

    Raises:
        UserError: if there is nothing to compare, or a run lacks the metric.
    """
    refuse_unlike(runs, "env", "split", "puzzles_of")
    groups = group_by_seed(runs)
    if len(groups) < 2:
        raise UserError(
            "there is nothing to compare: runs= names one run, or runs that differ in seed only"
        )
    statistic = _statistic(runs, metric)
    count = _shared_puzzles(runs)
    sides = [_side(group, metric, count) for group in groups]
    budgets, common = _budgets(sides)
    differences = [_difference(sides[0], side, budgets, common) for side in sides[1:]]
    return Comparison(statistic, budgets, common, sides, differences)


def refuse_unlike(runs: Sequence[Run], *facts: str) -> None:
    """Refuses runs that differ in facts of their evaluation, as in the puzzles by design.

    Raises:
        UserError: naming a run of every kind.
    """
    for what in facts:
        found = {getattr(run.facts, what): run for run in runs}
        if len(found) > 1:
            names = " and ".join(f"{run.folder} ({value})" for value, run in found.items())
            raise UserError(f"runs= have another {what.replace('_', ' ')} each: {names}")


def _shared_puzzles(runs: Sequence[Run]) -> int | None:
    """Returns how many puzzles to compare on, the first ones, where runs have unequal numbers.

    None means all: the numbers are equal, or the puzzles are others anyway.
    """
    counts = {run.facts.puzzles for run in runs}
    if len(counts) == 1:
        return None
    texts = [run.required(PER_PUZZLE)["puzzle"].tolist()[: min(counts)] for run in runs]
    return min(counts) if all(text == texts[0] for text in texts) else None


def _statistic(runs: Sequence[Run], metric: str) -> Statistic:
    for run in runs:
        if not run.facts.statistics:
            raise UserError(
                f"{run.folder} was evaluated by an older version: `{run.command(PER_STEP)}`"
            )
        names = [statistic.name for statistic in run.facts.statistics]
        if metric not in names:
            raise UserError(f"metric={metric} is none of {run.folder}{suggest(metric, names)}")
    return next(each for each in runs[0].facts.statistics if each.name == metric)


def _of_puzzles(run: Run, metric: str) -> np.ndarray:
    """Returns a metric of every puzzle at every step, float64 of shape (N, K).

    Raises:
        UserError: if the evaluation has no values of single puzzles.
    """
    values = run.step_values()
    if metric not in values:
        raise UserError(
            f"metric={metric} has no value per puzzle: it can be compared over seeds only, between "
            "groups of several, evaluated on equally many puzzles"
        )
    return values[metric].astype(float)


def _side(group: Group, metric: str, count: int | None) -> Side:
    tables = [run.required(PER_STEP) for run in group.runs]
    depth = min(len(table) for table in tables)
    if count is None:
        values = np.stack([table[metric][:depth] for table in tables])
    else:
        means = [_of_puzzles(run, metric)[:count].mean(0) for run in group.runs]
        values = np.stack([mean[:depth] for mean in means])
    passes = tables[0]["forward_passes"][:depth]
    if values.shape[1] != depth or not (np.diff(passes, prepend=0) > 0).all():
        refuse(tables[0].path, "its steps are not those that its puzzles took")
    if not np.isfinite(values).all():
        raise UserError(f"metric={metric} is undefined for {group.label}, as without a label")
    return Side(group, metric, passes, values, count)


def _budgets(sides: Sequence[Side]) -> tuple[np.ndarray, int]:
    """Returns the budgets that all sides were evaluated at, and the index of the common one."""
    least = max(side.passes[0] for side in sides)
    most = min(side.passes[-1] for side in sides)
    common = max(least, min(side.trained_passes for side in sides))
    passes = np.unique(np.concatenate([side.passes for side in sides]))
    budgets = np.unique(np.append(passes[(passes >= least) & (passes <= most)], common))
    return budgets, int(np.searchsorted(budgets, common))


def _difference(first: Side, second: Side, budgets: np.ndarray, common: int) -> Difference:
    over_seeds = first.seeds > 1 and second.seeds > 1
    samples = []
    for side in (first, second):
        values = side.values if over_seeds else side.per_puzzle
        samples.append(values[:, [side.step(budget) for budget in budgets]])
    paired = not over_seeds and first.puzzles is not None and first.puzzles == second.puzzles
    if paired:
        change = samples[1] - samples[0]
        low, high = bootstrap_interval(change)
        p = sign_flip_test(change[:, common])
    else:
        low, high = bootstrap_interval(*samples)
        p = permutation_test(samples[0][:, common], samples[1][:, common])
    return Difference(
        first,
        second,
        "seeds" if over_seeds else "puzzles",
        paired,
        (len(samples[0]), len(samples[1])),
        samples[1].mean(0) - samples[0].mean(0),
        low,
        high,
        p,
    )
