"""Countdown's searching parts, compiled by numba: generator, exhaustive solver, key.

A program of n - 1 steps works on registers: R0 .. R(n-1) hold the numbers in descending order and
step s writes R(n+s). A *move* is 4 * pair + operator, pairs (i < j) of registers in lexicographic
order; subtraction and division take the larger operand first. Every result is a positive integer.
"""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, step_stream
from pir.envs.instance_stream import DRAW, Stream, ask_to_draw, open_row

from pir.system.slices import FILLED

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
STOP = -1
"""Fills the steps that a program leaves unused (only where a subset of the numbers may be used)."""

MAX_ATTEMPTS = 1_000_000


@njit(cache=True, inline="always")
def apply_operator(operator: int, first: int, second: int) -> int:
    """Returns the result of one step, or 0 where it is no positive integer."""
    larger, smaller = max(first, second), min(first, second)
    if operator == ADD:
        return larger + smaller
    if operator == SUBTRACT:
        return larger - smaller
    if operator == MULTIPLY:
        return larger * smaller
    return larger // smaller if larger % smaller == 0 else 0


@njit(cache=True, nogil=True)
def number_key(numbers: np.ndarray) -> int:
    """Hashes a multiset of numbers, given in descending order, to [0, 2**62)."""
    state = uint64(len(numbers))
    for number in numbers:
        state = mix(state ^ uint64(number))
    return np.int64(state >> uint64(2))


@njit(cache=True, nogil=True)
def search_programs(
    numbers: np.ndarray,
    target: int,
    use_all: bool,
    pairs: np.ndarray,
    scratch: np.ndarray,
    found: np.ndarray,
) -> int:
    """Finds the lexicographically first programs that reach the target, by depth-first search.

    Args:
        numbers: int64 of shape (n,), descending.
        target: the value to reach.
        use_all: whether every number must be used.
        pairs: int64 of shape (P, 2), the operand registers of every pair.
        scratch: int64 of shape (4, 2n), room.
        found: int64 of shape (limit, n - 1), receives the moves; unused steps become `STOP`.

    Returns:
        How many programs were written to `found`, at most `limit`.
    """
    n, limit = len(numbers), found.shape[0]
    value, alive, cursor, path = scratch
    value[:n] = numbers
    alive[0] = (1 << n) - 1
    cursor[0] = 0
    depth, count = 0, 0
    while depth >= 0:
        move = cursor[depth]
        if move == 4 * len(pairs):
            depth -= 1
            continue
        first, second = pairs[move >> 2]
        operands = (1 << first) | (1 << second)
        if alive[depth] & operands != operands:
            cursor[depth] = move + 4
            continue
        cursor[depth] = move + 1
        is_last = depth == n - 2
        if is_last and move & 3 == DIVIDE:
            cursor[depth] = 4 * len(pairs)  # only two registers are left, there is no other pair
        result = apply_operator(move & 3, value[first], value[second])
        if result == 0:
            continue
        path[depth] = move
        if result == target and (is_last or not use_all):
            for step in range(n - 1):
                found[count, step] = path[step] if step <= depth else STOP
            count += 1
            if count == limit:
                return count
        if not is_last:
            value[n + depth] = result
            alive[depth + 1] = (alive[depth] & ~operands) | (1 << (n + depth))
            depth += 1
            cursor[depth] = 0
            if depth == n - 2:
                cursor[depth] = 4 * _first_pair(alive[depth], n)
    return count


@njit(cache=True, inline="always")
def _first_pair(alive: int, n: int) -> int:
    """Returns the index of the pair made of the two lowest registers in a set of them."""
    first = 0
    while alive >> first & 1 == 0:
        first += 1
    second = first + 1
    while alive >> second & 1 == 0:
        second += 1
    registers = 2 * n - 2
    return first * (2 * registers - first - 1) // 2 + second - first - 1


@njit(cache=True, nogil=True)
def _random_target(state: np.uint64, numbers: np.ndarray, use_all: bool) -> tuple[np.uint64, int]:
    """Plays random legal moves on a copy of the numbers; returns the stream and the last result."""
    n = len(numbers)
    pool = numbers.copy()
    state = step_stream(state)
    steps = n - 1 if use_all else 1 + draw_below(state, n - 1)
    result = 0
    for step in range(steps):
        size = n - step
        state = step_stream(state)
        first = draw_below(state, size)
        state = step_stream(state)
        second = draw_below(state, size - 1)
        second += second >= first
        result = 0
        while result == 0:
            state = step_stream(state)
            result = apply_operator(draw_below(state, 4), pool[first], pool[second])
        pool[min(first, second)] = result
        pool[max(first, second)] = pool[size - 1]
    return state, result


@njit(cache=True, nogil=True)
def generate(
    stream: Stream,
    number_range: tuple[int, int],
    target_range: tuple[int, int],
    use_all: bool,
    pairs: np.ndarray,
    numbers: np.ndarray,
    targets: np.ndarray,
    moves: np.ndarray,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Fills one row per instance: numbers drawn uniformly, target by random legal play.

    Args:
        stream: the instances to draw.
        number_range: smallest and largest number.
        target_range: smallest and largest target.
        use_all: whether every number must be used.
        pairs: see `search_programs`.
        numbers: int64 of shape (count, n), receives the numbers in descending order.
        targets: int64 of shape (count,), receives the targets.
        moves: int64 of shape (count, n - 1), receives the first program in search order, the label.
        progress: where the generator stands, see `pir.system.slices.generate_rows`.
        budget: stops after so many draws.

    Returns:
        `BUSY`, `FILLED` or `GIVEN_UP`.
    """
    count, n = numbers.shape
    scratch = np.zeros((4, 2 * n), np.int64)
    for row in range(np.int64(progress[0]), count):
        state, draws = open_row(stream, row, progress)
        while True:
            status = ask_to_draw(stream, row, draws, state, progress, budget)
            if status != DRAW:
                return status
            draws, budget = draws + 1, budget - 1
            for slot in range(n):
                state = step_stream(state)
                drawn = number_range[0] + draw_below(state, number_range[1] - number_range[0] + 1)
                place = slot
                while place > 0 and numbers[row, place - 1] < drawn:
                    numbers[row, place] = numbers[row, place - 1]
                    place -= 1
                numbers[row, place] = drawn
            if not stream.low <= number_key(numbers[row]) % stream.key_range < stream.high:
                continue
            state, target = _random_target(state, numbers[row], use_all)
            if target_range[0] <= target <= target_range[1]:
                targets[row] = target
                search_programs(numbers[row], target, use_all, pairs, scratch, moves[row : row + 1])
                break
    return FILLED


@njit(cache=True, nogil=True)
def enumerate_programs(
    numbers: np.ndarray,
    targets: np.ndarray,
    use_all: bool,
    pairs: np.ndarray,
    found: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Runs `search_programs` on every row: numbers (B, n), found (B, limit, n - 1), counts (B,)."""
    scratch = np.zeros((4, 2 * numbers.shape[1]), np.int64)
    for row in range(len(numbers)):
        counts[row] = search_programs(
            numbers[row], targets[row], use_all, pairs, scratch, found[row]
        )
