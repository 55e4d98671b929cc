"""A table of runs as text, as Markdown and as JSON."""

import html
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from pir.analysis.pages.origins import as_line, minutes_text, origin
from pir.analysis.reading.entries import Span
from pir.analysis.reading.settings import FREE, INIT, short_keys
from pir.analysis.statistics.table import Cell, RunTable, Settings
from pir.analysis.words import NONE, listed, millions, number, percent

Mark = Callable[[str], str]

BAR = "\\|"
"""A bar inside a cell of Markdown."""

NAMED = 3
"""Of the runs without the metric so many are named."""

SETTINGS_NAMED = 6
"""Of the settings in which runs differ so many are named."""

WIDTH = 80
"""Characters of a line of text, if none are asked for."""

WIDEST = 30
"""Characters of the first column; longer names go on in the next line."""

NARROWEST = 8
"""Characters of the other columns, however few the terminal has."""

GAP = "  "


def as_text(table: RunTable, command: str, width: int = WIDTH) -> str:
    """Returns the table as text; * marks the best of a column.

    Args:
        table: the table.
        command: that makes it.
        width: characters of a line; columns that do not fit stand below the others.
    """
    grid = _grid(table, str, lambda best: f"{best} *")
    first = min(WIDEST, max(len(row[0]) for row in grid))
    room = max(NARROWEST, width - first - len(GAP))
    others = [min(room, max(map(len, c))) for c in [*zip(*grid, strict=True)][1:]]
    blocks: list[list[int]] = []
    for at, size in enumerate(others):
        taken = first + sum(others[i] + len(GAP) for i in (blocks[-1] if blocks else []))
        if not blocks or taken + len(GAP) + size > width:
            blocks.append([])
        blocks[-1].append(at)
    lines = [table.title, ""] if table.title else []
    for block in blocks:
        for row in grid:
            empty = {at for at, cell in enumerate(row[1:]) if cell == NONE}
            if empty >= {*block} and len(empty) < len(others):
                continue  # it has its values in another block
            lines += _line([row[0], *(row[at + 1] for at in block)],
                           [first, *(others[at] for at in block)])  # fmt: skip
        lines.append("")
    notes = [line for note in _notes(table, str, "*") for line in _wrapped(note, width)]
    return "\n".join([*lines, *notes, f"{command}: {_origin(table)}"])


