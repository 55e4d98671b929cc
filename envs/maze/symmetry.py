"""The maze's symmetries, compiled by numba: a key that they leave alone."""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, open_stream, step_stream
from pir.envs.maze.tokens import OPEN, WALL


@njit(cache=True, nogil=True)
def maze_key(maze: np.ndarray, height: int, width: int) -> int:
    """Hashes a maze of at most 64 x 64 cells to [0, 2**62), equally for its symmetric images.

    Every row and column is read, forwards and backwards, as a word of bits; the key is the least of
    the hashes of the images that turning and mirroring make of them. Start and goal count alike, so
    that a maze and the same maze walked backwards share their split.
    """
    open_rows = np.zeros((4, 64), np.uint64)  # rows, rows mirrored, columns, columns mirrored
    ends = np.zeros((4, 64), np.uint64)
    one = uint64(1)
    for row in range(height):
        for column in range(width):
            token = maze[row * width + column]
            if token != WALL:
                open_rows[0, row] |= one << uint64(column)
                open_rows[1, row] |= one << uint64(width - 1 - column)
                open_rows[2, column] |= one << uint64(row)
                open_rows[3, column] |= one << uint64(height - 1 - row)
                if token != OPEN:
                    ends[0, row] |= one << uint64(column)
                    ends[1, row] |= one << uint64(width - 1 - column)
                    ends[2, column] |= one << uint64(row)
                    ends[3, column] |= one << uint64(height - 1 - row)
    least = ~uint64(0)
    for image in range(4):
        lines, across = (height, width) if image < 2 else (width, height)
        for backwards in range(2):
            state = mix(uint64(lines * 64 + across))
            for i in range(lines):
                line = lines - 1 - i if backwards else i
                state = mix(state ^ open_rows[image, line])
                if ends[image, line]:
                    state = mix(state + mix(ends[image, line]))
            least = min(least, state)
    return np.int64(least >> uint64(2))


@njit(cache=True, nogil=True)
def maze_keys(mazes: np.ndarray, height: int, width: int, keys: np.ndarray) -> None:
    """Runs `maze_key` on every row of mazes (B, L); keys is int64 of shape (B,)."""
    for row in range(len(mazes)):
        keys[row] = maze_key(mazes[row], height, width)


@njit(cache=True, nogil=True)
def draw_images(seed: int, first_index: int, images: int, choice: np.ndarray) -> None:
    """Draws one of `images` for every row of `choice`, int64 of shape (B,)."""
    for row in range(len(choice)):
        choice[row] = draw_below(step_stream(open_stream(seed, -1, first_index + row)), images)
