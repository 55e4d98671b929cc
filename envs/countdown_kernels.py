"""Countdown's searching parts, compiled by numba: generator, exhaustive solver, key.

A program of n - 1 steps works on registers: R0 .. R(n-1) hold the numbers in descending order and
step s writes R(n+s). A *move* is 4 * pair + operator, pairs (i < j) of registers in lexicographic
order; subtraction and division take the larger operand first. Every result is a positive integer.
"""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, open_stream, step_stream

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


@njit(cache=True)
def number_key(numbers: np.ndarray) -> int:
    """Hashes a multiset of numbers, given in descending order, to [0, 2**62)."""
    state = uint64(len(numbers))
    for number in numbers:
        state = mix(state ^ uint64(number))
    return np.int64(state >> uint64(2))


@njit(cache=True)
def search_programs(
    numbers: np.ndarray, target: int, use_all: bool, pairs: np.ndarray, found: np.ndarray
) -> int:
    """Finds the lexicographically first programs that reach the target, by depth-first search.

    Args:
        numbers: int64 of shape (n,), descending.
        target: the value to reach.
        use_all: whether every number must be used.
        pairs: int64 of shape (P, 2), the operand registers of every pair.
        found: int64 of shape (limit, n - 1), receives the moves; unused steps become `STOP`.

    Returns:
        How many programs were written to `found`, at most `limit`.
    """
    n, limit = len(numbers), found.shape[0]
    value = np.zeros(2 * n - 1, np.int64)
    value[:n] = numbers
    alive = np.zeros(n, np.int64)
    alive[0] = (1 << n) - 1
    cursor = np.zeros(n, np.int64)
    path = np.zeros(n - 1, np.int64)
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
        result = apply_operator(move & 3, value[first], value[second])
        if result == 0:
            continue
        path[depth] = move
        is_last = depth == n - 2
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
    return count


@njit(cache=True)
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


@njit(cache=True)
def generate(
    first_index: int,
    seed: int,
    split: int,
    key_range: int,
    keys: tuple[int, int],
    number_range: tuple[int, int],
    target_range: tuple[int, int],
    use_all: bool,
    pairs: np.ndarray,
    numbers: np.ndarray,
    targets: np.ndarray,
    moves: np.ndarray,
) -> bool:
    """Fills one row per instance: numbers drawn uniformly, target by random legal play.

    Args:
        first_index: index of the first instance.
        seed: names the stream, with `split`.
        split: number of the split.
        key_range: modulus of the keys.
        keys: half-open range of key % key_range that belongs to the split.
        number_range: smallest and largest number.
        target_range: smallest and largest target.
        use_all: whether every number must be used.
        pairs: see `search_programs`.
        numbers: int64 of shape (count, n), receives the numbers in descending order.
        targets: int64 of shape (count,), receives the targets.
        moves: int64 of shape (count, n - 1), receives the first program in search order, the label.

    Returns:
        False if some instance was not found within `MAX_ATTEMPTS` draws.
    """
    count, n = numbers.shape
    for row in range(count):
        state = open_stream(seed, split, first_index + row)
        for attempt in range(MAX_ATTEMPTS + 1):
            if attempt == MAX_ATTEMPTS:
                return False
            for slot in range(n):
                state = step_stream(state)
                drawn = number_range[0] + draw_below(state, number_range[1] - number_range[0] + 1)
                place = slot
                while place > 0 and numbers[row, place - 1] < drawn:
                    numbers[row, place] = numbers[row, place - 1]
                    place -= 1
                numbers[row, place] = drawn
            if not keys[0] <= number_key(numbers[row]) % key_range < keys[1]:
                continue
            state, target = _random_target(state, numbers[row], use_all)
            if target_range[0] <= target <= target_range[1]:
                targets[row] = target
                search_programs(numbers[row], target, use_all, pairs, moves[row : row + 1])
                break
    return True


@njit(cache=True)
def enumerate_programs(
    numbers: np.ndarray,
    targets: np.ndarray,
    use_all: bool,
    pairs: np.ndarray,
    found: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Runs `search_programs` on every row: numbers (B, n), found (B, limit, n - 1), counts (B,)."""
    for row in range(len(numbers)):
        counts[row] = search_programs(numbers[row], targets[row], use_all, pairs, found[row])
