"""The improvement curve: what every improvement step solves, within and beyond trained depth."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter
from pir.analysis.style import COLOURS, save_figure

from pir.errors import UserError


@dataclass
class Curve:
    """One run's evaluation, step by step.

    Attributes:
        columns: k, solved, solved_low, solved_high, score ..., each of shape (K,).
        trained_steps: the number of steps the model was trained for.
        puzzles: how many puzzles were evaluated, and of which split.
    """

    columns: dict[str, np.ndarray]
    trained_steps: int
    puzzles: str


def read_curve(folder: Path) -> Curve:
    """Reads `eval/` of a run folder.

    Raises:
        UserError: if it is missing (the run has not ended) or damaged.
    """
    table, facts = folder / "eval" / "per_step.csv", folder / "eval" / "eval.json"
    if not table.is_file() or not facts.is_file():
        raise UserError(
            f"{folder} has no evaluation yet: let its training end, or `pir eval run={folder}`"
        )
    try:
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        content = json.loads(facts.read_text())
        missing = {"k", "solved", "solved_low", "solved_high", "score"} - set(columns)
        if missing:
            raise KeyError(*missing)
        puzzles = f"{content['puzzles']} {content['split']} puzzles"
        return Curve(columns, int(content["trained_steps"]), puzzles)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{table.parent} is damaged: {error!r}") from error


def draw_improvement(folders: Sequence[Path], out: Path) -> None:
    """Draws solved and score against the improvement step, one line per run.

    Bands are 95 % Wilson intervals over puzzles; the trained depth is shaded.

    Raises:
        UserError: if a run cannot be read or the figure cannot be written.
    """
    curves = [read_curve(folder) for folder in folders]
    labels = _labels(folders)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharex=True)
    solved, score = axes
    for index, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        style = ("-", "--", ":", "-.")[index // len(COLOURS) % 4]
        k = curve.columns["k"]
        low, high = curve.columns["solved_low"], curve.columns["solved_high"]
        solved.fill_between(k, low, high, color=colour, alpha=0.18, linewidth=0)
        line = {"color": colour, "linestyle": style, "marker": "o", "markersize": 3}
        solved.plot(k, curve.columns["solved"], label=label, **line)
        score.plot(k, curve.columns["score"], **line)
    last = max(curve.columns["k"][-1] for curve in curves)
    depths = {curve.trained_steps for curve in curves}
    same_depth = len(depths) == 1
    for axis in axes:
        if same_depth:
            axis.axvspan(0.5, max(depths) + 0.5, color="#000000", alpha=0.05, linewidth=0)
        axis.set_xlabel("improvement step k")
        axis.set_xlim(0.5, last + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    solved.set_ylabel("solved (verifier)")
    solved.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    score.set_ylabel("mean score in [0, 1]")
    shaded = ", shaded: trained depth" if same_depth else ""
    samples = "; ".join(sorted({curve.puzzles for curve in curves}))
    figure.suptitle(f"{samples}, bands: 95 % interval{shaded}", fontsize=9, color="#555555")
    figure.legend(loc="outside lower center", ncols=min(4, len(curves)), fontsize=9)
    figure.set_layout_engine("constrained")
    save_figure(figure, out)


def _labels(folders: Sequence[Path]) -> list[str]:
    """Returns the folders' names, with their parents' where names repeat, safe for matplotlib."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    # $ starts a formula, and a leading _ hides a legend's entry
    return [f"{' ' if name[0] == '_' else ''}{name}".replace("$", r"\$") for name in names]
