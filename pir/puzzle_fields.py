"""Puzzles in named fields, as tables with a header and JSON have them: which field is what."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
OTHER_WORDS = frozenset(
    {"id", "ids", "number", "no", "count", "hash", "name", "source", "type", "size", "index"}
    | {"difficulty", "rating", "level"}
)


def normal_name(name: str) -> str:
    """Returns a field's name in lower case, its words parted by `_`."""
    return "_".join(re.findall(r"[^\W_]+", name.lower()))


def named(names: Collection[str], known: Collection[str]) -> str | None:
    """Returns the one name that is known, or that has a known word in it; None if there is none.

    Raises:
        PuzzleTextError: if there are several.
    """
    exact = [name for name in names if name in known]
    others = OTHER_WORDS | ANSWER_WORDS if known is QUESTION_NAMES else OTHER_WORDS
    wanted = known if known is QUESTION_NAMES else ANSWER_WORDS
    found = exact or [
        name
        for name in names
        if "_" in name and (words := set(name.split("_"))) & wanted and not words & others
    ]
    if len(found) > 1:
        raise PuzzleTextError(f"{' and '.join(found)} may both be meant: rename one of them", 1)
    return found[0] if found else None


def names_a_puzzle(puzzle: Puzzle, names: Sequence[str]) -> bool:
    """Says whether the normal names of some fields are those of a puzzle."""
    own = set(names) & set(puzzle.field_names)
    return len(own) > 1 or named(names, QUESTION_NAMES) is not None


def pick(puzzle: Puzzle, fields: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the texts of question and answer; that of the answer is empty if there is none.

    The answers that `pir solve output=json` prints count where they are solved.

    Args:
        puzzle: may have fields of its own (`Puzzle.text_of_fields`).
        fields: values by normal name.

    Raises:
        PuzzleTextError: if no field, or more than one, holds the question.
    """
    question = puzzle.text_of_fields(fields) or ""
    if not question:
        name = named(fields.keys(), QUESTION_NAMES)
        question = as_text(fields[name]) if name else ""
    if not question.strip():
        raise PuzzleTextError("no puzzle in this entry", 1)
    name = named(fields.keys(), ANSWER_NAMES)
    right = fields.get("solved") is not False
    return question, as_text(fields[name]) if name and right else ""


def as_text(value: Any) -> str:
    """Returns a value as text: lists as words, lists of rows with `/` between the rows."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, list):
        return str(value)
    if value and all(isinstance(row, list) for row in value):
        return "/".join(map(as_text, value))
    words = ["." if item in (None, "") else as_text(item) for item in value]
    if all(isinstance(item, str) for item in value) and words:
        widths = {len(word) for word in words}
        if len(widths) == 1:
            return ("" if widths == {1} else "/").join(words)
    return " ".join(words)
