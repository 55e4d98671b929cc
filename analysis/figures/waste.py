"""Figures of what each step gains and wastes: waterfall, dead compute, margin-KL plane."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from pir.analysis.figures.layout import (
    across,
    fitting,
    legend_below,
    one_row_per_run,
    plain_ticks,
    side_by_side,
    step_axis,
    step_colours,
)
from pir.analysis.figures.style import COLOURS, GAIN, INK, LOSS, MUTED
from pir.analysis.reading.runs import CELLS, IMPROVEMENT, PER_OUTCOME, PER_STEP, Run, Table
from pir.analysis.words import EXACT, label, listed, number, percent, steps

MOSTLY_DEAD = 0.9
"""Share of puzzles from which on a sentence calls a step dead."""

IDLE = (0.53, 0.53, 0.55, 0.3)
"""A grey that is faint on light and on dark paper."""

STEP_KINDS = {
    "gains": to_rgba(GAIN),
    "idle": IDLE,
    "busy": to_rgba(COLOURS[4]),
    "overshoot": to_rgba(COLOURS[3]),
}
DEAD_SCALE = LinearSegmentedColormap.from_list("dead", [to_rgba(GAIN), IDLE])

REGIONS = {
    "harmful": ("harmful", COLOURS[1]),
    "overshoot": ("overshoot", COLOURS[3]),
    "sized_right": ("sized right", COLOURS[2]),
    "under_sized": ("under-sized", COLOURS[0]),
}
NEARLY_STILL = 1e-4
"""Nats of KL below which cells are not drawn: they stood still, and would lie in one heap."""

FARTHEST = 30.0
"""Ratios of gain to KL beyond it are drawn at the edge."""


def _by_outcome(run: Run) -> dict[str, Table]:
    """Returns the means per step of all puzzles, and of solved and of failed ones, by name."""
    parts = {"all puzzles": run.required(PER_STEP)}
    outcomes = run.table(PER_OUTCOME)
    if outcomes is not None:
        for outcome in outcomes.distinct("outcome"):
            rows = outcomes.where(outcomes["outcome"] == outcome)
            parts[f"{outcome} puzzles ({rows['puzzles'][0]:,.0f})"] = rows
    return parts


@one_row_per_run(3.1, lambda run: len(_by_outcome(run)))
def draw_waterfall(figure: SubFigure, run: Run) -> None:
    """Draws the score as a sum of the steps' gains, for all, solved and failed puzzles."""
    parts = _by_outcome(run)
    axes = side_by_side(figure, len(parts), sharey=True)
    for axis, (title, table) in zip(axes, parts.items(), strict=True):
        _waterfall(axis, table)
        step_axis(axis, int(table["k"][-1]), run.facts.trained_steps)
        axis.set_title(label(title))
    axes[0].set_ylabel("score (verifier), mean")


def _waterfall(axis: Axes, table: Table) -> None:
    k, gain, after = table["k"], table["gain"], table["score"]
    colours = np.where(gain >= 0, GAIN, LOSS)
    axis.bar(k, gain, bottom=after - gain, width=0.7, color=colours, edgecolor=colours, linewidth=1)
    axis.hlines(after[:-1], k[:-1] + 0.35, k[1:] - 0.35, color=MUTED, linewidth=0.8)
    axis.set_ylim(0, 1.12)
    if len(k) <= 12:
        for x, change, top in zip(k, gain, np.maximum(after, after - gain), strict=True):
            text = f"{change:+.2f}" if abs(change) >= 0.1 else f"{change:+.3f}"
            text = text if abs(change) >= 0.0005 else "0"
            axis.annotate(text, (x, top), (0, 2), textcoords="offset points", ha="center",
                          fontsize=7 if len(k) <= 6 else 5)  # fmt: skip


def describe_waterfall(run: Run) -> str:
    """Says which step gains most of what all trained steps gain, and which steps are dead."""
    table = run.required(PER_STEP)
    gain, dead = table["gain"], table["dead"]
    depth = min(run.facts.trained_steps, len(gain))
    total, best = gain[:depth].sum(), int(np.argmax(gain[:depth]))
    if gain[best] <= 0:
        text = f"No step gains: {steps(1, depth)} change the score by {total:+.3f}"
    elif depth == 1:
        text = f"The one step gains {total:.3f}"
    else:
        text = f"Step {best + 1} gains {gain[best]:.3f}, all {depth} trained steps together "
        text += f"{total:.3f}"
    first_dead = len(dead)
    while first_dead > 0 and dead[first_dead - 1] >= MOSTLY_DEAD:
        first_dead -= 1
    if first_dead < len(dead):
        one, least = first_dead + 1 == len(dead), float(dead[first_dead:].min())
        if not one:
            least = math.floor(1000 * (least + EXACT)) / 1000  # rounded up it were no least
        text += f"; {steps(first_dead + 1, len(dead))} "
        text += f"{'is dead for' if one else 'are dead for at least'} {percent(least)} of puzzles"
    else:
        text += f"; the last step is dead for {percent(dead[-1], 0)} of puzzles"
    return text + "."


