"""Figures of what is solved, by step and by difficulty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure
from pir.analysis.figures.layout import (
    LINE_INCHES,
    down,
    legend_below,
    line_style,
    one_row_per_run,
    percent_axis,
    score_axis,
    side_by_side,
    step_axis,
    width,
)
from pir.analysis.figures.style import COLOURS, styled
from pir.analysis.reading.groups import Group, group_by_seed
from pir.analysis.reading.runs import PER_STEP, STEPS, STRATA, Run, Table
from pir.analysis.statistics.resampling import bootstrap_interval
from pir.analysis.words import between, label, percent

from pir.evaluation.intervals import NORMAL, wilson_interval

TELLS_OF_START = {"newly_solved", "lost", "gain"}
"""Statistics of step 1 that say what was there before it."""


@styled
def draw_improvement(runs: Sequence[Run]) -> Figure:
    """Draws solved and score after every improvement step, one line per run.

    Step 0 is the answer of the start, before any step. Runs that differ in their seed only are one
    line, their mean. Bands are 95 % intervals: over puzzles for one run (Wilson's of solved, the
    normal one of the score), over seeds (bootstrap) for several. The trained depth is shaded.
    """
    groups = group_by_seed(runs)
    height = 3.5 * down(2) + LINE_INCHES * len(groups)
    figure = Figure(figsize=(width(), height), layout="constrained")
    solved, score = side_by_side(figure, 2, sharex=True)
    told = all(run.required(PER_STEP).columns.keys() >= TELLS_OF_START for run in runs)
    last, first = 1, 0 if told else 1
    for index, group in enumerate(groups):
        parts = [_curve(run, told) for run in group.runs]
        k = min((curve.k for curve in parts), key=len)
        last = max(last, int(k[-1]))
        line = line_style(index)
        for axis, name in ((solved, "solved"), (score, "score")):
            measured = [getattr(curve, name) for curve in parts]
            values = np.stack([each.mean[: len(k)] for each in measured])
            low, high = measured[0].low, measured[0].high
            if len(parts) > 1:
                low, high = bootstrap_interval(values)
            axis.fill_between(k, low, high, color=line["color"], alpha=0.18, linewidth=0)
            axis.plot(k, values.mean(0), label=label(group.label), **line)
    depths = {run.facts.trained_steps for run in runs}
    trained = depths.pop() if len(depths) == 1 else None
    for axis in (solved, score):
        step_axis(axis, last, trained, first)
    percent_axis(solved, "solved (verifier)")
    score_axis(score, "score (verifier), mean")
    handles, names = solved.get_legend_handles_labels()
    legend_below(figure, 1, handles=handles, labels=names,
                 title=_caption(runs, groups, trained is not None, told))  # fmt: skip
    return figure


@dataclass(frozen=True)
class Measured:
    """A mean over puzzles with its 95 % interval, of shape (steps,) each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class StepCurve:
    """What a run has after every step.

    Attributes:
        k: numbers of the steps, from 1, or from 0, the start.
        solved: share of puzzles.
        score: mean.
    """

    k: np.ndarray
    solved: Measured
    score: Measured


def _curve(run: Run, start: bool) -> StepCurve:
    """Reads the steps, and where asked the start: what step 1 found beside what it gained."""
    table = run.required(PER_STEP)
    k, solved, score = table["k"], table["solved"], table["score"]
    low, high = table["solved_low"], table["solved_high"]
    values = run.step_values("score", "gain") if run.has(STEPS) else {}
    scores = values.get("score")
    if start:
        before = np.clip(solved[0] - table["newly_solved"][0] + table["lost"][0], 0, 1)
        bounds = wilson_interval(before * run.facts.puzzles, run.facts.puzzles)
        k, solved = np.append(0, k), np.append(before, solved)
        low, high = np.append(bounds[0], low), np.append(bounds[1], high)
        score = np.append(score[0] - table["gain"][0], score)
        if scores is not None:
            scores = np.column_stack([scores[:, 0] - values["gain"][:, 0], scores])
    half: np.ndarray | float = 0.0
    if scores is not None and scores.shape[1] == len(k) and len(scores) > 1:
        half = NORMAL * scores.std(0, ddof=1) / math.sqrt(len(scores))
    return StepCurve(k, Measured(solved, low, high), Measured(score, score - half, score + half))


