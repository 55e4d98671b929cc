"""N-Queens' counting parts, compiled by numba: all solutions, completions, generator, images.

A board is a row of n columns, -1 where the queen of that row is not given. Sets of solutions are
bits in words of 64: `having[row, column]` holds the solutions with a queen there, so that the
completions of a board are the intersection over its queens.
"""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, open_stream, step_stream
from pir.envs.instance_stream import DRAW, Stream, ask_to_draw, open_row

from pir.system.slices import FILLED

MAX_ATTEMPTS = 1_000_000


@njit(cache=True, nogil=True)
def find_solutions(n: int, found: np.ndarray) -> int:
    """Finds all solutions in lexicographic order by back-tracking.

    Args:
        n: rows and columns.
        found: int64 of shape (limit, n), receives as many as it has room for.

    Returns:
        How many there are.
    """
    column = np.full(n, -1)
    columns, rising, falling = 0, 0, 0
    row, count = 0, 0
    while row >= 0:
        placed = column[row]
        if placed >= 0:
            columns ^= 1 << placed
            rising ^= 1 << (row + placed)
            falling ^= 1 << (row - placed + n)
        placed += 1
        while placed < n and (
            columns >> placed & 1
            or rising >> (row + placed) & 1
            or falling >> (row - placed + n) & 1
        ):
            placed += 1
        if placed == n:
            column[row] = -1
            row -= 1
            continue
        column[row] = placed
        columns |= 1 << placed
        rising |= 1 << (row + placed)
        falling |= 1 << (row - placed + n)
        if row < n - 1:
            row += 1
        else:
            if count < len(found):
                found[count] = column
            count += 1
    return count