@one_row_per_run(2.8, lambda run: 2)
def draw_dead_compute(figure: SubFigure, run: Run) -> None:
    """Draws the share of dead steps over training, and the kind of every step of every puzzle."""
    training, puzzles = side_by_side(figure, 2, sharey=True)
    _dead_over_training(figure, training, run.required(IMPROVEMENT))
    kinds, rating_name = step_kinds(run), label(run.facts.rating_name)
    colours = np.array(list(STEP_KINDS.values()))
    count, last = kinds.shape
    extent = (0.0, float(count), 0.5, last + 0.5)
    puzzles.imshow(colours[kinds.T], extent=extent, origin="lower", aspect="auto",
                   interpolation="nearest")  # fmt: skip
    puzzles.set_xlabel(fitting(f"{count:,} puzzles, easiest to hardest ({rating_name})", 2))
    for axis in (training, puzzles):
        axis.grid(visible=False)
        axis.axhline(run.facts.trained_steps + 0.5, color=INK, linewidth=1, linestyle="--")
    training.set_ylim(0.5, last + 0.5)
    training.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    training.set_ylabel("improvement step k\n(dashed: trained depth)")
    present = np.unique(kinds)
    handles = [Patch(color=colours[i], label=list(STEP_KINDS)[i]) for i in present]
    puzzles.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                   ncols=min(len(handles), 2 * across(2)))  # fmt: skip


