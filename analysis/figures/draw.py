"""Puzzles as figures, and answers that improve as animations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pir.analysis.figures.style import save_figure, styled

from pir.notation.drawing import CELL_INCHES, draw_picture, extent
from pir.notation.picture import Picture
from pir.runs.folder import write_atomically

CAPTION_INCHES = 0.3
"""Height of the caption above a frame."""

STEP_SECONDS, LAST_SECONDS = 0.9, 2.5


@styled
def save_pictures(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures side by side as a figure.

    Raises:
        UserError: if the ending is no figure's, or the file cannot be written.
    """
    width, height = extent(pictures[0])
    inches = (len(pictures) * max(2.0, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    figure = Figure(figsize=inches)
    axes = figure.subplots(1, len(pictures), squeeze=False)
    for axis, picture, caption in zip(axes[0], pictures, captions, strict=True):
        draw_picture(picture, axis, caption)
    figure.set_layout_engine("constrained")
    save_figure(figure, out)


@styled
def save_animation(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures one after the other as an animated GIF; the last one stays longer.

    Raises:
        UserError: if the file cannot be written.
    """
    width, height = extent(pictures[0])
    inches = (max(2.4, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    frames = []
    for picture, caption in zip(pictures, captions, strict=True):
        figure = Figure(figsize=inches, dpi=100)
        canvas = FigureCanvasAgg(figure)
        # a place of its own, so that frames with other captions do not move it
        axis = figure.add_axes((0.02, 0.02, 0.96, 0.96 - CAPTION_INCHES / inches[1]))
        draw_picture(picture, axis, caption)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
        frames.append(Image.fromarray(pixels).quantize(64))
    milliseconds = [int(1000 * STEP_SECONDS)] * (len(frames) - 1) + [int(1000 * LAST_SECONDS)]
    options = {"append_images": frames[1:], "duration": milliseconds, "loop": 0}
    write_atomically(
        out, lambda file: frames[0].save(file, "GIF", save_all=True, optimize=True, **options)
    )
