"""Runs as a table: the mean over seeds of one of their numbers, by settings.

No mean is taken over runs whose commands differ in more than the seed: where they do, rows are
parted, and named, by the settings that the user varied. Nor is one taken of the minutes of some
runs where others of the cell never came to the share.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from pir.analysis.reading.entries import (
    Entry,
    Groups,
    Span,
    alone,
    given_value,
    grouped,
    refuse_same_seed,
    refuse_unknown_metric,
    refuse_unknown_settings,
)
from pir.analysis.reading.minutes import MINUTES, SHARE, TimeToShare, refuse_share
from pir.analysis.reading.runs import Run
from pir.analysis.reading.settings import BUDGETS, differing, fewest, varied_by_users
from pir.analysis.statistics.budgets import unequal
from pir.analysis.words import NONE, are_numbers, plain

from pir.evaluation.intervals import student_interval

SHARES = (
    "solved", "validation_solved", "sampled_solved", "pass_at_k", "full_solved", "coverage",
    "exact_accuracy", "cell_accuracy", "dead_fraction", "fixed_point_rate", "ledger_share",
)  # fmt: skip
"""Metrics to show in per cent."""

COSTS = (
    "dead_fraction", "ledger_share", "seconds", "forward_passes", "training_forward_passes",
    "optimizer_steps", "puzzles_seen", "parameters", "steps_to_solve", "passes_per_step",
    "flops_per_step", "seconds_per_step", MINUTES,
)  # fmt: skip
"""Metrics of which less is better."""

Settings = dict[str, str]

Place = tuple[int, int]
"""Row and column."""

ColumnOf = Callable[[Entry], Sequence[Entry]]
"""Finds the runs of the column that a run stands in."""


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
        """Student's over seeds, or of one seed Wilson's over puzzles, where its summary has it.

        Seeds that are all alike have none: that they do not differ says nothing of others.
        """
        if self.unreached or (len(self.values) > 1 and len({*self.values}) == 1):
            return None
        if len(self.values) < 2:
            return next((e.interval for e in self.entries if e.value is not None), None)
        low, high = student_interval(self.values)
        return max(low, self.limits[0]), min(high, self.limits[1])

    @property
    def extent(self) -> Span | None:
        """What decides a tie: the interval, or of seeds that are all alike their value."""
        alike = self.interval is None and self.mean is not None and len(self.values) > 1
        return (self.values[0], self.values[0]) if alike else self.interval


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
        further: what names every row beside the settings asked for; a dash is what runs have
            without, and what a row has several of is not there.
        differing: settings in which runs of a column differ though their rows are named alike.
        mixed: settings in which runs of a cell differ, though no command names them.
        wanted: the share to reach, where the metric is the minutes to it.
        labels: what the user calls the rows; None for their settings.
        title: what the user calls the table.
    """

    metric: str
    keys: tuple[str, ...]
    rows: list[Settings]
    columns: list[Settings]
    cells: dict[Place, Cell]
    entries: list[Entry]
    further: list[Settings]
    differing: list[str]
    mixed: list[str]
    wanted: float = SHARE
    labels: tuple[str, ...] | None = None
    title: str | None = None

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

        A column of several puzzles has no best: one may be easier than another.
        """
        if column in self._of_several_puzzles:
            return False
        means = {i: cell.mean for (i, j), cell in self.cells.items() if j == column}
        known = [mean for mean in means.values() if mean is not None]
        best = min if _name(self.metric) in COSTS else max
        return len(known) > 1 and means.get(row) == best(known)

    @cached_property
    def _of_several_puzzles(self) -> set[int]:
        apart = {j: differing(self._of(j)) for j in range(len(self.columns))}
        return {j for j, keys in apart.items() if any(key.split(".")[0] == "env" for key in keys)}

    def is_tie(self, row: int, column: int) -> bool:
        """Says whether a mean that is not the best has an interval that overlaps the best one's."""
        if self.is_best(row, column):
            return False
        best = (c for (i, j), c in self.cells.items() if j == column and self.is_best(i, j))
        own, theirs = self.cells[row, column].extent, next((c.extent for c in best), None)
        return own is not None and theirs is not None and _overlap(own, theirs)

    @property
    def shown(self) -> list[str]:
        """The settings that tell the rows apart: those asked for, and as few others as do."""
        return shown_keys(self.rows, self.keys)

    def floor(self, column: int) -> Span | None:
        """Returns what random answers solve, least and most over the runs of a column."""
        if self.metric != "solved":
            return None
        name = "floors.masked_random.solved"
        return _span(entry.evaluation.get(name) for entry in self._of(column))

    def passes(self, column: int) -> Span | None:
        """Returns the forward passes of training, least and most over the runs of a column."""
        return _span(entry.summary.get("training_forward_passes") for entry in self._of(column))

    def unequal_budgets(self, column: int) -> str | None:
        """Says how long rows of a column were trained, if unequally; None if budgets name rows."""
        if _name(self.metric) in COSTS or {*self.shown} & {*BUDGETS, "trainer.max_minutes"}:
            return None
        cells = [cell for (_, j), cell in sorted(self.cells.items()) if j == column]
        return unequal([[entry.summary for entry in cell.entries] for cell in cells])

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
    named = shown_keys([settings for settings, _ in parted], tuple(rows))
    further = [
        _told(*row, rows, named[len(rows) :], lambda entry: across[entry.at(columns)])
        for row in parted
    ]
    apart = _differing_within(across.values())
    mixed = _differing_within(cell.entries for cell in cells.values())
    return RunTable(
        metric,
        tuple(rows),
        [settings for settings, _ in parted],
        [dict(zip(columns, at, strict=True)) for at in across],
        cells,
        entries,
        further,
        [key for key in apart if key not in mixed and not _is_told(key, rows, further, cells)],
        mixed,
        share,
    )


