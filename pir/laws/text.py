"""The laws of text and pictures: what is printed reads back, and every answer is drawn."""

from typing import get_args

import numpy as np

from pir.errors import PuzzleTextError
from pir.laws.case import Case, judged
from pir.laws.form import LawError
from pir.notation.picture import Picture, Role, as_text

JUNK = ("", " ", "x", "?", "..", "-1", "é", "/", ",", "=", "999999999999", "\x00")
"""What is put into a text to malform it."""


def text_round_trip(case: Case) -> None:
    """What is printed of questions and labels reads back."""
    puzzle = case.puzzle
    for sample in case.samples.values():
        for question, solution in zip(sample["question"][:50], sample["solution"], strict=False):
            text = puzzle.format_question(question)
            if "\n" in text or not bool((puzzle.parse(text) == question).all()):
                raise LawError(f"parse does not read back {text!r}")
            printed = puzzle.format_answer(question, solution)
            answer = puzzle.parse_answer(question, printed)
            if not bool(judged(puzzle, question[None], answer[None]).solved):
                raise LawError(f"parse_answer does not read back {printed!r} to {text!r}")


def malformed_text_is_refused(case: Case) -> str:
    """Every text is read or refused with a column; what is read prints and reads back alike."""
    puzzle, refused = case.puzzle, 0
    rng = np.random.Generator(np.random.Philox(key=[0, 0]))
    sample = case.samples["test"]
    for question, solution in zip(sample["question"][:40], sample["solution"], strict=False):
        for text, is_answer in (
            (puzzle.format_question(question), False),
            (puzzle.format_answer(question, solution), True),
        ):
            for junk in JUNK:
                start = int(rng.integers(len(text) + 1))
                broken = text[:start] + junk + text[start + int(rng.integers(3)) :]
                try:
                    if is_answer:
                        puzzle.parse_answer(question, broken)
                        continue
                    read = puzzle.parse(broken)
                    again = puzzle.parse(puzzle.format_question(read))
                    if not bool((again == read).all()):
                        raise LawError(f"{broken!r} is read, but printed as another puzzle")
                except PuzzleTextError as error:
                    refused += 1
                    if not 1 <= error.column <= len(broken) + 1:
                        at = f"column {error.column} (columns count from 1)"
                        raise LawError(f"{broken!r} is refused at {at}") from error
    if refused == 0:
        raise LawError("no malformed text was refused")
    return f"{refused} malformed texts refused with their column"


def every_answer_can_be_drawn(case: Case) -> None:
    """Every answer prints and has a picture, of cells whose roles there are."""
    for question, answer in zip(case.questions[::7][:200], case.answers[::7], strict=False):
        case.puzzle.format_answer(question, answer)
        picture = case.puzzle.picture(question, answer)
        if not isinstance(picture, Picture):
            raise LawError(f"picture gives a {type(picture).__name__}; a Picture is due")
        wrong = {str(cell.role) for cell in picture.cells} - set(get_args(Role))
        if wrong:
            allowed = f"allowed: {', '.join(get_args(Role))}"
            raise LawError(f"picture has a cell with the role {min(wrong)} ({allowed})")
        as_text(picture)
