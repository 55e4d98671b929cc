"""Runs as a table: the mean over seeds of one of their numbers, by settings.

No mean is taken over runs that differ in more than their seed: where runs of a cell do, their rows
are parted, and named, by the settings that differ. Nor is one taken of the minutes of some runs
where others of the cell never came to the share.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from pir.analysis.reading.entries import (
    Entry,
    Groups,
    Span,
    differing,
    grouped,
    refuse_same_seed,
    refuse_unknown_metric,
    refuse_unknown_settings,
)
from pir.analysis.reading.minutes import MINUTES, SHARE, TimeToShare, refuse_share
from pir.analysis.reading.runs import Run
from pir.analysis.words import NONE, are_numbers, plain

from pir.evaluation.intervals import student_interval

SHARES = (
    "solved", "validation_solved", "sampled_solved", "full_solved", "coverage", "exact_accuracy",
    "cell_accuracy", "dead_fraction", "fixed_point_rate", "ledger_share",
)  # fmt: skip
"""Metrics to show in per cent."""

COSTS = (
    "dead_fraction", "ledger_share", "seconds", "forward_passes", "training_forward_passes",
    "optimizer_steps", "puzzles_seen", "parameters", "steps_to_solve", "passes_per_step",
    "flops_per_step", "seconds_per_step", MINUTES,
)  # fmt: skip
"""Metrics of which less is better."""

Settings = dict[str, str]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed only.

    Attributes:
        entries: the runs.
        limits: the least and the most that the metric can be.
    """

    entries: list[Entry]
    limits: Span

    @cached_property
    def values(self) -> list[float]:
        """One value per seed, of the runs that have the metric."""
        return [entry.value for entry in self.entries if entry.value is not None]

    @cached_property
    def unreached(self) -> list[TimeToShare]:
        """Of the runs that never came to the share, what they have instead of minutes."""
        times = [entry.time for entry in self.entries if entry.time is not None]
        return [time for time in times if time.minutes is None]

    @property
    def mean(self) -> float | None:
        """The mean over seeds; none if one of them never came to the share."""
        return None if self.unreached else self.mean_of_reached

    @property
    def mean_of_reached(self) -> float | None:
        """The mean over the seeds that have a value."""
        return fmean(self.values) if self.values else None

    @property
    def measured(self) -> int:
        """How many runs say something about the metric."""
        return sum(entry.measured for entry in self.entries)

    @cached_property
    def interval(self) -> Span | None:
        """Student's over seeds, or of one seed Wilson's over puzzles, where its summary has it."""
        if self.unreached:
            return None
        if len(self.values) < 2:
            return next((e.interval for e in self.entries if e.value is not None), None)
        low, high = student_interval(self.values)
        return max(low, self.limits[0]), min(high, self.limits[1])


@dataclass(frozen=True)
class RunTable:
    """Means over seeds, by settings.

    Attributes:
        metric: what they are means of.
        keys: the settings asked for in rows.
        rows: the settings of every row, further ones where those asked for mix runs.
        columns: the settings of every column.
        cells: by index of row and column; where there are no runs there is none.
        entries: all runs.
        differing: settings in which runs of a column differ and which no row names.
        wanted: the share to reach, where the metric is the minutes to it.
    """

    metric: str
    keys: tuple[str, ...]
    rows: list[Settings]
    columns: list[Settings]
    cells: dict[tuple[int, int], Cell]
    entries: list[Entry]
    differing: list[str]
    wanted: float = SHARE

    @property
    def timed(self) -> bool:
        """Whether the metric is the minutes of training to a share."""
        return self.metric == MINUTES

    @property
    def share(self) -> bool:
        """Whether the metric is a share."""
        return _name(self.metric) in SHARES

    def is_best(self, row: int, column: int) -> bool:
        """Says whether no other mean of the column is better, and there is another.

        Minutes are compared on the same puzzles only.
        """
        if self.timed and any(key.split(".")[0] == "env" for key in differing(self._of(column))):
            return False
        means = {i: cell.mean for (i, j), cell in self.cells.items() if j == column}
        known = [mean for mean in means.values() if mean is not None]
        best = min if _name(self.metric) in COSTS else max
        return len(known) > 1 and means.get(row) == best(known)

    def floor(self, column: int) -> Span | None:
        """Returns what random answers solve, least and most over the runs of a column."""
        if self.metric != "solved":
            return None
        name = "floors.masked_random.solved"
        return _span(entry.evaluation.get(name) for entry in self._of(column))

    def passes(self, column: int) -> Span | None:
        """Returns the forward passes of training, least and most over the runs of a column."""
        return _span(entry.summary.get("training_forward_passes") for entry in self._of(column))

    def _of(self, column: int) -> list[Entry]:
        return [e for (_, j), cell in self.cells.items() if j == column for e in cell.entries]

    @property
    def lacking(self) -> list[str]:
        """The folders of runs without the metric."""
        return [plain(str(entry.run.folder)) for entry in self.entries if not entry.measured]

    @property
    def commits(self) -> dict[str, int]:
        """How many runs are of which commit, shortened."""
        return dict(Counter(entry.commit for entry in self.entries))


