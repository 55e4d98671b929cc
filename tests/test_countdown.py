"""The laws of Countdown, and its fast code against slow, independent checkers."""

import ast
import contextlib
import itertools
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pir.envs import countdown_kernels as kernels
from pir.envs.countdown import Countdown

from pir.errors import PuzzleTextError, UserError
from pir.puzzle import SPLITS, split_range

GOLDEN_QUESTIONS = ["24 19 3 = 33", "14 7 2 = 19", "18 17 15 = 14", "23 20 16 = 13"]

VARIANTS = [
    {"numbers": 3},
    {"numbers": 4},
    {"numbers": 5, "number_range": (1, 100), "target_range": (100, 999)},
    {"numbers": 6},
    {"numbers": 4, "use_all": False},
]


@pytest.fixture(params=VARIANTS, ids=str)
def puzzle(request):
    return Countdown(**request.param)


def slow_value(text: str, numbers: list[int], use_all: bool) -> int | None:
    """The value of an expression under Countdown's rules, None if it breaks one. Uses Python's
    parser and rational arithmetic; shares nothing with the verifier."""
    if text == "_":
        return None
    used: Counter[int] = Counter()

    def value(node: ast.AST) -> Fraction:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            used[node.value] += 1
            return Fraction(node.value)
        assert isinstance(node, ast.BinOp)
        left, right = value(node.left), value(node.right)
        match node.op:
            case ast.Add():
                result = left + right
            case ast.Sub():
                result = left - right
            case ast.Mult():
                result = left * right
            case ast.Div():
                result = left / right
        if result <= 0 or result.denominator != 1:
            raise ZeroDivisionError
        return result

    try:
        result = value(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        return None
    given_numbers = Counter(numbers)
    right_use = used == given_numbers if use_all else used <= given_numbers
    return int(result) if right_use else None


def random_answers(puzzle: Countdown, question, count: int, seed: int):
    """Uniform answers over the tokens that each position may hold."""
    generator = torch.Generator().manual_seed(seed)
    weights = puzzle.slot_mask.float()
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator).T
    return puzzle.clamp(question, drawn.to(torch.uint8))


def test_label_is_right_and_first(puzzle):
    batch = puzzle.sample(300, "train", seed=3)
    verdict = puzzle.verify(batch["question"], batch["solution"])
    assert verdict.solved.all()
    assert (verdict.score == 1).all()
    answers, valid = puzzle.solutions(batch["question"], 4)
    assert (answers[:, 0] == batch["solution"]).all()
    assert valid[:, 0].all()
    moves = answers[:, :, puzzle.answer_start :].tolist()
    for row, ok in zip(moves, valid.tolist(), strict=True):
        listed = [m for m, v in zip(row, ok, strict=True) if v]
        assert len(set(map(tuple, listed))) == len(listed)


def test_instances_do_not_depend_on_the_batch(puzzle):
    whole = puzzle.sample(40, "val", seed=9, start=5)["question"]
    parts = [puzzle.sample(1, "val", seed=9, start=5 + i)["question"] for i in (39, 0, 17)]
    assert (torch.cat(parts) == whole[[39, 0, 17]]).all()
    assert (puzzle.sample(40, "val", seed=10, start=5)["question"] != whole).any()


def test_first_instances_are_the_same_everywhere():
    puzzle = Countdown()
    questions = [puzzle.format_question(q) for q in puzzle.sample(4, "train", seed=0)["question"]]
    assert questions == GOLDEN_QUESTIONS


def test_splits_share_no_number_set(puzzle):
    keys = {}
    for split in SPLITS:
        question = puzzle.sample(400, split, seed=1)["question"]
        keys[split] = set(puzzle.key(question).tolist())
        low, high = split_range(split)
        assert all(low <= key % 10_000 < high for key in keys[split])
    for one, other in itertools.combinations(SPLITS, 2):
        assert not keys[one] & keys[other]


