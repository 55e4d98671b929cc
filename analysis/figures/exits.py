"""Figure of when to stop: solved against the mean forward passes, for every rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from pir.analysis.figures.layout import LINE_INCHES, across, legend_below, percent_axis, rows
from pir.analysis.figures.style import COLOURS, INK, MUTED, styled
from pir.analysis.reading.groups import Group, group_by_seed
from pir.analysis.reading.runs import EXITS, Run, Table
from pir.analysis.words import label, number, percent

FIXED, ORACLE = "fixed", "oracle"

RULES = (
    "entropy",
    "kl",
    "predicted_gain",
    "state_change",
    "verifier",
    "halt_head",
    "exit_gate",
)
"""Rules of `pir`, one per colour; a rule of somebody else has one of these colours, dashed."""

STAR = 11
"""Size of a star in points."""

MARKED = 25
"""Lines of more points have no marks."""

Line = tuple[np.ndarray, np.ndarray]
"""Forward passes and solved, each of shape (points,)."""


@styled
def draw_exits(runs: Sequence[Run]) -> Figure:
    """Draws solved against the mean forward passes, one line per rule to stop early.

    Of runs that differ in their seed only, lines and stars are means. Stars may cover each other:
    the legend says where they are.
    """
    groups = group_by_seed(runs)
    heights = [3.8 + _narrow() * LINE_INCHES * (len(_rules(group)) + 2) for group in groups]
    return rows(_paint, groups, [group.label for group in groups], heights)


def _narrow() -> bool:
    """Says whether the legend has no room beside the panel."""
    return across(2) < 2


def _rules(group: Group) -> dict[str, list[Table]]:
    """Returns the rows of every rule, a table per run that has it; those of every figure last."""
    tables = [run.required(EXITS) for run in group.runs]
    found = dict.fromkeys(rule for table in tables for rule in table.distinct("rule"))
    rules = sorted(found, key=lambda rule: (rule == FIXED, rule == ORACLE))
    return {
        rule: [part for table in tables if len(part := table.where(table["rule"] == rule))]
        for rule in rules
    }


def _paint(figure: SubFigure, group: Group) -> None:
    axis = figure.subplots()
    for rule, parts in _rules(group).items():
        style = rule_style(rule)
        passes, solved = mean_line([_line(part) for part in parts])
        style |= {"marker": ""} if len(passes) > MARKED else {}
        name = label(rule_name(rule))
        chosen = [_line(part.where(part["chosen"] > 0)) for part in parts]
        chosen = [point for point in chosen if len(point[0])]
        if chosen and rule != ORACLE:
            x, y = np.mean(np.concatenate(chosen, 1), 1)
            name += f": {percent(y)} in {number(x)}"
            axis.plot(x, y, "*", markersize=STAR, color=style["color"], markeredgecolor=INK,
                      markeredgewidth=0.7, zorder=4, clip_on=False)  # fmt: skip
        axis.plot(passes, solved, label=name, **style)
    axis.set_xlim(left=0)
    axis.set_xlabel("forward passes per puzzle, mean")
    percent_axis(axis, "solved (verifier)")
    title = "stars, chosen on validation:\nsolved in so many passes"
    if _narrow():
        legend_below(figure, 1, title=title)
    else:
        figure.legend(loc="outside right center", title=title, alignment="left")


def _line(table: Table) -> Line:
    """Returns the points of a rule, by forward passes."""
    table = table.where(np.argsort(table["forward_passes"], kind="stable"))
    return table["forward_passes"], table["solved"]


def mean_line(lines: Sequence[Line]) -> Line:
    """Returns the mean of lines where all of them are, if there; of single points their mean.

    A point between two thresholds is what a coin that picks one of them would reach, so straight
    lines between them are no guess.
    """
    if all(len(x) == 1 for x, _ in lines):
        points = np.mean(lines, 0)
        return points[0], points[1]
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    x = np.unique(np.concatenate([x for x, _ in lines]))
    x = x[(low <= x) & (x <= high)]
    return x, np.mean([np.interp(x, *line) for line in lines], 0)


def rule_name(rule: str) -> str:
    """Returns a rule's name as words."""
    return "oracle (a bound)" if rule == ORACLE else rule.replace("_", " ")


def rule_style(rule: str) -> dict[str, Any]:
    """Returns how to draw the line of a rule: a colour of its own in every figure."""
    if rule == FIXED:
        return {"color": INK, "linewidth": 2, "marker": "s", "markersize": 4}
    if rule == ORACLE:
        return {"color": MUTED, "linestyle": ":", "marker": "D", "markersize": 5, "linewidth": 1.6}
    known = RULES.index(rule) if rule in RULES else sum(rule.encode()) % len(RULES)
    dashes = "-" if rule in RULES else "--"
    return {"color": COLOURS[known], "linestyle": dashes, "marker": "o", "markersize": 3,
            "linewidth": 1.3}  # fmt: skip


def describe_exits(run: Run) -> str:
    """Says what the best rule saves beside the trained depth."""
    best = run.facts.best_exit
    if best is None:
        return "No rule to stop early saves steps and keeps what the trained depth solves."
    saving = 1 - best.forward_passes / best.full_forward_passes
    change = f"{percent(abs(saving), 0)} {'fewer' if saving >= 0 else 'more'}"
    return (
        f"Rule {rule_name(best.rule)} with threshold {number(best.threshold)} solves "
        f"{percent(best.solved)} with {number(best.forward_passes)} forward passes on average, "
        f"{change} than the {number(best.full_forward_passes)} of the full depth "
        f"({percent(best.full_solved)})."
    )
