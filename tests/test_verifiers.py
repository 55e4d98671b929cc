"""The fast verifiers against slow, exact checkers that share nothing with them."""

import random

import pytest
import torch
from pir.envs.maze.rules import Maze
from pir.envs.maze.tokens import GOAL, OPEN, PATH, START
from pir.envs.sudoku.rules import Sudoku

from pir.laws.checks import sundry_answers
from tests.puzzles import VARIANTS, is_right

PUZZLES = 40
CHECKED = [
    "sudoku4",
    "sudoku6",
    "sudoku9",
    "maze",
    "maze 6x8 walls",
    "queens",
    "queens n=10",
    "countdown",
    "countdown n=4 any subset",
    "countdown n=5",
    "countdown n=6",
    "graph",
    "graph target alone",
]


def some_path(puzzle, question, rng):
    """A random simple path from S to G, seldom a shortest one, or one that touches itself."""
    around = puzzle.around.tolist()
    maze = question.tolist()
    cell, path, seen = maze.index(START), [], {maze.index(START)}
    while maze[cell] != GOAL:
        steps = [c for c in around[cell] if c < len(maze) and maze[c] != 1 and c not in seen]
        if steps:
            path.append(cell)
            cell = rng.choice(steps)
            seen.add(cell)
        else:
            cell = path.pop()
    answer = question.clone()
    answer[path[1:]] = PATH
    return answer


def adversaries(puzzle, question, label, rng):
    """Answers that are wrong, or right, in a way that only this kind of puzzle knows."""
    match puzzle:
        case Sudoku():  # a proper grid with other clues; two rows of a band exchanged
            digits = list(range(2, puzzle.n + 2))
            table = torch.tensor([0, 1, *rng.sample(digits, puzzle.n)], dtype=torch.uint8)
            yield table[label.long()]
            rows = label.view(puzzle.n, puzzle.n).clone()
            rows[[0, 1]] = rows[[1, 0]]
            yield rows.flatten()
            yield puzzle.clamp(question, rows.flatten())
        case Maze():
            yield some_path(puzzle, question, rng)
            longer = label.clone()  # a piece apart, and a cell beside the path
            longer[(question == OPEN).nonzero()[:: rng.randint(2, 9)]] = PATH
            yield longer
            shorter = label.clone()
            shorter[rng.choice((label == PATH).nonzero().flatten().tolist() or [0])] = OPEN
            yield puzzle.clamp(question, shorter)
            walled = label.clone()
            walled[rng.choice((question == 1).nonzero().flatten().tolist())] = PATH
            yield walled
            yield puzzle.solutions(question[None], 64)[0][0, rng.randrange(64)]


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CHECKED)
def test_verifier_agrees_with_the_slow_checker(name, count):
    puzzle, rng = VARIANTS[name](), random.Random(0)
    puzzles = puzzle.sample(PUZZLES, "test", seed=2)
    per_puzzle = count // (3 * PUZZLES)
    questions, answers = sundry_answers(puzzle, puzzles, per_puzzle, seed=1)
    special = [
        (question, answer)
        for question, label in zip(puzzles["question"], puzzles["solution"], strict=True)
        for _ in range(max(1, per_puzzle // 10))
        for answer in adversaries(puzzle, question, label, rng)
    ]
    if special:
        questions = torch.cat([questions, torch.stack([q for q, _ in special])])
        answers = torch.cat([answers, torch.stack([a for _, a in special])])
    clues_kept = ((answers == questions) | puzzle.written(questions)).all(1)
    solved = puzzle.verify(questions, answers).solved
    texts = [puzzle.format_question(question) for question in puzzles["question"]]
    text_of = dict(zip(map(tuple, puzzles["question"].tolist()), texts, strict=True))
    checked = 0
    for question, answer, kept, found in zip(
        questions.tolist(), answers, clues_kept.tolist(), solved.tolist(), strict=True
    ):
        text = text_of[tuple(question)]
        printed = puzzle.format_answer(torch.tensor(question, dtype=torch.uint8), answer)
        # Where the text does not show the clues, an answer that changes one is wrong all the same.
        assert found == (kept and is_right(puzzle, text, printed)), (text, printed)
        checked += 1
    assert checked >= count
    assert PUZZLES <= int(solved.sum()) < checked / 2


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"maze_hard"}))
def test_any_tokens_anywhere_get_a_verdict(name):
    """Also where the question itself holds what no question can hold."""
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(30, "test", seed=0)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (4, 30, puzzle.length), generator=rng, dtype=torch.uint8)
    some = torch.rand(noise.shape[1:], generator=rng) < 0.1
    strange = torch.where(some, noise[0], sample["question"])
    for question, answer in (
        (sample["question"], noise[1]),
        (noise[2], noise[3]),
        (strange, torch.where(some, noise[1], sample["solution"])),
        (torch.zeros_like(strange), torch.zeros_like(strange)),
        (torch.full_like(strange, 255), torch.full_like(strange, 255)),
    ):
        verdict, kept = puzzle.verify(question, answer), puzzle.clamp(question, answer) == answer
        assert ((verdict.score == 1) == verdict.solved).all()
        assert ((verdict.score >= 0) & (verdict.score <= 1)).all()
        assert not (verdict.solved & ~kept.all(1)).any()
        assert puzzle.conflicts(question, answer).shape == question.shape
