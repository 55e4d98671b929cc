"""Sudoku's generator, compiled by numba; `solver_kernels` says how grids are laid out."""

import numpy as np
from numba import njit
from pir.envs.counter_random import draw_below, step_stream
from pir.envs.instance_stream import DRAW, Stream, ask_to_draw, keep_place, open_row
from pir.envs.sudoku.solver_kernels import (
    BRANCH,
    DRAWN,
    LEFT,
    ORDER,
    QUEUE,
    SEARCH,
    begin_search,
    is_single,
    most_constrained,
    propagate,
    read_candidates,
    search,
    write_digits,
)
from pir.envs.sudoku.symmetry import puzzle_key

from pir.system.slices import BUSY, FILLED

NEXT, DIG, PROVE = range(3)
"""What is being done with a grid: the next is drawn, cells are dug out, guesses are counted."""
MANY = 1 << 40
MAX_GUESSES_PER_TEST = 2_000
"""A clue stays where uniqueness without it is not settled within so many guesses (large grids)."""


@njit(cache=True, nogil=True)
def _fill(
    state: np.uint64,
    grid: np.ndarray,
    levels: np.ndarray,
    lists: np.ndarray,
    units: np.ndarray,
    peers: np.ndarray,
) -> np.uint64:
    """Fills a grid with a random solution: random digits in the most constrained cell."""
    n, cells = units.shape[1], len(grid)
    queue, branch, left = lists[QUEUE], lists[BRANCH], lists[LEFT]
    levels[0, :] = (1 << n) - 1
    depth, branch[0], left[0] = 0, 0, (1 << n) - 1
    tried = 0
    while branch[depth] >= 0:
        if left[depth] == 0:
            depth -= 1
            continue
        tried += 1
        if tried == 4 * cells:  # a dead end high up costs more than to begin again
            depth, left[0], tried = 0, (1 << n) - 1, 0
        bit = 0
        while bit & left[depth] == 0:
            state = step_stream(state)
            bit = 1 << draw_below(state, n)
        left[depth] ^= bit
        levels[depth + 1] = levels[depth]
        levels[depth + 1, branch[depth]] = bit
        queue[0] = branch[depth]
        if propagate(levels[depth + 1], queue, 1, units, peers):
            depth += 1
            branch[depth] = most_constrained(levels[depth])
            left[depth] = levels[depth, branch[depth]] if branch[depth] >= 0 else 0
    write_digits(levels[depth], grid)
    return state


@njit(cache=True, nogil=True)
def _follows(
    puzzle: np.ndarray, cell: int, units: np.ndarray, peers: np.ndarray, barred: np.ndarray
) -> bool:
    """Says whether a clue is a naked or hidden single of the other clues (so it can be removed).

    `barred`, bool of shape (cells,), is room.
    """
    n, digit = units.shape[1], puzzle[cell]
    seen = 1 << (digit - 1)
    for peer in peers[cell]:
        if puzzle[peer] > 0:
            seen |= 1 << (puzzle[peer] - 1)
    if seen == (1 << n) - 1:
        return True
    barred[:] = False  # cells that cannot hold the digit
    for other in range(len(puzzle)):
        if puzzle[other] > 0:
            barred[other] = True
            if puzzle[other] == digit and other != cell:
                for peer in peers[other]:
                    barred[peer] = True
    for unit in range(len(units)):
        places = 0
        inside = False
        for i in range(n):
            other = units[unit, i]
            inside |= other == cell
            places += not barred[other]
        if inside and places == 0:
            return True
    return False


