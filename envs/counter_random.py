"""Counter-based random numbers for the generators (compiled).

Every instance owns a stream whose start depends on (seed, split, index) alone, so results never
depend on batch size, order, worker or platform. Mixing: splitmix64 (Steele, Lea and Flood 2014);
stream: xorshift64* (Vigna 2016).

`pir.envs.instance_stream` opens the streams of the generators.
"""

import numpy as np
from numba import njit, uint64

_GOLDEN = uint64(0x9E3779B97F4A7C15)


@njit(cache=True, inline="always")
def mix(value: np.uint64) -> np.uint64:
    """Scrambles 64 bits one to one (the splitmix64 finaliser)."""
    value = uint64(value) + _GOLDEN
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(cache=True, nogil=True)
def open_stream(seed: int, split: int, index: int) -> np.uint64:
    """Returns the state of the stream that belongs to one instance; never 0."""
    state = mix(mix(mix(uint64(seed)) ^ uint64(split)) ^ uint64(index))
    return state if state != uint64(0) else _GOLDEN


@njit(cache=True, inline="always")
def step_stream(state: np.uint64) -> np.uint64:
    """Advances a stream."""
    state = uint64(state)
    state ^= state >> uint64(12)
    state ^= state << uint64(25)
    state ^= state >> uint64(27)
    return state


@njit(cache=True, inline="always")
def draw_below(state: np.uint64, bound: int) -> int:
    """Reads an integer in [0, bound) off a stream's state, bound < 2**31."""
    high = (uint64(state) * uint64(0x2545F4914F6CDD1D)) >> uint64(33)
    return np.int64((high * uint64(bound)) >> uint64(31))


@njit(cache=True, nogil=True)
def shuffle(state: np.uint64, order: np.ndarray) -> np.uint64:
    """Writes a random order of 0 .. len - 1 into `order`; returns the stream."""
    for i in range(len(order)):
        state = step_stream(state)
        j = draw_below(state, i + 1)
        order[i] = order[j]
        order[j] = i
    return state
