"""Figure of the latent state: where the steps take it, how far, and within which subspaces."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from pir.analysis.figures.layout import (
    down,
    legend_below,
    one_row_per_run,
    percent_axis,
    side_by_side,
    step_axis,
)
from pir.analysis.figures.sharing import describe_sharing, draw_sharing, sharing
from pir.analysis.figures.style import FAILED, INK, SOLVED
from pir.analysis.reading.runs import LATENTS, Run
from pir.analysis.words import number, percent

from pir.errors import UserError


def read_latents(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Reads the states of M puzzles, averaged over tokens; of those whose states are all finite.

    Returns:
        float64 of shape (M, K + 1, D), step 0 the start, and bool of shape (M,), whether solved.

    Raises:
        UserError: if the file is missing or damaged, or no puzzle has finite states.
    """
    content = run.required_arrays(LATENTS, "latents", "solved")
    latents, solved = content["latents"].astype(float), content["solved"].astype(bool)
    if latents.ndim != 3 or min(latents.shape[1:]) < 2 or solved.shape != latents.shape[:1]:
        raise UserError(f"{run.path(LATENTS)} is damaged: its arrays have shapes that do not fit")
    finite = np.isfinite(latents).all((1, 2))
    if not finite.any():
        raise UserError(f"{run.path(LATENTS)} has no puzzle whose latent states are all finite")
    return latents[finite], solved[finite]


def principal_components(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects states of shape (M, S, D) to the two directions in which they differ most.

    Returns:
        Coordinates of shape (M, S, 2) and the two shares of the variance, of shape (2,).
    """
    centred = latents - latents.mean((0, 1))
    flat = centred.reshape(-1, latents.shape[-1])
    variances, directions = np.linalg.eigh(flat.T @ flat)
    first = directions[:, [-1, -2]]
    # the sign of a direction is arbitrary; fixed, so that the same data give the same figure
    first = first * np.sign(first[np.abs(first).argmax(0), [0, 1]])
    return centred @ first, variances[[-1, -2]] / max(variances.sum(), 1e-12)


LONG = 32
"""Paths of more steps are drawn as pixels, so that a page stays small."""


def _rows() -> tuple[int, int]:
    return down(2), down(3)


@one_row_per_run(lambda run: 3.9 * sum(_rows()))
def draw_latents(figure: SubFigure, run: Run) -> None:
    """Draws where steps take the latent states, how far, and what slots and steps share."""
    upper, lower = parts = figure.subfigures(2, 1, squeeze=False, height_ratios=_rows())[:, 0]
    for part in parts:
        part.set_facecolor("none")
    _draw_paths(upper, run)
    draw_sharing(lower, sharing(run), run.facts.trained_steps)


def _draw_paths(figure: SubFigure, run: Run) -> None:
    latents, solved = read_latents(run)
    paths, distances = side_by_side(figure, 2)
    points, shares = principal_components(latents)
    for path, right in zip(points, solved, strict=True):
        style = {"color": SOLVED if right else FAILED, "rasterized": len(path) > LONG}
        paths.plot(*path.T, linewidth=0.7, alpha=0.35, **style)
        paths.plot(*path[1:].T, ".", markersize=2.5, alpha=0.6, **style)
        paths.plot(*path[-1], "o", markersize=4, **style)
    paths.plot(*points[:, 0].T, "s", color=INK, markersize=4)
    paths.annotate("start", points[0, 0], (0, 7), textcoords="offset points", ha="center",
                   fontsize=9)  # fmt: skip
    paths.set_xlabel(f"component 1 ({percent(shares[0], 0)} of the variance)")
    paths.set_ylabel(f"component 2 ({percent(shares[1], 0)})")
    _distances(distances, latents, solved)
    step_axis(distances, latents.shape[1] - 1, run.facts.trained_steps)
    handles, names = distances.get_legend_handles_labels()
    legend_below(figure, 2, handles=handles, labels=names)


def relative_moves(latents: np.ndarray) -> np.ndarray:
    """Returns how far every step moves a state of shape (M, K + 1, D), over its size before.

    Returns:
        float64 of shape (M, K); a step from a state of zeros moves all of it.
    """
    sizes = np.linalg.norm(latents, axis=-1)
    size = np.where(sizes[:, :-1], sizes[:, :-1], sizes[:, 1:])
    return np.asarray(np.linalg.norm(np.diff(latents, axis=1), axis=-1) / np.where(size, size, 1))


def _distances(axis: Axes, latents: np.ndarray, solved: np.ndarray) -> None:
    moves = relative_moves(latents)
    k = np.arange(1, moves.shape[1] + 1)
    for name, mask, colour in (("solved", solved, SOLVED), ("failed", ~solved, FAILED)):
        if mask.any():
            low, middle, high = np.percentile(moves[mask], (25, 50, 75), axis=0)
            axis.fill_between(k, low, high, color=colour, alpha=0.18, linewidth=0)
            text = f"{name} puzzles ({mask.sum()}), median and quartiles"
            axis.plot(k, middle, color=colour, marker="o", markersize=3, label=text)
    percent_axis(axis, "how far the step moves the state,\nshare of the state's size", broken=1)


def describe_latents(run: Run) -> str:
    """Says how far steps move the state, and what its slots and its steps share."""
    return f"{_describe_moves(run)} {describe_sharing(sharing(run))}"


def _describe_moves(run: Run) -> str:
    latents, solved = read_latents(run)
    _, shares = principal_components(latents)
    moves = relative_moves(latents)
    last = moves.shape[1]
    text = f"Two components hold {percent(shares.sum(), 0)} of the variance; step 1 moves "
    text += f"the state by {percent(np.median(moves[:, 0]), 0)} of its size, step {last} by "
    if solved.all() or not solved.any():
        return (
            f"{text}{percent(np.median(moves[:, -1]))} (medians of {number(len(latents))} puzzles)."
        )
    groups = (
        f"{percent(np.median(moves[mask, -1]))} for {number(mask.sum())} {name} puzzles"
        for name, mask in (("solved", solved), ("failed", ~solved))
    )
    return f"{text}{' and '.join(groups)} (medians)."
