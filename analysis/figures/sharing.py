"""What the latent slots of a run share, and its steps: lower half of the figure of latents."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from pir.analysis.figures.layout import across, legend_below, percent_axis, side_by_side, step_axis
from pir.analysis.figures.style import COLOURS
from pir.analysis.reading.runs import LATENTS, PER_STEP, Run
from pir.analysis.statistics.subspaces import (
    cross_capture,
    finite_mean,
    fixed_rank,
    mean_off_diagonal,
    rank_correlation,
    silhouette,
)
from pir.analysis.words import NONE, percent

from pir.checks import MOST_STEPS
from pir.errors import UserError

SILHOUETTE_PUZZLES = 64
"""Puzzles whose distances are compared, because their number grows with the square."""

FEWEST_FOR_RANKS = 4
"""Pairs of steps below which a rank correlation says nothing."""

FEW = 8
"""Up to so many groups, what they capture is written as numbers too."""

TICKS = 5
"""Of more groups so many have their number beside them, with room between."""

CAPTURE_SCALE = LinearSegmentedColormap.from_list(
    "capture", [to_rgba(COLOURS[0], 0.03), to_rgba(COLOURS[0], 0.75)]
)
"""Lets text on it be read, on light and on dark paper."""


def read_slots(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads the single latent vectors of M puzzles, S slots of each, the start left out.

    Returns:
        float64 of shape (M, K, S, D); int64 of shape (K,), the steps after which; and int64 of
        shape (S,), which slots of the reasoner, from 0.

    Raises:
        UserError: if the file is missing, damaged or without slots.
    """
    content = run.required_arrays(LATENTS, "slots", "slot_steps", "slot_index")
    slots, steps, index = content["slots"], content["slot_steps"], content["slot_index"]
    counts = np.concatenate([steps.ravel(), index.ravel()])
    fits = (
        slots.ndim == 4
        and bool(np.all((counts >= 0) & (counts <= MOST_STEPS)))
        and slots.shape[1:3] == (steps.size, index.size)
    )
    depth = run.facts.trained_steps
    if not fits or slots.size == 0 or steps.size < 2 or min(depth, steps[-1]) not in steps[1:]:
        raise UserError(f"{run.path(LATENTS)} is damaged: its slots and their numbers do not fit")
    # the start is the same for every puzzle in most reasoners: nothing varies
    return slots[:, 1:].astype(float), steps[1:].astype(int), index.astype(int)


@dataclass(frozen=True)
class Sharing:
    """What the latent vectors of slots, and of steps, have in common; see `subspaces`.

    Attributes:
        depth: the step after which slots are compared, the last trained one.
        index: which slots, of shape (S,).
        steps: which steps, of shape (K,).
        chance: what random directions capture.
        by_slot: cross-capture between slots, of shape (S, S).
        by_step: cross-capture between steps, of shape (K, K).
        slot_silhouette: of the vectors after step `depth`, clustered by slot.
        step_silhouette: of the vectors of a slot, clustered by step; mean over slots.
        dead: share of all puzzles for which each of the steps is dead, of shape (K,).
    """

    depth: int
    index: np.ndarray
    steps: np.ndarray
    chance: float
    by_slot: np.ndarray
    by_step: np.ndarray
    slot_silhouette: float
    step_silhouette: float
    dead: np.ndarray

    @property
    def by_previous(self) -> np.ndarray:
        """How much of a step's variance lies in the subspace of the step before, (K - 1,)."""
        return np.diagonal(self.by_step, 1)


def sharing(run: Run) -> Sharing:
    """Compares the slots of a run, and its steps.

    All vectors of a slot after a step are centred together: what counts is how puzzles differ. The
    differences between slots that are the same for every puzzle are left out of the steps too,
    where they would be most of what the steps share.

    Raises:
        UserError: if the vectors or the dead steps are missing or damaged.
    """
    vectors, steps, index = read_slots(run)
    table = run.required(PER_STEP)
    dead = dict(zip(table["k"].tolist(), table["dead"].tolist(), strict=True))
    depth = min(run.facts.trained_steps, int(steps[-1]))
    trained = steps.tolist().index(depth)
    width = vectors.shape[-1]
    rank = fixed_rank(width)
    with np.errstate(invalid="ignore"):  # a state that ran away leaves its group without capture
        centred = np.moveaxis(vectors - vectors.mean(0), 1, 0)
    some = vectors[:SILHOUETTE_PUZZLES]
    within = [_silhouette(some[:, :, slot]) for slot in range(len(index))]
    return Sharing(
        depth=depth,
        index=index,
        steps=steps,
        chance=rank / width,
        by_slot=cross_capture(np.moveaxis(centred[trained], 1, 0), rank),
        by_step=cross_capture(centred.reshape(len(steps), -1, width), rank),
        slot_silhouette=_silhouette(some[:, trained]),
        step_silhouette=finite_mean(np.array(within)),
        dead=np.array([dead.get(k, math.nan) for k in steps.tolist()]),
    )


