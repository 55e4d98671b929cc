"""Sudoku: solver, rating, generator and files, against plain back-tracking and by hand."""

import numpy as np
import pytest
import torch
from pir.envs.sudoku import rules
from pir.envs.sudoku.rules import Sudoku
from pir.envs.sudoku.solver_kernels import build_tables

from pir.errors import PuzzleTextError, UserError
from tests import slow_checkers as slow

EASY = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
EASY_ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."


def nine(**options):
    return Sudoku((3, 3), **options)


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 2), (1, 5), (2, 4)])
def test_units_are_rows_columns_and_boxes(box):
    units, peers = build_tables(*box)
    n = box[0] * box[1]
    assert units.shape == (3 * n, n)
    for cell in range(n * n):
        row, column = divmod(cell, n)
        expected = {
            other
            for other in range(n * n)
            if other != cell
            and (
                other // n == row
                or other % n == column
                or (other // n // box[0], other % n // box[1]) == (row // box[0], column // box[1])
            )
        }
        assert set(peers[cell]) == expected


@pytest.mark.parametrize("box", [(2, 2), (2, 3)])
def test_solver_finds_what_back_tracking_finds(box):
    puzzle = Sudoku(box)
    sample = puzzle.sample(30, "train", seed=0)
    rng = np.random.default_rng(0)
    for question in sample["question"]:
        for _ in range(3):  # with fewer clues there are several answers; with a false one, none
            given = (question > 1).nonzero().flatten().tolist()
            changed = question.clone()
            changed[rng.choice(given)] = rng.integers(1, puzzle.n + 2)
            text = puzzle.format_question(changed)
            expected = set(slow.sudoku_solutions(text, *box, limit=500))
            answers, valid, _ = puzzle.solutions(changed[None], 500)
            found = [puzzle.format_answer(changed, answer) for answer in answers[valid]]
            assert len(found) == len(set(found))
            assert set(found) == expected


def test_ratings_by_hand():
    puzzle = nine()
    questions = torch.stack([puzzle.parse(EASY), puzzle.parse(HARD)])
    answers, valid, _ = puzzle.solutions(questions, 2)
    assert puzzle.format_answer(questions[0], answers[0, 0]) == EASY_ANSWER
    assert valid.sum(1).tolist() == [1, 1]
    easy, hard = puzzle.rating(questions).tolist()
    assert easy == 0
    assert hard > 5


def test_clue_and_difficulty_knobs():
    clues = (nine(clues=(30, 32)).sample(50, "train", seed=0)["question"] > 1).sum(1)
    assert set(clues.tolist()) == {30, 31, 32}
    hard = nine(guesses=(3, 8))
    rating = hard.rating(hard.sample(10, "train", seed=0)["question"])
    assert ((rating >= 3) & (rating <= 8)).all()


def test_minimal_puzzles_cannot_lose_a_clue():
    for box in ((2, 2), (2, 3), (3, 3)):
        puzzle = Sudoku(box)
        for question in puzzle.sample(5, "train", seed=1)["question"]:
            for place in (question > 1).nonzero().flatten():
                fewer = question.clone()
                fewer[place] = 1
                assert puzzle.solutions(fewer[None], 2)[1].all()


def test_key_separates_what_no_symmetry_joins():
    """There are 36 classes of minimal 4x4 puzzles (a known count); random 9x9 never coincide."""
    four = Sudoku()
    keys = [four.key(four.sample(4000, s, seed=0)["question"]) for s in ("train", "val", "test")]
    assert len(set(torch.cat(keys).tolist())) == 36
    big = nine(clues=(28, 30)).sample(300, "train", seed=0)["question"]
    assert len(set(nine().key(big).tolist())) == 300


def test_score_by_hand():
    puzzle = Sudoku()
    question = puzzle.parse("1...............")
    right = puzzle.parse_answer(question, "1234341221434321")
    missing = right.clone()
    missing[15] = 1
    two = right.clone()
    two[15] = 3
    scores = puzzle.verify(question.expand(3, -1), torch.stack([right, missing, two])).score
    assert scores.tolist() == pytest.approx([1, 1 - 3 / 48, 1 - 3 / 48])
    changed = torch.tensor([[3, *right[1:].tolist()]], dtype=torch.uint8)
    assert puzzle.verify(question[None], changed).score == 0
    assert puzzle.conflicts(question[None], two[None]).nonzero()[:, 1].tolist() == [7, 14, 15]


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "0 characters where a grid has 16", 1),
        ("1" * 17, "17 characters", 17),
        ("12x" + "." * 13, "'x' is neither", 3),
        ("5" + "." * 15, "'5' is neither", 1),
        ("٣" + "." * 15, "is neither", 1),
        ("..\ufb00" + "." * 13, "is neither", 3),
        ("  12x" + "." * 13, "'x' is neither", 5),
    ],
)
def test_malformed_text(text, message, column):
    with pytest.raises(PuzzleTextError, match=message) as caught:
        Sudoku().parse(text)
    assert caught.value.column == column


