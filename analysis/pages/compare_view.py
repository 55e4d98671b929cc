"""A comparison as text, as JSON and as a figure."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from pir.analysis.figures.layout import LINE_INCHES, TITLE, legend_below
from pir.analysis.figures.style import COLOURS, MUTED, styled
from pir.analysis.reading.runs import SUMMARY
from pir.analysis.statistics.budgets import unequal
from pir.analysis.statistics.compare import SIGNIFICANT, Comparison, Difference, Side
from pir.analysis.statistics.resampling import FEW_SEEDS
from pir.analysis.words import difference, label, number, quantity, scale, unit_of_difference

BUDGETS_SHOWN = 5

TEXT_WIDTH = 80
"""Characters of a line of text."""

VALUE_WIDTH = 10
"""Characters of a number with the gap before it."""

NAME_WIDTH = 30
"""Characters before the numbers; longer names go on in the next line."""


def verdict(result: Comparison, change: Difference) -> str:
    """Says in words whether two groups differ, and what the interval is over."""
    unit, at = result.statistic.unit, result.common
    first, second = change.first.group.label, change.second.group.label
    low, high = difference(change.low[at], unit), difference(change.high[at], unit)
    size = f"{difference(change.difference[at], unit)} {unit_of_difference(unit)}"
    if change.p < SIGNIFICANT:
        way = "higher" if change.difference[at] > 0 else "lower"
        text = f"They differ, {second} is {way} than {first}: {size}"
    else:
        text = f"No difference was found, {second} minus {first}: {size}"
    p = f"p = {change.p:.3f}" if change.p >= 0.001 else "p < 0.001"
    return f"{text} (95 % interval {low} to {high}, {p}). {_scope(change)}"


def _scope(change: Difference) -> str:
    """Says what the interval and the test speak of."""
    first, second = change.units
    if change.over == "seeds":
        text = f"Interval (bootstrap) and test are over seeds, {first} against {second}."
        if min(first, second) < FEW_SEEDS:
            text += " With so few the interval is too narrow."
        if change.smallest_p >= SIGNIFICANT:
            text += (
                f" With so few this test cannot give a p below {change.smallest_p:.2g}: "
                "more seeds are needed to tell."
            )
        if change.other_puzzles:
            text += " The groups were evaluated on different puzzles, which may differ in hardness."
        return text
    if change.paired:
        text = f"Interval and test are over the same {first:,} puzzles, paired."
    else:
        text = (
            f"Interval and test are over puzzles, unpaired: the runs were evaluated on different "
            f"ones ({first:,} and {second:,})."
        )
    return f"{text} They say nothing about other seeds."


def as_text(result: Comparison) -> str:
    """Returns the comparison as text of fixed width."""
    statistic, common = result.statistic, result.common
    spread = np.linspace(0, len(result.budgets) - 1, BUDGETS_SHOWN).round().astype(int)
    shown = sorted({common, *spread.tolist()})
    rows = [("up to so many forward passes", [f"{result.budgets[i]:.0f}" for i in shown])]
    for side in result.sides:
        values = [quantity(_value(side, result.budgets[i]), statistic.unit) for i in shown]
        rows.append((side.group.label, values))
    for change in result.differences:
        name = f"{change.second.group.label} - {change.first.group.label}"
        name += f", {unit_of_difference(statistic.unit)}"
        rows += [
            (heading, [difference(values[i], statistic.unit) for i in shown])
            for heading, values in (
                (name, change.difference),
                ("  95 % interval from", change.low),
                ("  to", change.high),
            )
        ]
    room = TEXT_WIDTH - VALUE_WIDTH * len(shown)
    width = min(NAME_WIDTH, room, max(len(name) for name, _ in rows))
    lines = textwrap.wrap(f"{statistic.name} ({statistic.unit}): {statistic.meaning}", TEXT_WIDTH)
    count = result.sides[0].count
    if count is not None:
        lines.append(f"on the first {count:,} puzzles of each evaluation, which they share")
    lines.append("")
    for name, values in rows:
        indent = " " * (len(name) - len(name.lstrip()))
        first, *more = textwrap.wrap(name, width, initial_indent=indent, subsequent_indent="  ")
        lines += [f"{first:<{width}}" + "".join(f"{v:>{VALUE_WIDTH}}" for v in values), *more]
    steps = [
        f"{side.group.label} at step {side.step(result.budgets[common]) + 1}"
        for side in result.sides
    ]
    sentences = [f"At {result.budgets[common]:.0f} forward passes ({', '.join(steps)}):"]
    sentences += [f"  {verdict(result, change)}" for change in result.differences]
    summaries = [[run.content(SUMMARY) or {} for run in s.group.runs] for s in result.sides]
    budgets = f", unequal budgets, {apart}" if (apart := unequal(summaries)) else ""
    sentences += ["", f"Training{budgets}:", *(f"  {_training(side)}" for side in result.sides)]
    lines.append("")
    for sentence in sentences:
        lines += textwrap.wrap(sentence, TEXT_WIDTH, subsequent_indent="  ") or [""]
    return "\n".join(lines)


def _training(side: Side) -> str:
    """Writes what training cost, mean over seeds."""
    passes, seconds = side.cost("training_forward_passes"), side.cost("seconds")
    runs = ", ".join(run.name for run in side.group.runs)
    text = f"{side.group.label}: {number(passes)} forward passes, {number(seconds)} seconds"
    return text if runs == side.group.label else f"{text} ({runs})"


def _value(side: Side, budget: float) -> float:
    return float(side.values.mean(0)[side.step(budget)])


def as_json(result: Comparison) -> dict[str, Any]:
    """Returns the comparison for other programs."""
    return {
        "metric": result.statistic.name,
        "unit": result.statistic.unit,
        "budget": float(result.budgets[result.common]),
        "groups": [
            {
                "label": side.group.label,
                "runs": [str(run.folder) for run in side.group.runs],
                "step": side.step(result.budgets[result.common]) + 1,
                "value": _value(side, result.budgets[result.common]),
                "training_forward_passes": side.cost("training_forward_passes"),
                "training_seconds": side.cost("seconds"),
            }
            for side in result.sides
        ],
        "differences": [
            {
                "first": change.first.group.label,
                "second": change.second.group.label,
                "over": change.over,
                "paired": change.paired,
                "units": list(change.units),
                "difference": float(change.difference[result.common]),
                "low": float(change.low[result.common]),
                "high": float(change.high[result.common]),
                "p": change.p,
                "verdict": verdict(result, change),
                "budgets": [
                    {
                        "budget": float(budget),
                        "first_step": change.first.step(budget) + 1,
                        "second_step": change.second.step(budget) + 1,
                        "first": _value(change.first, budget),
                        "second": _value(change.second, budget),
                        "difference": float(change.difference[i]),
                        "low": float(change.low[i]),
                        "high": float(change.high[i]),
                    }
                    for i, budget in enumerate(result.budgets)
                ],
            }
            for change in result.differences
        ],
    }


@styled
def draw_comparison(result: Comparison, title: str | None = None) -> Figure:
    """Draws the differences from the first group against the budget, with 95 % intervals.

    Args:
        result: the comparison.
        title: of the figure; by default the puzzle, and what the others are compared with.
    """
    lines = len(result.differences)
    figure = Figure(figsize=(6.5, 3.6 + LINE_INCHES * lines), layout="constrained")
    first = result.sides[0].group
    env = first.runs[0].facts.env
    figure.suptitle(label(title or f"{env}: difference from {first.label}"), **TITLE)
    axis = figure.subplots()
    axis.axhline(0, color=MUTED, linewidth=0.8)
    axis.axvline(result.budgets[result.common], color=MUTED, linewidth=0.8, linestyle=":")
    for index, change in enumerate(result.differences):
        colour = COLOURS[index % len(COLOURS)]
        axis.fill_between(
            result.budgets, change.low, change.high, color=colour, alpha=0.18, linewidth=0
        )
        name = f"{change.second.group.label}, 95 % interval over {change.over}"
        axis.plot(result.budgets, change.difference, "o-", color=colour, markersize=3,
                  label=label(name))  # fmt: skip
    axis.set_xlabel("forward passes per puzzle (dotted: common budget)")
    name = result.statistic.name.replace("_", " ")
    if result.statistic.unit.startswith("share"):
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}"))
        axis.set_ylabel(label(f"difference in {name}, points of 100"))
    else:
        axis.set_ylabel(label(f"difference in {name} ({scale(result.statistic.unit)})"))
    legend_below(figure, 1)
    return figure
