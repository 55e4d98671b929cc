"""What a drawing of a puzzle holds, apart from how it is drawn (text here, figures in analysis)."""

from typing import Literal, NamedTuple

Role = Literal["given", "answer", "wrong", "blank", "wall", "light", "dark"]
"""What a cell shows: given by the question; written by the policy; written and against a rule;
empty; or a background (a wall, a light or a dark square)."""


ROW = 16
"""Cells of a row where nothing says how cells lie."""


class Cell(NamedTuple):
    """A unit square with a text in it, its upper left corner at (x, y); y grows downwards."""

    x: float
    y: float
    text: str
    role: Role


class Stroke(NamedTuple):
    """A straight line from (x0, y0) to (x1, y1), with an arrow head at its end if asked for."""

    x0: float
    y0: float
    x1: float
    y1: float
    bold: bool = False
    arrow: bool = False


class Picture(NamedTuple):
    """Cells and strokes.

    Attributes:
        cells: the squares.
        strokes: lines over them.
        tiled: whether the squares fill the plane; if not, they are drawn as discs.
    """

    cells: tuple[Cell, ...]
    strokes: tuple[Stroke, ...] = ()
    tiled: bool = True


def as_text(picture: Picture) -> str:
    """Draws the cells as lines of text; a wrong cell carries a `!`, an empty one is a dot.

    Cells are placed by their rows (y) and columns (x), and strokes are left out. Where the squares
    do not fill the plane, strokes say more than places: every cell has a line, with the cells that
    arrows lead to, behind `=>` for bold arrows and behind `->` for others.
    """
    if not picture.tiled:
        return _arrows(picture)
    columns = sorted({cell.x for cell in picture.cells})
    rows = sorted({cell.y for cell in picture.cells})
    place = {x: i for i, x in enumerate(columns)}
    widths = [
        max(len(_symbol(cell)) for cell in picture.cells if cell.x == column) for column in columns
    ]
    table = {row: [" " * width for width in widths] for row in rows}
    for cell in picture.cells:
        table[cell.y][place[cell.x]] = _symbol(cell).ljust(widths[place[cell.x]])
    return "\n".join("".join(cells).rstrip() for cells in table.values())


def _arrows(picture: Picture) -> str:
    names = {(cell.x, cell.y): _symbol(cell).strip() for cell in picture.cells}
    width = max(map(len, names.values()))
    lines = []
    for place, name in names.items():
        ends: dict[bool, list[str]] = {True: [], False: []}
        for stroke in picture.strokes:
            if (stroke.x0, stroke.y0) == place:
                ends[stroke.bold].append(names[stroke.x1, stroke.y1])
        line = name.ljust(width)
        for bold, arrow in ((True, "=>"), (False, "->")):
            line += f"  {arrow} {' '.join(ends[bold])}" if ends[bold] else ""
        lines.append(line.rstrip())
    return "\n".join(lines)


def _symbol(cell: Cell) -> str:
    if cell.role == "wall":
        return "##"
    text = cell.text or ("." if cell.role in ("blank", "light", "dark") else " ")
    return text + ("!" if cell.role == "wrong" else " ")