def test_large_grids_use_letters():
    puzzle = Sudoku((3, 4), clues=(100, 110))
    question = puzzle.sample(1, "train", seed=0)["question"][0]
    text = puzzle.format_question(question)
    assert set("ABC") & set(text)
    assert (puzzle.parse(text.lower().replace(".", "0")) == question).all()


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def file(tmp_path):
    """120 puzzles, every third with its answer, and a symmetric image of the first."""
    puzzle = nine(clues=(30, 30))
    sample = [puzzle.sample(40, split, seed=0) for split in ("train", "val", "test")]
    lines = []
    for part in sample:
        for i, (question, answer) in enumerate(zip(*part.values(), strict=True)):
            line = puzzle.format_question(question)
            lines.append(line + ("," + puzzle.format_answer(question, answer)) * (i % 3 == 0))
    image = puzzle.augment(sample[0], seed=0)["question"][0]
    return write(tmp_path / "file.txt", *lines, puzzle.format_question(image), "")


def test_files_are_parted_by_key(file):
    puzzle = nine(puzzles=file, train_puzzles=10)
    assert [puzzle.size(split) for split in ("train", "val", "test")] == [None, 40, 40]
    train = puzzle.sample(30, "train", seed=0)
    assert puzzle.verify(*train.values()).solved.all()
    assert len(set(puzzle.key(train["question"]).tolist())) == 10
    assert len(set(map(tuple, train["question"].tolist()))) == 30  # augmented
    plain = nine(puzzles=file, train_puzzles=10, augment_file=False)
    epoch = plain.sample(10, "train", seed=0)["question"]
    assert len(set(map(tuple, epoch.tolist()))) == 10
    held_out = puzzle.sample(40, "test", seed=0)["question"]
    assert (held_out == plain.sample(40, "test", seed=7)["question"]).all()
    assert (puzzle.sample(3, "test", seed=0, start=5)["question"] == held_out[5:8]).all()
    with pytest.raises(UserError, match="holds 40 puzzles for the test split"):
        puzzle.sample(41, "test", seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (EASY[:-1], "line 2, column 81: 80 characters"),
        (EASY.replace("5", "z", 1), "line 2, column 1: 'z' is neither"),
        ("." * 81, "line 2, column 1: more than one answer"),
        ("11" + "." * 79, "line 2, column 1: no answer"),
        (EASY + "," + EASY_ANSWER[::-1], "line 2, column 83: a clue is changed"),
        (f"{EASY},539{EASY_ANSWER[3:]}", "line 2, column 1: the answer given is not right"),
        (EASY + "x" + EASY_ANSWER, "line 2, column 82: 163 characters"),
    ],
)
def test_faults_in_files_are_named(tmp_path, line, message):
    path = write(tmp_path / "file.txt", HARD, line)

    def read_all():
        for split in ("train", "val", "test"):
            puzzle = nine(puzzles=path)
            if puzzle.size(split) != 0:
                puzzle.sample(puzzle.size(split) or 2, split, seed=0)

    with pytest.raises(UserError, match=message):
        read_all()


def test_files_that_cannot_be_read(tmp_path, file):
    with pytest.raises(UserError, match="cannot be read"):
        nine(puzzles=str(tmp_path / "none.txt")).size("test")
    with pytest.raises(UserError, match=r"env\.train_puzzles=1000: .* holds 40 puzzles"):
        nine(puzzles=file, train_puzzles=1000).size("test")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        nine(puzzles=str(tmp_path / "binary")).size("test")
    with pytest.raises(UserError, match="holds no puzzle"):
        nine(puzzles=write(tmp_path / "empty.txt", "", "")).size("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": (1, 3)}, r"env\.box=\[1, 3\]"),
        ({"box": (5, 5)}, r"env\.box"),
        ({"clues": (5, 3)}, r"env\.clues=\[5, 3\]"),
        ({"clues": (1, 17)}, r"env\.clues"),
        ({"guesses": (3, 1)}, r"env\.guesses"),
        ({"train_puzzles": 5}, "needs env.puzzles"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Sudoku(**options)


def test_a_search_that_is_given_up_leaves_the_others_their_answers(monkeypatch):
    puzzle = Sudoku((3, 3))
    question = puzzle.sample(40, "train", seed=0)["question"]
    hard = puzzle.rating(question) > 1
    assert hard.any()
    assert not hard.all()
    whole = puzzle.solutions(question, 2)
    assert whole.complete.all()
    monkeypatch.setattr(rules, "MAX_GUESSES", 1)
    cut = puzzle.solutions(question, 2)
    assert (cut.given_up == hard).all()
    assert (cut.complete == ~hard).all()
    assert not cut.valid[hard].any()
    assert (cut.valid[~hard] == whole.valid[~hard]).all()
    assert (cut.answers[~hard, 0] == whole.answers[~hard, 0]).all()
    assert not puzzle.solutions(question[~hard], 1).complete.any()  # full lists may lack answers
