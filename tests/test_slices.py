"""Compiled work in slices: cut anywhere it gives the same, and a signal reaches it soon."""

import signal
import time

import numpy as np
import pytest
import torch
from pir.envs.countdown import kernels as countdown_kernels
from pir.envs.countdown.rules import Countdown
from pir.envs.graph import kernels as graph_kernels
from pir.envs.graph.rules import Graph
from pir.envs.maze import generator_kernels as maze_kernels
from pir.envs.maze.rules import Maze
from pir.envs.queens import kernels as queens_kernels
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from pir.envs.sudoku.text import BLANK

from pir.errors import UserError
from pir.system import slices
from tests.puzzles import VARIANTS

NEVER = 1 << 40

SOLUTIONS = 9
HOPELESS = {
    "countdown": lambda: Countdown(number_range=(1, 2), target_range=(9000, 9999)),
    "graph": lambda: Graph(nodes=10, hops=(9, 9)),
    "maze rooms": lambda: Maze(min_path=120),
    "maze walls": lambda: Maze(64, 64, "walls", min_path=4000),
    "queens": lambda: Queens(hide=(8, 8), split="orbits"),
    "sudoku clues": lambda: Sudoku((4, 4), clues=(20, 20)),
    "sudoku guesses": lambda: Sudoku(guesses=(1, 2)),
}


def give_up_after(draws, monkeypatch):
    for kernels in (countdown_kernels, graph_kernels, maze_kernels, queens_kernels):
        monkeypatch.setattr(kernels, "MAX_ATTEMPTS", draws)
    monkeypatch.setattr(Sudoku, "_max_draws", draws)


def seconds_to_stop(work, after=0.15):
    """Sends SIGINT while the work is being done; returns how long it goes on after that."""

    def interrupt(number, frame):
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    started = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.perf_counter() - started - after


@pytest.mark.parametrize("name", HOPELESS)
def test_an_interrupt_reaches_generators(name, monkeypatch):
    puzzle = HOPELESS[name]()
    give_up_after(2, monkeypatch)
    with pytest.raises(UserError):  # compiles; numba is not to be interrupted while it does
        puzzle.sample(3, "test", seed=0)
    give_up_after(NEVER, monkeypatch)
    assert seconds_to_stop(lambda: puzzle.sample(3, "test", seed=0)) < 1


def test_an_interrupt_reaches_the_search_for_one_puzzles_answers():
    puzzle = Sudoku((4, 4))
    empty = torch.full((1, puzzle.length), BLANK, dtype=torch.uint8)
    puzzle.solutions(empty, 1)  # compiles
    assert seconds_to_stop(lambda: puzzle.solutions(empty, 200_000)) < 1


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"maze_hard"}))
def test_work_cut_anywhere_gives_the_same(name, monkeypatch):
    puzzle = VARIANTS[name]()

    def everything():
        sample = puzzle.sample(2, "val", seed=3)
        question, solution = sample["question"], sample["solution"]
        answers, valid, _ = puzzle.solutions(question, SOLUTIONS)
        ranks = puzzle.solution_order(question, solution)
        others = puzzle.key(question), puzzle.rating(question), ranks
        return question, solution, answers[valid], valid, *others

    whole = everything()
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)  # every budget is 1
    for part, cut in zip(whole, everything(), strict=True):
        assert (part == cut).all()


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_rows_are_worked_on_once_each(count):
    done = np.zeros(count, int)

    def work(rows):
        done[rows] += 1

    slices.over_rows(count, work)
    assert (done == 1).all()


def test_settings_without_any_puzzle_are_told_from_rare_ones(monkeypatch):
    """A trial of few draws ends the search where nothing comes near what is wanted."""
    from pir.envs.sudoku import rules as sudoku

    monkeypatch.setattr(sudoku, "TRIAL_DRAWS", 30)
    monkeypatch.setattr(sudoku, "MAX_DRAWS", 2_000)
    for impossible in (Sudoku((3, 3), clues=(10, 12)), Sudoku((3, 3), guesses=(50_000, 60_000))):
        assert impossible._max_draws == 0
        with pytest.raises(UserError, match="widen a range"):
            impossible.sample(1, "train", seed=0)
    rare = Sudoku((3, 3), clues=(21, 21))  # one draw of several hundred
    assert rare.sample(2, "train", seed=0)["question"].ne(BLANK).sum(1).tolist() == [21, 21]


def test_long_walks_are_listed_without_dead_ends():
    """A search that met them would go on for ever."""
    graph = Graph(200, branching=4, hops=(2, 120))
    question = graph.sample(2, "train", seed=0)["question"]
    answers, valid, _ = graph.solutions(question, 300)
    assert valid.all()
    for row, q in zip(answers, question, strict=True):
        assert graph.verify(q.expand(300, -1), row).solved.all()
        assert len(row.unique(dim=0)) == 300
