"""Figure of every statistic of the ledger, in small multiples."""

import math

import numpy as np
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator
from pir.analysis.figures.layout import (
    legend_below,
    one_row_per_run,
    percent_axis,
    step_axis,
    width,
)
from pir.analysis.figures.style import FAILED, INK, MUTED, SOLVED
from pir.analysis.reading.runs import PER_OUTCOME, PER_STEP, Run
from pir.analysis.words import label, listed, number, scale

from pir.runs.records import Statistic

SMALL_INCHES = 2.3
"""The least width of a small multiple."""

MARKED = 12
"""Small multiples of more steps have lines without marks."""


def _defined(run: Run) -> list[Statistic]:
    """Returns the statistics that have a value at some step."""
    table = run.required(PER_STEP)
    known = {name for name in table.columns if not np.isnan(table[name]).all()}
    return [each for each in run.facts.statistics if each.name in known]


def _columns() -> int:
    return max(1, int(width() / SMALL_INCHES))


def _height(run: Run) -> float:
    return 0.8 + 1.75 * max(1, math.ceil(len(_defined(run)) / _columns()))


@one_row_per_run(_height)
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
    statistics = _defined(run)
    marker = "o" if len(table) <= MARKED else ""
    columns = _columns()
    rows_needed = max(1, math.ceil(len(statistics) / columns))
    axes = figure.subplots(rows_needed, columns, squeeze=False).ravel()
    for axis, statistic in zip(axes, statistics, strict=False):
        for name, (rows, colour, thick) in lines.items():
            style = {"color": colour, "linewidth": thick, "marker": marker, "markersize": 2}
            axis.plot(rows["k"], rows[statistic.name], label=name, **style)
        step_axis(axis, int(table["k"][-1]), run.facts.trained_steps)
        axis.set_xlabel("")
        axis.set_title(label(statistic.name.replace("_", " ")), fontsize=9)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        if statistic.unit.startswith("share"):
            percent_axis(axis, "", broken=1)
        axis.set_ylabel(label(scale(statistic.unit)), fontsize=7, color=MUTED)
        axis.tick_params(labelsize=7)
        axis.yaxis.get_offset_text().set_fontsize(7)
    for axis in axes[len(statistics) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(statistics) - columns) : len(statistics)]:
        axis.set_xlabel("improvement step k", fontsize=8)
    handles, names = axes[0].get_legend_handles_labels()
    if handles:
        legend_below(figure, 3, handles=handles, labels=names)


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
        f"{len(_defined(run))} statistics at every step; at step {trained['k'][0]:.0f} the "
        f"policy still moves by {listed(moves)} (KL)."
    )
