"""N-Queens: counts, completions, splits and coverage, against plain search and known counts."""

import itertools

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.queens import kernels
from pir.envs.queens.rules import Queens, solutions_of
from pir.envs.queens.text import BLANK
from torch import Tensor

from pir.errors import UserError
from pir.evaluation.rollouts import evaluate
from pir.evaluation.sampling import PolicySample, Sampled, judge
from pir.models.trm import TRM
from pir.puzzle import Puzzle
from pir.rollout import sample_answers
from tests import slow_checkers as slow

COUNTS = {4: 2, 5: 10, 6: 4, 7: 40, 8: 92, 9: 352, 10: 724}
"""Known numbers of solutions (OEIS A000170)."""


@pytest.mark.parametrize("n", COUNTS)
def test_number_of_solutions(n):
    solutions = solutions_of(n)[0]
    assert len(solutions) == COUNTS[n]
    assert solutions.tolist() == sorted(solutions.tolist())


@pytest.mark.parametrize("n", [5, 8])
def test_completions_are_all_there_are(n):
    puzzle = Queens(n, hide=(n - 3, n))
    for question in puzzle.sample(20, "train", seed=0)["question"]:
        answers, valid, _ = puzzle.solutions(question[None], 100)
        listed = [puzzle.format_answer(question, a) for a in answers[0][valid[0]]]
        assert listed == sorted(slow.queens_solutions(puzzle.format_question(question)))
        fewer, some, _ = puzzle.solutions(question[None], 2)
        assert (fewer[0][some[0]] == answers[0][valid[0]][:2]).all()


def test_a_board_without_completion():
    puzzle = Queens(5, hide=(1, 5))
    question = puzzle.parse("0,1,.,.,.")
    assert not puzzle.solutions(question[None], 3)[1].any()


def orbit(board):
    """The eight images of a full board, by turning and mirroring coordinates."""
    n, images = len(board), set()
    cells = [(row, column) for row, column in enumerate(board)]
    for _ in range(4):
        cells = [(column, n - 1 - row) for row, column in cells]
        for flipped in (cells, [(row, n - 1 - column) for row, column in cells]):
            images.add(tuple(column for _, column in sorted(flipped)))
    return frozenset(images)