def _wrapped(text: str, width: int) -> list[str]:
    """Breaks text into lines; names of folders stay whole, so that they can be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _line(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Returns a row as lines of text; cells that are too long go on, indented, in the next."""
    parts = [
        textwrap.wrap(cell, width, subsequent_indent="  ") or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    high = max(map(len, parts))
    filled = zip(*(part + [""] * (high - len(part)) for part in parts), strict=True)
    return [
        GAP.join(f"{c:<{width}}" for c, width in zip(line, widths, strict=True)).rstrip()
        for line in filled
    ]


def as_markdown(table: RunTable, command: str) -> str:
    """Returns the table as Markdown; the best of a column is bold.

    Beneath minutes stands for every cell what it takes to measure them again.
    """
    header, *body = _grid(table, _code, lambda best: f"**{best}**")
    rows = [
        f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |"
        for row in (header, ["---"] * len(header), *body)
    ]
    notes = " ".join(_notes(table, _code, "bold"))
    rows = [f"**{table.title}**", "", *rows] if table.title else rows
    lines = [*rows, "", notes, "", f"{_code(command)}: {_origin(table)}"]
    lines += _origins(table) if table.timed else []
    return "\n".join(map(_without_tags, lines))


def _without_tags(line: str) -> str:
    """Returns a line whose text, which may be a stranger's, holds no HTML; code shows as it is."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(p if p.startswith("`") else html.escape(p, quote=False) for p in parts)


def as_json(table: RunTable, command: str) -> dict[str, Any]:
    """Returns the table for other programs."""
    names = row_names(table)
    return {
        "metric": table.metric,
        **({"title": table.title} if table.title else {}),
        **({"share": table.wanted} if table.timed else {}),
        "command": command,
        "cells": [
            {
                "label": names[i],
                "row": table.rows[i],
                "column": table.columns[j],
                "mean": cell.mean,
                "interval": cell.interval,
                "interval_over": _over(cell),
                "seeds": len(cell.values),
                "best": table.is_best(i, j),
                "tie": table.is_tie(i, j),
                "values": cell.values,
                "runs": [str(entry.run.folder) for entry in cell.entries],
                **(_times(cell) if table.timed else {}),
            }
            for (i, j), cell in sorted(table.cells.items())
        ],
        "columns": [
            {
                "column": column,
                "masked_random": table.floor(j),
                "training_forward_passes": table.passes(j),
            }
            for j, column in enumerate(table.columns)
        ],
        "rows_differ_in": table.differing,
        "seeds_differ_in": table.mixed,
        "lacking": table.lacking,
        "commits": table.commits,
    }


def _times(cell: Cell) -> dict[str, Any]:
    """Returns what JSON has of a cell of minutes beside other cells; null is never reached."""
    return {
        "seeds": cell.measured,
        "reached": len(cell.values),
        "values": [entry.value for entry in cell.entries if entry.measured],
        "mean_of_reached": cell.mean_of_reached,
        "times": [origin(entry) for entry in cell.entries],
    }


def _origins(table: RunTable) -> list[str]:
    """Returns a list in Markdown: the runs of every cell."""
    lines, names = ["", "Every figure again:", ""], row_names(table, _code)
    for (i, j), cell in sorted(table.cells.items()):
        place = f"{names[i]}, {named(table.columns[j], _code)}"
        lines += [f"* {place}", *(f"  * {as_line(entry)}" for entry in cell.entries)]
    return lines


def _over(cell: Cell) -> str | None:
    """Says what the interval of a cell is over."""
    if cell.interval is None:
        return None
    return "seeds" if len(cell.values) > 1 else "puzzles"


def _grid(table: RunTable, code: Mark, mark: Mark) -> list[list[str]]:
    """Returns header, rows, floors and training passes as cells of text.

    Args:
        table: the table.
        code: marks settings.
        mark: marks the best of a column.
    """
    across = range(len(table.columns))
    keys = [key if _is_choice(key) else code(key) for key in table.keys]
    grid = [[", ".join(keys), *(named(column, code) for column in table.columns)]]
    for i, name in enumerate(row_names(table, code)):
        grid.append([name, *(_cell(table, i, j, mark) for j in across)])
    floors = [_between(table.floor(j), percent) for j in across]
    if any(floor != NONE for floor in floors):
        grid.append(["floor: random answers", *floors])
    if not table.timed:  # those of a whole run are no cost of what was reached within it
        passes = [_between(table.passes(j), millions) for j in across]
        grid.append(["training forward passes", *passes])
    return grid


def row_names(table: RunTable, code: Mark = str) -> list[str]:
    """Names the rows: as the user does, or by the settings asked for and as few others as needed.

    Args:
        table: the table.
        code: marks settings whose key is written.
    """
    if table.labels is not None:
        return [*table.labels]
    short = short_keys(table.shown[len(table.keys) :])
    names = []
    for row, further in zip(table.rows, table.further, strict=True):
        given = {key: value for key, value in further.items() if value != NONE}
        parts = [v if _is_choice(key) else code(f"{short[key]}={v}") for key, v in given.items()]
        names.append(", ".join([*(row[key] for key in table.keys), *parts]))
    return names


def named(column: Settings, code: Mark = str) -> str:
    """Names a column by its settings.

    Args:
        column: its settings.
        code: marks those whose key is written.
    """
    return ", ".join(
        value if _is_choice(key) else code(f"{key}={value}") for key, value in column.items()
    )


def _is_choice(key: str) -> bool:
    """Says whether the value of a setting speaks for itself, as the name of a choice does."""
    return "." not in key and key not in (*FREE, INIT)


def _cell(table: RunTable, row: int, column: int, mark: Mark) -> str:
    cell = table.cells.get((row, column))
    if cell is not None and cell.unreached:
        return _unreached(cell)
    if cell is None or cell.mean is None:
        return NONE
    write = minutes_text if table.timed else percent if table.share else number
    text = write(cell.mean)
    if table.is_best(row, column):
        text = mark(text)
    elif table.is_tie(row, column):
        text += " ="
    if cell.interval is not None:
        low, high = map(write, cell.interval)
        text += f" ({low.removesuffix(' %').removesuffix(' min')} to {high})"
    count = len(cell.values)
    return f"{text}, {f'{count} seeds' if count > 1 else 'one seed'}"


def _unreached(cell: Cell) -> str:
    """Says what some runs reached, and within what time the others did not."""
    times = sorted(time.within for time in cell.unreached)
    missed = f"not within {listed([*dict.fromkeys(map(number, times))])} min"
    if cell.mean_of_reached is None:
        return f"{missed}, {f'{len(times)} seeds' if len(times) > 1 else 'one seed'}"
    reached = f"{len(cell.values)} of {cell.measured} runs"
    return f"{minutes_text(cell.mean_of_reached)}, {reached}; {len(times)} {missed}"


def _between(span: Span | None, write: Callable[[float], str]) -> str:
    if span is None:
        return NONE
    low, high = map(write, span)
    return low if low == high else f"{low} to {high}"


def _code(text: str) -> str:
    """Marks text as code in Markdown, where underscores would slant it."""
    return f"`{text}`"


def _notes(table: RunTable, code: Mark, best: str) -> list[str]:
    """Says how to read the table, and what it does not show."""
    over = {_over(cell) for cell in table.cells.values()}
    parts = [f"{code(table.metric)}: {_meaning(table)}mean over seeds"]
    if any(cell.unreached and cell.values for cell in table.cells.values()):
        parts.append("where some runs never came to it, the mean is of those that did")
    if "seeds" in over:
        parts.append("95 % intervals by Student's t over seeds")
    if "puzzles" in over:
        parts.append("of one seed Wilson's over its puzzles, which says nothing of other seeds")
    if any(table.is_best(*place) for place in table.cells):
        parts.append(f"{best}: best of its column")
    if any(table.is_tie(*place) for place in table.cells):
        parts.append("=: a tie, as its interval overlaps that of the best")
    notes = ["; ".join(parts) + "."]
    if table.differing:
        notes.append(f"Rows differ also in {_some(table.differing, SETTINGS_NAMED, code)}.")
    if table.mixed:
        some = _some(table.mixed, SETTINGS_NAMED, code)
        notes.append(f"Seeds of a row differ in {some}, which no command names.")
    for j, column in enumerate(table.columns):
        if unequal := table.unequal_budgets(j):
            notes.append(f"Budgets of {named(column, code)} are unequal: {unequal}.")
    if table.lacking:
        notes.append(f"Without {code(table.metric)}: {_some(table.lacking, NAMED, code)}.")
    return notes


def _some(names: Sequence[str], most: int, code: Mark) -> str:
    """Lists names, of many the first ones."""
    more = len(names) - most
    return listed([*map(code, names[:most]), *([f"{more} more"] if more > 0 else [])])


def _meaning(table: RunTable) -> str:
    """Says what a time is a time of, and what it counts."""
    if not table.timed:
        return ""
    return (
        f"minutes of training until {100 * table.wanted:g} % of the validation puzzles were solved "
        "at the trained depth (on the clock of the run: earlier validations, ledger and "
        "checkpoints count, start and final test do not), "
    )


def _origin(table: RunTable) -> str:
    """Says how many runs there are, and of which code."""
    count, commits = len(table.entries), table.commits
    runs = f"{count} run{'s' if count > 1 else ''}"
    if len(commits) == 1:
        return f"{runs}, commit {next(iter(commits))}."
    return f"{runs}, commits {listed([f'{name} ({n})' for name, n in commits.items()])}."
