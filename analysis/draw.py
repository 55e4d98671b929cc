"""Puzzles as figures, and answers that improve as animations."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle
from PIL import Image
from pir.analysis.style import COLOURS, save_figure

from pir.errors import UserError
from pir.picture import Picture, Stroke
from pir.run_folder import write_atomically

FILL = {
    "given": "#e8e8e8",
    "answer": "#d6e8f7",
    "wrong": "#f7c9b6",
    "blank": "#ffffff",
    "wall": "#3c3c3c",
    "light": "#ffffff",
    "dark": "#d9d9d9",
}
INK = {"given": "#000000", "answer": COLOURS[0], "wrong": COLOURS[1]}
CELL_INCHES = 0.36
STEP_SECONDS, LAST_SECONDS = 0.9, 2.5


def draw_picture(picture: Picture, axis: Axes, caption: str = "") -> None:
    """Draws a picture into an axis: given cells grey, written ones blue, wrong ones orange."""
    width, height = _extent(picture)
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
        colour = COLOURS[0] if stroke.bold else colour
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 9, "shrinkB": 9,
                 "lw": 1.8 if stroke.bold else 0.8, "connectionstyle": "arc3,rad=0.12"}  # fmt: skip
        axis.annotate("", end, start, arrowprops=style, zorder=1)
    else:
        axis.plot(*zip(start, end, strict=True), color=colour, lw=1.8 if stroke.bold else 0.6)


def _extent(picture: Picture) -> tuple[int, int]:
    width = max(cell.x for cell in picture.cells) + 1
    height = max(cell.y for cell in picture.cells) + 1
    return int(np.ceil(width)), int(np.ceil(height))


def save_pictures(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures side by side as a figure.

    Raises:
        UserError: if the ending is no figure's, or the file cannot be written.
    """
    width, height = _extent(pictures[0])
    inches = (len(pictures) * max(2.0, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    figure, axes = plt.subplots(1, len(pictures), figsize=inches, squeeze=False)
    for axis, picture, caption in zip(axes[0], pictures, captions, strict=True):
        draw_picture(picture, axis, caption)
    figure.set_layout_engine("constrained")
    save_figure(figure, out)


def save_animation(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures one after the other as an animated GIF; the last one stays longer.

    Raises:
        UserError: if the ending is not .gif, or the file cannot be written.
    """
    if out.suffix != ".gif":
        raise UserError(f"out={out}: the ending must be .gif")
    width, height = _extent(pictures[0])
    inches = (max(2.4, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    frames = []
    for picture, caption in zip(pictures, captions, strict=True):
        figure, axis = plt.subplots(figsize=inches, dpi=100)
        draw_picture(picture, axis, caption)
        figure.set_layout_engine("constrained")
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
        plt.close(figure)
        frames.append(Image.fromarray(pixels).quantize(64))
    milliseconds = [int(1000 * STEP_SECONDS)] * (len(frames) - 1) + [int(1000 * LAST_SECONDS)]
    options = {"append_images": frames[1:], "duration": milliseconds, "loop": 0}
    write_atomically(
        out, lambda file: frames[0].save(file, "GIF", save_all=True, optimize=True, **options)
    )