def _dead_over_training(figure: SubFigure, axis: Axes, table: Table) -> None:
    times, k = np.unique(table["optimizer_step"]), np.unique(table["k"])
    shares = np.full((len(k), len(times)), np.nan)
    row, column = np.searchsorted(k, table["k"]), np.searchsorted(times, table["optimizer_step"])
    shares[row, column] = table["dead"]
    middles = (times[1:] + times[:-1]) / 2
    edges = np.concatenate([[0.0], middles, [times[-1]]])
    levels = np.append(k - 0.5, k[-1] + 0.5)
    mesh = axis.pcolormesh(edges, levels, shares, cmap=DEAD_SCALE, vmin=0, vmax=1, rasterized=True)
    axis.set_xlabel("optimizer step")
    scale = axis.inset_axes((0.55, 1.1, 0.4, 0.07))
    bar = figure.colorbar(mesh, cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    beside: dict[str, Any] = {"transform": scale.transAxes, "va": "center", "fontsize": 9}
    scale.text(-0.04, 0.5, "dead, of validation puzzles  0 %", ha="right", **beside)
    scale.text(1.03, 0.5, "100 %", **beside)


def step_kinds(run: Run) -> np.ndarray:
    """Returns the kind of every step of every puzzle, as an index into `STEP_KINDS`.

    Returns:
        int64 of shape (N, K), puzzles from easiest to hardest and, among equals, those with the
        same course side by side.
    """
    values = run.step_values("rating", "dead", "idle", "overshoot")
    # without labels an overshoot cannot be told: nan, and busy
    kinds = np.full(values["dead"].shape, list(STEP_KINDS).index("busy"))
    for name in ("overshoot", "idle"):
        kinds[values[name] > 0] = list(STEP_KINDS).index(name)
    kinds[values["dead"] <= 0] = list(STEP_KINDS).index("gains")
    order = np.lexsort([*kinds.T[::-1], values["rating"]])
    return np.asarray(kinds[order])


def describe_dead_compute(run: Run) -> str:
    """Says which share of the forward passes is dead at the trained depth, and of which kind."""
    kinds = step_kinds(run)[:, : run.facts.trained_steps]
    depth = kinds.shape[1]
    shares = np.bincount(kinds.ravel(), minlength=len(STEP_KINDS)) / kinds.size
    parts = [
        f"{percent(share, 0)} {name}"
        for name, share in zip(STEP_KINDS, shares, strict=True)
        if name != "gains"
    ]
    return (
        f"{percent(1 - shares[0], 0)} of the forward passes of the {depth} trained steps are dead "
        f"({listed(parts)}): on average {number((kinds == 0).sum(1).mean())} of {depth} steps of a "
        "puzzle raise its score."
    )


def _with_cells(run: Run) -> dict[str, int]:
    """Returns how many cells solved and failed puzzles have in the sample, where there are any."""
    counts = {name: int(mask.sum()) for name, mask in _outcomes(run.required(CELLS)).items()}
    return {name: count for name, count in counts.items() if count}


@one_row_per_run(4.2, lambda run: len(_with_cells(run)))
def draw_margins(figure: SubFigure, run: Run) -> None:
    """Draws the gain of written cells, as a ratio to the step's KL, against that KL.

    A gain A is divided by KL(c || u), a loss by KL(u || c): then the regions of the margin-KL
    plane are bands between -1, 0 and 1.
    """
    cells = run.required(CELLS)
    still = {
        name: percent(_share(cells.where(mask), "still"), 0)
        for name, mask in _outcomes(cells).items()
    }
    counts = _with_cells(run)
    drawn = cells.where(cells["kl"] >= NEARLY_STILL)
    gain, kl = drawn["gain"], drawn["kl"]
    ratio = gain / np.where(gain >= 0, kl, np.maximum(drawn["reverse_kl"], NEARLY_STILL))
    ratio = np.clip(ratio, -FARTHEST, FARTHEST)
    last = int(cells["k"].max())
    colours = step_colours(last)[drawn["k"].astype(int) - 1]
    colours[drawn["region"] == "still"] = IDLE
    axes = side_by_side(figure, len(counts), sharex=True, sharey=True)
    axes[0].set_xscale("log")
    plain_ticks(axes[0])
    axes[0].set_xlim(NEARLY_STILL / 1.5, kl.max() * 2 if len(kl) else 1)
    regions = {name for name in REGIONS if (cells["region"] == name).any()}
    for axis, name in zip(axes, counts, strict=True):
        mask = _outcomes(drawn)[name]
        _bands(axis, cells.where(_outcomes(cells)[name]), regions)
        if run.facts.idle_kl is not None:
            axis.axvline(run.facts.idle_kl, color=MUTED, linewidth=0.8, linestyle=":")
        axis.scatter(kl[mask], ratio[mask], c=colours[mask], s=7, alpha=0.6, linewidths=0,
                     rasterized=True)  # fmt: skip
        axis.set_title(f"{name} puzzles: {counts[name]:,} cells, {still[name]} still")
        axis.set_xlabel("size of the step, KL(c || u) in nats")
    axes[0].set_ylabel("gain A(y*) over KL")
    for k in sorted({1, (last + 1) // 2, last}):
        axes[0].scatter([], [], color=step_colours(last)[k - 1], s=14, label=f"step {k}")
    note = f"left of the dots: still; cells below {NEARLY_STILL:g} nats are not drawn"
    legend_below(figure, 3, title=note)


def _outcomes(cells: Table) -> dict[str, np.ndarray]:
    return {"solved": cells["solved"] > 0, "failed": cells["solved"] <= 0}


def _bands(axis: Axes, cells: Table, regions: set[str]) -> None:
    """Shades the regions that have cells, and writes the share of the cells in each beside them."""
    axis.set_yscale("symlog", linthresh=2, linscale=2.2)
    edge = 1.3 * FARTHEST
    bounds = (-edge, -1, 0, 1, edge)
    found = [at for at, name in enumerate(REGIONS) if name in regions] or [0, len(REGIONS) - 1]
    axis.set_ylim(bounds[found[0]], bounds[found[-1] + 1])
    axis.set_yticks([-FARTHEST, -1, 0, 1, FARTHEST], [f"≤ -{FARTHEST:g}", "-1", "0", "1",
                                                      f"≥ {FARTHEST:g}"])  # fmt: skip
    beside: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "fontsize": 9}
    for low, high, middle, (name, (text, colour)) in zip(
        bounds[:-1], bounds[1:], (-5, -0.5, 0.5, 5), REGIONS.items(), strict=True
    ):
        if name not in regions:
            continue
        axis.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        axis.text(1.02, middle, f"{text}\n{percent(_share(cells, name), 0)}", va="center", **beside)


def _share(cells: Table, region: str) -> float:
    return float(np.mean(cells["region"] == region)) if len(cells) else float("nan")


def describe_margins(run: Run) -> str:
    """Says how the cells that moved share out over the regions."""
    cells = run.required(CELLS)
    moved = cells.where(cells["region"] != "still")
    still = 1 - len(moved) / len(cells)
    if not len(moved):
        return f"None of the {len(cells):,} sampled cells moves at any step."
    shares = [
        f"{percent(float(np.mean(moved['region'] == name)), 0)} {text}"
        for name, (text, _) in REGIONS.items()
    ]
    return (
        f"Of {len(cells):,} sampled cells {percent(still, 0)} stand still; of the steps of the "
        f"others {listed(shares)}."
    )
