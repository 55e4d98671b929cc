"""Figure of what tells, before or after a step, that it harms the policy or overshoots."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from pir.analysis.figures.layout import legend_below, one_row_per_run, side_by_side, step_axis
from pir.analysis.figures.style import COLOURS, MUTED
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.auroc import Area, auroc
from pir.analysis.words import listed

HARM = 1e-3
"""A step harms a puzzle if it takes more than so much log-probability from the label, in nats, the
sum over its written cells."""

SIGNS = {
    "advantage_margin": -1,
    "kl": 1,
    "state_change": 1,
    "logit_change": 1,
    "entropy": 1,
    "halt_probability": -1,
}
"""What may tell it, and whether a large value (1) or a small one (-1) is taken for harm."""

NEEDS_LABEL = "advantage_margin"

EVENTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "harms": ("log_prob_gain", lambda gain: gain < -HARM),
    "overshoots": ("overshoot", lambda overshoot: overshoot > 0.5),
}
"""What is told: the statistic of a step that it is read off, and how. A step that overshoots raises
no score, but a smaller one in its direction would have made the label more likely."""

PANELS = (
    (1, "harms", "the next step harms"),
    (1, "overshoots", "the next step overshoots"),
    (0, "harms", "the step harms: told after it"),
)
"""How many steps ahead an event is, which one, and the title."""

NAMES = {
    "advantage_margin": "advantage margin (needs the label)",
    "kl": "KL of the step",
    "state_change": "change of the latents",
    "logit_change": "change of the logits",
    "entropy": "entropy after it",
    "halt_probability": "halt head",
}


TOO_FEW = "too few such steps to tell"
"""What an empty panel says."""


def areas(run: Run, ahead: int, event: str = "harms") -> dict[str, list[Area]]:
    """Returns how well each statistic of a step tells an event `ahead` steps later, step by step.

    With `ahead` = 0 the margin is left out, as it is made of the gain that defines harm.
    """
    values, happens = _values(run, event)
    last = happens.shape[1] - ahead
    found = {
        name: [auroc(sign * values[name][:, k], happens[:, k + ahead]) for k in range(last)]
        for name, sign in SIGNS.items()
        if ahead or name != NEEDS_LABEL
    }
    return {name: each for name, each in found.items() if np.isfinite([a.area for a in each]).any()}


def _values(run: Run, event: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the statistics of all steps, and where the event is, bool (puzzles, steps)."""
    statistic, happens = EVENTS[event]
    values = run.step_values(statistic, *SIGNS)
    return values, happens(values[statistic])


@one_row_per_run(3.6, lambda run: len(PANELS))
def draw_harm(figure: SubFigure, run: Run) -> None:
    """Draws the area under the ROC curve of every statistic against the step."""
    axes = side_by_side(figure, len(PANELS), sharey=True)
    for axis, (ahead, event, title) in zip(axes, PANELS, strict=True):
        _draw_areas(axis, run, ahead, event)
        axis.set_title(title)
    axes[0].set_ylabel("area under the ROC curve")
    handles, names = axes[0].get_legend_handles_labels()
    if handles:
        legend_below(figure, 3, handles=handles, labels=names)


def _draw_areas(axis: Axes, run: Run, ahead: int, event: str) -> None:
    colours = dict(zip(SIGNS, COLOURS, strict=False))
    axis.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
    found = areas(run, ahead, event)
    for name, each in found.items():
        steps = np.arange(1, len(each) + 1)
        area, low, high = np.array(each).T
        axis.plot(steps, area, color=colours[name], marker="o", markersize=3, label=NAMES[name])
        axis.fill_between(steps, low, high, color=colours[name], alpha=0.15, linewidth=0)
    if not found:
        axis.text(0.5, 0.75, TOO_FEW, ha="center", transform=axis.transAxes, color=MUTED)
    step_axis(axis, max(1, run.facts.improvement_steps - ahead), run.facts.trained_steps)
    axis.set_ylim(0, 1)


def mean_areas(run: Run, event: str = "harms") -> dict[str, Area]:
    """Returns how well each statistic tells an event of the next step, a mean over steps.

    Steps weigh by the puzzles for which it happens.
    """
    values, happens = _values(run, event)
    found = {
        name: auroc(sign * values[name][:, :-1], happens[:, 1:]) for name, sign in SIGNS.items()
    }
    return {name: each for name, each in found.items() if np.isfinite(each.area)}


def describe_harm(run: Run) -> str:
    """Says how well each statistic tells that the next step harms, and that it overshoots."""
    harms, overshoots = _told(run, "harms"), _told(run, "overshoots")
    if not harms:
        return "Too few steps harm a puzzle to say what tells it."
    sentence = (
        "Whether the next step takes log-probability from the label is told with these areas under "
        "the ROC curve, means over steps by the puzzles they harm, with 95 % intervals: "
        f"{harms}."
    )
    return sentence + (f" Whether it overshoots: {overshoots}." if overshoots else "")


def _told(run: Run, event: str) -> str:
    """Lists the mean areas of all statistics, the largest first; empty without any."""
    means = sorted(mean_areas(run, event).items(), key=lambda named: (-named[1].area, named[0]))
    return listed([f"{NAMES[name]} {_with_interval(area)}" for name, area in means])


def _with_interval(found: Area) -> str:
    """Writes an area with its interval, if it has one."""
    area, low, high = found
    return f"{area:.2f}" + (f" ({low:.2f} to {high:.2f})" if low < high else "")
