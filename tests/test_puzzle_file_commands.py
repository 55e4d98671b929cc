"""Files of puzzles given to commands, and what is said of lines that cannot be read."""

import io
import json
import sys

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.runs.inputs import file_sha256
from tests.test_puzzle_file import write
from tests.test_puzzle_forms import NINE, NINE_ANSWER, TWO


def test_show_takes_the_puzzle_of_a_file(pir_here, tmp_path):
    path = write(tmp_path / "q.csv", f"source,question,answer,rating\nx,{NINE},,5\ny,{TWO},,1\n")
    words = ["show", "env=sudoku9", f"env.puzzles={path}"]
    assert NINE_ANSWER in pir_here(*words).stdout
    assert TWO in pir_here(*words, "index=1").stdout
    assert "the file holds 2 puzzles" in pir_here(*words, "index=2", code=2).stderr


def test_solve_and_eval_read_every_form(pir_here, tiny_run, tmp_path):
    path = write(
        tmp_path / "q.jsonl",
        '{"nums": [3, 7, 8], "target": 29}\n'
        '{"nums": [3, 7, 8], "target": 29, "solution": "7 * 3 + 8"}\n'
        '{"question": "2 3 4 = 24"}\n',
    )
    run = f"run={tiny_run}"
    solved = pir_here("solve", run, f"puzzles={path}", "output=json").stdout.splitlines()
    results = [json.loads(line) for line in solved]
    assert [result["puzzle"] for result in results] == ["3 7 8 = 29", "3 7 8 = 29", "2 3 4 = 24"]
    assert results[1]["given_solved"] is True
    again = write(tmp_path / "again.jsonl", "\n".join(solved))
    assert len(pir_here("solve", run, f"puzzles={again}", "output=json").stdout.splitlines()) == 3
    before = (tiny_run / "eval/eval.json").read_bytes()
    result = json.loads(pir_here("eval", run, f"env.puzzles={path}", "output=json").stdout)
    facts = result["puzzle_file"]
    assert (result["split"], result["puzzles"], facts["left_out"]) == ("file", 3, 0)
    assert facts["path"] == path
    assert facts["sha256"] == file_sha256(path)
    assert 0 <= facts["in_training_split"] <= 3
    assert (tiny_run / "eval/eval.json").read_bytes() == before
    folder = tiny_run / "evals" / f"q-{facts['sha256'][:8]}"
    assert json.loads((folder / "eval.json").read_text())["puzzle_file"] == facts


def test_solve_reads_standard_input(pir_here, tiny_run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"3 7 8 = 29, 7*3+8\n")))
    assert pir_here("solve", f"run={tiny_run}", "puzzles=-").stdout.startswith("3 7 8 = 29\n  step")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[\n{"puzzle": "1..43...2....3.1"},\n', "not closed"),
        ('{"puzzle": "1..43...2....3.1", "puzzle": "1..43...2....3.."}\n', "no JSON"),
        ("xxxxxxxxxxx1234\n1..43...2....3.1\n", "line 1"),
    ],
)
def test_nothing_is_dropped_without_a_word(tmp_path, text, reason):
    path = tmp_path / "f.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        Sudoku(puzzles=str(path)).size("test")


def test_a_table_of_graphs_is_read(tmp_path):
    path = tmp_path / "g.csv"
    path.write_text("edges,source,targets\n0>3 3>7 4>9,0,7 9\n")
    given = Graph(puzzles=str(path)).whole_file()
    assert given is not None
    assert given.puzzle.format_question(torch.from_numpy(given.questions)[0]).endswith("0 ? 7 9")


def test_numbers_may_be_text(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"nums": ["3", "7", "8"], "target": "29"}\n')
    given = Countdown(puzzles=str(path)).whole_file()
    assert given is not None
    assert given.puzzle.format_question(torch.from_numpy(given.questions)[0]) == "8 7 3 = 29"