def _overlap(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def shown_keys(rows: Sequence[Settings], asked: Sequence[str]) -> list[str]:
    """Returns the keys that rows are named by: those asked for, and as few others as needed."""
    further = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in asked]
    groups: dict[tuple[str, ...], list[Settings]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in asked), []).append(row)
    needed = {key for group in groups.values() for key in fewest(group, further)}
    return [*asked, *(key for key in further if key in needed)]


def _told(
    settings: Settings,
    members: Sequence[Entry],
    asked: Sequence[str],
    keys: Sequence[str],
    column_of: ColumnOf,
) -> Settings:
    """Returns the settings that name a row beside those asked for, a dash for what none gave it.

    Of a setting that parted other rows only, it is the value that its runs were given too (by more
    than a choice that stands in the name); if they were given several, it is not there.
    """
    told = {}
    for key in keys:
        by_choice = key.split(".")[0] in asked
        givers = [e for e in members if not by_choice or key in (e.run.typed or {})]
        given = {given_value(entry, key, column_of(entry)) for entry in givers} - {NONE}
        if key in settings or len(given) < 2:
            told[key] = settings.get(key) or next(iter(given), NONE)
    return told


def _is_told(
    key: str, asked: Sequence[str], further: Sequence[Settings], cells: Mapping[Place, Cell]
) -> bool:
    """Says whether names of rows tell a setting: rows of a column named alike have it alike."""
    choice = key.split(".")[0]
    if {key, choice} & {*asked}:
        return True
    name = choice if any(choice in row for row in further) else key
    values: dict[tuple[int, str], set[str]] = {}
    for (i, j), cell in cells.items():
        if name not in further[i]:
            return False
        found = {entry.varied(name) for entry in cell.entries if entry.has(name)}
        values.setdefault((j, further[i][name]), set()).update(found)
    return all(len(found) < 2 for found in values.values())


def _differing_within(groups: Iterable[Sequence[Entry]]) -> list[str]:
    """Returns the settings in which runs of one of the groups differ."""
    return [*dict.fromkeys(key for group in groups for key in differing(group, alone(group)))]


def _parted(
    entries: Sequence[Entry], keys: tuple[str, ...], columns: Sequence[str]
) -> list[tuple[Settings, list[Entry]]]:
    """Returns rows by keys, and by what else the user varied among the runs of one cell."""
    parted = []
    for at, members in _ordered(grouped(entries, keys)).items():
        parted += _further(dict(zip(keys, at, strict=True)), members, columns)
    return parted


def _further(
    settings: Settings, members: Sequence[Entry], columns: Sequence[str]
) -> list[tuple[Settings, list[Entry]]]:
    """Parts a row by the settings that a user varied in a cell of it.

    Where a seed stands twice in a cell then, no user varied what tells its runs apart (another
    version did, say), and it is parted by whatever does.
    """
    cells = [*grouped(members, columns).values()]

    def not_yet(found: Iterable[str]) -> list[str]:
        return [key for key in dict.fromkeys(found) if key not in settings]

    varied = not_yet(key for cell in cells for key in varied_by_users(cell, alone(cell)))
    others = [cell for cell in cells if len({e.at(["seed"]) for e in cell}) < len(cell)]
    keys = varied or not_yet(key for cell in others for key in differing(cell, alone(cell)))
    if not keys:
        return [(settings, [*members])]
    groups: Groups = {}
    for cell in cells:
        for entry in cell:
            at = tuple(
                given_value(entry, key, cell) if varied else entry.at([key])[0] for key in keys
            )
            groups.setdefault(at, []).append(entry)
    return [
        row
        for at, group in _ordered(groups).items()
        for row in _further(settings | dict(zip(keys, at, strict=True)), group, columns)
    ]


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
