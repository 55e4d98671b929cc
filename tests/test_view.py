"""Views of work under way, boards side by side, and puzzles as text."""

import io
import re
import sys

import pytest
from pir.envs.views.registration import build_puzzle
from rich.console import Console
from rich.text import Text

from pir.cli.boards import Board, has_board, side_by_side
from pir.cli.commands.solve import as_boards
from pir.errors import UserError
from pir.evaluation.rollouts import evaluate
from pir.evaluation.solve import StepAnswer
from pir.models.trm import TRM
from pir.notation.picture import as_text
from pir.puzzle_files.reader import only_puzzle
from pir.system import work
from pir.system.terminal import say
from pir.system.view import Reflowing, View
from pir.training.progress import ProgressView


def terminal(width=80):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def lines_of(console):
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return re.split(r"[\r\n]", plain)


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text):
        raise BrokenPipeError


def test_work_goes_on_when_nobody_reads_what_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    View("train").line("a line")
    say("a hint", error=True)
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        say("a result")


def test_parts_and_shares_reach_the_listener_alone():
    heard = []
    work.done(0.5)  # nobody listens
    with work.told_to(lambda parts, share: heard.append((parts, share))):
        with work.part("a"), work.part("b"):
            work.done(0.25)
        work.done(1.0)
    assert heard == [(("a",), None), (("a", "b"), None), (("a", "b"), 0.25), ((), 1.0)]


def test_an_evaluation_says_how_far_it_is():
    puzzle, shares = build_puzzle("sudoku4"), []
    reasoner = TRM(puzzle, hidden_size=16, heads=2)
    with work.told_to(lambda parts, share: shares.append(share)):
        evaluate(reasoner, puzzle, puzzle.sample(5, "val", seed=0), 2, batch_size=2)
    assert shares == sorted(shares)
    assert shares[0] == 0.2
    assert shares[-1] == 1


def test_plain_lines_come_seldom():
    console = Console(file=io.StringIO(), width=80)
    with View("pir eval a", console), work.part("exits"):
        for i in range(50):
            work.done(i / 50)
    assert lines_of(console) == ["pir eval a: exits  0:00", ""]


def test_a_view_fits_its_terminal_and_leaves_nothing():
    console = terminal()
    with View("pir eval " + 100 * "x", console) as view, work.part(100 * "y"):
        work.done(0.5)
        view.live.refresh()
    assert max(map(len, lines_of(console))) <= 80
    assert console.file.getvalue().endswith("\x1b[1A\x1b[2K" * 2)


def test_training_fits_eighty_columns():
    console = terminal()
    with ProgressView("countdown · recurrent_depth · input_curriculum", console) as view:
        view.update(share_done=0.5, optimizer_step=123456, seconds=36000.0, loss=12.345,
                    solved=[0.5] * 16, solved_at_end=0.5)  # fmt: skip
        view.validated([1.0] * 16, 1.0, True)
        work.done(0.5)  # the next validation
        view.live.refresh()
    shown = lines_of(console)
    assert max(map(len, shown)) <= 80
    assert not [line for line in shown if "…" in line]
    assert any(line.endswith("validation") for line in shown)


def test_a_terminal_that_became_narrower_is_wiped():
    """Lines that the terminal broke anew take more rows than were written."""
    console = terminal(80)
    shown = Reflowing(Text("x" * 70 + "\n" + "y" * 30))
    console.print(shown)
    assert str(shown.position_cursor()).count("\x1b[1A") == 1
    console.width = 25
    assert str(shown.position_cursor()).count("\x1b[1A") == 3 + 2 - 1
    console.width = 200
    assert str(shown.position_cursor()).count("\x1b[1A") == 1


def test_boards_stand_side_by_side():
    boards = [Board("a", "1 2\n3 4"), Board("longer", "5"), Board("c", "6")]
    assert side_by_side(boards, 15) == "a      longer\n1 2    5\n3 4\n\nc\n6"


def test_steps_as_boards():
    puzzle = build_puzzle("sudoku4")
    sample = puzzle.sample(1, "test", seed=0)
    question, solution = sample["question"][0], sample["solution"][0]
    wrong = solution.clone()
    place = int(puzzle.written(question[None])[0].int().argmax())
    wrong[place] = wrong[place] % 4 + 2 if wrong[place] < 5 else 2
    steps = [
        StepAnswer(1, k, puzzle.format_answer(question, tokens), tokens is solution, 0.9, tokens)
        for k, tokens in enumerate((wrong, solution, solution), start=1)
    ]
    first, *rows = as_boards(puzzle, {"question": question, "steps": steps}).splitlines()
    assert first.split("  ")[0] == "question"
    assert "step 1 score 0.90" in first
    assert first.endswith("steps 2-3 solved")
    assert "!" in "".join(rows)
    assert has_board(puzzle)
    assert not has_board(build_puzzle("countdown"))


def test_a_graph_is_text_that_can_be_read():
    puzzle = build_puzzle("graph")
    question = puzzle.parse("0>4 0>6 1>0 1>5 5>8 9>7 | 1 ? 9 8")
    answer = puzzle.parse_answer(question, "1>5>8")
    lines = as_text(puzzle.picture(question, answer)).splitlines()
    assert lines[0] == ">1  => 5  -> 0"
    assert "5   => ?8" in lines
    assert "?9  -> 7" in lines


def test_a_typed_puzzle_may_have_any_form_of_files():
    puzzle = build_puzzle("sudoku4")
    own = puzzle.parse("..3..42..3..1...")
    for text in ("..3. .42. .3.. 1...", "..3./.42./.3../1...", "0030042003001000"):
        assert bool((only_puzzle(puzzle, text) == own).all()), text
    with pytest.raises(UserError, match=r"puzzle=\.\.3: .*column"):
        only_puzzle(puzzle, "..3")
    with pytest.raises(UserError, match="holds 2 puzzles"):
        only_puzzle(puzzle, "..3..42..3..1...\n..3..42..3..1...")
