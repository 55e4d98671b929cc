"""The tables of a report, each from one file of the evaluation; nothing where it is missing."""

from collections.abc import Sequence

import numpy as np
from pir.analysis.figures.exits import FIXED, rule_name
from pir.analysis.pages.page import PageTable
from pir.analysis.reading.runs import (
    BREADTH,
    EXITS,
    PER_OUTCOME,
    PER_STEP,
    STRATA,
    Run,
    Table,
)
from pir.analysis.words import NONE, between, number, percent, quantity

from pir.runs.records import Statistic

STEP_COLUMNS = ("score", "gain", "dead", "idle", "busy", "overshoot", "kl")
"""Columns of the table of steps, where the evaluation has them; the figures show all others."""


def interval(rows: Table, row: int) -> str:
    """Writes the interval of a row's solved share."""
    low, high = percent(rows["solved_low"][row]), percent(rows["solved_high"][row])
    return f"{low} to {high}"


def step_table(run: Run) -> PageTable:
    """Every improvement step."""
    rows = run.required(PER_STEP)
    units = {statistic.name: statistic.unit for statistic in run.facts.statistics}
    names = [name for name in STEP_COLUMNS if name in rows]
    cells = [
        [
            number(rows["k"][i]),
            number(rows["forward_passes"][i]),
            percent(rows["solved"][i]),
            interval(rows, i),
            *(quantity(rows[name][i], units.get(name, "")) for name in names),
        ]
        for i in range(len(rows))
    ]
    header = ["step", "passes", "solved", "95 % interval"]
    header += [name.replace("_", " ") for name in names]
    marked = min(run.facts.trained_steps, len(rows)) - 1
    return PageTable("Every step; the trained depth is set off", header, cells, marked=marked)


def statistics_tables(run: Run) -> list[PageTable | None]:
    """All statistics at the trained depth, those that need the label apart."""
    free = [statistic for statistic in run.facts.statistics if not statistic.label]
    labelled = [statistic for statistic in run.facts.statistics if statistic.label]
    return [
        _statistics(run, "Statistics that need no label", free),
        _statistics(run, "Statistics that need the label", labelled),
    ]


def _statistics(run: Run, caption: str, statistics: Sequence[Statistic]) -> PageTable | None:
    if not statistics:
        return None
    everyone = run.at_trained_depth(run.required(PER_STEP))
    columns = {"all puzzles": everyone}
    outcomes = run.table(PER_OUTCOME)
    if outcomes is not None:
        trained = run.at_trained_depth(outcomes)
        for row, outcome in enumerate(trained["outcome"]):
            columns[str(outcome)] = trained.where(np.arange(len(trained)) == row)
    rows = [
        [
            statistic.name.replace("_", " "),
            *(quantity(column[statistic.name][0], statistic.unit) for column in columns.values()),
            statistic.unit,
            statistic.meaning,
        ]
        for statistic in statistics
    ]
    header = ["statistic", *columns, "unit", "meaning"]
    caption = f"{caption}, at step {everyone['k'][0]:.0f}"
    return PageTable(caption, header, rows, words=(len(header) - 1,))


def floor_table(run: Run) -> PageTable | None:
    """What policies without a model solve, and puzzles with one blank cell."""
    facts = run.facts
    rows = []
    if facts.floors is not None:
        for name, floor in facts.floors.items():
            of = f"{number(floor.answers)} answers" if floor.answers is not None else NONE
            if floor.training_puzzles is not None:
                of = f"{number(floor.training_puzzles)} training puzzles"
            rows.append([name.replace("_", " "), percent(floor.solved), NONE, of])
    if facts.one_blank is not None:
        blank = facts.one_blank
        ends = f"{percent(blank.solved_low)} to {percent(blank.solved_high)}"
        rows.append(
            ["the model, one cell blank", percent(blank.solved), ends, number(blank.puzzles)]
        )
    header = ["policy", "solved", "95 % interval", "from"]
    return PageTable("Floors and the easiest puzzles", header, rows) if rows else None


def strata_table(run: Run) -> PageTable | None:
    """Solved by difficulty, at the trained depth."""
    rows = run.table(STRATA)
    if rows is None:
        return None
    rows = run.at_trained_depth(rows)
    cells = [
        [
            between(rows["rating_low"][i], rows["rating_high"][i]),
            number(rows["puzzles"][i]),
            percent(rows["solved"][i]),
            interval(rows, i),
            number(rows["score"][i]),
            percent(rows["dead"][i]),
        ]
        for i in range(len(rows))
    ]
    header = [run.facts.rating_name, "puzzles", "solved", "95 % interval", "score", "dead"]
    return PageTable("Easy and hard puzzles, at the trained depth", header, cells)


def exit_table(run: Run) -> PageTable | None:
    """The chosen threshold of every rule to stop early, beside fixed depths."""
    rows = run.table(EXITS)
    if rows is None:
        return None
    rows = rows.where((rows["chosen"] > 0) | (rows["rule"] == FIXED))
    cells = [
        [
            rule_name(str(rows["rule"][i])) + (", chosen" if rows["chosen"][i] else ""),
            number(rows["threshold"][i]),
            number(rows["forward_passes"][i]),
            percent(rows["solved"][i]),
            interval(rows, i),
            number(rows["seconds"][i]) if "seconds" in rows else NONE,
        ]
        for i in range(len(rows))
    ]
    header = ["rule", "threshold", "passes, mean", "solved", "95 % interval", "seconds"]
    return PageTable("When to stop: thresholds chosen on validation, fixed depths", header, cells)


def breadth_table(run: Run) -> PageTable | None:
    """Several starts, and who picks the answer."""
    rows = run.table(BREADTH)
    if rows is None:
        return None
    cells = [
        [
            str(rows["selector"][i]).replace("_", " "),
            number(rows["starts"][i]),
            number(rows["forward_passes"][i]),
            percent(rows["solved"][i]),
            interval(rows, i),
            number(rows["score"][i]),
        ]
        for i in range(len(rows))
    ]
    header = ["who picks", "starts", "passes", "solved", "95 % interval", "score"]
    return PageTable("Several starts per puzzle", header, cells)