def _silhouette(vectors: np.ndarray) -> float:
    """Returns the silhouette of vectors (M, G, D) that are clustered by their place in G."""
    puzzles, groups, width = vectors.shape
    return silhouette(vectors.reshape(-1, width), np.tile(np.arange(groups), puzzles))


def draw_sharing(figure: SubFigure, shared: Sharing, trained: int) -> None:
    """Draws cross-capture between slots and between steps, and the latter beside dead steps."""
    ratios = (1, 1, 1.2) if across(3) == 3 else None
    slots, steps, lines = side_by_side(figure, 3, width_ratios=ratios)
    _heat_map(slots, shared.by_slot, shared.index + 1, "slot")
    scores = _scores(shared.by_slot, shared.slot_silhouette)
    slots.set_title(f"Slots after step {shared.depth}\n{scores}")
    image = _heat_map(steps, shared.by_step, shared.steps, "step")
    steps.set_title(f"Steps\n{_scores(shared.by_step, shared.step_silhouette)}")
    bar = figure.colorbar(image, ax=steps, shrink=0.75, aspect=16, ticks=[0, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(lambda share, _: percent(share, 0))
    bar.outline.set_visible(False)
    k = shared.steps
    # of long evaluations not every step is kept
    before = "the step before" if (np.diff(k) == 1).all() else "the last step kept before it"
    marked = {"marker": "o", "markersize": 3}
    lines.plot(k[1:], shared.by_previous, color=COLOURS[0], **marked,
               label=f"variance of the step in the subspace of {before}")  # fmt: skip
    lines.plot(k, np.diagonal(shared.by_step), color=COLOURS[5], linestyle=":", **marked,
               label="variance of the step in its own subspace, the most there can be")  # fmt: skip
    lines.plot(k, shared.dead, color=COLOURS[4], linestyle="--", **marked,
               label="puzzles for which the step is dead")  # fmt: skip
    step_axis(lines, int(k[-1]), trained)
    lines.set_title("Does a step open\nnew directions?")
    percent_axis(lines, "share (see the legend)", broken=1)
    lines.set_ylim(0, 1.05)
    legend_below(figure, 1)


def _scores(capture: np.ndarray, score: float) -> str:
    shared = percent(mean_off_diagonal(capture), 0)
    apart = " " if across(3) == 3 else "\n"  # in a narrow figure one line would be too long
    return f"shared {shared},{apart}silhouette {_decimal(score)}"


def _decimal(value: float) -> str:
    # + 0.0 takes the sign off a rounded -0.0
    return f"{round(value, 2) + 0.0:.2f}" if math.isfinite(value) else NONE


def _heat_map(axis: Axes, capture: np.ndarray, names: np.ndarray, group: str) -> AxesImage:
    image = axis.imshow(capture, cmap=CAPTURE_SCALE, vmin=0, vmax=1, interpolation="nearest")
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    count = len(names)
    places = np.arange(0, count, math.ceil(count / (FEW if count <= FEW else TICKS)))
    axis.set_xticks(places, names[places])
    axis.set_yticks(places, names[places])
    axis.set_xlabel(f"variance of {group} ...")
    axis.set_ylabel(f"... in the subspace of {group}")
    if count <= FEW:
        for (i, j), share in np.ndenumerate(capture):
            text = NONE if math.isnan(share) else f"{100 * share:.0f}"
            axis.text(j, i, text, ha="center", va="center", fontsize=8)
    return image


def describe_sharing(shared: Sharing) -> str:
    """Says what slots share, and steps, and whether steps that add no direction are dead ones."""
    parts = []
    if len(shared.index) > 1:
        parts.append(
            f"After step {shared.depth} a slot's principal subspace captures "
            f"{_captured(shared.by_slot)} of the variance of another slot (H_off; "
            f"{_own(shared.by_slot)} of its own, {percent(shared.chance, 0)} by chance), "
            f"silhouette by slot {_decimal(shared.slot_silhouette)}."
        )
    if len(shared.steps) > 1:
        parts.append(
            f"A step's captures {_captured(shared.by_step)} of another step ("
            f"{_own(shared.by_step)} of its own), silhouette by step "
            f"{_decimal(shared.step_silhouette)}: {_course(shared)}."
        )
    return " ".join(parts) or "There is one slot and one step: nothing to compare."


def _captured(capture: np.ndarray) -> str:
    return percent(mean_off_diagonal(capture), 0)


def _own(capture: np.ndarray) -> str:
    return percent(finite_mean(np.diagonal(capture)), 0)


def _course(shared: Sharing) -> str:
    """Sets the first and the last pair of steps beside their dead shares."""
    k, captured, dead = shared.steps, shared.by_previous, shared.dead[1:]
    text = "; ".join(
        f"{percent(captured[i], 0)} of step {k[i + 1]} in that of step {k[i]}, and step {k[i + 1]} "
        f"dead for {percent(dead[i], 0)} of puzzles"
        for i in sorted({0, len(captured) - 1})
    )
    correlation = rank_correlation(captured, dead)
    if len(captured) >= FEWEST_FOR_RANKS and math.isfinite(correlation):
        text += f" (rank correlation over {len(captured)} steps {_decimal(correlation)})"
    return text
