"""Figures of training: its loss, and solved on validation against its forward passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from pir.analysis.figures.layout import (
    LINE_INCHES,
    legend_below,
    line_style,
    percent_axis,
    width,
)
from pir.analysis.figures.style import INK, MUTED, styled
from pir.analysis.reading.groups import Group, group_by_seed
from pir.analysis.reading.runs import IMPROVEMENT, METRICS, Run
from pir.analysis.statistics.compare import refuse_unlike
from pir.analysis.statistics.resampling import ROUNDING
from pir.analysis.words import label, millions, number, percent

from pir.errors import UserError


@dataclass(frozen=True)
class Curve:
    """What runs that differ in their seed only solve on validation, at the trained depth.

    Attributes:
        group: the runs.
        passes: forward passes of training at the evaluations that all of them made, mean over
            seeds, shape (E,).
        solved: the share solved there, of shape (seeds, E).
    """

    group: Group
    passes: np.ndarray
    solved: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean over seeds, of shape (E,)."""
        return np.asarray(self.solved.mean(0))

    def first_reaching(self, share: float) -> int | None:
        """Returns the first evaluation at which the mean is so high; None if it never is."""
        reached = np.flatnonzero(self.mean >= share - ROUNDING)
        return int(reached[0]) if len(reached) else None


def training_curve(group: Group) -> Curve:
    """Reads the curve of a group; the evaluation before training has no place on a log axis.

    Raises:
        UserError: if its runs share no evaluation.
    """
    tables = [run.at_trained_depth(run.required(IMPROVEMENT)) for run in group.runs]
    shared = set.intersection(*(set(table["optimizer_step"]) for table in tables)) - {0}
    if not shared:
        raise UserError(f"{group.label}: no step of training at which all its runs were evaluated")
    at = np.array(sorted(shared))
    solved = [table["solved"][np.isin(table["optimizer_step"], at)] for table in tables]
    passes = np.mean([_passes(run, at) for run in group.runs], 0)
    return Curve(group, passes, np.stack(solved))


def _passes(run: Run, optimizer_steps: np.ndarray) -> np.ndarray:
    """Returns the forward passes of training at optimizer steps, between and beyond logged ones.

    Beyond the last row the mean cost so far holds: optimizer steps cost the same but for late
    starts, a drawn depth and the last window of a rollout.
    """
    logged = run.required(METRICS)
    steps, passes = (np.append(0.0, logged[name]) for name in ("optimizer_step", "forward_passes"))
    last = max(optimizer_steps[-1], steps[-1])
    steps, passes = np.append(steps, last), np.append(passes, last * passes[-1] / steps[-1])
    return np.asarray(np.interp(optimizer_steps, steps, passes))


@styled
def draw_passes(runs: Sequence[Run]) -> Figure:
    """Draws solved on validation against the forward passes of training, one line per group.

    Lines are means over seeds, bands go from the least seed to the most. The diamond of a group is
    the first evaluation at which its mean is what the first group ends with, the dashed line.
    """
    refuse_unlike(runs, "env")
    curves = [training_curve(group) for group in group_by_seed(runs)]
    share = float(curves[0].mean[-1])
    figure = Figure(figsize=(width(), 4.0 + LINE_INCHES * len(curves)), layout="constrained")
    axis = figure.subplots()
    axis.axhline(share, color=MUTED, linewidth=0.9, linestyle="--")
    for index, curve in enumerate(curves):
        line = line_style(index)
        reached = curve.first_reaching(share)
        cost = "not reached" if reached is None else f"{millions(curve.passes[reached])} passes"
        axis.fill_between(curve.passes, curve.solved.min(0), curve.solved.max(0),
                          color=line["color"], alpha=0.18, linewidth=0)  # fmt: skip
        axis.plot(curve.passes, curve.mean, label=label(f"{curve.group.label}: {cost}"), **line)
        if reached is not None:
            axis.plot(curve.passes[reached], curve.mean[reached], "D", color=line["color"],
                      markeredgecolor=INK, markersize=8, zorder=4)  # fmt: skip
    _passes_axis(axis)
    percent_axis(axis, "solved (validation puzzles, trained depth)")
    caption = f"dashed: what {curves[0].group.label} ends with; diamonds: first evaluation there"
    if any(len(curve.solved) > 1 for curve in curves):
        caption += "; bands: least to most over seeds"
    legend_below(figure, 1, title=label(caption))
    return figure


