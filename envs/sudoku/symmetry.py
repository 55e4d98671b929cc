"""Sudoku's symmetries, compiled by numba: a key that they leave alone, and random images.

A grid has n * n cells in rows; cells hold 0 (blank) or a digit 1..n.
"""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, open_stream, shuffle, step_stream


@njit(cache=True, nogil=True)
def puzzle_key(puzzle: np.ndarray, box_height: int, box_width: int) -> int:
    """Hashes a puzzle to [0, 2**62), equally for all its symmetric images.

    Colour refinement: cells, rows, columns, boxes and digits colour each other for three rounds by
    sums of mixed words, which no exchange of rows, columns, bands, stacks or digits changes, nor
    (for square boxes) a transposition. Inequivalent puzzles get different keys but for chance, and
    sharing a key could only put two puzzles into the same split.
    """
    n = box_height * box_width
    square = box_height == box_width
    colour = np.zeros(n * n, np.uint64)
    for cell in range(n * n):
        colour[cell] = uint64(puzzle[cell] > 0)
    for round_ in range(3):
        row_sum, column_sum = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
        box_sum, digit_sum = np.zeros(n, np.uint64), np.zeros(n + 1, np.uint64)
        band_sum, stack_sum = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
        for cell in range(n * n):
            row, column = cell // n, cell % n
            band, stack = row // box_height, column // box_width
            mixed = mix(colour[cell] ^ uint64(round_))
            row_sum[row] += mixed
            column_sum[column] += mixed
            box_sum[band * box_height + stack] += mixed
            digit_sum[puzzle[cell]] += mixed
        for line in range(n):
            band_sum[line // box_height] += mix(row_sum[line])
            stack_sum[line // box_width] += mix(column_sum[line])
        for line in range(n):
            row_sum[line] = mix(row_sum[line])
            column_sum[line] = mix(column_sum[line] ^ uint64(0 if square else 1))
            digit_sum[line + 1] = mix(digit_sum[line + 1])
        for cell in range(n * n):
            row, column = cell // n, cell % n
            band, stack = row // box_height, column // box_width
            lines = mix(row_sum[row] + mix(band_sum[band])) + mix(
                column_sum[column] + mix(stack_sum[stack])
            )
            digit = digit_sum[puzzle[cell]] if puzzle[cell] > 0 else uint64(7)
            box = mix(box_sum[band * box_height + stack])
            colour[cell] = mix(colour[cell] + mix(lines) + mix(box ^ digit) + digit)
    total = uint64(n)
    for cell in range(n * n):
        total += mix(colour[cell])
    return np.int64(mix(total) >> uint64(2))


@njit(cache=True, nogil=True)
def puzzle_keys(puzzles: np.ndarray, box_height: int, box_width: int, keys: np.ndarray) -> None:
    """Runs `puzzle_key` on every row of puzzles (B, cells); keys is int64 of shape (B,)."""
    for row in range(len(puzzles)):
        keys[row] = puzzle_key(puzzles[row], box_height, box_width)


@njit(cache=True, nogil=True)
def _shuffle_lines(
    state: np.uint64, groups: int, size: int, order: np.ndarray, lines: np.ndarray
) -> np.uint64:
    """Writes a random order of lines that keeps groups of `size` lines together."""
    state = shuffle(state, order[:groups])
    for group in range(groups):
        state = shuffle(state, lines[group * size : (group + 1) * size])
        for i in range(group * size, (group + 1) * size):
            lines[i] += order[group] * size
    return state


@njit(cache=True, nogil=True)
def augment(
    seed: int,
    first_index: int,
    box_height: int,
    box_width: int,
    puzzles: np.ndarray,
    grids: np.ndarray,
) -> None:
    """Replaces puzzles and solutions, tokens of shape (B, cells), by random symmetric images.

    Digits are exchanged (tokens from 2 on), rows within bands, columns within stacks, bands,
    stacks, and for square boxes rows with columns. The stream of row i belongs
    to (seed, first_index + i).
    """
    n = box_height * box_width
    digits, order = np.zeros(n, np.int64), np.zeros(n, np.int64)
    rows, columns = np.zeros(n, np.int64), np.zeros(n, np.int64)
    old = np.zeros(n * n, np.uint8)
    for i in range(len(puzzles)):
        state = open_stream(seed, -1, first_index + i)
        state = shuffle(state, digits)
        state = _shuffle_lines(state, box_width, box_height, order, rows)
        state = _shuffle_lines(state, box_height, box_width, order, columns)
        state = step_stream(state)
        transposed = box_height == box_width and draw_below(state, 2) == 1
        for image in (puzzles, grids):
            old[:] = image[i]
            for row in range(n):
                for column in range(n):
                    if transposed:
                        token = old[columns[column] * n + rows[row]]
                    else:
                        token = old[rows[row] * n + columns[column]]
                    image[i, row * n + column] = token if token < 2 else digits[token - 2] + 2
