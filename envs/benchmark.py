"""What `pir bench envs` measures: every generator and verifier, and the views, on one core.

Peers that are installed are timed in the same run, as absolute times of a machine say little:
reasoning-gym (extra `bench`), and for Sudoku a naive back-tracking search.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku

from pir.laws.checks import per_second
from pir.puzzle import Puzzle

BATCH = 256

Peer = tuple[str, dict[str, int]]
"""A data set of reasoning-gym and its options."""

THIRTY_CLUES: Peer = ("sudoku", {"min_empty": 51, "max_empty": 51})
MAZE_31: Peer = ("maze", {"min_grid_size": 31, "max_grid_size": 31, "max_dist": 60})


def _countdown(numbers: int) -> Peer:
    return "countdown", {"min_numbers": numbers, "max_numbers": numbers}


GENERATORS: list[tuple[str, Callable[[], Puzzle], int, int | None, Peer | None]] = [
    # what, puzzle, instances per call, goal per second, reasoning-gym's nearest
    ("Countdown n = 3", lambda: Countdown(3), 20_000, 1_000_000, _countdown(3)),
    ("Countdown n = 4", lambda: Countdown(4), 20_000, 700_000, _countdown(4)),
    ("Countdown n = 6", lambda: Countdown(6), 1_000, 4_000, _countdown(6)),
    ("Sudoku 9x9, minimal", lambda: Sudoku((3, 3)), 200, 1_000, ("sudoku", {})),
    ("Sudoku 9x9, 30 clues", lambda: Sudoku((3, 3), (30, 30)), 500, 6_000, THIRTY_CLUES),
    ("Sudoku 6x6, minimal", lambda: Sudoku((2, 3)), 2_000, 14_000, None),
    ("Sudoku 4x4, minimal", lambda: Sudoku((2, 2)), 5_000, 80_000, ("mini_sudoku", {})),
    ("Maze 31x31, perfect", lambda: Maze(31, 31, loops=0), 2_000, 50_000, None),
    ("Maze 31x31, loops", lambda: Maze(31, 31), 2_000, 40_000, MAZE_31),
    ("Maze 30x30, 109 steps", lambda: Maze(30, 30, "walls", min_path=109), 50, 450, None),
    ("Queens 8x8, partial boards", Queens, 50_000, 1_000_000, ("n_queens", {})),
    ("Graph, 10 nodes", Graph, 5_000, None, None),
]

VERIFIERS: list[tuple[str, Callable[[], Puzzle], float]] = [
    # what, puzzle, goal in milliseconds
    ("verify 256: Sudoku 9x9", lambda: Sudoku((3, 3), clues=(30, 30)), 0.5),
    ("verify 256: Maze 31x31", lambda: Maze(31, 31), 2.5),
    ("verify 256: Countdown n = 4", lambda: Countdown(4), 0.4),
]


def measure(seconds: float) -> Iterator[dict[str, Any]]:
    """Yields one row per measurement: name, value, unit, goal, and a peer's value if there is one.

    Args:
        seconds: how long each is repeated; the best repetition counts.
    """
    for name, make, count, goal, peer in GENERATORS:
        puzzle, rated = make(), "Sudoku" in name
        row = _row(f"generate: {name}", round(_generates(puzzle, count, rated, seconds)), "per s")
        row["goal"] = goal
        if peer is not None and find_spec("reasoning_gym") is not None:
            rate = round(_peer(*peer, seconds), 1)
            row |= {"peer": f"reasoning-gym {peer[0]}", "peer_value": rate}
        yield row
    yield _row("generate: Sudoku 9x9, minimal, naive Python", _naive_sudoku(), "per s")
    for name, make, limit in VERIFIERS:
        sample = make().sample(BATCH, "train", seed=0)
        row = _row(name, _milliseconds(make(), sample, seconds), "ms")
        yield row | {"goal": limit}
    yield from _views(seconds)


def _row(name: str, value: float, unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "goal": None,
        "peer": None,
        "peer_value": None,
    }


def _generates(puzzle: Puzzle, count: int, rated: bool, seconds: float) -> float:
    start = 0

    def work() -> int:
        nonlocal start
        sample = puzzle.sample(count, "train", seed=0, start=start)
        if rated:
            puzzle.rating(sample["question"])
        start += count
        return count

    return per_second(work, seconds)


def _milliseconds(puzzle: Puzzle, sample: Any, seconds: float) -> float:
    def work() -> int:
        puzzle.verify(sample["question"], sample["solution"])
        return 1

    return round(1000 / per_second(work, seconds), 3)


def _peer(dataset: str, options: dict[str, int], seconds: float) -> float:
    """Times a generator of reasoning-gym, which makes one puzzle at a time."""
    import reasoning_gym

    generator = reasoning_gym.create_dataset(dataset, size=1_000_000, seed=0, **options)
    started = time.perf_counter()
    index = made = 0
    while time.perf_counter() < started + seconds:
        with suppress(RuntimeError):  # its mazes give up where they find no path
            generator[index]
            made += 1
        index += 1
    return made / (time.perf_counter() - started)


def _naive_sudoku() -> float:
    """Times digging one minimal 9x9 puzzle in plain Python, for scale."""
    puzzle = Sudoku((3, 3), clues=(30, 30))
    grid = (puzzle.sample(1, "train", seed=0)["solution"][0] - 1).tolist()
    peers = puzzle.peers.tolist()

    def count_solutions(cells: list[int]) -> int:
        blank = [c for c in range(81) if cells[c] == 0]
        if not blank:
            return 1
        free = {c: set(range(1, 10)) - {cells[p] for p in peers[c]} for c in blank}
        cell = min(blank, key=lambda c: len(free[c]))
        found = 0
        for digit in free[cell]:
            cells[cell] = digit
            found += count_solutions(cells)
            cells[cell] = 0
            if found > 1:
                break
        return found

    started = time.perf_counter()
    order = torch.randperm(81, generator=torch.Generator().manual_seed(0)).tolist()
    for cell in order:
        digit, grid[cell] = grid[cell], 0
        if count_solutions(list(grid)) > 1:
            grid[cell] = digit
    return round(1 / (time.perf_counter() - started), 1)


def _views(seconds: float) -> Iterator[dict[str, Any]]:
    """Times a step of the views beyond clamp and verify, against a step of the default model."""
    from pir.envs.views.gymnasium_view import RevisionVectorEnv
    from pir.envs.views.torchrl_view import PuzzleEnv

    from pir.models.trm import TRM

    puzzle = Sudoku((3, 3), clues=(30, 30))
    sample = puzzle.sample(BATCH, "train", seed=0)
    question, answer = sample["question"], sample["solution"]
    model = TRM(puzzle)
    k = torch.ones(BATCH, dtype=torch.int64)
    with torch.no_grad():
        state = model.start(question)

        def improve() -> int:
            model.read_out(model.improve(question, state, k))
            return 1

        def bare() -> int:
            puzzle.verify(question, puzzle.clamp(question, answer))
            return 1

        gym = RevisionVectorEnv(puzzle, BATCH, horizon=1_000_000)
        gym.reset(seed=0)
        actions = answer.numpy().astype(gym.action_space.dtype)

        def gym_step() -> int:
            gym.step(actions)
            return 1

        rl = PuzzleEnv(puzzle, BATCH, horizon=1_000_000, seed=0)
        start = rl.reset().set("action", answer)

        def rl_step() -> int:
            rl.step(start)
            return 1

        works = {"improve": improve, "bare": bare, "Gymnasium": gym_step, "TorchRL": rl_step}
        times = {name: 1000 / per_second(work, seconds) for name, work in works.items()}
    yield _row("step of TRM (9x9, 256, no gradient)", round(times["improve"], 1), "ms")
    for view in ("Gymnasium", "TorchRL"):
        extra = times[view] - times["bare"]
        row = _row(
            f"{view} view beyond verify", round(100 * extra / times["improve"], 2), "% of step"
        )
        yield row | {"goal": 2.0}
