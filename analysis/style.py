"""One look for every figure: colour-blind-safe, readable in grey, no more ink than needed."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from pir.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, in an order that keeps neighbours apart."""

FORMATS = (".png", ".pdf", ".svg")

plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.8,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "svg.hashsalt": "pir",
    }
)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of its ending, and closes it.

    Raises:
        UserError: if the ending is none of `FORMATS` or the file cannot be written.
    """
    if path.suffix not in FORMATS:
        plt.close(figure)
        raise UserError(f"out={path}: the ending must be one of {', '.join(FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", metadata=_without_date(path))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        plt.close(figure)


def _without_date(path: Path) -> dict[str, None]:
    """Same data, same file: leaves out the date that pdf and svg carry by default."""
    return {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix, {})
