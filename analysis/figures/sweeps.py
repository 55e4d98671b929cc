"""Figures of what can be turned at evaluation: guidance, step size."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from pir.analysis.figures.layout import (
    fitting,
    legend_below,
    one_row_per_run,
    percent_axis,
    side_by_side,
    step_colours,
)
from pir.analysis.figures.style import INK, MUTED
from pir.analysis.reading.runs import GUIDANCE, OPTIMALITY, STEP_SIZE, Run, Table
from pir.analysis.words import number, percent

STEP_SIZES = ("step_size", "step size")
"""The column of step sizes, and what texts call one."""

NAMED = 9
"""Of very many lines so many are named."""


def _has_labels(run: Run) -> bool:
    return bool(np.isfinite(run.required(GUIDANCE)["nll"]).any())


@one_row_per_run(3.4, lambda run: 1 + _has_labels(run) + (run.table(OPTIMALITY) is not None))
def draw_guidance(figure: SubFigure, run: Run) -> None:
    """Draws solved, and the label's negative log-likelihood, against the guidance w, per step.

    A reasoner with an optimality token has a second kind of guidance, and a third panel.
    """
    table, tokens = run.required(GUIDANCE), run.table(OPTIMALITY)
    labelled = _has_labels(run)
    axes = side_by_side(figure, 1 + labelled + (tokens is not None))
    _lines_per_step(axes[0], table, "w", "solved", run, band=True)
    percent_axis(axes[0], "solved (verifier)")
    if labelled:
        _lines_per_step(axes[1], table, "w", "nll", run)
        axes[1].set_ylabel("-log p(right answer), nats per cell")
        axes[1].set_ylim(bottom=0)
    if tokens is not None:
        _lines_per_step(axes[-1], tokens, "w", "solved", run, band=True)
        axes[-1].set_title("from any to good answers")
        percent_axis(axes[-1], "solved (verifier)")
    name = "guidance w (0: before the step, 1: after it)"
    for axis in axes:
        axis.set_xlabel(fitting(name, len(axes)))
    step_legend(figure, axes[0])


@one_row_per_run(3.4, lambda run: 2)
def draw_step_size(figure: SubFigure, run: Run) -> None:
    """Draws solved against the size of the latent step: of every step, and of step k alone."""
    table = run.required(STEP_SIZE)
    axes = side_by_side(figure, 2, sharex=True, sharey=True)
    _lines_per_step(axes[0], table, "step_size", "solved", run, band=True)
    _lines_per_step(axes[1], table, "step_size", "probe_solved", run)
    after = run.facts.damping_after
    every = f"every step after step {after} scaled" if after else "every step scaled"
    for axis, title in zip(axes, (every, "only step k scaled"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("step size (1: as trained)")
    percent_axis(axes[0], "solved (verifier)", axes[1])
    step_legend(figure, axes[0])


def _lines_per_step(
    axis: Axes, table: Table, x: str, y: str, run: Run, *, band: bool = False
) -> None:
    """Draws one line per step, the trained depth in ink; x = 1 is what was trained."""
    numbers = sorted(table.distinct("k"))
    depth = int(run.at_trained_depth(table)["k"][0])
    axis.axvline(1, color=MUTED, linewidth=0.8, linestyle=":")
    for colour, k in zip(step_colours(len(numbers)), numbers, strict=True):
        rows = table.where(table["k"] == k)
        rows = rows.where(np.argsort(rows[x]))
        name, style = f"step {k:.0f}", {"color": colour, "linewidth": 1.2}
        if k == depth:
            name = f"{name} ({'trained depth' if run.facts.deep else 'last evaluated'})"
            style = {"color": INK, "linewidth": 2, "zorder": 3}
            if band:
                low, high = rows[f"{y}_low"], rows[f"{y}_high"]
                axis.fill_between(rows[x], low, high, color=INK, alpha=0.12, linewidth=0)
        axis.plot(rows[x], rows[y], marker="o", markersize=3, label=name, **style)


def step_legend(figure: SubFigure, axis: Axes) -> None:
    """Names the lines of steps: all of them, of very many some, evenly spread."""
    handles, names = axis.get_legend_handles_labels()
    spread = set(np.linspace(0, len(names) - 1, NAMED).round().astype(int).tolist())
    named = [i for i, name in enumerate(names) if i in spread or "(" in name]
    if len(names) <= NAMED + 1:
        named = [*range(len(names))]
    legend_below(figure, min(6, len(named)), handles=[handles[i] for i in named],
                 labels=[names[i] for i in named])  # fmt: skip


def describe_guidance(run: Run) -> str:
    """Says which guidance solves most at the trained depth, and whether that is more than noise."""
    table = run.at_trained_depth(run.required(GUIDANCE))
    return _best_of_sweep(table, _at_depth(run), "w", "guidance w")


def describe_step_size(run: Run) -> str:
    """Says which step size solves most: at the trained depth, or at the last step.

    At the last step if `eval.damping_after` leaves every step up to the trained depth whole.
    """
    table, after = run.required(STEP_SIZE), run.facts.damping_after
    if not after:
        return _best_of_sweep(run.at_trained_depth(table), _at_depth(run), *STEP_SIZES)
    depth, last = run.facts.depth, int(table["k"].max())
    if last <= after:
        return f"No step is scaled: there are {last}, and scaling begins after step {after}."
    step = depth if depth > after else last
    where = f"With steps after step {after} scaled, at step {step}"
    return _best_of_sweep(table.where(table["k"] == step), where, *STEP_SIZES)


def _at_depth(run: Run) -> str:
    return f"At {run.facts.depth_name}" + (f" (step {run.facts.depth})" if run.facts.deep else "")


def _best_of_sweep(table: Table, where: str, x: str, name: str) -> str:
    """Compares what solves most with what was trained, after one step."""
    best, plain = int(np.argmax(table["solved"])), int(np.argmin(np.abs(table[x] - 1)))
    values, solved = table[x], table["solved"]
    as_trained = f"{name} {number(values[plain])}"
    if solved[best] <= solved[plain]:
        return (
            f"{where} no {name} of {number(values.min())} to {number(values.max())} solves more "
            f"than {as_trained} ({percent(solved[plain])})."
        )
    inside = table["solved_low"][best] <= solved[plain]
    return (
        f"{where} {name} {number(values[best])} solves {percent(solved[best])}, {as_trained} "
        f"{percent(solved[plain])}, which lies {'inside' if inside else 'outside'} the interval "
        f"of the former ({percent(table['solved_low'][best])} to "
        f"{percent(table['solved_high'][best])})."
    )