@njit(cache=True, nogil=True)
def _dig(
    state: np.uint64,
    puzzle: np.ndarray,
    levels: np.ndarray,
    lists: np.ndarray,
    other: np.ndarray,
    barred: np.ndarray,
    units: np.ndarray,
    peers: np.ndarray,
    budget: int,
) -> tuple[np.uint64, int]:
    """Goes on blanking cells of a grid in random order while its solution stays the only one.

    `lists[DRAWN]` has where it stands; `other`, uint8 of shape (1, cells), and `barred`, bool of
    shape (cells,), are room. It is over when all cells were tried, or as many clues are left as are
    wanted; more are left if the puzzle is minimal before.

    Returns:
        The stream, and what is left of the budget of cells tried and guesses made.
    """
    cells, order, queue = len(puzzle), lists[ORDER], lists[QUEUE]
    i, left, wanted = lists[DRAWN, 1], lists[DRAWN, 2], lists[DRAWN, 3]
    while i < cells and left != wanted and budget > 0:
        state = step_stream(state)
        j = i + draw_below(state, cells - i)
        cell = order[j]
        order[j] = order[i]
        i += 1
        budget -= 1
        digit = puzzle[cell]
        removable = _follows(puzzle, cell, units, peers, barred)
        if not removable:
            puzzle[cell] = 0
            removable = True
            if read_candidates(puzzle, levels[0], queue, units, peers):
                # The clue may go if no solution has another digit in its place.
                levels[0, cell] &= ~(1 << (digit - 1))
                possible = levels[0, cell] != 0
                if possible and is_single(levels[0, cell]):
                    queue[0] = cell
                    possible = propagate(levels[0], queue, 1, units, peers)
                if possible:
                    begin_search(levels, lists)
                    search(levels, lists, units, peers, other, MAX_GUESSES_PER_TEST, MANY)
                    removable = lists[SEARCH, 1] == 0
                    budget -= lists[SEARCH, 2]
        puzzle[cell] = 0 if removable else digit
        left -= removable
    lists[DRAWN, 1], lists[DRAWN, 2] = cells if left == wanted else i, left
    return state, budget


@njit(cache=True, nogil=True)
def generate(
    stream: Stream,
    clues: tuple[int, int],
    guesses: tuple[int, int],
    box: tuple[int, int],
    tables: tuple[np.ndarray, np.ndarray],
    room: tuple[np.ndarray, np.ndarray],
    puzzles: np.ndarray,
    grids: np.ndarray,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Fills one row per instance: a random grid, dug out to a puzzle with one solution.

    Args:
        stream: the instances to draw; a draw is a grid.
        clues: fewest and most clues; a target is drawn from it. Minimal puzzles if the most is 0.
        guesses: fewest and most guesses that solving may take; any if the most is negative.
        box: rows and columns of a box.
        tables: see `solver_kernels.build_tables`.
        room: see `solver_kernels.make_room`.
        puzzles: uint8 of shape (count, cells), receives the puzzles.
        grids: uint8 of shape (count, cells), receives their solutions.
        progress: where the generator stands, see `pir.system.slices.generate_rows`.
        budget: stops after so many grids filled, cells tried and guesses made.

    Returns:
        `BUSY`, `FILLED` or `GIVEN_UP`.
    """
    (units, peers), (levels, lists) = tables, room
    cells, drawn, order = puzzles.shape[1], lists[DRAWN], lists[ORDER]
    found, barred = np.zeros((2, cells), np.uint8), np.zeros(cells, np.bool_)
    for row in range(np.int64(progress[0]), len(puzzles)):
        state, draws = open_row(stream, row, progress)
        puzzle = puzzles[row]
        while True:
            if drawn[0] == NEXT:
                status = ask_to_draw(stream, row, draws, state, progress, budget)
                if status != DRAW:
                    return status
                draws, budget = draws + 1, budget - 1
                state = _fill(state, grids[row], levels, lists, units, peers)
                puzzle[:] = grids[row]
                for cell in range(cells):
                    order[cell] = cell
                drawn[0], drawn[1], drawn[2], drawn[3] = DIG, 0, cells, 0
                if clues[1] > 0:
                    state = step_stream(state)
                    drawn[3] = clues[0] + draw_below(state, clues[1] - clues[0] + 1)
            if drawn[0] == DIG:
                state, budget = _dig(
                    state, puzzle, levels, lists, found[:1], barred, units, peers, budget
                )
                if drawn[1] < cells:
                    keep_place(progress, row, draws, state)
                    return BUSY
                drawn[0] = NEXT
                if clues[1] > 0 and drawn[2] > clues[1]:
                    continue
                key = puzzle_key(puzzle, box[0], box[1])
                if not stream.low <= key % stream.key_range < stream.high:
                    continue
                if guesses[1] < 0:
                    break
                read_candidates(puzzle, levels[0], lists[QUEUE], units, peers)
                begin_search(levels, lists)
                drawn[0] = PROVE
            budget = search(levels, lists, units, peers, found, guesses[1], budget)
            if lists[SEARCH, 0] >= 0:
                keep_place(progress, row, draws, state)
                return BUSY
            drawn[0] = NEXT
            if guesses[0] <= lists[SEARCH, 2] <= guesses[1]:
                break
    return FILLED
