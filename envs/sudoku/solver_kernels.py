"""Sudoku's solver and its rating, compiled by numba.

A grid has n * n cells in rows; cells hold 0 (blank) or a digit 1..n. Candidates of a cell are a set
of bits, bit d - 1 for digit d. `units` (3n, n) lists the cells of every row, column and box, and
`peers` (n * n, P) the other cells of the units that a cell lies in.
"""

import numpy as np
from numba import njit

from pir.system.slices import BUSY, FILLED

QUEUE, BRANCH, LEFT, SEARCH, ORDER, DRAWN = range(6)


def build_tables(box_height: int, box_width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `units`, int64 of shape (3n, n), and `peers`, int64 of shape (n * n, P)."""
    n = box_height * box_width
    cells = np.arange(n * n).reshape(n, n)
    boxes = cells.reshape(box_width, box_height, box_height, box_width).swapaxes(1, 2)
    units = np.concatenate([cells, cells.T, boxes.reshape(n, n)])
    peers = [sorted(set(units[(units == c).any(1)].ravel()) - {c}) for c in range(n * n)]
    return units.astype(np.int64), np.array(peers, dtype=np.int64)


@njit(cache=True, inline="always")
def is_single(candidates: int) -> bool:
    """Says whether at most one candidate is left."""
    return candidates & (candidates - 1) == 0


@njit(cache=True, nogil=True)
def propagate(
    cand: np.ndarray, queue: np.ndarray, waiting: int, units: np.ndarray, peers: np.ndarray
) -> bool:
    """Follows naked and hidden singles to the end; returns False at a contradiction.

    `queue[:waiting]` holds the cells that have become single since the last call.
    """
    n = units.shape[1]
    full = (1 << n) - 1
    while True:
        while waiting > 0:
            waiting -= 1
            cell = queue[waiting]
            bit = cand[cell]
            for peer in peers[cell]:
                here = cand[peer]
                if here & bit:
                    here &= ~bit
                    if here == 0:
                        return False
                    cand[peer] = here
                    if is_single(here):
                        queue[waiting] = peer
                        waiting += 1
        for unit in range(len(units)):
            once, twice, placed = 0, 0, 0
            for i in range(n):
                here = cand[units[unit, i]]
                twice |= once & here
                once |= here
                if is_single(here):
                    placed |= here
            if once != full:
                return False
            hidden = once & ~twice & ~placed
            if hidden:
                for i in range(n):
                    cell = units[unit, i]
                    found = cand[cell] & hidden
                    if found:
                        if not is_single(found):
                            return False
                        cand[cell] = found
                        queue[waiting] = cell
                        waiting += 1
                break
        if waiting == 0:
            return True


@njit(cache=True, nogil=True)
def most_constrained(cand: np.ndarray) -> int:
    """Returns the undecided cell with the fewest candidates, the first of them; -1 if none."""
    best, fewest = -1, 99
    for cell in range(len(cand)):
        here = cand[cell]
        if not is_single(here):
            count = 0
            while here:
                here &= here - 1
                count += 1
            if count < fewest:
                best, fewest = cell, count
                if count == 2:
                    break
    return best


@njit(cache=True, nogil=True)
def read_candidates(
    grid: np.ndarray, cand: np.ndarray, queue: np.ndarray, units: np.ndarray, peers: np.ndarray
) -> bool:
    """Sets the candidates that the clues leave; returns False if the clues contradict."""
    n = units.shape[1]
    waiting = 0
    for cell in range(len(grid)):
        cand[cell] = (1 << n) - 1
        if grid[cell] > 0:
            cand[cell] = 1 << (grid[cell] - 1)
            queue[waiting] = cell
            waiting += 1
    return propagate(cand, queue, waiting, units, peers)


@njit(cache=True, nogil=True)
def write_digits(cand: np.ndarray, grid: np.ndarray) -> None:
    """Writes the digits of cells that have a single candidate each."""
    for cell in range(len(cand)):
        digit, here = 1, cand[cell]
        while here > 1:
            here >>= 1
            digit += 1
        grid[cell] = digit


def make_room(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the memory of a search or a generator, in which it also keeps its place.

    Returns:
        `levels`, int64 of shape (cells + 1, cells), for the candidates at every depth; and `lists`,
        int64 of shape (6, cells + 1), zeros, a row each for

        * `QUEUE`, cells that have become single;
        * `BRANCH`, the cell that a depth guesses at, -1 where none is left;
        * `LEFT`, its digits still to be tried, as bits;
        * `SEARCH`: the depth, -1 after the end; how many solutions were found, -1 if the search was
          given up; how many guesses it took;
        * `ORDER`, the cells in the order in which they are dug;
        * `DRAWN`: what the generator is doing with a grid, how many of its cells were tried, how
          many clues are left, how many are wanted.
    """
    return np.zeros((cells + 1, cells), np.int64), np.zeros((6, cells + 1), np.int64)


@njit(cache=True, nogil=True)
def begin_search(levels: np.ndarray, lists: np.ndarray) -> None:
    """Begins a depth-first search at the propagated candidates `levels[0]`."""
    cell = most_constrained(levels[0])
    lists[BRANCH, 0] = cell
    if cell >= 0:
        lists[LEFT, 0] = levels[0, cell]
    lists[SEARCH, 0], lists[SEARCH, 1], lists[SEARCH, 2] = 0, 0, cell >= 0


@njit(cache=True, nogil=True)
def search(
    levels: np.ndarray,
    lists: np.ndarray,
    units: np.ndarray,
    peers: np.ndarray,
    found: np.ndarray,
    max_guesses: int,
    budget: int,
) -> int:
    """Goes on with a search; guesses are at cells where no naked or hidden single helps on.

    Args:
        levels: see `make_room`.
        lists: see `make_room`; `SEARCH` has what the search came to once it is over.
        units: see the module.
        peers: see the module.
        found: uint8 of shape (limit, cells), receives the solutions in a fixed order.
        max_guesses: gives up after so many.
        budget: stops after so many digits tried.

    Returns:
        What is left of the budget.
    """
    queue, branch, left = lists[QUEUE], lists[BRANCH], lists[LEFT]
    depth, count, guesses = lists[SEARCH, 0], lists[SEARCH, 1], lists[SEARCH, 2]
    while depth >= 0 and budget > 0:
        if branch[depth] < 0:
            write_digits(levels[depth], found[count])
            count += 1
            depth = -1 if count == len(found) else depth - 1
            continue
        if left[depth] == 0:
            depth -= 1
            continue
        budget -= 1
        bit = left[depth] & -left[depth]
        left[depth] ^= bit
        levels[depth + 1] = levels[depth]
        cell = branch[depth]
        levels[depth + 1, cell] = bit
        queue[0] = cell
        if propagate(levels[depth + 1], queue, 1, units, peers):
            depth += 1
            cell = most_constrained(levels[depth])
            branch[depth] = cell
            if cell >= 0:
                left[depth] = levels[depth, cell]
                guesses += 1
                if guesses > max_guesses:
                    depth, count = -1, -1
    lists[SEARCH, 0], lists[SEARCH, 1], lists[SEARCH, 2] = depth, count, guesses
    return budget


@njit(cache=True, nogil=True)
def solve(
    grids: np.ndarray,
    units: np.ndarray,
    peers: np.ndarray,
    max_guesses: int,
    found: np.ndarray,
    counts: np.ndarray,
    guesses: np.ndarray,
    levels: np.ndarray,
    lists: np.ndarray,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Finds the solutions of every grid, with the guesses that it takes.

    Args:
        grids: uint8 of shape (B, cells).
        units: see the module.
        peers: see the module.
        max_guesses: gives a grid up after so many.
        found: uint8 of shape (B, limit, cells), receives the solutions.
        counts: int64 of shape (B,), receives how many there are, at most `limit`; -1: given up.
        guesses: int64 of shape (B,), receives the guesses.
        levels: see `make_room`.
        lists: see `make_room`.
        progress: int64 of shape (2,), zeros at first: the grid at work and whether its search has
            begun.
        budget: stops after so many grids read and digits tried.

    Returns:
        `BUSY` or `FILLED`.
    """
    for row in range(progress[0], len(grids)):
        if progress[1] == 0:
            if budget <= 0:
                progress[0] = row
                return BUSY
            budget -= 1
            counts[row], guesses[row] = 0, 0
            if not read_candidates(grids[row], levels[0], lists[QUEUE], units, peers):
                continue
            begin_search(levels, lists)
        budget = search(levels, lists, units, peers, found[row], max_guesses, budget)
        if lists[SEARCH, 0] >= 0:
            progress[0], progress[1] = row, 1
            return BUSY
        progress[1] = 0
        counts[row], guesses[row] = lists[SEARCH, 1], lists[SEARCH, 2]
    return FILLED


@njit(cache=True, nogil=True)
def _enter(cand: np.ndarray, found: np.ndarray, answer: np.ndarray, peers: np.ndarray) -> None:
    """Takes the digits of `found` cells from their peers; known cells have no candidates left."""
    for cell in range(len(cand)):
        if found[cell]:
            found[cell] = False
            cand[cell] = 0
            for peer in peers[cell]:
                cand[peer] &= ~(1 << (answer[cell] - 1))


@njit(cache=True, nogil=True)
def _find_singles(cand: np.ndarray, found: np.ndarray, units: np.ndarray) -> bool:
    """Marks all naked and hidden singles in `found`, bool of shape (cells,); says if any are."""
    some = False
    for cell in range(len(cand)):
        found[cell] = cand[cell] != 0 and is_single(cand[cell])
        some |= found[cell]
    for unit in range(len(units)):
        once, twice = 0, 0
        for cell in units[unit]:
            twice |= once & cand[cell]
            once |= cand[cell]
        hidden = once & ~twice
        if hidden:
            some = True
            for cell in units[unit]:
                found[cell] |= cand[cell] & hidden != 0
    return some


@njit(cache=True, nogil=True)
def rank_cells(
    grids: np.ndarray,
    answers: np.ndarray,
    units: np.ndarray,
    peers: np.ndarray,
    ranks: np.ndarray,
) -> None:
    """Ranks blank cells by the round in which they are found, from 0 on.

    A round finds all naked and hidden singles that are there when it begins; where there are none,
    the first cell with the fewest candidates is looked up.

    Args:
        grids: uint8 of shape (B, cells).
        answers: uint8 of shape (B, cells), a solution of each.
        units: see the module.
        peers: see the module.
        ranks: int64 of shape (B, cells), zeros; receives the ranks.
    """
    cand = np.zeros(len(peers), np.int64)
    found = np.zeros(len(peers), np.bool_)
    for row in range(len(grids)):
        cand[:] = (1 << units.shape[1]) - 1
        found[:] = grids[row] > 0
        rank = 0
        while True:
            _enter(cand, found, answers[row], peers)
            if not _find_singles(cand, found, units):
                cell = most_constrained(cand)
                if cell < 0:
                    break
                found[cell] = True
            for cell in range(len(cand)):
                if found[cell]:
                    ranks[row, cell] = rank
            rank += 1
