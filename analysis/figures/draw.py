"""Puzzles as figures, and answers that improve as animations."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from pir.analysis.figures.style import save_figure

from pir.notation.drawing import CELL_INCHES, draw_picture, extent
from pir.notation.picture import Picture
from pir.runs.folder import write_atomically

CAPTION_INCHES = 0.3
"""Height of the caption above a frame."""

STEP_SECONDS, LAST_SECONDS = 0.9, 2.5


def save_pictures(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures side by side as a figure.

    Raises:
        UserError: if the ending is no figure's, or the file cannot be written.
    """
    width, height = extent(pictures[0])
    inches = (len(pictures) * max(2.0, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    figure, axes = plt.subplots(1, len(pictures), figsize=inches, squeeze=False)
    for axis, picture, caption in zip(axes[0], pictures, captions, strict=True):
        draw_picture(picture, axis, caption)
    figure.set_layout_engine("constrained")
    save_figure(figure, out)


def save_animation(pictures: Sequence[Picture], captions: Sequence[str], out: Path) -> None:
    """Writes pictures one after the other as an animated GIF; the last one stays longer.

    Raises:
        UserError: if the file cannot be written.
    """
    width, height = extent(pictures[0])
    inches = (max(2.4, CELL_INCHES * width), max(1.2, CELL_INCHES * height) + 0.4)
    frames = []
    for picture, caption in zip(pictures, captions, strict=True):
        figure = plt.figure(figsize=inches, dpi=100)
        # a place of its own, so that frames with other captions do not move it
        axis = figure.add_axes((0.02, 0.02, 0.96, 0.96 - CAPTION_INCHES / inches[1]))
        draw_picture(picture, axis, caption)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
        plt.close(figure)
        frames.append(Image.fromarray(pixels).quantize(64))
    milliseconds = [int(1000 * STEP_SECONDS)] * (len(frames) - 1) + [int(1000 * LAST_SECONDS)]
    options = {"append_images": frames[1:], "duration": milliseconds, "loop": 0}
    write_atomically(
        out, lambda file: frames[0].save(file, "GIF", save_all=True, optimize=True, **options)
    )