def _passes_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 7)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: millions(value)))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axis.set_xlabel("forward passes of training")


def describe_passes(run: Run) -> str:
    """Says what training ends with, and whether it was there before."""
    curve = training_curve(Group(run.name, (run,)))
    share = float(curve.mean[-1])
    text = f"Training ends with {percent(share)} of the validation puzzles solved, after "
    text += f"{number(curve.passes[-1])} forward passes; "
    before = curve.first_reaching(share)
    if before is None or before == len(curve.passes) - 1:
        return f"{text}no evaluation before it solved as many."
    return f"{text}the first evaluation to solve as many came after {number(curve.passes[before])}."


@dataclass(frozen=True)
class Loss:
    """The loss of runs that differ in their seed only, at the rows that all of them logged.

    Attributes:
        steps: optimizer steps, of shape (R,).
        loss: of shape (seeds, R), nats; what is not known is nan.
        terms: the weighted terms by name, mean over seeds, of shape (R,) each.
    """

    steps: np.ndarray
    loss: np.ndarray
    terms: dict[str, np.ndarray]


def loss_curve(group: Group) -> Loss:
    """Reads the loss of a group.

    Raises:
        UserError: if its runs share no row, or have no loss.
    """
    tables = [run.required(METRICS) for run in group.runs]
    shared = set.intersection(*(set(table["optimizer_step"]) for table in tables))
    if not shared:
        raise UserError(f"{group.label}: no step of training that all its runs logged")
    at = np.array(sorted(shared))
    rows = [table.where(np.isin(table["optimizer_step"], at)) for table in tables]
    names = [name for name in tables[0].columns if name.startswith(TERM)]
    common = [name for name in names if all(name in table for table in tables)]
    terms = {name: np.mean([table[name] for table in rows], 0) for name in common}
    return Loss(at, np.stack([table["loss"] for table in rows]), terms)


TERM = "loss_"
"""What the name of a weighted term of the loss begins with."""

STEEP = 20
"""From this ratio of the largest to the smallest loss on, its axis is logarithmic."""


@styled
def draw_loss(runs: Sequence[Run]) -> Figure:
    """Draws what training minimises against its steps, one line per group of runs.

    Lines are means over seeds, bands go from the least seed to the most. Of one group whose loss is
    a sum, its weighted terms are drawn too.
    """
    groups = group_by_seed(runs)
    figure = Figure(figsize=(width(), 3.5 + LINE_INCHES * len(groups)), layout="constrained")
    axis = figure.subplots()
    drawn = []
    for index, group in enumerate(groups):
        curve, line = loss_curve(group), line_style(index)
        axis.fill_between(curve.steps, curve.loss.min(0), curve.loss.max(0), color=line["color"],
                          alpha=0.18, linewidth=0)  # fmt: skip
        axis.plot(curve.steps, curve.loss.mean(0), label=label(group.label), **line)
        drawn.append(curve.loss.ravel())
        if len(groups) == 1 and len(curve.terms) > 1:
            for at, (name, values) in enumerate(curve.terms.items(), start=1):
                text = label(f"term {name.removeprefix(TERM)}".replace("_", " "))
                axis.plot(curve.steps, values, label=text, **line_style(at) | {"linestyle": "--"})
                drawn.append(values)
    known = np.concatenate(drawn)
    known = known[np.isfinite(known)]
    if len(known) and known.min() > 0 and known.max() > STEEP * known.min():
        axis.set_yscale("log")
    elif len(known) and known.min() >= 0:
        axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("optimizer step")
    axis.set_ylabel("loss (mean since the last point)")
    many = any(len(group.runs) > 1 for group in groups)
    legend_below(figure, 1, title="bands: least to most over seeds" if many else None)
    return figure


def describe_loss(run: Run) -> str:
    """Says where the loss begins and ends."""
    curve = loss_curve(Group(run.name, (run,)))
    first, last = curve.loss[0, 0], curve.loss[0, -1]
    return (
        f"The loss falls from {number(first)} to {number(last)}"
        if last < first
        else f"The loss does not fall: {number(first)} at first, {number(last)} at the end"
    ) + f" (optimizer steps {curve.steps[0]:,.0f} to {curve.steps[-1]:,.0f})."
