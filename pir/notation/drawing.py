"""Pictures of puzzles drawn with matplotlib, for figures and as pixels."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pir.notation.picture import Picture, Stroke

BLUE, ORANGE = "#0072B2", "#D55E00"
"""What a policy wrote, and what of it is wrong; of Okabe and Ito's palette."""

FILL = {
    "given": "#e8e8e8",
    "answer": "#d6e8f7",
    "wrong": "#f7c9b6",
    "blank": "#ffffff",
    "wall": "#3c3c3c",
    "light": "#ffffff",
    "dark": "#d9d9d9",
}
INK = {"given": "#000000", "answer": BLUE, "wrong": ORANGE}
CELL_INCHES = 0.36
DOTS_PER_INCH, MAX_PIXELS = 100, 1440


def draw_picture(picture: Picture, axis: Axes, caption: str = "") -> None:
    """Draws a picture into an axis: given cells grey, written ones blue, wrong ones orange."""
    width, height = extent(picture)
    if picture.tiled:
        background = np.ones((height, width, 3))
        for cell in picture.cells:
            background[int(cell.y), int(cell.x)] = to_rgb(FILL[cell.role])
        axis.imshow(background, extent=(0, width, height, 0), interpolation="nearest")
    for stroke in picture.strokes:
        _draw_stroke(axis, stroke, 0.0 if picture.tiled else 0.5)
    size = 11 if width <= 16 else 6
    for cell in picture.cells:
        x, y = cell.x + 0.5, cell.y + 0.5
        if not picture.tiled:
            edge = INK.get(cell.role, "#888888")
            disc = Circle((x, y), 0.36, facecolor=FILL[cell.role], edgecolor=edge, zorder=2)
            axis.add_patch(disc)
        if cell.text:
            weight = "bold" if cell.role == "given" else "normal"
            axis.text(x, y, cell.text, ha="center", va="center", fontsize=size, weight=weight,
                      color=INK.get(cell.role, "#000000"), zorder=3)  # fmt: skip
    axis.set_xlim(-0.05, width + 0.05)
    axis.set_ylim(height + 0.05, -0.05)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.set_title(caption, fontsize=10)


def _draw_stroke(axis: Axes, stroke: Stroke, offset: float) -> None:
    start = (stroke.x0 + offset, stroke.y0 + offset)
    end = (stroke.x1 + offset, stroke.y1 + offset)
    colour = "#333333" if stroke.bold else "#bbbbbb"
    if stroke.arrow:
        colour = BLUE if stroke.bold else colour
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 9, "shrinkB": 9,
                 "lw": 1.8 if stroke.bold else 0.8, "connectionstyle": "arc3,rad=0.12"}  # fmt: skip
        axis.annotate("", end, start, arrowprops=style, zorder=1)
    else:
        axis.plot(*zip(start, end, strict=True), color=colour, lw=1.8 if stroke.bold else 0.6)


def extent(picture: Picture) -> tuple[int, int]:
    """Returns the width and the height of a picture in cells."""
    width = max(cell.x for cell in picture.cells) + 1
    height = max(cell.y for cell in picture.cells) + 1
    return int(np.ceil(width)), int(np.ceil(height))


def draw_frame(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """Draws a picture as pixels.

    Args:
        picture: what to draw.
        size: width and height of the frame in cells; a picture of another size is scaled to fit.

    Returns:
        uint8 of shape (H, W, 3), H and W even, at most `MAX_PIXELS`; the same for equal sizes.
    """
    dots = min(DOTS_PER_INCH, MAX_PIXELS / (CELL_INCHES * max(size)))
    pixels = [max(2, 2 * round(dots * CELL_INCHES * cells / 2)) for cells in size]
    inches = pixels[0] / dots, pixels[1] / dots
    figure = Figure(inches, dpi=dots, facecolor="#ffffff")
    canvas = FigureCanvasAgg(figure)
    draw_picture(picture, figure.add_axes((0, 0, 1, 1)))
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels_rgba = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels_rgba[..., :3].copy()