def make_table(
    runs: Sequence[Run],
    rows: Sequence[str],
    columns: Sequence[str],
    metric: str,
    share: float = SHARE,
) -> RunTable:
    """Puts runs into rows and columns by the values of settings.

    Args:
        runs: the runs.
        rows: keys of settings; `objective` and the like are the choices of that name, and
            `hardware` is what a run trained on.
        columns: more of them.
        metric: a number of summary.json, or with the prefix `eval.` of eval.json; or
            `minutes_to_share`.
        share: of the validation puzzles, for that.

    Raises:
        UserError: if no run has the metric or a setting, a seed stands twice in a cell, or the
            share is out of range.
    """
    refuse_share(share)
    entries = [Entry(run, metric, share) for run in runs]
    refuse_unknown_settings(entries, "rows", rows)
    refuse_unknown_settings(entries, "columns", columns)
    refuse_unknown_metric(entries, metric)
    parted = _parted(entries, tuple(rows), columns)
    across = _ordered(grouped(entries, columns))
    limits = (0.0 if metric == MINUTES else -math.inf, math.inf)
    if _name(metric) in (*SHARES, "score"):
        limits = (0.0, 1.0)
    cells = {}
    for i, (_, members) in enumerate(parted):
        for at, cell in grouped(members, columns).items():
            refuse_same_seed(cell)
            cells[i, list(across).index(at)] = Cell(cell, limits)
    named = {key for settings, _ in parted for key in settings}
    apart = dict.fromkeys(key for column in across.values() for key in differing(column))
    return RunTable(
        metric,
        tuple(rows),
        [settings for settings, _ in parted],
        [dict(zip(columns, at, strict=True)) for at in across],
        cells,
        entries,
        [key for key in apart if not {key, key.split(".")[0]} & named],
        share,
    )


def _parted(
    entries: Sequence[Entry], keys: tuple[str, ...], columns: Sequence[str]
) -> list[tuple[Settings, list[Entry]]]:
    """Returns rows by keys, and by the settings in which runs of one cell would still differ."""
    parted = []
    for at, members in _ordered(grouped(entries, keys)).items():
        cells = grouped(members, columns).values()
        further = dict.fromkeys(key for cell in cells for key in differing(cell))
        if further:
            parted += _parted(members, (*keys, *further), columns)
        else:
            parted.append((dict(zip(keys, at, strict=True)), members))
    return parted


def _ordered(groups: Groups) -> Groups:
    """Sorts groups by their settings: numbers by size, others in the order given, none last."""

    def ranks(values: Iterable[str]) -> dict[str, int]:
        known = [value for value in dict.fromkeys(values) if value != NONE]
        order = sorted(known, key=float) if are_numbers(known) else known
        return {value: rank for rank, value in enumerate([*order, NONE])}

    ranked = [ranks(values) for values in zip(*groups, strict=True)]
    return {
        at: groups[at]
        for at in sorted(groups, key=lambda at: [r[v] for r, v in zip(ranked, at, strict=True)])
    }


def _name(metric: str) -> str:
    """Returns a metric without the place it stands at."""
    return metric.rpartition(".")[2]


def _span(values: Iterable[float | None]) -> Span | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None
