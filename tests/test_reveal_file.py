"""Training puzzles of a file with some of their blanks filled in (env.reveal_file)."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.maze.rules import Maze
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.puzzle import KEY_RANGE, split_range


@pytest.fixture
def file(tmp_path):
    generated = Sudoku(box=(2, 2), clues=(4, 6))
    samples = [generated.sample(40, split, seed=0)["question"] for split in ("train", "test")]
    questions = torch.cat(samples)
    path = tmp_path / "four.txt"
    path.write_text("\n".join(generated.format_question(q) for q in questions))
    return str(path)


def test_so_many_blanks_are_filled_in_and_one_stays(file):
    plain = Sudoku(box=(2, 2), puzzles=file, augment_file=False)
    easier = Sudoku(box=(2, 2), puzzles=file, augment_file=False, reveal_file=(2, 40))
    before, after = (p.sample(200, "train", seed=3) for p in (plain, easier))
    assert (before["solution"] == after["solution"]).all()
    blank = plain.written(before["question"])
    revealed = blank & ~plain.written(after["question"])
    assert (
        after["question"] == torch.where(revealed, before["solution"], before["question"])
    ).all()
    filled = revealed.sum(1)
    low, high = split_range("train")
    kept = plain.key(after["question"]) % KEY_RANGE
    assert ((low <= kept) & (kept < high)).all()  # a puzzle made easier is in no other split
    untouched = filled == 0
    assert 0 < untouched.sum() < 60  # those that would be
    assert int(filled[~untouched].min()) == 2
    assert ((blank.sum(1) - filled) >= 1).all()
    assert (blank.sum(1) - filled == 1).any()
    assert len(filled.unique()) > 4
    one = easier.sample(1, "train", seed=3, start=17)["question"]
    assert (one[0] == after["question"][17]).all()


def test_held_out_puzzles_stay_as_they_are(file):
    plain = Sudoku(box=(2, 2), puzzles=file)
    easier = Sudoku(box=(2, 2), puzzles=file, reveal_file=(2, 4))
    size = plain.size("test") or 0
    assert size > 0
    same = [p.sample(size, "test", seed=0)["question"] for p in (plain, easier)]
    assert (same[0] == same[1]).all()


def test_what_cannot_be_is_refused(file):
    with pytest.raises(UserError, match=r"env.reveal_file=\[3, 2\]: allowed is 0 <= fewest"):
        Sudoku(box=(2, 2), puzzles=file, reveal_file=(3, 2))
    with pytest.raises(UserError, match=r"env.reveal_file=\[0, 2\] needs env.puzzles=FILE"):
        Sudoku(box=(2, 2), reveal_file=(0, 2))
    for kind in (Maze, Countdown):
        with pytest.raises(UserError, match="cannot be given in parts"):
            kind(puzzles=file, reveal_file=(0, 2))
