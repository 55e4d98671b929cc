"""The methods of a puzzle as calls, which the laws make once more, elsewhere or in parts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.laws.case import Case
from pir.laws.form import LawError, require_form
from pir.notation.picture import as_text
from pir.puzzle import Puzzle, instances

PUZZLES = 40
"""Instances that the methods which search are called with."""

LISTED = 3
"""Answers that `solutions` is asked for."""

ROUNDING = 1e-4
"""Scores and ratings may differ by so much where quotients are rounded in another way."""


class Call(NamedTuple):
    """A method that computes with tensors, and what it is called with.

    Attributes:
        name: its name.
        method: the method.
        arguments: tensors, or a TensorDict of them.
        due: dtype and shape of every tensor that it returns, by name.
    """

    name: str
    method: Callable[..., Any]
    arguments: tuple[Any, ...]
    due: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]

    def run(self, arithmetic: AbstractContextManager[Any] | None = None) -> list[Tensor]:
        """Calls the method, and lists what it returned."""
        with arithmetic or nullcontext():
            result = self.method(*self.arguments)
        if isinstance(result, TensorDict):
            result = [result[name] for name in self.due]
        return list(result) if isinstance(result, list | tuple) else [result]

    def require_form(self) -> None:
        """Breaks the law if the results have another form than is due."""
        results = self.run()
        if len(results) != len(self.due):
            raise LawError(f"{self.name} gives {len(results)} results; {len(self.due)} are due")
        for (part, due), found in zip(self.due.items(), results, strict=True):
            of = "" if part == self.name else f" of {self.name}"
            require_form(part + of, found, *due)


def calls(case: Case, placed: Callable[[Tensor], Tensor] = lambda values: values) -> Iterator[Call]:
    """Yields the methods of a puzzle that compute with tensors, ready to be called.

    Args:
        case: gives puzzle and tensors.
        placed: makes the arguments from the tensors of the case: on another device, or fewer rows.
    """
    puzzle, sample = case.puzzle, case.samples["test"][:PUZZLES]
    # a copy, as a faulty method may change what it gets
    positions = placed(puzzle.written(sample["question"].clone()))
    question, solution = (placed(sample[name]) for name in ("question", "solution"))
    questions, answers = placed(case.questions), placed(case.answers)
    one, all_ = (len(question),), (len(questions),)
    board, boards = tuple(question.shape), tuple(questions.shape)
    tokens, flags, ranks = (torch.uint8, board), (torch.bool, boards), (torch.int64, board)

    def augment(puzzles: TensorDict) -> TensorDict:
        return puzzle.augment(puzzles, seed=0)

    def solutions(question: Tensor) -> Any:
        return puzzle.solutions(question, LISTED)

    def text(question: Tensor, solution: Tensor) -> Any:
        for row in range(min(4, len(question))):
            print_answer(puzzle, question[row], solution[row])
            puzzle.parse_answer(question[row], puzzle.format_answer(question[row], solution[row]))
        return ()

    verdict = {"score": (torch.float32, all_), "solved": (torch.bool, all_)}
    listed = {
        "answers": (torch.uint8, (*one, LISTED, board[1])),
        "valid": (torch.bool, (*one, LISTED)),
        "complete": (torch.bool, one),
    }
    pair = {"question": tokens, "solution": tokens}
    yield Call("verify", puzzle.verify, (questions, answers), verdict)
    yield Call("written", puzzle.written, (questions,), {"written": flags})
    yield Call("clamp", puzzle.clamp, (questions, answers), {"clamp": (torch.uint8, boards)})
    yield Call("conflicts", puzzle.conflicts, (questions, answers), {"conflicts": flags})
    yield Call("key", puzzle.key, (question,), {"key": (torch.int64, one)})
    if puzzle.lists_solutions:
        yield Call("solutions", solutions, (question,), listed)
    yield Call("rating", puzzle.rating, (question,), {"rating": (torch.float32, one)})
    order = {"solution_order": ranks}
    yield Call("solution_order", puzzle.solution_order, (question, solution), order)
    if puzzle.reveals:
        yield Call("reveal", puzzle.reveal, (question, solution, positions), {"reveal": tokens})
    yield Call("augment", augment, (instances(question, solution),), pair)
    yield Call("the text form", text, (question, solution), {})


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Returns whether two outcomes are equal, fractions up to `ROUNDING`."""
    return all(
        torch.allclose(a, b, rtol=ROUNDING) if a.is_floating_point() else torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )


def print_answer(puzzle: Puzzle, question: Tensor, answer: Tensor) -> None:
    """Prints and draws an answer to a question, both of shape (L,), for nobody."""
    puzzle.format_question(question)
    puzzle.format_answer(question, answer)
    as_text(puzzle.picture(question, answer))