@njit(cache=True, nogil=True)
def index_solutions(solutions: np.ndarray, having: np.ndarray) -> None:
    """Fills `having`, uint64 of shape (n, n, words), from solutions of shape (S, n)."""
    for s in range(len(solutions)):
        for row in range(solutions.shape[1]):
            having[row, solutions[s, row], s // 64] |= uint64(1) << uint64(s % 64)


@njit(cache=True, nogil=True)
def _completions(
    board: np.ndarray, having: np.ndarray, everything: np.ndarray, out: np.ndarray
) -> None:
    """Intersects `everything` with the solutions that have each of the board's queens."""
    out[:] = everything
    for row in range(len(board)):
        if board[row] >= 0:
            for word in range(len(out)):
                out[word] &= having[row, board[row], word]


@njit(cache=True, nogil=True)
def complete(
    boards: np.ndarray,
    solutions: np.ndarray,
    having: np.ndarray,
    everything: np.ndarray,
    found: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Lists the completions of every board in lexicographic order.

    Args:
        boards: int64 of shape (B, n).
        solutions: int64 of shape (S, n).
        having: see the module.
        everything: uint64 of shape (words,), the set of all solutions.
        found: int64 of shape (B, limit, n), receives the completions.
        counts: int64 of shape (B,), receives how many were written.
    """
    inside = np.zeros(len(everything), np.uint64)
    for b in range(len(boards)):
        _completions(boards[b], having, everything, inside)
        counts[b] = 0
        for word in range(len(inside)):
            bits = inside[word]
            place = 0
            while bits and counts[b] < found.shape[1]:
                while bits & uint64(1) == 0:
                    bits >>= uint64(1)
                    place += 1
                found[b, counts[b]] = solutions[word * 64 + place]
                counts[b] += 1
                bits >>= uint64(1)
                place += 1


@njit(cache=True, nogil=True)
def rank_rows(boards: np.ndarray, labels: np.ndarray, ranks: np.ndarray) -> None:
    """Ranks hidden rows, each time the one with the fewest columns free of attack, the first.

    Args:
        boards: int64 of shape (B, n).
        labels: int64 of shape (B, n), a completion of each.
        ranks: int64 of shape (B, n), zeros; receives the ranks, from 0 on, of hidden rows.
    """
    n = boards.shape[1]
    free = np.zeros(n, np.int64)  # columns free of attack, as bits
    placed = np.zeros(n, np.bool_)
    for b in range(len(boards)):
        free[:] = (1 << n) - 1
        placed[:] = False
        rank = 0
        for _ in range(n):
            best, fewest = -1, n + 1
            for row in range(n):
                count, here = -1, free[row]  # given queens stand before any hidden one
                if boards[b, row] < 0:
                    count = 0
                    while here:
                        here &= here - 1
                        count += 1
                if not placed[row] and count < fewest:
                    best, fewest = row, count
            placed[best] = True
            if boards[b, best] < 0:
                ranks[b, best] = rank
                rank += 1
            column = 1 << labels[b, best]
            for row in range(n):
                apart = abs(row - best)
                free[row] &= ~(column | column << apart | column >> apart)


@njit(cache=True, inline="always")
def _image_of(row: int, column: int, which: int, n: int) -> tuple[int, int]:
    """Returns where one of the eight symmetries of an n x n board takes a cell."""
    if which & 1:
        row = n - 1 - row
    if which & 2:
        column = n - 1 - column
    if which & 4:
        row, column = column, row
    return row, column


@njit(cache=True, nogil=True)
def image(board: np.ndarray, which: int, out: np.ndarray) -> None:
    """Writes one of the eight images of a board under turning and mirroring."""
    n = len(board)
    out[:] = -1
    for row in range(n):
        if board[row] >= 0:
            r, c = _image_of(row, board[row], which, n)
            out[r] = c


@njit(cache=True, nogil=True)
def random_images(seed: int, first_index: int, boards: np.ndarray) -> None:
    """Replaces every board, int64 of shape (B, n), by a random image."""
    old = np.zeros(boards.shape[1], np.int64)
    for b in range(len(boards)):
        old[:] = boards[b]
        which = draw_below(step_stream(open_stream(seed, -1, first_index + b)), 8)
        image(old, which, boards[b])


@njit(cache=True, nogil=True)
def board_key(board: np.ndarray) -> int:
    """Hashes a board to [0, 2**62), equally for its eight images: the least of their hashes."""
    n = len(board)
    least = ~uint64(0)
    for which in range(8):
        total = uint64(n)
        for row in range(n):
            if board[row] >= 0:
                r, c = _image_of(row, board[row], which, n)
                total += mix(uint64(r * n + c))
        least = min(least, total)
    return np.int64(mix(least) >> uint64(2))


@njit(cache=True, nogil=True)
def board_keys(boards: np.ndarray, keys: np.ndarray) -> None:
    """Runs `board_key` on boards (B, n); keys is int64 of shape (B,)."""
    for b in range(len(boards)):
        keys[b] = board_key(boards[b])


@njit(cache=True, nogil=True)
def generate(
    stream: Stream,
    hide: tuple[int, int],
    by_orbit: bool,
    solutions: np.ndarray,
    having: np.ndarray,
    inside: np.ndarray,
    boards: np.ndarray,
    labels: np.ndarray,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Fills one row per instance: a random solution with some queens hidden.

    Args:
        stream: the instances to draw.
        hide: fewest and most hidden queens.
        by_orbit: whether the split is that of the completions instead of the board's key.
        solutions: int64 of shape (S, n), all solutions in lexicographic order.
        having: see the module.
        inside: uint64 of shape (2, words), the set of all solutions, and that of the split (all
            solutions again if the split goes by board).
        boards: int64 of shape (count, n), receives the boards.
        labels: int64 of shape (count, n), receives their first completions.
        progress: where the generator stands, see `pir.system.slices.generate_rows`.
        budget: stops after so many draws.

    Returns:
        `BUSY`, `FILLED` or `GIVEN_UP`.
    """
    n = solutions.shape[1]
    row_order = np.zeros(n, np.int64)
    completions = np.zeros(inside.shape[1], np.uint64)
    for b in range(np.int64(progress[0]), len(boards)):
        state, draws = open_row(stream, b, progress)
        board = boards[b]
        while True:
            status = ask_to_draw(stream, b, draws, state, progress, budget)
            if status != DRAW:
                return status
            draws, budget = draws + 1, budget - 1
            state = step_stream(state)
            chosen = draw_below(state, len(solutions))
            if not inside[1, chosen // 64] >> uint64(chosen % 64) & uint64(1):
                continue
            board[:] = solutions[chosen]
            state = step_stream(state)
            hidden = hide[0] + draw_below(state, hide[1] - hide[0] + 1)
            for i in range(n):
                row_order[i] = i
            for i in range(hidden):
                state = step_stream(state)
                j = i + draw_below(state, n - i)
                row_order[i], row_order[j] = row_order[j], row_order[i]
                board[row_order[i]] = -1
            if not by_orbit and not stream.low <= board_key(board) % stream.key_range < stream.high:
                continue
            _completions(board, having, inside[0], completions)
            first, strays = -1, False
            for word in range(len(completions)):
                strays |= (completions[word] & ~inside[1, word]) != uint64(0)
                if first < 0 and completions[word]:
                    first = word * 64
                    bits = completions[word]
                    while bits & uint64(1) == 0:
                        bits >>= uint64(1)
                        first += 1
            if strays:  # some completion belongs to another split
                continue
            labels[b] = solutions[first]
            break
    return FILLED