def _caption(runs: Sequence[Run], groups: Sequence[Group], shaded: bool, start: bool) -> str:
    samples = sorted({f"{run.facts.puzzles} {run.facts.split} puzzles" for run in runs})
    units = sorted({"seeds" if len(group.runs) > 1 else "puzzles" for group in groups})
    notes = [*samples, f"bands: 95 % interval over {' or '.join(units)}"]
    notes += ["step 0: before any step"] if start else []
    return label("; ".join(notes + (["shaded: trained depth"] if shaded else [])))


def describe_improvement(run: Run) -> str:
    """Says what is solved after the first, the trained and the last step."""
    table = run.required(PER_STEP)
    trained = run.at_trained_depth(table)
    depth, last = int(trained["k"][0]), int(table["k"][-1])
    low, high = trained["solved_low"][0], trained["solved_high"][0]
    trained_for = f"the {depth} steps that the model was trained for"
    text = f"{percent(trained['solved'][0])} of the puzzles are solved after "
    text += trained_for if run.facts.deep else run.facts.depth_name
    text += f" (95 % interval {percent(low)} to {percent(high)}), "
    text += f"{percent(table['solved'][0])} after step 1"
    if last > depth:
        text += f", {percent(table['solved'][-1])} after step {last}, beyond the trained depth"
    return text + "."


@one_row_per_run(3.4, lambda run: 2)
def draw_difficulty(figure: SubFigure, run: Run) -> None:
    """Draws solved and dead against the step, one line per stratum of difficulty."""
    table = run.required(STRATA)
    solved, dead = side_by_side(figure, 2)
    strata = table.distinct("stratum")
    for colour, stratum in zip(COLOURS, strata, strict=False):
        rows = table.where(table["stratum"] == stratum)
        line = {"color": colour, "marker": "o", "markersize": 3}
        low, high = rows["solved_low"], rows["solved_high"]
        solved.fill_between(rows["k"], low, high, color=colour, alpha=0.18, linewidth=0)
        solved.plot(rows["k"], rows["solved"], label=_stratum(rows), **line)
        dead.plot(rows["k"], rows["dead"], **line)
    for axis in (solved, dead):
        step_axis(axis, int(table["k"].max()), run.facts.trained_steps)
    percent_axis(solved, "solved (verifier)")
    percent_axis(dead, "puzzles for which the step is dead")
    legend_below(figure, min(4, len(strata)), title=f"difficulty: {label(run.facts.rating_name)}")


def _stratum(rows: Table) -> str:
    ratings = between(rows["rating_low"][0], rows["rating_high"][0])
    return f"{ratings} ({rows['puzzles'][0]:,.0f} puzzles)"


def describe_difficulty(run: Run) -> str:
    """Compares the easiest stratum with the hardest at the trained depth."""
    table = run.at_trained_depth(run.required(STRATA))
    order = np.argsort(table["stratum"])
    easy, hard = order[0], order[-1]
    if easy == hard:
        solved = f"at {run.facts.depth_name} {percent(table['solved'][easy])} are solved"
        same = table["rating_low"][easy] == table["rating_high"][easy]
        how = "equally hard" if same else "one group"  # of a version that made no second one
        return f"The puzzles are {how} ({_ratings(run, table, easy)}); {solved}."
    return (
        f"At {run.facts.depth_name} {percent(table['solved'][easy])} of the easiest puzzles are "
        f"solved ({_ratings(run, table, easy)}), {percent(table['solved'][hard])} of the hardest "
        f"({_ratings(run, table, hard)})."
    )


def _ratings(run: Run, table: Table, row: int) -> str:
    ratings = between(table["rating_low"][row], table["rating_high"][row])
    return f"{run.facts.rating_name} {ratings}"