def test_key_ignores_the_order_of_the_numbers():
    puzzle = Countdown()
    texts = [" ".join(order) + " = 29" for order in itertools.permutations(("3", "7", "8"))]
    questions = torch.stack([puzzle.parse(text) for text in texts])
    assert len(set(puzzle.key(questions).tolist())) == 1
    other = torch.stack([puzzle.parse("3 7 9 = 29")])
    assert puzzle.key(other)[0] != puzzle.key(questions)[0]


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_verifier_agrees_with_slow_checker(options, count):
    puzzle = Countdown(**options)
    per_puzzle = count // len(VARIANTS) // 50
    batch = puzzle.sample(50, "test", seed=2)
    checked = solved = 0
    for index, (question, solution) in enumerate(
        zip(batch["question"], batch["solution"], strict=True)
    ):
        answers = random_answers(puzzle, question, per_puzzle, seed=index)
        near = solution.repeat(per_puzzle, 1)  # one step off, or two steps swapped
        place = torch.arange(per_puzzle) % (puzzle.numbers - 1) + puzzle.answer_start
        rows = torch.arange(per_puzzle)
        near[rows, place] = answers[rows, place]
        swapped = solution.clone()
        swapped[puzzle.answer_start :] = swapped[puzzle.answer_start :].flip(0)
        answers = torch.cat([answers, near, solution[None], swapped[None]])
        verdict = puzzle.verify(question.expand_as(answers), answers)
        numbers, target = puzzle.decode(question[None])
        for answer, score, is_solved in zip(answers, *verdict, strict=True):
            text = puzzle.format_answer(question, answer)
            value = slow_value(text, numbers[0].tolist(), puzzle.use_all)
            assert is_solved == (value == int(target)), text
            assert (score == 1) == is_solved
            assert 0 <= score <= 1
            assert (score > 0) == (value is not None), text
            checked, solved = checked + 1, solved + int(is_solved)
    assert checked >= 2 * per_puzzle * 50
    assert solved >= 50


def test_an_illegal_step_cannot_hide_in_the_text():
    """6 * ((5 / 2) * 2) is illegal, 6 * 5 / 2 * 2 would not be."""
    puzzle = Countdown(4)
    question = puzzle.parse("6 5 2 2 = 30")
    pair = {tuple(p): i for i, p in enumerate(puzzle.pairs.tolist())}
    steps = [((1, 2), 3), ((3, 4), 2), ((0, 5), 2)]
    answer = question.clone()
    for place, (registers, operator) in enumerate(steps):
        answer[puzzle.answer_start + place] = puzzle.first_move + 4 * pair[registers] + operator
    assert not puzzle.verify(question[None], answer[None]).solved
    assert slow_value(puzzle.format_answer(question, answer), [6, 5, 2, 2], True) is None


@pytest.mark.parametrize("use_all", [True, False])
def test_search_finds_every_program(use_all):
    puzzle = Countdown(3, number_range=(1, 9), target_range=(1, 40), use_all=use_all)
    rng = random.Random(0)
    for _ in range(30):
        numbers = sorted((rng.randint(1, 9) for _ in range(3)), reverse=True)
        target = rng.randint(1, 40)
        question = puzzle.encode(np.array([numbers]), np.array([target]))
        allowed = [puzzle.slot_mask[p].nonzero().flatten().tolist() for p in range(-2, 0)]
        every = torch.tensor(list(itertools.product(*allowed)), dtype=torch.uint8)
        answers = question.repeat(len(every), 1)
        answers[:, -2:] = every
        right = answers[puzzle.verify(question.expand_as(answers), answers).solved]
        listed, valid = puzzle.solutions(question, 200)
        expected = set(map(tuple, right.tolist()))
        found = set(map(tuple, listed[valid].tolist()))
        # Equal numbers are one kind to the verifier, and it forgives a superfluous step that the
        # text does not show; the search keeps to registers used once.
        if len(set(numbers)) == 3 and use_all:
            assert found == expected
        texts = {puzzle.format_answer(question[0], answer) for answer in right}
        assert texts == {puzzle.format_answer(question[0], answer) for answer in listed[valid]}
        assert found <= set(map(tuple, right.tolist()))
        assert puzzle.solvable(question[0]) == bool(found)