def test_eight_queens_have_twelve_orbits_parted_nine_one_two():
    sets = Queens(split="orbits")._orbit_sets
    solutions = solutions_of(8)[0].tolist()
    orbits = {orbit(board) for board in solutions}
    assert len(orbits) == 12
    of_split = {}
    for split, members in sets.items():
        inside = [b for s, b in enumerate(solutions) if members[s // 64] >> np.uint64(s % 64) & 1]
        of_split[split] = {orbit(board) for board in inside}
        assert sum(map(len, of_split[split])) == len(inside)
    assert {split: len(found) for split, found in of_split.items()} == {
        "train": 9,
        "val": 1,
        "test": 2,
    }
    assert frozenset.union(*map(frozenset, of_split.values())) == orbits


def test_no_held_out_solution_is_an_answer_in_training():
    puzzle = Queens(split="orbits")
    answers = {}
    for split in ("train", "val", "test"):
        question = puzzle.sample(300, split, seed=0)["question"]
        listed, valid, _ = puzzle.solutions(question, 100)
        answers[split] = {orbit(tuple(a)) for a in (listed[valid] - 2).tolist()}
    for one, other in itertools.combinations(answers.values(), 2):
        assert not one & other


def test_images_are_turned_and_mirrored_boards():
    board = solutions_of(8)[0][5]
    images = np.zeros((8, 8), np.int64)
    for which in range(8):
        kernels.image(board, which, images[which])
    assert {tuple(image) for image in images.tolist()} == orbit(board.tolist())


def test_published_protocol_leaks_as_stated():
    """Every test solution occurs in training; a look-up scores about 0.75 exact accuracy."""
    puzzle = Queens(split="published")
    train = puzzle.sample(7200, "train", seed=0)
    test = puzzle.sample(200, "test", seed=0)
    known = set(map(tuple, train["solution"].tolist()))
    assert all(tuple(label) in known for label in test["solution"].tolist())
    given = (test["question"] != BLANK).sum(1)
    assert (given.min(), given.max()) == (0, 7)
    counts = {}
    for label in map(tuple, train["solution"].tolist()):
        counts[label] = counts.get(label, 0) + 1
    exact = 0
    for question, label in zip(*(part.tolist() for part in test.values()), strict=True):
        fits = [s for s in counts if all(q in (BLANK, t) for q, t in zip(question, s, strict=True))]
        exact += max(fits, key=counts.__getitem__) == tuple(label)
    assert 0.7 < exact / 200 < 0.82
    assert puzzle.size("test") == 200


def test_hidden_queens_are_as_many_as_asked_for():
    hidden = (Queens(10, hide=(7, 9)).sample(300, "train", seed=0)["question"] == BLANK).sum(1)
    assert set(hidden.tolist()) == {7, 8, 9}


def sample_policy(puzzle: Puzzle, question: Tensor, logits: Tensor, count: int) -> Sampled:
    torch.manual_seed(0)
    return judge(puzzle, question, sample_answers(puzzle, question, logits, count))


def test_coverage_of_a_policy_that_knows_two_of_four_answers():
    """All weight on two answers that differ in every hidden row: each token is drawn by itself."""
    puzzle = Queens(5, hide=(5, 5))
    question = torch.full((1, 5), BLANK, dtype=torch.uint8)
    answers, valid, _ = puzzle.solutions(question, 100)
    assert int(valid.sum()) == 10
    logits = torch.full((1, 5, len(puzzle.vocabulary)), -1e4)
    logits.scatter_(2, answers[:, 0].long()[..., None], 0.0)
    one = sample_policy(puzzle, question, logits, 20)
    assert (one.solved, one.coverage, one.puzzles) == (1.0, 0.1, 1)
    logits.scatter_(2, answers[:, 1].long()[..., None], 0.0)
    two = sample_policy(puzzle, question, logits, 400)
    assert 0 < two.solved < 1
    assert two.coverage >= 0.2
    wrong = torch.zeros(1, 1, 5, len(puzzle.vocabulary)).expand(3, 1, -1, -1).clone()
    wrong[..., BLANK + 1] = 1e4  # all queens in one column
    both = sample_policy(puzzle, question.expand(4, -1), torch.cat([logits, *wrong]), 400)
    assert (both.pass_at_k, both.solved) == (0.25, two.solved / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 4}, r"env\.n=4"),
        ({"n": 13}, r"env\.n=13"),
        ({"n": 6, "split": "orbits"}, "too few orbits"),
        ({"hide": (0, 3)}, r"env\.hide=\[0, 3\]"),
        ({"hide": (5, 9)}, r"env\.hide"),
        ({"split": "seed"}, r"env\.split=seed: allowed are board, orbits, published"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Queens(**options)


def test_impossible_settings_end_with_a_message():
    with pytest.raises(UserError, match="hide fewer queens"):
        Queens(hide=(8, 8), split="orbits").sample(1, "test", seed=0)


def test_coverage_counts_no_spelling_twice():
    """With equal numbers the verifier accepts programs that the list leaves out."""
    puzzle = Countdown(number_range=(1, 9))
    question = puzzle.parse("4 4 4 = 20")[None]
    logits = torch.where(puzzle.slot_mask, 0.0, -1e4)[None]
    sampled = sample_policy(puzzle, question, logits, 3000)
    assert 0 < sampled.coverage <= 1


def test_sampling_does_not_depend_on_the_batch():
    puzzle = Queens()
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32")
    puzzles = puzzle.sample(30, "test", seed=0)
    drawn = []
    for size in (30, 7):
        policy = PolicySample(3)
        evaluate(model, puzzle, puzzles, 4, size, [policy])
        drawn.append(policy.draw(puzzle, 5))
    assert drawn[0] == drawn[1]
    assert drawn[0].puzzles == 30
