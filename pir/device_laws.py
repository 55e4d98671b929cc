"""The laws of devices: what a puzzle answers is the same, and in its place, on any of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.law_case import Case, LawError, require
from pir.picture import as_text
from pir.puzzle import Puzzle, instances
from pir.second_device import SECOND, OtherRounding, SecondDevice

PUZZLES = 40
"""Instances that the methods which search are called with."""

ROUNDING = 1e-4
"""Scores and ratings may differ by so much where quotients are rounded in another way."""

Results = list[Tensor] | None


def rounding_decides_nothing(case: Case) -> str:
    """Verdicts, conflicts and keys are the same where quotients fall short of what they should be.

    See `OtherRounding`.
    """
    usual = case.puzzle.verify(case.questions, case.answers)
    with OtherRounding():
        other = case.puzzle.verify(case.questions, case.answers)
    same = other.solved == usual.solved
    require(same, case, case.questions, "the verdict on an answer changes where quotients are "
            "rounded as on a GPU: take solved from integers or booleans, not from a score that "
            "should be 1, and build the verdict by Verdict.graded")  # fmt: skip
    fits = (other.score == 1) == other.solved
    require(fits, case, case.questions, "a score is 1 but not solved, or solved but not 1, where "
            "quotients are rounded as on a GPU: build the verdict by Verdict.graded")  # fmt: skip
    close = (other.score - usual.score).abs() <= ROUNDING
    require(close, case, case.questions, "a score jumps where quotients are rounded as on a GPU")
    for name, run in _calls(case, lambda values: values):
        exactly, roughly = _outcome(run, nullcontext()), _outcome(run, OtherRounding())
        if not _same(exactly, roughly):
            raise LawError(f"{name} changes where quotients are rounded as on a GPU: use integers")
    return f"{len(case.answers)} answers"


def results_stay_on_the_device(case: Case, device: torch.device = SECOND) -> str:
    """Every tensor lies on the device of the question that it is computed from, with equal values.

    Args:
        case: gives puzzle and tensors.
        device: the second device, see `SecondDevice`; or a real one.
    """
    pretence = SecondDevice if device == SECOND else nullcontext
    with pretence():
        elsewhere = list(_calls(case, lambda values: values.to(device)))
    here = _calls(case, lambda values: values)
    for (name, run), (_, run_elsewhere) in zip(here, elsewhere, strict=True):
        expected = _outcome(run, nullcontext())
        try:
            found = _outcome(run_elsewhere, pretence())
        except Exception as error:  # a plug-in may fail in any way
            raise LawError(
                f"{name} fails for tensors on another device than the CPU: {error}; make every "
                "tensor on the device of the question, by device=question.device or .to()"
            ) from error
        for tensor in found or ():
            if tensor.device != device:
                raise LawError(
                    f"{name} gives a tensor on the {tensor.device} for one on another device: make "
                    "it there, by device=question.device or .to()"
                )
        with pretence():
            back = None if found is None else [tensor.cpu() for tensor in found]
        if not _same(expected, back):
            raise LawError(f"{name} gives something else on another device than on the CPU")
    return f"{len(elsewhere)} methods"


def any_token_is_judged(case: Case) -> str:
    """Answers may hold any tokens anywhere; they are judged, marked, printed and drawn."""
    puzzle, puzzles = case.puzzle, case.samples["test"][:PUZZLES]
    rng = torch.Generator().manual_seed(0)
    question, label = puzzles["question"], puzzles["solution"]
    noise = torch.randint(256, label.shape, dtype=torch.uint8, generator=rng)
    few = torch.rand(label.shape, generator=rng) < 2 / label.shape[1]
    written = puzzle.written(question)
    sorts = [noise, torch.where(few, noise, label), torch.where(few & written, noise, label)]
    sorts += [torch.where(written, token, question) for token in (0, 254, 255)]
    for answers in (part.to(torch.uint8) for part in sorts):
        try:
            solved = puzzle.verify(question, answers).solved
            puzzle.conflicts(question, answers)
            for row in range(0, len(question), 8):
                _print(puzzle, question[row], answers[row])
        except Exception as error:  # a plug-in may fail in any way
            raise LawError(
                f"an answer with tokens that are not in the vocabulary cannot be judged, marked, "
                f"printed or drawn: {type(error).__name__}: {error}"
            ) from error
        for row in solved.nonzero().squeeze(1).tolist():
            text = puzzle.format_answer(question[row], answers[row])
            if not _reads_right(puzzle, question[row], text):
                raise LawError(f"an answer is solved that reads {text!r}, which is wrong")
    return f"{len(sorts) * len(question)} answers"


def _reads_right(puzzle: Puzzle, question: Tensor, text: str) -> bool:
    try:
        answer = puzzle.parse_answer(question, text)
    except PuzzleTextError:
        return False
    return bool(puzzle.verify(question[None], answer[None]).solved)


def _calls(
    case: Case, placed: Callable[[Tensor], Tensor]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields the methods that compute with tensors, by name, ready to be called.

    Args:
        case: gives puzzle and tensors.
        placed: puts a tensor on the device that it is asked for.
    """
    puzzle, sample = case.puzzle, case.samples["test"][:PUZZLES]
    question, solution = (placed(sample[name]) for name in ("question", "solution"))
    questions, answers = placed(case.questions), placed(case.answers)

    def augment() -> Any:
        images: TensorDict = puzzle.augment(instances(question.clone(), solution.clone()), seed=0)
        return images["question"], images["solution"]

    def reveal() -> Any:
        return puzzle.reveal(question, solution, puzzle.written(question))

    def text() -> Any:
        for row in range(4):
            _print(puzzle, question[row], solution[row])
            puzzle.parse_answer(question[row], puzzle.format_answer(question[row], solution[row]))
        return ()

    yield "verify", lambda: puzzle.verify(questions, answers)
    yield "written", lambda: puzzle.written(questions)
    yield "clamp", lambda: puzzle.clamp(questions, answers)
    yield "conflicts", lambda: puzzle.conflicts(questions, answers)
    yield "key", lambda: puzzle.key(question)
    yield "solutions", lambda: puzzle.solutions(question, 3)
    yield "rating", lambda: puzzle.rating(question)
    yield "solution_order", lambda: puzzle.solution_order(question, solution)
    yield "reveal", reveal
    yield "augment", augment
    yield "the text form", text


def _outcome(run: Callable[[], Any], arithmetic: AbstractContextManager[Any]) -> Results:
    """Calls a method; returns its tensors, or None if the puzzle does not have it."""
    try:
        with arithmetic:
            result = run()
    except NotImplementedError:
        return None
    return [result] if isinstance(result, Tensor) else list(result)


def _same(one: Results, other: Results) -> bool:
    if one is None or other is None:
        return one is other
    return all(
        torch.allclose(a, b, rtol=ROUNDING) if a.is_floating_point() else torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )


def _print(puzzle: Puzzle, question: Tensor, answer: Tensor) -> None:
    puzzle.format_question(question)
    puzzle.format_answer(question, answer)
    as_text(puzzle.picture(question, answer))
