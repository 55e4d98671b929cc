"""What figures share: one row per run, the axis of improvement steps, lines per step."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from pir.analysis.figures.style import COLOURS, INK
from pir.analysis.reading.runs import Run
from pir.analysis.words import label

WIDTH = 9.5
"""Inches of every figure."""

Item = TypeVar("Item")

Painter = Callable[[SubFigure, Run], None]
Drawing = Callable[[Sequence[Run]], Figure]


def one_row_per_run(height: float | Callable[[Run], float]) -> Callable[[Painter], Drawing]:
    """Makes a figure of several runs out of a function that paints one.

    Args:
        height: inches of one run's row, or how to find them.
    """

    def decorate(paint: Painter) -> Drawing:
        def draw(runs: Sequence[Run]) -> Figure:
            heights = [height(run) if callable(height) else height for run in runs]
            return rows(paint, runs, [run.name for run in runs], heights)

        draw.__doc__ = paint.__doc__
        return draw

    return decorate


def rows(
    paint: Callable[[SubFigure, Item], None],
    items: Sequence[Item],
    names: Sequence[str],
    heights: Sequence[float],
) -> Figure:
    """Draws items under each other, each so many inches high, named where there are several."""
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(names), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, item, name in zip(parts, items, names, strict=True):
        row.set_facecolor("none")
        if len(names) > 1:
            row.suptitle(label(name), x=0.01, ha="left", fontsize=10, weight="bold")
        paint(row, item)
    return figure


def step_axis(axis: Axes, last: int, trained: int | None) -> None:
    """Makes x the improvement step from 1 to `last`, and shades the trained depth."""
    if trained is not None:
        axis.axvspan(0.5, trained + 0.5, color=INK, alpha=0.06, linewidth=0)
    axis.set_xlim(0.5, last + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("improvement step k")


def percent_axis(axis: Axes, text: str) -> None:
    """Makes y a share in per cent."""
    axis.set_ylabel(text)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def plain_ticks(axis: Axes) -> None:
    """Writes the numbers of a logarithmic x axis in full."""
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def line_style(index: int) -> dict[str, Any]:
    """Returns how to draw the line of a group: colours, then dashes and marks tell them apart."""
    colour, again = COLOURS[index % len(COLOURS)], index // len(COLOURS) % 4
    line, mark = ("-", "--", ":", "-.")[again], "os^D"[again]
    return {"color": colour, "linestyle": line, "marker": mark, "markersize": 3}


def step_colours(count: int) -> np.ndarray:
    """Returns one colour per step, dark to bright, of shape (count, 4)."""
    return matplotlib.colormaps["viridis"](np.linspace(0.3, 0.85, count))


def legend_below(figure: SubFigure | Figure, columns: int, **options: object) -> None:
    """Puts the legend of all axes under them."""
    figure.legend(loc="outside lower center", ncols=columns, **options)
