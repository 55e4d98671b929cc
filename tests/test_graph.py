"""Graph reachability: generator, walks and verifier, against plain search and by hand."""

import itertools

import pytest
import torch
from pir.envs.graph.rules import Graph
from pir.envs.graph.tokens import BLANK, FIRST_NODE, STOP

from pir.errors import PuzzleTextError, UserError
from tests import slow_checkers as slow

LINE = "0>1 1>2 1>3 2>3 4>5 5>0 | 0 ? 3 5"


def small(**options):
    return Graph(6, branching=2, hops=(2, 4), **options)


def test_exactly_one_target_can_be_reached_in_as_many_hops():
    puzzle = Graph(20, hops=(3, 5))
    sample = puzzle.sample(200, "train", seed=0)
    hops = puzzle.rating(sample["question"]).tolist()
    assert set(hops) == {3, 4, 5}
    first = 0
    for question, length in zip(sample["question"], hops, strict=True):
        text = puzzle.format_question(question)
        targets = [int(word) for word in text.split()[-2:]]
        reached = slow.graph_reachable(text)
        inside = [target in reached for target in targets]
        assert sum(inside) == 1
        assert slow.graph_distance(text, targets[inside.index(True)]) == length
        assert len(reached) == 12  # the rest are distractors
        first += inside[0]
    assert 70 < first < 130


def test_of_two_targets_that_can_be_reached_the_nearer_one_counts():
    """Files may hold such graphs, whose targets come in either order."""
    edges = "0>1 0>2 2>3 3>4 4>5"
    for targets in ("1 5", "5 1"):
        puzzle = Graph(6, branching=2, hops=(1, 4), extra=0)
        question = puzzle.parse(f"{edges} | 0 ? {targets}")
        assert float(puzzle.rating(question[None])) == 1
        answers, valid, _ = puzzle.solutions(question[None], 4)
        first = puzzle.format_answer(question, answers[0, 0])
        assert (bool(valid[0, 0]), first) == (True, "0>1")


def test_wrong_target_cannot_be_told_by_its_edges():
    """It has a predecessor like the right one."""
    puzzle = Graph()
    for question in puzzle.sample(100, "train", seed=1)["question"]:
        table = set(question[: puzzle.table_end].tolist())
        assert set(question[puzzle.table_end + 1 : puzzle.answer_start].tolist()) <= table


def test_listed_walks_are_all_there_are():
    puzzle = small()
    question = puzzle.parse(LINE)
    words = [STOP, *range(FIRST_NODE, FIRST_NODE + 6)]
    right = set()
    for tokens in itertools.product(words, repeat=4):
        answer = question.clone()
        answer[puzzle.answer_start :] = torch.tensor(tokens)
        if puzzle.verify(question[None], answer[None]).solved:
            right.add(puzzle.format_answer(question, answer))
    answers, valid, _ = puzzle.solutions(question[None], 50)
    listed = [puzzle.format_answer(question, answer) for answer in answers[0][valid[0]]]
    assert listed == ["0>1>3", "0>1>2>3"]
    assert set(listed) == right


def test_scores_by_hand():
    puzzle = small()
    question = puzzle.parse(LINE)
    answers = torch.stack([puzzle.parse_answer(question, t) for t in ("0>1>3", "0>1>2", "0>1>5")])
    stopped_before = answers[0].clone()
    stopped_before[-4:] = torch.tensor([STOP, 4, 6, STOP])
    blank = question.clone()
    answers = torch.stack([*answers, stopped_before, blank])
    scores = puzzle.verify(question.expand(5, -1), answers).score
    assert scores.tolist() == pytest.approx([1, 0.8, 0.4, 0, 0])
    conflicts = puzzle.conflicts(question.expand(5, -1), answers)[:, puzzle.answer_start :]
    assert conflicts[:3].nonzero().tolist() == [[1, 1], [2, 1]]
    assert puzzle.format_answer(question, stopped_before) == "0>.>1>3"


def test_target_alone():
    puzzle = small(path=False)
    question = puzzle.parse(LINE)
    answers = question.repeat(4, 1)
    answers[:, -1] = torch.tensor([FIRST_NODE + 3, FIRST_NODE + 5, FIRST_NODE + 1, BLANK])
    assert puzzle.verify(question.expand(4, -1), answers).solved.tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert puzzle.unique


def test_key_ignores_names_and_the_order_of_targets():
    puzzle = small()
    renamed = "3>2 2>5 2>4 5>4 1>0 0>3 | 3 ? 0 4"
    other = "3>2 2>5 2>4 4>5 1>0 0>3 | 3 ? 0 4"
    keys = puzzle.key(torch.stack([puzzle.parse(text) for text in (LINE, renamed, other)]))
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


@pytest.mark.parametrize("text", ["", "1>3", "0", "0>1>2>3>4>5", "0>x", "0>1>>3"])
def test_malformed_answers(text):
    puzzle = small()
    with pytest.raises(PuzzleTextError):
        puzzle.parse_answer(puzzle.parse(LINE), text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 5}, r"env\.nodes=5"),
        ({"branching": 1}, r"env\.branching=1"),
        ({"distractors": 0.0}, r"env\.distractors=0\.0"),
        ({"distractors": 0.95}, r"env\.distractors"),
        ({"extra": 2.0}, r"env\.extra=2\.0"),
        ({"hops": (0, 3)}, r"env\.hops=\[0, 3\]"),
        ({"hops": (3, 2)}, r"env\.hops"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Graph(**options)


def test_a_graph_whose_walk_is_too_long_is_refused():
    """It has an answer, but none that this layout could hold."""
    with pytest.raises(PuzzleTextError, match="takes 5 steps, more than"):
        Graph(8, hops=(2, 3)).parse("0>1 1>3 3>4 4>5 5>2 | 0 ? 2 7")
