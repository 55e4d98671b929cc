"""The puzzles that the tests go over: every file of settings, and variants that differ in kind."""

from collections.abc import Callable

from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from pir.envs.views.registration import build_puzzle, puzzle_names

from pir.puzzle import Puzzle
from tests import slow_checkers as slow


def is_right(puzzle: Puzzle, question: str, answer: str) -> bool:
    """Asks the independent checker of a puzzle's kind."""
    match puzzle:
        case Sudoku():
            return slow.sudoku(question, answer, *puzzle.box)
        case Maze():
            return slow.maze(question, answer)
        case Queens():
            return slow.queens(question, answer)
        case Countdown():
            return slow.countdown(question, answer, puzzle.use_all)
        case Graph():
            return slow.graph(question, answer, puzzle.path)
    raise TypeError(puzzle)


VARIANTS: dict[str, Callable[[], Puzzle]] = {
    name: (lambda name=name: build_puzzle(name)) for name in puzzle_names()
} | {
    "countdown n=4 any subset": lambda: Countdown(4, use_all=False),
    "countdown n=5": lambda: Countdown(5, number_range=(1, 100), target_range=(100, 999)),
    "countdown n=6": lambda: Countdown(6),
    "sudoku 4x4 minimal": Sudoku,
    "sudoku 8x8": lambda: Sudoku((2, 4), clues=(24, 40)),
    "maze 7x9 perfect": lambda: Maze(7, 9, loops=0.0),
    "maze 6x8 walls": lambda: Maze(6, 8, "walls", wall_density=0.3, min_path=3),
    "queens n=10": lambda: Queens(10, hide=(7, 9)),
    "queens orbits": lambda: Queens(split="orbits"),
    "queens published": lambda: Queens(split="published"),
    "graph target alone": lambda: Graph(path=False),
    "graph n=40": lambda: Graph(40, branching=3, hops=(4, 7)),
}
