"""Figures of what is solved: by step, by difficulty, and every statistic of the ledger."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from pir.analysis.figures.layout import (
    WIDTH,
    legend_below,
    line_style,
    one_row_per_run,
    percent_axis,
    step_axis,
)
from pir.analysis.figures.style import COLOURS, FAILED, INK, MUTED, SOLVED
from pir.analysis.reading.runs import (
    PER_OUTCOME,
    PER_STEP,
    STRATA,
    Group,
    Run,
    Table,
    group_by_seed,
)
from pir.analysis.statistics.resampling import bootstrap_interval
from pir.analysis.words import between, label, listed, number, percent

COLUMNS = 4
"""Small multiples side by side."""

MARKED = 12
"""Small multiples of more steps have lines without marks."""


def draw_improvement(runs: Sequence[Run]) -> Figure:
    """Draws solved and score against the improvement step, one line per run.

    Runs that differ in their seed only are one line, their mean. Bands are 95 % intervals: over
    puzzles (Wilson) for one run, over seeds (bootstrap) for several. The trained depth is shaded.
    """
    groups = group_by_seed(runs)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    solved, score = figure.subplots(1, 2, sharex=True)
    last = 1
    for index, group in enumerate(groups):
        tables = [run.required(PER_STEP) for run in group.runs]
        k = min((table["k"] for table in tables), key=len)
        last = max(last, int(k[-1]))
        line = line_style(index)
        for axis, name in ((solved, "solved"), (score, "score")):
            values = np.stack([table[name][: len(k)] for table in tables])
            if len(tables) > 1:
                low, high = bootstrap_interval(values)
            elif name == "solved":
                low, high = tables[0]["solved_low"], tables[0]["solved_high"]
            else:
                low = high = values[0]
            axis.fill_between(k, low, high, color=line["color"], alpha=0.18, linewidth=0)
            axis.plot(k, values.mean(0), label=label(group.label), **line)
    depths = {run.facts.trained_steps for run in runs}
    trained = depths.pop() if len(depths) == 1 else None
    for axis in (solved, score):
        step_axis(axis, last, trained)
    percent_axis(solved, "solved (verifier)")
    score.set_ylabel("mean score in [0, 1]")
    figure.suptitle(_caption(runs, groups, trained is not None), fontsize=9, color=MUTED)
    handles, names = solved.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(groups)))
    return figure


def _caption(runs: Sequence[Run], groups: Sequence[Group], shaded: bool) -> str:
    samples = sorted({f"{run.facts.puzzles} {run.facts.split} puzzles" for run in runs})
    units = sorted({"seeds" if len(group.runs) > 1 else "puzzles" for group in groups})
    bands = f"bands: 95 % interval over {' or '.join(units)}"
    return label("; ".join(samples)) + ", " + bands + (", shaded: trained depth" if shaded else "")


def describe_improvement(run: Run) -> str:
    """Says what is solved after the first, the trained and the last step."""
    table = run.required(PER_STEP)
    trained = run.at_trained_depth(table)
    depth, last = int(trained["k"][0]), int(table["k"][-1])
    low, high = trained["solved_low"][0], trained["solved_high"][0]
    text = f"{percent(trained['solved'][0])} of the puzzles are solved after the {depth} steps "
    text += f"that the model was trained for (95 % interval {percent(low)} to {percent(high)}), "
    text += f"{percent(table['solved'][0])} after step 1"
    if last > depth:
        text += f", {percent(table['solved'][-1])} after step {last}, beyond the trained depth"
    return text + "."


@one_row_per_run(3.4)
def draw_difficulty(figure: SubFigure, run: Run) -> None:
    """Draws solved and dead against the step, one line per stratum of difficulty."""
    table = run.required(STRATA)
    solved, dead = figure.subplots(1, 2)
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
    percent_axis(dead, "dead steps")
    legend_below(figure, min(5, len(strata)), title=label(run.facts.rating_name))


def _stratum(rows: Table) -> str:
    ratings = between(rows["rating_low"][0], rows["rating_high"][0])
    return f"{ratings} ({rows['puzzles'][0]:,.0f} puzzles)"


def describe_difficulty(run: Run) -> str:
    """Compares the easiest stratum with the hardest at the trained depth."""
    table = run.at_trained_depth(run.required(STRATA))
    order = np.argsort(table["stratum"])
    easy, hard = order[0], order[-1]
    if easy == hard:
        solved = f"at the trained depth {percent(table['solved'][easy])} are solved"
        return f"The puzzles are about equally hard ({_ratings(run, table, easy)}); {solved}."
    return (
        f"At the trained depth {percent(table['solved'][easy])} of the easiest puzzles are solved "
        f"({_ratings(run, table, easy)}), {percent(table['solved'][hard])} of the hardest "
        f"({_ratings(run, table, hard)})."
    )


def _ratings(run: Run, table: Table, row: int) -> str:
    ratings = between(table["rating_low"][row], table["rating_high"][row])
    return f"{run.facts.rating_name} {ratings}"


def _statistics_height(run: Run) -> float:
    return 0.8 + 1.75 * -(-len(run.facts.statistics) // COLUMNS)


@one_row_per_run(_statistics_height)
def draw_statistics(figure: SubFigure, run: Run) -> None:
    """Draws every statistic of the ledger against the step, for all, solved and failed puzzles."""
    table = run.required(PER_STEP)
    lines = {"all puzzles": (table, INK, 1.8)}
    outcomes = run.table(PER_OUTCOME)
    if outcomes is not None:
        for outcome, colour in (("solved", SOLVED), ("failed", FAILED)):
            rows = outcomes.where(outcomes["outcome"] == outcome)
            if len(rows):
                lines[f"{outcome} puzzles"] = (rows, colour, 1.2)
    defined = {name for name in table.columns if not np.isnan(table[name]).all()}
    statistics = [each for each in run.facts.statistics if each.name in defined]
    marker = "o" if len(table) <= MARKED else ""
    rows_needed = max(1, -(-len(statistics) // COLUMNS))
    axes = figure.subplots(rows_needed, COLUMNS, squeeze=False).ravel()
    for axis, statistic in zip(axes, statistics, strict=False):
        for name, (rows, colour, width) in lines.items():
            style = {"color": colour, "linewidth": width, "marker": marker, "markersize": 2}
            axis.plot(rows["k"], rows[statistic.name], label=name, **style)
        step_axis(axis, int(table["k"][-1]), run.facts.trained_steps)
        axis.set_xlabel("")
        axis.set_title(label(statistic.name.replace("_", " ")), fontsize=9)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        if np.isnan(table[statistic.name]).all():
            axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center", color=MUTED)
            axis.set_yticks([])
        elif statistic.unit.startswith("share"):
            percent_axis(axis, "")
        axis.set_ylabel(label(statistic.unit), fontsize=7, color=MUTED)
        axis.tick_params(labelsize=7)
        axis.yaxis.get_offset_text().set_fontsize(7)
    for axis in axes[len(statistics) :]:
        axis.set_axis_off()
    figure.supxlabel("improvement step k", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def describe_statistics(run: Run) -> str:
    """Says how much the policy still moves at the trained depth, for solved and failed puzzles."""
    outcomes = run.table(PER_OUTCOME)
    if outcomes is None:
        outcomes = run.required(PER_STEP)
        outcomes.columns["outcome"] = np.full(len(outcomes), "all")
    trained = run.at_trained_depth(outcomes)
    moves = [
        f"{number(kl)} nats per cell on {outcome} puzzles"
        for outcome, kl in zip(trained["outcome"], trained["kl"], strict=True)
    ]
    return (
        f"{len(run.facts.statistics)} statistics at every step; at step {trained['k'][0]:.0f} the "
        f"policy still moves by {listed(moves)} (KL)."
    )
