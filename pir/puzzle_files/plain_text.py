"""Lines of puzzles that are read by `Puzzle.parse` and `Puzzle.parse_answer` alone."""

import re
from typing import NamedTuple

from torch import Tensor

from pir.errors import PuzzleTextError
from pir.puzzle import Puzzle

BLANKS = re.compile(r"\s+")
SEPARATORS = (
    *(re.compile(rf"(?:(?<!\s)\s+)?{sign}\s*") for sign in (r"[\t;]", ",", "(?:->|=>)")),
    BLANKS,
)
"""Blanks before a sign are looked for from the first of them only, as lines may have many."""

COMMENT = re.compile(r"(?:^|(?<=\s))(?:#|//).*")
RATING = re.compile(r"\d+\.\d+(?:/\d+\.\d+)*|\w+=\S+|[A-Za-z]\w*")
TAG = re.compile(r"[A-Za-z][\w.:-]*")
NUMBERING = re.compile(r"\s*\(?\d+[.):]\s+")
MOST_FIELDS, MOST_WORDS = 300, 2000
"""Lines with more fields, or words, than that are read whole or not at all: every one is tried."""

MOST_TAGS = 4


class Found(NamedTuple):
    """A question, its place in the line from 0, and its answer, if there is one."""

    question: Tensor
    text: str
    place: int
    answer: Tensor | None


def find(puzzle: Puzzle, line: str, tags: int = MOST_TAGS) -> Found | None:
    """Reads a question, maybe after a number or a tag, and before its answer, a rating, a comment.

    Every separator of a kind is tried; the line is read if that leads to one result.

    Args:
        puzzle: gives the text form.
        line: of a file.
        tags: so many may stand before the question.

    Returns:
        None if the line is a comment.

    Raises:
        PuzzleTextError: if there is no way to read the line, or more than one.
    """
    try:
        return _whole(puzzle, line)
    except PuzzleTextError as error:
        fault = error
    numbering = NUMBERING.match(line)
    if numbering and not NUMBERING.match(line, numbering.end()):
        try:
            rest = find(puzzle, line[numbering.end() :], tags)
        except PuzzleTextError as error:
            raise PuzzleTextError(error.reason, numbering.end() + error.column) from error
        return rest._replace(place=numbering.end() + rest.place) if rest else None
    text = COMMENT.sub("", line).rstrip(" \t,;")
    if text != line:
        return find(puzzle, text, tags) if text else None
    nearest: PuzzleTextError | None = None
    for separator in SEPARATORS:
        splits = list(separator.finditer(text))
        found: list[Found] = []
        most = MOST_WORDS if separator is BLANKS else MOST_FIELDS
        for split in splits if len(splits) <= most else ():
            try:
                found += _split(puzzle, text, split, separator, tags)
            except PuzzleTextError as error:
                nearest = nearest or error
        if len(found) > 1:
            several = "the line can be read in several ways: part puzzle and answer by a tab"
            raise PuzzleTextError(several, 1)
        if found:
            return found[0]
    raise nearest or fault


def _whole(puzzle: Puzzle, text: str) -> Found:
    return Found(puzzle.parse(text), text.strip(), len(text) - len(text.lstrip()), None)


def _split(
    puzzle: Puzzle, text: str, split: re.Match[str], separator: re.Pattern[str], tags: int
) -> list[Found]:
    """Reads a line that is parted at one place; returns nothing if no puzzle ends or begins there.

    Raises:
        PuzzleTextError: if there is a puzzle, and what follows is no answer to it.
    """
    left, right = text[: split.start()], text[split.end() :]
    try:
        found = _whole(puzzle, left)
    except PuzzleTextError:
        if not tags or separator is BLANKS or not TAG.fullmatch(left.strip()):
            return []
        try:
            rest = find(puzzle, right, tags - 1)
        except PuzzleTextError:
            return []
        return [rest._replace(place=rest.place + split.end())] if rest else []
    fields = [right] if separator is BLANKS else separator.split(right)
    try:
        return [found._replace(answer=_answer(puzzle, found.question, right, fields))]
    except PuzzleTextError as error:
        raise PuzzleTextError(error.reason, split.end() + error.column) from error


def _answer(puzzle: Puzzle, question: Tensor, text: str, fields: list[str]) -> Tensor | None:
    """Reads what follows a question: its answer, ratings, or both."""
    try:
        return puzzle.parse_answer(question, text)
    except PuzzleTextError:
        if all(not word or RATING.fullmatch(word) for word in fields):
            return None
        if len(fields) > 1 and all(not w or RATING.fullmatch(w) for w in fields[1:]):
            return puzzle.parse_answer(question, fields[0])
        raise
