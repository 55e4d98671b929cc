"""Files of puzzles: faults with their places, size, answers and labels."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku

from pir.errors import PuzzleTextError, UserError
from pir.puzzle import Puzzle
from pir.puzzle_files import alike_lines
from pir.puzzle_files import source as puzzle_source
from pir.puzzle_files.given import GivenPuzzles
from pir.puzzle_files.reader import read_puzzles
from tests.test_puzzle_forms import MAZE, NINE, NINE_ANSWER, npy, rows

FOUR, ANSWER = "12.434122.434321", "1234341221434321"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def faults(puzzle, tmp_path, content):
    given = GivenPuzzles(puzzle, write(tmp_path / "f", content), "env.puzzles")
    given.check(np.arange(len(given.questions)))
    return [f"{fault.line}:{fault.column} {fault.reason}" for fault in sorted(given.faults)]


NINE_ROWS = "\n".join(rows(NINE, 9))

FAULTS = {
    # a part of an answer, or of a puzzle, is never passed over
    "blank in the answer": (Sudoku(), f"{FOUR},12343412x1434321", ["1:26 a clue is changed"]),
    "short answer": (Sudoku(), f"{FOUR},123434122143", ["1:30 12 cells beside the puzzle"]),
    "no sign": (Sudoku(), f"{FOUR},12343412z1434321", ["1:26 'z' is no sign"]),
    "changed clue": (Sudoku(), f"{FOUR} 13{ANSWER[2:]}", ["1:19 a clue is changed"]),
    "wrong answer": (Sudoku(), f"{FOUR} {ANSWER[:2]}4{ANSWER[3:]}", ["1:1 the answer given is"]),
    "three grids": (Sudoku(), f"{FOUR} {ANSWER} {ANSWER}", ["1:35 3 puzzles on one line"]),
    "short": (Sudoku(), f"\n{FOUR[:-1]}\n", ["2:16 15 characters where a grid has 16"]),
    "long": (Sudoku(), FOUR + "1", ["1:17 17 characters"]),
    "no text": (Sudoku(), f"{FOUR}\nhello\n{FOUR}\n", ["2:1 'h' is neither"]),
    "no and many answers": (
        Sudoku(),
        f"{FOUR}\n{'.' * 16}\n11{'.' * 14}\n",
        ["2:1 more than one answer", "3:1 no answer"],
    ),
    "missing row": (Sudoku((3, 3)), "\n".join(NINE_ROWS.split("\n")[:8]), ["8:1 8 rows where"]),
    "row with a mistake": (
        Sudoku((3, 3)),
        NINE_ROWS.replace(".98....6.", ".9z....6."),
        ["3:3 'z' is neither"],
    ),
    "row too long": (Sudoku((3, 3)), NINE_ROWS.replace("6..195...", "6..195...."), ["2:"]),
    "table without puzzle": (Sudoku(), f"id,puzzle\n1,\n2,{FOUR}\n", ["2:1 no puzzle in this"]),
    "too many fields": (Sudoku(), f"id,puzzle\n1,{FOUR},3,4\n", ["2:1 4 fields where"]),
    "column of a table": (Sudoku(), f"id,puzzle\n1,{FOUR[:-1]}z\n", ["2:18 'z' is neither"]),
    "two puzzle columns": (
        Sudoku(),
        f"puzzle,question\n{FOUR},{FOUR}\n{FOUR},1{'.' * 15}\n,{FOUR}",
        ["3:1 puzzle and question differ"],
    ),
    "open quotation mark": (Sudoku(), f'id,puzzle\n1,"{FOUR}\n', ["2:1 a quotation mark"]),
    "json": (Sudoku(), '{"puzzle": "12.4"}\n{"puzzle": }\n', ["1:17 4 characters", "2:12 no JSON"]),
    "json without puzzle": (Sudoku(), '{"a": 1}\n', ["1:1 no puzzle in this entry"]),
    "json cut": (Sudoku(), f'[{{"puzzle": "{FOUR}"}},\n{{"puz', ["2:2 no JSON"]),
    "two starts": (Maze(5, 5), MAZE.replace("G", "S"), ["1:1 2 cells are S; a puzzle has one"]),
    "no way": (Maze(5, 5), "#####/#S#.#/###.#/#..G#/#####", ["1:1 no answer: no way leads"]),
    "bad cell": (Maze(5, 5), MAZE.replace("S.", "S?"), ["1:9 '?' is none of"]),
    "bad cell in one string": (
        Maze(5, 5),
        MAZE.replace("/", "").replace("S.", "S?"),
        ["1:8 '?' is no sign"],
    ),
    "path in a question": (Maze(5, 5), MAZE.replace("S.", "So"), ["1:9 'o' stands in answers"]),
    "maze row": (Maze(5, 5), MAZE.replace("#S..#", "#S.#"), ["1:11 a row of 4 cells"]),
    "nine queens": (Queens(), "...47....", ["1:"]),
    "queens counted from 1": (Queens(), "...47... 31758246", ["1:14 '8' is no sign"]),
    "tags": (
        Countdown(),
        "a;" * 1500 + "3 7 8 = 29\n" + "a;1. " * 1500 + "\na;b;1. 3 7 8 = 29\n",
        ["1:", "2:"],
    ),
    "queens beside": (Queens(), "...47... 01234", ["1:15 5 cells beside"]),
    "numbers before": (
        Countdown(),
        "1. 3 7 8 2 = 29\n" + "1. " * 5000,
        ["1:12 4 numbers", "2:"],
    ),
    "countdown": (
        Countdown(),
        "3 7 8 = 29\n3 7 8 2 = 29\n3 7 8 = 29, 7*3+9\n3 7 8 = 29 5\n3,7 8 2 = 29\n7 7 7 = 99\n",
        [
            "2:9 4 numbers",
            "3:17 9 is not",
            "4:",
            "5:2 ',' is no number",
            "6:1 no answer: every division",
        ],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_have_their_places(tmp_path, name):
    puzzle, content, expected = FAULTS[name]
    found = faults(puzzle, tmp_path, content)
    assert len(found) == len(expected), found
    for is_, wanted in zip(found, expected, strict=True):
        assert is_.startswith(wanted), found


def test_faults_come_together(tmp_path):
    path = write(tmp_path / "f.txt", "\n".join([FOUR] * 3 + ["x"] * 30))
    with pytest.raises(UserError) as caught:
        Sudoku(puzzles=path).size("test")
    lines = str(caught.value).split("\n")
    assert "30 faults (env.skip_faulty=true" in lines[0]
    assert lines[1] == "  line 4, column 2: 1 characters where a grid has 16"
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 22


def test_faulty_puzzles_are_left_out(tmp_path, capsys):
    sample = Sudoku((3, 3), clues=(30, 30)).sample(20, "train", seed=0)["question"]
    texts = [Sudoku((3, 3)).format_question(question) for question in sample]
    path = write(tmp_path / "f.txt", "\n".join([*texts[:5], "x", "." * 81, *texts[5:]]))
    puzzle = Sudoku((3, 3), puzzles=path, train_puzzles=7, augment_file=False, skip_faulty=True)
    epoch = puzzle.sample(7, "train", seed=0)["question"]
    assert {puzzle.format_question(q) for q in epoch} == set(texts[:7])
    assert "2 of 9 puzzles left out, the first line 6, column 2" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"holds no puzzle|1 faults"):
        Sudoku(puzzles=write(tmp_path / "g.txt", "x\n"), skip_faulty=True).size("test")


# ------------------------------------------------------------------------------ lines alike


def test_lines_read_together_are_read_like_single_lines(tmp_path, monkeypatch):
    """Random lines, most of them alike, some broken: with and without the short way."""
    rng = np.random.default_rng(0)
    four, maze = Sudoku(), Maze(5, 5)
    for puzzle, texts in ((four, (FOUR, "1" + "." * 15)), (maze, (MAZE, MAZE.replace("/", "")))):
        answer = ANSWER if puzzle is four else MAZE
        lines = []
        for _ in range(400):
            line = str(rng.choice(["", "7,", "ab\t", "# "], p=[0.7, 0.1, 0.1, 0.1]))
            line += str(rng.choice(texts))
            line += str(rng.choice(["", f",{answer}", " 5", ";ED=1", " # x", "1", ",1234"]))
            if rng.random() < 0.3:
                place = int(rng.integers(len(line)))
                line = line[:place] + str(rng.choice(list("z. ,#4S/"))) + line[place + 1 :]
            lines.append(line + str(rng.choice(["", "\r"])))
        path = write(tmp_path / "f.txt", "\n".join(lines))

        def read(puzzle=puzzle, path=path):
            given = GivenPuzzles(puzzle, path, "env.puzzles")
            rows = zip(given.lines, given.columns, given.questions, given.solutions, strict=True)
            found = [(int(a), int(b), c.tobytes(), d.tobytes()) for a, b, c, d in rows]
            return found, [fault[:3] for fault in given.faults]

        together = read()
        assert len(together[0]) > 150
        with monkeypatch.context() as patch:
            patch.setattr(alike_lines, "MOST_LAYOUTS", 0)
            assert read() == together
        with monkeypatch.context() as patch:
            patch.setattr(puzzle_source, "BLOCK", 64)
            assert read() == together


def test_large_files_are_quick_and_say_how_far_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(puzzle_source, "REPORT_SECONDS", 0)
    path = write(tmp_path / "f.csv", "quizzes,solutions\n" + f"{NINE},{NINE_ANSWER}\n" * 100_000)
    started = time.perf_counter()
    count = sum(len(b.lines) for b in read_puzzles(Sudoku((3, 3)), path, "env.puzzles"))
    assert count == 100_000
    assert time.perf_counter() - started < 5  # line by line it is above ten
    assert "100%, 100,000 puzzles" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["reading", "checking"])
def test_an_interrupt_comes_through(tmp_path, doing):
    path = write(tmp_path / "f.txt", "\n".join(f"{NINE} tag{i}" for i in range(300_000)))
    code = (
        "import sys, pir.cli.main, pir.puzzle_files.source;"
        "pir.puzzle_files.source.REPORT_SECONDS = 0;"
        "sys.exit(pir.cli.main.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "show", "env=sudoku9", f"env.puzzles={path}"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        under_way = (line for line in process.stderr if line.startswith(doing))
        assert next(under_way, None)
        sent = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        process.wait(20)
        assert process.returncode == 130
        assert time.monotonic() - sent < 5


# ------------------------------------------------------------------------------ answers and labels


def test_answers_are_checked_and_not_searched_for(tmp_path, monkeypatch):
    path = write(tmp_path / "f.txt", f"{NINE},{NINE_ANSWER}\n")
    given = GivenPuzzles(Sudoku((3, 3)), path, "env.puzzles")
    monkeypatch.setattr(Sudoku, "solutions", None)
    assert given.check(np.arange(1)).tolist() == [0]
    given.finish()
    assert Sudoku((3, 3)).format_question(given.instances(np.arange(1))["solution"][0]) == (
        NINE_ANSWER
    )


def test_the_label_of_many_answers_follows_the_convention(tmp_path):
    """A right answer in the file is taken for right; the label stays that of generated mazes."""
    maze = Maze(5, 5)
    other = "#####/#Soo#/#.#o#/#..G#/#####"
    given = GivenPuzzles(maze, write(tmp_path / "f.txt", f"{MAZE},{other}"), "env.puzzles")
    given.check(np.arange(1))
    given.finish()
    labels = given.instances(given.checked)
    first = maze.solutions(labels["question"], 1)[0][:, 0]
    assert torch.equal(labels["solution"], first)
    wrong = other.replace("Soo", "S.o")
    assert faults(maze, tmp_path, f"{MAZE},{wrong}") == ["1:1 the answer given is not right"]


class Word(Puzzle):
    """A puzzle of somebody else, which gives no more than it must: spell a word backwards."""

    def __init__(self):
        self.vocabulary = ("PAD", "_", *"abcdefghijklmnopqrstuvwxyz")
        self.slot_mask = torch.zeros(6, 28, dtype=torch.bool)
        self.slot_mask[:, 2:] = True

    def written(self, question):
        return (torch.arange(6) >= 3).expand(question.shape)

    def verify(self, question, answer):
        from pir.puzzle import Verdict

        solved = (answer[:, 3:] == question[:, :3].flip(1)).all(1)
        return Verdict(solved.float(), solved)

    def key(self, question):
        return question[:, 0].long()

    def parse(self, text):
        word = text.strip()
        if len(word) != 3 or not word.islower():
            raise PuzzleTextError("three small letters are expected", 1)
        return torch.tensor([self.vocabulary.index(c) for c in word] + [1] * 3, dtype=torch.uint8)

    def format_question(self, question):
        return "".join(self.vocabulary[t] for t in question[:3].tolist())

    def parse_answer(self, question, text):
        return torch.cat([question[:3], self.parse(text)[:3]])

    def format_answer(self, question, answer):
        return "".join(self.vocabulary[t] for t in answer[3:].tolist())


def test_puzzles_of_others_are_read_by_their_text_form(tmp_path):
    content = "abc,cba # easy\n# one\nxyz\tzyx\n"
    given = GivenPuzzles(Word(), write(tmp_path / "f.txt", content), "env.puzzles")
    assert given.check(np.arange(2)).tolist() == [0, 1]
    for content in (
        "question,answer\nabc,cba\n",
        json.dumps([{"puzzle": "abc", "answer": "cba"}]),
        npy(np.array([[2, 3, 4, 1, 1, 1]])),
    ):
        given = GivenPuzzles(Word(), write(tmp_path / "f.txt", content), "env.puzzles")
        assert Word().format_question(torch.from_numpy(given.questions[0])) == "abc"
        assert not given.faults
    assert faults(Word(), tmp_path, "abc\n") == [
        "1:1 no answer is given, and this puzzle lists none"
    ]
    assert faults(Word(), tmp_path, "abcd\nabc,cbb\n") == [
        "1:1 three small letters are expected",
        "2:1 the answer given is not right",
    ]


# ------------------------------------------------------------------------------ file mode


@pytest.mark.parametrize("name", ["countdown", "queens", "graph", "sudoku4", "maze"])
def test_every_puzzle_is_trained_from_files(tmp_path, name):
    from pir.envs.views.registration import build_puzzle

    made = build_puzzle(name)
    parts = [made.sample(12, split, seed=5) for split in ("train", "val", "test")]
    lines = [
        f"{made.format_question(q)}\t{made.format_answer(q, a)}"
        for part in parts
        for q, a in zip(*part.values(), strict=True)
    ]
    puzzle = build_puzzle(name, puzzles=write(tmp_path / "f.txt", "\n".join(lines)))
    assert puzzle.size("train") is None
    for split, part in zip(("val", "test"), parts[1:], strict=True):
        count = len(set(made.key(part["question"]).tolist()))
        assert puzzle.size(split) == count
        held_out = puzzle.sample(count, split, seed=0)
        assert puzzle.verify(*held_out.values()).solved.all()
        assert torch.equal(held_out["question"][0], part["question"][0])
    train = puzzle.sample(30, "train", seed=0)
    assert puzzle.verify(*train.values()).solved.all()
    assert set(puzzle.key(train["question"]).tolist()) <= set(
        made.key(parts[0]["question"]).tolist()
    )


def test_queens_of_a_file_are_parted_by_board(tmp_path):
    path = write(tmp_path / "f.txt", "...47...\n")
    with pytest.raises(UserError, match=r"env\.split=orbits: a file is parted by board"):
        Queens(split="orbits", puzzles=path)
