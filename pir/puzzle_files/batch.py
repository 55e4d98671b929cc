"""What is found in a puzzle file: single entries and faults, and batches of them as arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHOWN = 60
"""Characters of a faulty line that messages show."""


class Entry(NamedTuple):
    """One puzzle of a file.

    Attributes:
        line: number of its line, or of the puzzle in an array, from 1.
        column: of its first character, from 1.
        question: uint8 of shape (L,).
        answer: uint8 of shape (L,), well-formed but unchecked; None if the file gives none.
        text: the question as it stands in the file; empty where the file has it in another form.
    """

    line: int
    column: int
    question: np.ndarray
    answer: np.ndarray | None
    text: str


class Fault(NamedTuple):
    """A place of a file that holds no puzzle though it should, and why; `text` is shortened.

    Where `since` is not 0, the puzzles from that line up to this one are as doubtful.
    """

    line: int
    column: int
    reason: str
    text: str
    since: int = 0


class Batch(NamedTuple):
    """Puzzles of a file, in its order.

    Attributes:
        lines: int64 of shape (N,), the number of each one's line, or of the puzzle in an array.
        columns: int64 of shape (N,), where it begins in the line, from 1.
        questions: uint8 of shape (N, L).
        answers: uint8 of shape (N, L), well-formed but unchecked, 0 where the file gives none;
            None if it gives none at all.
        texts: the questions as they stand in the file, by row, where that is their text form.
        faults: what could not be read.
        unit: what the numbers in `lines` count, "line" or "puzzle".
    """

    lines: np.ndarray
    columns: np.ndarray
    questions: np.ndarray
    answers: np.ndarray | None
    texts: dict[int, str]
    faults: list[Fault]
    unit: str = "line"


def as_batch(found: Sequence[Entry | Fault], length: int) -> Batch:
    """Packs what a reader of lines found; `length` is that of a question."""
    entries = [item for item in found if isinstance(item, Entry)]
    faults = [item for item in found if isinstance(item, Fault)]
    questions = np.zeros((len(entries), length), np.uint8)
    answers = None
    if any(entry.answer is not None for entry in entries):
        answers = np.zeros_like(questions)
    for row, entry in enumerate(entries):
        questions[row] = entry.question
        if entry.answer is not None and answers is not None:
            answers[row] = entry.answer
    places = np.array([(e.line, e.column) for e in entries], np.int64).reshape(-1, 2)
    texts = {row: entry.text for row, entry in enumerate(entries) if entry.text}
    return Batch(places[:, 0], places[:, 1], questions, answers, texts, faults)


def merged(parts: Sequence[Batch]) -> Batch:
    """Joins batches in the order of their lines; the last one alone may hold texts and faults."""
    if len(parts) == 1:
        return parts[0]
    lines = np.concatenate([part.lines for part in parts])
    order = np.argsort(lines, kind="stable")
    answers = None
    if any(part.answers is not None for part in parts):
        every = [np.zeros_like(p.questions) if p.answers is None else p.answers for p in parts]
        answers = np.concatenate(every)[order]
    before = len(lines) - len(parts[-1].lines)
    row_of = np.argsort(order)
    texts = {int(row_of[before + row]): text for row, text in parts[-1].texts.items()}
    return Batch(
        lines[order],
        np.concatenate([part.columns for part in parts])[order],
        np.concatenate([part.questions for part in parts])[order],
        answers,
        texts,
        parts[-1].faults,
    )


def shorten(text: str) -> str:
    """Returns the beginning of a text."""
    text = text.strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
