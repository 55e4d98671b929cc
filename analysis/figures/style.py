"""One look for every figure: colour-blind-safe, readable in grey, no more ink than needed."""

import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.figure import Figure

from pir.checks import check_ending
from pir.notation.drawing import BLUE, ORANGE
from pir.runs.folder import write_atomically

COLOURS = (
    BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#000000",
)  # fmt: skip
"""Okabe and Ito's palette in an order that keeps neighbours apart; wine and olive are of Paul Tol's
muted one."""

SOLVED, FAILED = COLOURS[0], COLOURS[1]
"""Puzzles that are solved after the trained depth, and those that are not."""

GAIN, LOSS = COLOURS[2], COLOURS[1]

INK, MUTED, GRID, PAPER = "#1b1b1d", "#5e5e61", "#e4e4e7", "#fefefe"
"""Text, axes, grid and background. No other element has these colours, so that a page can put its
own in their place."""

WIDTH = 9.5
"""Inches of a figure, unless another width is asked for."""

LOOK: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.hinting": "none",  # with it small bold letters look as if they had serifs
    "text.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "pir",
}
"""Parameters of matplotlib."""

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Gives what a function draws or saves our look, and leaves matplotlib's as the user has it."""

    @wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> T:
        with matplotlib.rc_context(LOOK):
            return draw(*arguments, **options)

    return drawn


@styled
def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of its ending.

    Raises:
        UserError: if the ending is none of `pir.checks.FIGURES` or the file cannot be written.
    """
    check_ending(path)
    with warnings.catch_warnings():
        # names of runs may be in any script; what the font lacks shows as a box
        warnings.filterwarnings("ignore", "Glyph .* missing")
        options: dict[str, Any] = {"format": path.suffix[1:], "metadata": _without_date(path)}
        write_atomically(path, lambda f: figure.savefig(f, bbox_inches="tight", **options))


def _without_date(path: Path) -> dict[str, None]:
    """Same data, same file: leaves out the date that pdf and svg carry by default."""
    return {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix, {})
