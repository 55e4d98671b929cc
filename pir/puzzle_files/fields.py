"""Puzzles in named fields, as tables with a header and JSON have them: which field is what."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch

from pir.errors import PuzzleTextError
from pir.puzzle import Puzzle

QUESTION_NAMES = frozenset(
    {"puzzle", "puzzles", "question", "questions", "quiz", "quizzes", "problem", "problems"}
    | {"input", "inputs", "board", "boards", "grid", "grids", "maze", "mazes", "sudoku", "sudokus"}
    | {"unsolved", "queens", "value"}
)
ANSWER_NAMES = frozenset(
    {"answer", "answers", "solution", "solutions", "label", "labels", "output", "outputs"}
    | {"result", "results"}
)
ANSWER_WORDS = ANSWER_NAMES | {"solved"}
ANSWER_NAMES |= {"target", "targets"}
OTHER_WORDS = frozenset(
    {"id", "ids", "number", "no", "count", "hash", "name", "source", "type", "size", "index"}
    | {"difficulty", "rating", "level"}
)


def normal_name(name: str) -> str:
    """Returns a field's name in lower case, its words parted by `_`."""
    return "_".join(re.findall(r"[^\W_]+", name.lower()))


def as_fields(puzzle: Puzzle, items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns fields by normal name; names that are alike but for case count as one.

    Raises:
        PuzzleTextError: if two fields of a puzzle have one name and differ.
    """
    fields: dict[str, Any] = {}
    for name, value in items:
        normal = normal_name(name)
        if normal in fields and (before := as_text(fields[normal]).strip()):
            now = as_text(value).strip()
            if now not in ("", before) and (
                normal in puzzle.field_names or candidates([normal], QUESTION_NAMES | ANSWER_NAMES)
            ):
                raise PuzzleTextError(f"{normal} comes twice, and the two differ", 1)
        if normal not in fields or not before:
            fields[normal] = value
    return fields


def one_value(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Returns what fields of one meaning hold; None if they are missing or empty.

    Raises:
        PuzzleTextError: if they differ.
    """
    given = {name: as_text(fields[name]).strip() for name in names if name in fields}
    given = {name: text for name, text in given.items() if text}
    if len(set(given.values())) > 1:
        raise PuzzleTextError(f"{' and '.join(given)} differ: leave out all but one", 1)
    return next((fields[name] for name in given), None)


def named(names: Collection[str], known: Collection[str]) -> str | None:
    """Returns the one name that is known, or that has a known word in it; None if there is none.

    Raises:
        PuzzleTextError: if there are several.
    """
    found = candidates(names, known)
    if len(found) > 1:
        raise PuzzleTextError(f"{' and '.join(found)} may both be meant: rename one of them", 1)
    return found[0] if found else None


def candidates(names: Collection[str], known: Collection[str]) -> list[str]:
    """Returns the names that are known, or else those that have a known word in them."""
    exact = [name for name in names if name in known]
    others = OTHER_WORDS | ANSWER_WORDS if known is QUESTION_NAMES else OTHER_WORDS
    wanted = known if known is QUESTION_NAMES else ANSWER_WORDS
    return exact or [
        name
        for name in names
        if "_" in name and (words := set(name.split("_"))) & wanted and not words & others
    ]


def names_a_puzzle(puzzle: Puzzle, names: Sequence[str]) -> bool:
    """Says whether the normal names of some fields are those of a puzzle."""
    own = set(names) & set(puzzle.field_names)
    return len(own) > 1 or bool(candidates(names, QUESTION_NAMES))


def known_names(names: Iterable[str]) -> bool:
    """Says whether all of some normal names are exactly those of columns that files have."""
    return set(names) <= QUESTION_NAMES | ANSWER_NAMES | OTHER_WORDS


def pick(puzzle: Puzzle, fields: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the texts of question and answer; that of the answer is empty if there is none.

    The answers that `pir solve output=json` prints count where they are solved.

    Args:
        puzzle: may have fields of its own (`Puzzle.text_of_fields`).
        fields: values by normal name.

    Raises:
        PuzzleTextError: if no field holds the question, or several do and differ.
    """
    stated = puzzle.text_of_fields(fields) or ""
    names = candidates(fields.keys(), QUESTION_NAMES)
    question = as_text(one_value(fields, names))
    own = [n for n in puzzle.field_names if n not in OTHER_WORDS and as_text(fields.get(n))]
    if question.strip() and own and not _say_the_same(puzzle, stated, question):
        raise PuzzleTextError(f"{' and '.join(names + own)} differ: leave some of them out", 1)
    question = stated or question
    if not question.strip():
        raise PuzzleTextError("no puzzle in this entry", 1)
    answers = candidates(fields.keys() - set(puzzle.field_names), ANSWER_NAMES)
    right = fields.get("solved") is not False
    return question, as_text(one_value(fields, sorted(answers))) if right else ""


def _say_the_same(puzzle: Puzzle, stated: str, question: str) -> bool:
    """Says whether a question in words, or in its text form, is what other fields state."""
    try:
        written = puzzle.parse(question)
    except PuzzleTextError:
        return bool(stated)
    return bool(stated) and torch.equal(puzzle.parse(stated), written)


def as_text(value: Any) -> str:
    """Returns a value as text: lists as words, lists of rows with `/` between the rows."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # exact
        value = int(value)
    if not isinstance(value, list):
        return str(value)
    if value and all(isinstance(row, list) for row in value):
        return "/".join(map(as_text, value))
    words = ["." if item in (None, "") else as_text(item) for item in value]
    if all(isinstance(item, str) for item in value) and words:
        widths = {len(word) for word in words}
        if len(widths) == 1 or min(widths) > 2:
            return ("" if widths == {1} else "/").join(words)
    return " ".join(words)
