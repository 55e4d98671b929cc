"""Puzzles as text, as figures and as animations."""

import sys

import pytest
import torch
from PIL import Image
from pir.analysis.figures.draw import save_animation, save_pictures
from pir.envs.maze.rules import Maze
from pir.envs.sudoku.rules import Sudoku

from pir.cli.commands.gif import steps_to_show
from pir.cli.main import main
from pir.evaluation.examples import most_instructive
from pir.notation.drawing import draw_frame, extent
from pir.notation.picture import Cell, Picture, as_text
from pir.puzzle import Drawing
from tests.puzzles import VARIANTS


def frames(path):
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1), image.size


def test_text_marks_what_is_wrong():
    cells = (
        Cell(0, 0, "1", "given"),
        Cell(1, 0, "", "blank"),
        Cell(0, 1, "10", "wrong"),
        Cell(1, 1, "", "wall"),
    )
    assert as_text(Picture(cells)) == "1  .\n10!##"


def test_conflicts_reach_the_picture():
    puzzle = Sudoku()
    question = puzzle.parse("1" + "." * 15)
    answer = question.clone()
    answer[1:4] = 2
    lines = as_text(puzzle.picture(question, answer)).splitlines()
    assert lines[0] == "1 1!1!1!"
    maze = Maze(5, 5)
    question = maze.parse("#####/#S..#/#.#.#/#..G#/#####")
    answer = maze.parse_answer(question, "#####/#So.#/#o#.#/#ooG#/#####")
    assert as_text(maze.picture(question, answer)).splitlines()[1] == "##S o!. ##"


@pytest.mark.parametrize("name", ["countdown", "sudoku9", "maze", "queens", "graph"])
def test_figures(name, tmp_path):
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(1, "test", seed=0)
    pictures = [puzzle.picture(sample["question"][0], part[0]) for part in sample.values()]
    save_pictures(pictures, ["question", "answer"], tmp_path / "figure.png")
    _, (width, height) = frames(tmp_path / "figure.png")
    assert width > height > 50


def test_frames_have_the_size_asked_for():
    row = Picture(tuple(Cell(float(x), 0.0, "7", "given") for x in range(12)))
    frame = draw_frame(row, (12, 1))
    assert frame.shape == (36, 432, 3)
    assert draw_frame(row, (4, 3)).shape == (108, 144, 3)  # scaled to fit
    assert draw_frame(row, (600, 1)).shape == (2, 1440, 3)  # never larger
    wrong = Picture((*row.cells[:-1], row.cells[-1]._replace(role="wrong")))
    changed = (draw_frame(wrong, (12, 1)) != frame).any((0, 2))
    assert changed[-60:].any()
    assert not changed[:-60].any()


def test_animations_are_small_and_have_a_frame_per_step(tmp_path):
    puzzle = VARIANTS["maze_hard"]()
    sample = puzzle.sample(1, "val", seed=0)
    question, answer = sample["question"][0], sample["solution"][0]
    pictures = [puzzle.picture(question, part) for part in (question, answer, question, answer)]
    save_animation(pictures, list("abcd"), tmp_path / "a.gif")
    assert frames(tmp_path / "a.gif")[0] == 4
    assert (tmp_path / "a.gif").stat().st_size < 300_000


def test_show(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    out = tmp_path / "maze.png"
    assert main(["show", "env=maze", "index=3", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "question  ###########/" in printed
    assert " steps\n" in printed
    assert out.is_file()
    assert main(["show", "env=maze", "index=-1"]) == 2
    assert main(["show", "env=maze", "split=all"]) == 2
    capsys.readouterr()
    assert main(["show", "env=maze", "out=a.foo"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "out=a.foo: the ending must be one of .png" in told.err


def test_an_animation_ends_soon_after_the_puzzle_is_solved_for_good():
    wrong, right = False, True
    assert steps_to_show([wrong, right, wrong, right, right, right, right, right]) == 5
    assert steps_to_show([wrong, right, right]) == 2
    assert steps_to_show([wrong] * 7) == 6
    assert steps_to_show([right] * 7) == 3


def test_gif(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    out = tmp_path / "answer.gif"
    assert main(["gif", f"run={tiny_run}", "index=2", f"out={out}"]) == 0
    assert frames(out)[0] == 3  # the question and two steps
    words = ["gif", f"run={tiny_run}", "puzzle=3 7 8 = 29", "improvement_steps=5", f"out={out}"]
    assert main(words) == 0
    assert frames(out)[0] == 6
    capsys.readouterr()
    assert main(["gif", f"run={tiny_run}", f"out={out}"]) == 0
    assert "its answer changes in most steps" in capsys.readouterr().err
    assert main(["gif", f"run={tiny_run}", "index=-1"]) == 2
    assert main(["gif", "run=/nonexistent", f"out={tmp_path}/a.mp4"]) == 2
    assert "the ending must be .gif" in capsys.readouterr().err


def test_the_default_picture_of_a_long_answer_is_no_strip():
    maze = Maze(21, 21)
    question = maze.sample(1, "test", seed=0)["question"][0]
    assert extent(Drawing.picture(maze, question, question)) == (21, 21)
    maze.board = None
    assert extent(Drawing.picture(maze, question, question)) == (16, 28)


def test_the_most_instructive_puzzle_changes_often_and_ends_solved():
    answers = torch.tensor([
        [[0], [1], [1], [1]],  # solved at once
        [[0], [1], [2], [3]],  # solved at last
        [[0], [1], [0], [1]],  # never solved
        [[0], [2], [2], [3]],
    ], dtype=torch.uint8)  # fmt: skip
    solved = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]) > 0
    assert most_instructive(answers, solved) == [1, 3, 0, 2]
