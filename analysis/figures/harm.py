"""Figure of what tells, before or after a step, that it harms the policy."""

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

NAMES = {
    "advantage_margin": "advantage margin (needs the label)",
    "kl": "KL of the step",
    "state_change": "change of the latents",
    "logit_change": "change of the logits",
    "entropy": "entropy after it",
    "halt_probability": "halt head",
}


def areas(run: Run, ahead: int) -> dict[str, list[Area]]:
    """Returns how well each statistic of a step tells harm `ahead` steps later, step by step.

    With `ahead` = 0 the margin is left out, as it is made of the gain that defines harm.
    """
    names = [name for name in SIGNS if ahead or name != NEEDS_LABEL]
    values = run.step_values("log_prob_gain", *names)
    harms = values["log_prob_gain"] < -HARM
    last = harms.shape[1] - ahead
    found = {
        name: [auroc(SIGNS[name] * values[name][:, k], harms[:, k + ahead]) for k in range(last)]
        for name in names
    }
    return {name: each for name, each in found.items() if np.isfinite([a.area for a in each]).any()}


@one_row_per_run(3.6, lambda run: 2)
def draw_harm(figure: SubFigure, run: Run) -> None:
    """Draws the area under the ROC curve of every statistic against the step."""
    left, right = side_by_side(figure, 2, sharey=True)
    for axis, ahead, title in (
        (left, 1, "the next step harms: told before it"),
        (right, 0, "the step harms: told after it"),
    ):
        _draw_areas(axis, run, ahead)
        axis.set_title(title)
    left.set_ylabel("area under the ROC curve")
    handles, names = left.get_legend_handles_labels()
    if handles:
        legend_below(figure, 3, handles=handles, labels=names)


def _draw_areas(axis: Axes, run: Run, ahead: int) -> None:
    colours = dict(zip(SIGNS, COLOURS, strict=False))
    axis.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
    last = 1
    for name, each in areas(run, ahead).items():
        steps = np.arange(1, len(each) + 1)
        last = len(each)
        area, low, high = np.array(each).T
        axis.plot(steps, area, color=colours[name], marker="o", markersize=3, label=NAMES[name])
        axis.fill_between(steps, low, high, color=colours[name], alpha=0.15, linewidth=0)
    step_axis(axis, last, run.facts.trained_steps)
    axis.set_ylim(0, 1)


def mean_areas(run: Run) -> dict[str, Area]:
    """Returns how well each statistic tells that the next step harms, a mean over steps.

    Steps weigh by the puzzles that they harm.
    """
    values = run.step_values("log_prob_gain", *SIGNS)
    harms = values["log_prob_gain"] < -HARM
    found = {name: auroc(sign * values[name][:, :-1], harms[:, 1:]) for name, sign in SIGNS.items()}
    return {name: each for name, each in found.items() if np.isfinite(each.area)}


def describe_harm(run: Run) -> str:
    """Says how well each statistic tells that the next step harms."""
    means = sorted(mean_areas(run).items(), key=lambda named: (-named[1].area, named[0]))
    if not means:
        return "Too few steps harm a puzzle to say what tells it."
    told = [
        f"{NAMES[name]} {mean.area:.2f} ({mean.low:.2f} to {mean.high:.2f})" for name, mean in means
    ]
    return (
        "Whether the next step takes log-probability from the label is told with these areas under "
        "the ROC curve, means over steps by the puzzles they harm, with 95 % intervals: "
        f"{listed(told)}."
    )
