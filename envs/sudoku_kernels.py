"""Sudoku's searching parts, compiled by numba: solver, rating, generator.

A grid has n * n cells in rows; cells hold 0 (blank) or a digit 1..n. Candidates of a cell are a set
of bits, bit d - 1 for digit d. `units` (3n, n) lists the cells of every row, column and box, and
`peers` (n * n, P) the other cells of the units that a cell lies in.
"""

import numpy as np
from numba import njit
from pir.envs.counter_random import draw_below, keep_place, open_row, step_stream
from pir.envs.sudoku_symmetry import puzzle_key

from pir.slices import BUSY, FILLED, GIVEN_UP

QUEUE, BRANCH, LEFT, SEARCH, ORDER, DRAWN = range(6)
DRAW, DIG, PROVE = range(3)
MANY = 1 << 40
MAX_GUESSES_PER_TEST = 2_000
"""A clue stays where uniqueness without it is not settled within so many guesses (large grids)."""


def build_tables(box_height: int, box_width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `units`, int64 of shape (3n, n), and `peers`, int64 of shape (n * n, P)."""
    n = box_height * box_width
    cells = np.arange(n * n).reshape(n, n)
    boxes = cells.reshape(box_width, box_height, box_height, box_width).swapaxes(1, 2)
    units = np.concatenate([cells, cells.T, boxes.reshape(n, n)])
    peers = [sorted(set(units[(units == c).any(1)].ravel()) - {c}) for c in range(n * n)]
    return units.astype(np.int64), np.array(peers, dtype=np.int64)


@njit(cache=True, inline="always")
def _is_single(candidates: int) -> bool:
    return candidates & (candidates - 1) == 0


@njit(cache=True)
def _propagate(
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
                    if _is_single(here):
                        queue[waiting] = peer
                        waiting += 1
        for unit in range(len(units)):
            once, twice, placed = 0, 0, 0
            for i in range(n):
                here = cand[units[unit, i]]
                twice |= once & here
                once |= here
                if _is_single(here):
                    placed |= here
            if once != full:
                return False
            hidden = once & ~twice & ~placed
            if hidden:
                for i in range(n):
                    cell = units[unit, i]
                    found = cand[cell] & hidden
                    if found:
                        if not _is_single(found):
                            return False
                        cand[cell] = found
                        queue[waiting] = cell
                        waiting += 1
                break
        if waiting == 0:
            return True


@njit(cache=True)
def _most_constrained(cand: np.ndarray) -> int:
    """Returns the undecided cell with the fewest candidates, the first of them; -1 if none."""
    best, fewest = -1, 99
    for cell in range(len(cand)):
        here = cand[cell]
        if not _is_single(here):
            count = 0
            while here:
                here &= here - 1
                count += 1
            if count < fewest:
                best, fewest = cell, count
                if count == 2:
                    break
    return best


@njit(cache=True)
def _read_candidates(
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
    return _propagate(cand, queue, waiting, units, peers)


@njit(cache=True)
def _write_digits(cand: np.ndarray, grid: np.ndarray) -> None:
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
        * `DRAWN`: what is being done with a grid (`DRAW` the next, `DIG`, `PROVE`), how many of its
          cells were tried, how many clues are left, how many are wanted.
    """
    return np.zeros((cells + 1, cells), np.int64), np.zeros((6, cells + 1), np.int64)


@njit(cache=True)
def _begin_search(levels: np.ndarray, lists: np.ndarray) -> None:
    """Begins a depth-first search at the propagated candidates `levels[0]`."""
    cell = _most_constrained(levels[0])
    lists[BRANCH, 0] = cell
    if cell >= 0:
        lists[LEFT, 0] = levels[0, cell]
    lists[SEARCH, 0], lists[SEARCH, 1], lists[SEARCH, 2] = 0, 0, cell >= 0


@njit(cache=True)
def _search(
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
            _write_digits(levels[depth], found[count])
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
        if _propagate(levels[depth + 1], queue, 1, units, peers):
            depth += 1
            cell = _most_constrained(levels[depth])
            branch[depth] = cell
            if cell >= 0:
                left[depth] = levels[depth, cell]
                guesses += 1
                if guesses > max_guesses:
                    depth, count = -1, -1
    lists[SEARCH, 0], lists[SEARCH, 1], lists[SEARCH, 2] = depth, count, guesses
    return budget


@njit(cache=True)
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
            if not _read_candidates(grids[row], levels[0], lists[QUEUE], units, peers):
                continue
            _begin_search(levels, lists)
        budget = _search(levels, lists, units, peers, found[row], max_guesses, budget)
        if lists[SEARCH, 0] >= 0:
            progress[0], progress[1] = row, 1
            return BUSY
        progress[1] = 0
        counts[row], guesses[row] = lists[SEARCH, 1], lists[SEARCH, 2]
    return FILLED


@njit(cache=True)
def _enter(cand: np.ndarray, found: np.ndarray, answer: np.ndarray, peers: np.ndarray) -> None:
    """Takes the digits of `found` cells from their peers; known cells have no candidates left."""
    for cell in range(len(cand)):
        if found[cell]:
            found[cell] = False
            cand[cell] = 0
            for peer in peers[cell]:
                cand[peer] &= ~(1 << (answer[cell] - 1))


@njit(cache=True)
def _find_singles(cand: np.ndarray, found: np.ndarray, units: np.ndarray) -> bool:
    """Marks all naked and hidden singles in `found`, bool of shape (cells,); says if any are."""
    some = False
    for cell in range(len(cand)):
        found[cell] = cand[cell] != 0 and _is_single(cand[cell])
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


@njit(cache=True)
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
                cell = _most_constrained(cand)
                if cell < 0:
                    break
                found[cell] = True
            for cell in range(len(cand)):
                if found[cell]:
                    ranks[row, cell] = rank
            rank += 1


@njit(cache=True)
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
        if _propagate(levels[depth + 1], queue, 1, units, peers):
            depth += 1
            branch[depth] = _most_constrained(levels[depth])
            left[depth] = levels[depth, branch[depth]] if branch[depth] >= 0 else 0
    _write_digits(levels[depth], grid)
    return state


@njit(cache=True)
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


@njit(cache=True)
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
            if _read_candidates(puzzle, levels[0], queue, units, peers):
                # The clue may go if no solution has another digit in its place.
                levels[0, cell] &= ~(1 << (digit - 1))
                possible = levels[0, cell] != 0
                if possible and _is_single(levels[0, cell]):
                    queue[0] = cell
                    possible = _propagate(levels[0], queue, 1, units, peers)
                if possible:
                    _begin_search(levels, lists)
                    _search(levels, lists, units, peers, other, MAX_GUESSES_PER_TEST, MANY)
                    removable = lists[SEARCH, 1] == 0
                    budget -= lists[SEARCH, 2]
        puzzle[cell] = 0 if removable else digit
        left -= removable
    lists[DRAWN, 1], lists[DRAWN, 2] = cells if left == wanted else i, left
    return state, budget


@njit(cache=True)
def generate(
    first_index: int,
    seed: int,
    split: int,
    key_range: int,
    keys: tuple[int, int],
    clues: tuple[int, int],
    guesses: tuple[int, int],
    box_height: int,
    box_width: int,
    units: np.ndarray,
    peers: np.ndarray,
    puzzles: np.ndarray,
    grids: np.ndarray,
    levels: np.ndarray,
    lists: np.ndarray,
    max_draws: int,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Fills one row per instance: a random grid, dug out to a puzzle with one solution.

    Args:
        first_index: index of the first instance.
        seed: names the stream, with `split`.
        split: number of the split.
        key_range: modulus of the keys.
        keys: half-open range of key % key_range that belongs to the split.
        clues: fewest and most clues; a target is drawn from it. Minimal puzzles if the most is 0.
        guesses: fewest and most guesses that solving may take; any if the most is negative.
        box_height: rows of a box.
        box_width: columns of a box.
        units: see the module.
        peers: see the module.
        puzzles: uint8 of shape (count, cells), receives the puzzles.
        grids: uint8 of shape (count, cells), receives their solutions.
        levels: see `make_room`.
        lists: see `make_room`.
        max_draws: gives an instance up after so many grids.
        progress: where the generator stands, see `pir.slices.generate_rows`.
        budget: stops after so many grids filled, cells tried and guesses made.

    Returns:
        `BUSY`, `FILLED` or `GIVEN_UP`.
    """
    cells, drawn, order = puzzles.shape[1], lists[DRAWN], lists[ORDER]
    found, barred = np.zeros((2, cells), np.uint8), np.zeros(cells, np.bool_)
    for row in range(np.int64(progress[0]), len(puzzles)):
        state, draws = open_row(seed, split, first_index, row, progress)
        puzzle = puzzles[row]
        while True:
            if drawn[0] == DRAW:
                if draws == max_draws:
                    return GIVEN_UP
                if budget <= 0:
                    keep_place(progress, row, draws, state)
                    return BUSY
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
                drawn[0] = DRAW
                if clues[1] > 0 and drawn[2] > clues[1]:
                    continue
                if not keys[0] <= puzzle_key(puzzle, box_height, box_width) % key_range < keys[1]:
                    continue
                if guesses[1] < 0:
                    break
                _read_candidates(puzzle, levels[0], lists[QUEUE], units, peers)
                _begin_search(levels, lists)
                drawn[0] = PROVE
            budget = _search(levels, lists, units, peers, found, guesses[1], budget)
            if lists[SEARCH, 0] >= 0:
                keep_place(progress, row, draws, state)
                return BUSY
            drawn[0] = DRAW
            if guesses[0] <= lists[SEARCH, 2] <= guesses[1]:
                break
    return FILLED
