"""What figures share: one row per run, the axis of improvement steps, lines per step."""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from pir.analysis.figures.style import COLOURS, INK, MUTED, WIDTH, styled
from pir.analysis.reading.groups import run_names
from pir.analysis.reading.runs import Run
from pir.analysis.words import label, percent

PANEL_INCHES = 2.6
"""The least width of a panel: those for which there is less room stand under each other."""

CHARACTERS = 14
"""Characters of small text in an inch."""

TICKS = 14
"""Characters of a panel's width that the numbers of its y axis take."""

HANDLE = 6
"""Characters of text that the line before a name of a legend takes the place of."""

LINE_INCHES = 0.19
"""Height of a line of a legend."""

TITLE: dict[str, Any] = {"fontsize": 11, "weight": "bold"}
"""How the title of a figure is written."""

BROKEN = 0.5
"""Shares that are all above this are drawn on an axis that does not begin at 0, and says so."""

DASHES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""How lines of one colour are told apart, with their marks."""

LINES = len(COLOURS) * len(DASHES)
"""How many lines look different from one another."""

_width: ContextVar[float] = ContextVar("inches of a figure", default=WIDTH)

Item = TypeVar("Item")

Painter = Callable[[SubFigure, Run], None]
Drawing = Callable[[Sequence[Run]], Figure]


def width() -> float:
    """Returns how wide figures are, in inches; see `of_width`."""
    return _width.get()


@contextmanager
def of_width(inches: float) -> Iterator[None]:
    """Makes figures so wide inside, as `pir plot width=` asks."""
    token = _width.set(inches)
    try:
        yield
    finally:
        _width.reset(token)


def across(panels: int) -> int:
    """Returns how many of some panels stand side by side."""
    return max(1, min(panels, int(width() / PANEL_INCHES)))


def down(panels: int) -> int:
    """Returns how many of them stand under each other."""
    return math.ceil(panels / across(panels))


def fitting(text: str, panels: int) -> str:
    """Breaks the label of an x axis into lines that fit under one of some panels."""
    return textwrap.fill(text, int(CHARACTERS * width() / across(panels)) - TICKS)


def side_by_side(figure: SubFigure | Figure, panels: int, **options: Any) -> list[Any]:
    """Makes panels side by side, or under each other where there is no room."""
    axes = figure.subplots(down(panels), across(panels), squeeze=False, **options).ravel()
    for spare in axes[panels:]:
        spare.remove()
    return list(axes[:panels])


def one_row_per_run(
    height: float | Callable[[Run], float], panels: Callable[[Run], int] = lambda run: 1
) -> Callable[[Painter], Drawing]:
    """Makes a figure of several runs out of a function that paints one.

    Args:
        height: inches of one run's panels, or how to find them.
        panels: how many it has side by side if there is room.
    """

    def decorate(paint: Painter) -> Drawing:
        @styled
        def draw(runs: Sequence[Run]) -> Figure:
            heights = [
                (height(run) if callable(height) else height) * down(panels(run)) for run in runs
            ]
            return rows(paint, runs, run_names(runs), heights)

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
    figure = Figure(figsize=(width(), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(names), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, item, name in zip(parts, items, names, strict=True):
        row.set_facecolor("none")
        if len(names) > 1:
            row.suptitle(label(name), x=0.01, ha="left", fontsize=10, weight="bold")
        paint(row, item)
    return figure


def step_axis(axis: Axes, last: int, trained: int | None, first: int = 1) -> None:
    """Makes x the improvement step from `first` to `last`, and shades the trained depth."""
    if trained is not None:
        axis.axvspan(0.5, trained + 0.5, color=INK, alpha=0.06, linewidth=0)
    axis.set_xlim(first - 0.5, last + 0.5)
    # one step has one tick: two would not be whole numbers
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_xlabel("improvement step k")


def percent_axis(axis: Axes, text: str, *beside: Axes, broken: float = BROKEN) -> None:
    """Makes y a share in per cent, once everything is drawn.

    The axis begins at 0; only where all shares are high it does not, and its label says so.

    Args:
        axis: the axis.
        text: what is measured.
        beside: axes with the same scale.
        broken: shares that are all above this are high; 1 for never.
    """
    drawn = np.array([each.dataLim.intervaly for each in (axis, *beside)])
    found = drawn[np.isfinite(drawn)]
    low, high = (found.min(), found.max()) if len(found) else (0.0, 1.0)
    bottom = 0.0
    if low > broken:
        bottom = max(0.0, min(low - 0.05 * (1 - low), 0.99))
        text += f"\n(axis begins at {percent(bottom)})"
    axis.set_ylim(bottom, bottom + 1.04 * max(high - bottom, 0.01))
    axis.set_ylabel(text)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


def score_axis(axis: Axes, text: str) -> None:
    """Makes y a score from 0 to 1."""
    axis.set_ylim(0, 1.04)
    axis.set_ylabel(text)


def plain_ticks(axis: Axes) -> None:
    """Writes the numbers of a logarithmic x axis in full."""
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def line_style(index: int) -> dict[str, Any]:
    """Returns how to draw the line of a group: colours, then dashes and marks tell them apart."""
    colour, again = COLOURS[index % len(COLOURS)], index // len(COLOURS) % len(DASHES)
    line, mark = DASHES[again]
    return {"color": colour, "linestyle": line, "marker": mark, "markersize": 3}


def step_colours(count: int) -> np.ndarray:
    """Returns one colour per step, dark to bright, of shape (count, 4)."""
    return matplotlib.colormaps["viridis"](np.linspace(0.3, 0.85, count))


def legend_below(figure: SubFigure | Figure, columns: int, **options: object) -> None:
    """Puts the legend of all axes under them, in so many columns or fewer in a narrow figure."""
    columns = max(1, round(columns * min(1.0, width() / WIDTH)))
    legend = figure.legend(loc="outside lower center", ncols=columns, **options)
    legend.get_title().set(color=MUTED, fontsize=9)
    room = int(CHARACTERS * width())
    for text, most in (
        (legend.get_title(), room),
        *((t, room - HANDLE) for t in legend.get_texts()),
    ):
        lines = text.get_text().splitlines()
        text.set_text("\n".join(textwrap.fill(line, most) for line in lines))
