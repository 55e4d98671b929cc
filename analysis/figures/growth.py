"""Figure of how time and memory of a step grow with one size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pir.analysis.figures.style import COLOURS, MUTED, save_figure, styled

LABELS = {
    "batch": "puzzles in a training step",
    "tokens": "tokens of a puzzle",
    "steps": "improvement steps of an evaluation",
    "width": "width of the network",
}

COLUMNS = {"milliseconds": "milliseconds", "memory_bytes": "GiB at most"}


@styled
def save_growth(rows: Sequence[Mapping[str, Any]], title: str, out: Path) -> None:
    """Draws time above and memory below, a column per size, against proportional growth.

    Args:
        rows: of `pir.bench.growth.measure`.
        title: says on which machine.
        out: file to write.

    Raises:
        UserError: if the ending is no figure's, or the file cannot be written.
    """
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3.0 * len(axes), 5.2))
    panels = figure.subplots(2, len(axes), squeeze=False, sharex="col", sharey="row")
    for panel_column, axis in zip(panels.T, axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        for panel, (column, label) in zip(panel_column, COLUMNS.items(), strict=True):
            _draw(panel, own, column)
            if axis == axes[0]:
                panel.set_ylabel(label)
        panel_column[-1].set_xlabel(LABELS[axis])
    named = {
        name: handle
        for panel in panels.flat
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=9, color=MUTED)
    figure.set_layout_engine("constrained")
    save_figure(figure, out)


def _draw(panel: Axes, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    unit = 2**30 if column == "memory_bytes" else 1
    sizes = [row["size"] for row in rows]
    values = [row[column] / unit for row in rows]
    panel.plot(sizes, values, color=COLOURS[0], marker="o", markersize=4, label="measured")
    line = [values[0] * size / sizes[0] for size in sizes]
    panel.plot(sizes, line, color=MUTED, linewidth=1, linestyle=":", label="in proportion")
    bent = "memory_bends" if column == "memory_bytes" else "time_bends"
    for row, value in zip(rows, values, strict=True):
        if row[bent]:
            panel.plot(
                row["size"],
                value,
                color=COLOURS[1],
                marker="o",
                markersize=9,
                fillstyle="none",
                linestyle="none",
                label="leaves the straight line",
            )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.minorticks_off()
