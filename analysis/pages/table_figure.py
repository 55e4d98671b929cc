"""A table of runs as a figure: a line per row, the last of the columns' settings as its x axis."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pir.analysis.figures.layout import (
    LINE_INCHES,
    LINES,
    TITLE,
    legend_below,
    line_style,
    percent_axis,
    width,
)
from pir.analysis.figures.style import MUTED, styled
from pir.analysis.pages.table_view import named, row_names
from pir.analysis.statistics.table import RunTable
from pir.analysis.words import NONE, are_numbers, label

from pir.errors import UserError

PANELS = 4
"""Panels side by side."""

NAME_WIDTH = 100
"""Characters of a line of the legend."""

RANDOM = "random answers"

TICK_CHARACTERS = 90
"""Characters of all ticks that stand side by side; longer ones are slanted."""

WIDE = 8
"""From this ratio of the largest to the smallest number on, an axis is logarithmic."""


@styled
def draw_table(table: RunTable) -> Figure:
    """Draws the means of a table and the values of every seed.

    Columns that differ in their last setting only share a panel, with that setting as x axis: to
    scale where it is a number. Runs without that setting, as a model without latents beside models
    that differ in how many they have, are a level line. Dotted is what random answers solve.

    The legend has one row per line, its names broken where they are long.

    Raises:
        UserError: if no cell has a mean: of minutes there is none where a run came to no share; or
            if there are more rows than lines that look different.
    """
    if all(cell.mean is None for cell in table.cells.values()):
        raise UserError(
            f"metric={table.metric}: no cell has a mean to draw; out=FILE.md writes what there is"
        )
    if len(table.rows) > LINES:
        raise UserError(
            f"out=: {len(table.rows)} rows to draw, and only {LINES} lines look different: name "
            "fewer runs in runs=, or write out=FILE.md"
        )
    keys = list(table.columns[0])
    panels: dict[str, list[int]] = {}
    for j, column in enumerate(table.columns):
        panels.setdefault(named({key: column[key] for key in keys[:-1]}), []).append(j)
    across = min(len(panels), PANELS)
    down = math.ceil(len(panels) / across)
    names = [textwrap.fill(label(name), NAME_WIDTH) for name in row_names(table)]
    entries = sum(name.count("\n") + 1 for name in names) + 2
    height = 0.8 + 2.8 * down + LINE_INCHES * entries
    figure = Figure(figsize=(width(), height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis, (title, members) in zip(axes, panels.items(), strict=False):
        axis.set_title(label(title))
        _paint(axis, table, members, names, TICK_CHARACTERS // across)
    for axis in axes[len(panels) :]:
        axis.remove()
    lines: dict[str, Artist] = {}  # every row once, though panels repeat them
    for axis in figure.axes:
        handles, found = axis.get_legend_handles_labels()
        lines |= zip(found, handles, strict=True)
    shown = [name for name in (*names, RANDOM) if name in lines]
    title = "" if table.labels else label(", ".join(table.keys))
    legend_below(figure, 1, handles=[lines[name] for name in shown], labels=shown, title=title)
    figure.suptitle(label(table.title or _title(table)), **TITLE)
    return figure


def _title(table: RunTable) -> str:
    """Names what is drawn, and the puzzle where there is one."""
    envs = {entry.settings.get("env", "") for entry in table.entries}
    metric = table.metric.replace("_", " ")
    return f"{envs.pop()}: {metric}" if len(envs) == 1 else metric


def _paint(
    axis: Axes, table: RunTable, members: Sequence[int], names: Sequence[str], room: int
) -> None:
    """Draws one panel: the columns of these indices, told apart by their last setting."""
    key = [*table.columns[0]][-1]
    at = {j: value for j in members if (value := table.columns[j][key]) != NONE}
    numeric = are_numbers(at.values())
    places = dict(zip(at, _places(axis, list(at.values()), numeric, room), strict=True))
    for i, name in enumerate(names):
        style = line_style(i) | {"label": name}
        # rows stand side by side where there is room between values
        aside = 0.0 if numeric else 0.7 * ((i + 0.5) / len(names) - 0.5)
        means = {}
        for j in members:
            cell = table.cells.get((i, j))
            if cell is None or cell.mean is None:
                continue
            if j not in places:
                axis.axhline(cell.mean, **(style | {"marker": "", "linewidth": 1.2}))
                continue
            x = places[j] + aside
            means[x] = cell.mean
            seeds = style | {"label": None, "linestyle": "", "alpha": 0.35}
            axis.plot([x] * len(cell.values), cell.values, **seeds)
        if means:
            line = zip(*sorted(means.items()), strict=True)
            axis.plot(*line, **(style if numeric else style | {"linestyle": "", "markersize": 5}))
    random = {x: floor[1] for j, x in places.items() if (floor := table.floor(j)) is not None}
    if random:
        level = (0,) if numeric else (-0.4, 0.4, math.nan)
        line = zip(*((x + d, y) for x, y in sorted(random.items()) for d in level), strict=True)
        axis.plot(*line, color=MUTED, linestyle=":", label=RANDOM)
    axis.set_xlabel(label(key))
    if table.share:
        percent_axis(axis, table.metric.replace("_", " "), broken=1)
    else:
        axis.set_ylabel(label(table.metric.replace("_", " ")))


def _places(axis: Axes, values: Sequence[str], numeric: bool, room: int) -> list[float]:
    """Sets the ticks of an x axis, and returns where every value is."""
    if numeric:
        places = [float(value) for value in values]
        if places and min(places) > 0 and max(places) >= WIDE * min(places):
            axis.set_xscale("log")
    else:
        places = [float(at) for at in range(len(values))]
        axis.set_xlim(-0.5, len(values) - 0.5)  # of every value, also where nothing is drawn
    ticks = [label(value) for value in values]
    axis.set_xticks(places, ticks)
    if sum(map(len, ticks)) > room:
        axis.tick_params("x", rotation=30)
        for tick in axis.get_xticklabels():
            tick.set_horizontalalignment("right")
    axis.xaxis.set_minor_locator(NullLocator())
    return places
