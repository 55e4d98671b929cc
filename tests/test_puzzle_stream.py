"""Puzzles made ahead by a thread are those that would have been made later, in the same order."""

import random
import threading
import time

import pytest
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.puzzle import Source
from pir.training.puzzle_stream import PuzzleStream
from tests.training_runs import assert_equal, assert_same_run, go_on, start

GROUPED = (
    "objective=group_relative",
    "objective.terms.reward.samples=4",
    "trainer.replay_share=0.25",
    "trainer.replay_size=6",
)
"""Four lanes a puzzle."""


class Spied(Countdown):
    """Remembers which puzzles were made in which thread."""

    def __init__(self):
        super().__init__()
        self.here, self.elsewhere = [], []

    def sample(self, count, split, *, seed, start=0):
        own = threading.current_thread() is threading.main_thread()
        (self.here if own else self.elsewhere).extend(range(start, start + count))
        return super().sample(count, split, seed=seed, start=start)


def spied_by_eights(ahead):
    """Takes 40 puzzles, eight at a time, with so many expected next; returns what was seen."""
    puzzle = Spied()
    with PuzzleStream(puzzle, 0, ahead=True) as stream:
        for at in range(0, 40, 8):
            stream.take(at, 8, at + 8, ahead)
    return puzzle


def test_any_guess_gives_the_same_puzzles():
    """Right guesses, too early and too late ones, of more and of fewer puzzles than are taken."""
    draw, puzzle = random.Random(0), Countdown()
    with PuzzleStream(puzzle, 3, ahead=True) as stream:
        at = 0
        for _ in range(60):
            count = draw.randrange(9)
            guess = max(0, at + count + draw.choice((0, 0, 0, -3, 2, 40)))
            taken = stream.take(at, count, guess, draw.choice((count, count, 0, 3, 20)))
            wanted = puzzle.sample(max(1, count), "train", seed=3, start=at)[:count]
            assert_equal(taken.to_dict(), wanted.to_dict(), f"puzzles from {at}")
            at += count


def test_a_thread_makes_all_but_the_first():
    puzzle = spied_by_eights(8)
    assert puzzle.here == list(range(8))
    assert puzzle.elsewhere[:32] == list(range(8, 40))
    assert not [each for each in threading.enumerate() if each.name.startswith("puzzles")]


def test_without_a_thread_nothing_is_made_ahead():
    puzzle = Spied()
    with PuzzleStream(puzzle, 0, ahead=False) as stream:
        stream.take(0, 8, 8, 8)
        stream.take(8, 8, 16, 8)
    assert (puzzle.here, puzzle.elsewhere) == (list(range(16)), [])


def test_what_is_made_and_not_taken_is_kept():
    puzzle = spied_by_eights(20)
    assert puzzle.here == list(range(8))
    assert len(puzzle.elsewhere) == len(set(puzzle.elsewhere))


def test_errors_are_raised_for_puzzles_that_are_taken():
    class Ending(Countdown):
        def sample(self, count, split, *, seed, start=0):
            if start + count > 12:
                raise UserError("no more")
            return super().sample(count, split, seed=seed, start=start)

    with PuzzleStream(Ending(), 0, ahead=True) as stream:
        stream.take(0, 8, 8, 8)
        assert len(stream.take(8, 2, 10, 8)) == 2
        with pytest.raises(UserError, match="no more"):
            stream.take(10, 8, 18, 8)


def test_the_thread_ends_in_the_midst_of_a_puzzle(monkeypatch):
    """One with 20 clues on a 16x16 board is searched for all but forever."""
    puzzle = Sudoku((4, 4), clues=(20, 20))
    monkeypatch.setattr(Sudoku, "_max_draws", 1)
    with pytest.raises(UserError):  # compiles
        puzzle.sample(1, "train", seed=0)
    monkeypatch.setattr(Sudoku, "_max_draws", 1 << 40)
    with PuzzleStream(puzzle, 0, ahead=True) as stream:
        stream.take(0, 0, 0, 1)
        time.sleep(0.1)
        assert not stream.coming.done()
        started = time.perf_counter()
    assert time.perf_counter() - started < 1


def test_the_thread_ends_between_two_draws_of_a_plain_generator():
    class Slow(Countdown):
        sample = Source.sample

        def generate(self, rng):
            time.sleep(0.01)
            puzzle = Countdown.sample(self, 1, "test", seed=0)[0]  # never of the training split
            return puzzle["question"], puzzle["solution"]

    with PuzzleStream(Slow(), 0, ahead=True) as stream:
        stream.take(0, 0, 0, 1)
        time.sleep(0.1)
        started = time.perf_counter()
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "words",
    [(), ("trainer.replay_share=0.25", "trainer.replay_size=6"), ("objective=ppo",), GROUPED],
)
def test_a_run_with_a_thread_is_the_same_run(tmp_path, words):
    """To the bit, through a stop and a resume, in which nothing of the thread is saved."""
    words = (*words, "trainer.max_optimizer_steps=6")
    plain = start(tmp_path / "plain", *words)
    assert not plain.stream.ahead  # on a CPU there is nothing to win
    plain.train()
    ahead = start(tmp_path / "ahead", *words, "trainer.max_optimizer_steps=3")
    ahead.stream.ahead, makes, made = True, ahead.stream._made_ahead, []
    ahead.stream._made_ahead = lambda *of: made.append(of) or makes(*of)
    ahead.train()
    assert len(made) >= 2
    assert ahead.stream.worker is None
    ahead = go_on(tmp_path / "ahead", *words)
    ahead.stream.ahead = True
    ahead.train()
    assert plain.progress.puzzles_seen == ahead.progress.puzzles_seen
    assert_same_run(tmp_path / "plain", tmp_path / "ahead")