def test_text_round_trip(puzzle):
    batch = puzzle.sample(200, "test", seed=4)
    for question, solution in zip(batch["question"], batch["solution"], strict=True):
        text = puzzle.format_question(question)
        assert (puzzle.parse(text) == question).all()
        again = puzzle.parse_answer(question, puzzle.format_answer(question, solution))
        assert puzzle.verify(question[None], again[None]).solved.all()


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "numbers, one '='", 1),
        ("3 7 8", "numbers, one '='", 6),
        ("3 7 8 = 29 = 3", "numbers, one '='", 12),
        ("3 7 x = 29", "'x' is no number", 5),
        ("3 7 = 29", "2 numbers where this puzzle has 3", 5),
        ("3 7 8 9 = 29", "4 numbers", 9),
        ("3 7 26 = 29", "outside 1..25", 5),
        ("3 7 8 = 101", "outside 10..100", 9),
        ("3 7 8 = 99999999999999999999", "outside 10..100", 9),
        ("-3 7 8 = 29", "'-' is no number", 1),
        ("3 7 ８ = 29", "is no number", 5),
        ("3 7 ² = 29", "is no number", 5),
        ("3 7 " + "9" * 9999 + " = 29", "outside 1..25", 5),
        ("__import__('os') 1 2 = 10", "is no number", 1),
    ],
)
def test_malformed_puzzles_are_refused(text, message, column):
    with pytest.raises(PuzzleTextError, match=message) as caught:
        Countdown().parse(text)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8 + 7", "uses all 3"),
        ("8 + 7 * 3 +", "ends early"),
        ("(8 + 7 * 3", "not closed"),
        ("8 + 7 * 7", "7 is not among"),
        ("3 - 8 + 7", "no positive integer"),
        ("8 / 3 * 7", "no positive integer"),
        ("8 + 7 * 3)", "unexpected"),
        ("8 ** 3 + 7", "missing before"),
        ("9" * 9999, "is not among"),
        ("(" * 9999, "more than 50 brackets"),
    ],
)
def test_malformed_answers_are_refused(text, message):
    puzzle = Countdown()
    with pytest.raises(PuzzleTextError, match=message):
        puzzle.parse_answer(puzzle.parse("3 7 8 = 29"), text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    puzzle = Countdown()
    question = puzzle.parse("3 7 8 = 29")
    for read in (puzzle.parse, lambda t: puzzle.parse_answer(question, t)):
        with contextlib.suppress(PuzzleTextError):
            read(text)


@pytest.mark.parametrize(
    ("settings_", "key"),
    [
        ({"numbers": 2}, "env.numbers=2"),
        ({"numbers": 7}, "env.numbers=7"),
        ({"number_range": (0, 9)}, "env.number_range"),
        ({"number_range": (9, 1)}, "env.number_range"),
        ({"target_range": (1, 10_000)}, "env.target_range"),
    ],
)
def test_settings_out_of_range_are_refused(settings_, key):
    with pytest.raises(UserError, match=key):
        Countdown(**settings_)


def test_impossible_settings_end_with_a_message():
    puzzle = Countdown(3, number_range=(1, 2), target_range=(5000, 5000))
    with pytest.raises(UserError, match="widen a range"):
        puzzle.sample(1, "train", seed=0)


def test_clues_cannot_be_changed():
    puzzle = Countdown()
    question = puzzle.sample(10, "train", seed=0)["question"]
    clamped = puzzle.clamp(question, torch.zeros_like(question))
    assert (clamped[:, : puzzle.answer_start] == question[:, : puzzle.answer_start]).all()
    assert (clamped[:, puzzle.answer_start :] == 0).all()


def test_operators_match_integer_arithmetic():
    for a, b in itertools.product(range(1, 12), repeat=2):
        high, low = max(a, b), min(a, b)
        expected = [a + b, high - low, a * b, high // low if high % low == 0 else 0]
        assert [kernels.apply_operator(op, a, b) for op in range(4)] == expected
