"""The laws of devices: what a puzzle answers is the same, and in its place, on any of them."""

from contextlib import nullcontext

import torch
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.laws.called import PUZZLES, ROUNDING, calls, print_answer, same
from pir.laws.case import Case, judged, require
from pir.laws.form import LawError
from pir.laws.second_device import SECOND, OtherRounding, SecondDevice
from pir.puzzle import Puzzle
from pir.system.terminal import one_line


def rounding_decides_nothing(case: Case) -> str:
    """Verdicts, conflicts and keys are the same where fractions are rounded in other ways.

    See `OtherRounding`.
    """
    usual = judged(case.puzzle, case.questions, case.answers)
    others = [(call, call.run()) for call in calls(case) if call.name != "verify"]
    for up in (False, True):
        with OtherRounding(up):
            other = case.puzzle.verify(case.questions, case.answers)
        agrees = other.solved == usual.solved
        require(agrees, case, case.questions, "the verdict on an answer changes where fractions "
                "are rounded as on a GPU: take solved from integers or booleans, not from a score "
                "that should be 1, and build the verdict by Verdict.graded")  # fmt: skip
        fits = (other.score == 1) == other.solved
        require(fits, case, case.questions, "a score is 1 but not solved, or solved but not 1, "
                "where fractions are rounded as on a GPU: build the verdict by "
                "Verdict.graded")  # fmt: skip
        close = (other.score - usual.score).abs() <= ROUNDING
        require(close, case, case.questions, "a score jumps where fractions are rounded as on a "
                "GPU")  # fmt: skip
        for call, result in others:
            if not same(result, call.run(OtherRounding(up))):
                raise LawError(
                    f"{call.name} changes where fractions are rounded as on a GPU: use integers"
                )
    return f"{len(case.answers)} answers"


def results_stay_on_the_device(case: Case, device: torch.device = SECOND) -> str:
    """Every tensor lies on the device of the question that it is computed from, with equal values.

    Args:
        case: gives puzzle and tensors.
        device: the second device, see `SecondDevice`; or a real one.
    """
    pretence = SecondDevice if device == SECOND else nullcontext
    with pretence():
        elsewhere = list(calls(case, lambda values: values.to(device)))
    for call, call_elsewhere in zip(calls(case), elsewhere, strict=True):
        name, expected = call.name, call.run()
        try:
            found = call_elsewhere.run(pretence())
        except Exception as error:  # a plug-in may fail in any way
            raise LawError(
                f"{name} fails for tensors on another device than the CPU: {one_line(str(error))}"
                "; make every tensor on the device of the question, by device=question.device or "
                ".to()"
            ) from error
        for tensor in found:
            if tensor.device != device:
                raise LawError(
                    f"{name} gives a tensor on the {tensor.device} for one on another device: make "
                    "it there, by device=question.device or .to()"
                )
        with pretence():
            back = [tensor.cpu() for tensor in found]
        if not same(expected, back):
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
        given = question.clone(), answers.clone()
        try:
            solved = puzzle.verify(question, answers).solved
            puzzle.conflicts(question, answers)
            for row in range(0, len(question), 8):
                print_answer(puzzle, question[row], answers[row])
        except Exception as error:  # a plug-in may fail in any way
            raise LawError(
                f"an answer with tokens that are not in the vocabulary cannot be judged, marked, "
                f"printed or drawn: {type(error).__name__}: {one_line(str(error))}"
            ) from error
        if not (torch.equal(question, given[0]) and torch.equal(answers, given[1])):
            raise LawError("verify or conflicts changes its arguments in place: change a clone()")
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
