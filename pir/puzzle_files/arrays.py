"""Puzzles in numpy's files (.npy, .npz), read in blocks, without pickle and without trust.

Sizes are compared before memory is taken: what an array claims must be there, and an archive may
not grow out of all proportion.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import IO, NamedTuple, Protocol

import numpy as np
import torch

from pir.errors import PuzzleTextError, UserError
from pir.puzzle import Puzzle
from pir.puzzle_files.array_header import read_header
from pir.puzzle_files.batch import Batch, Fault, as_batch
from pir.puzzle_files.entries import Entries
from pir.puzzle_files.fields import ANSWER_NAMES, QUESTION_NAMES, named, normal_name
from pir.puzzle_files.source import SAFE_RATIO, SAFE_SIZE, Source

ROWS = 4096
"""Puzzles that are read at once."""

LONGEST_TEXT = 1 << 18
"""Bytes of a text in an array."""


class Reads(Protocol):
    """Something that bytes are read from."""

    def read(self, count: int) -> bytes:
        """Returns the next bytes, at most `count`; none at the end."""


class Numbers(NamedTuple):
    """An array in a file: its shape and dtype, and where its numbers are read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    data: Reads

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, count: int) -> np.ndarray:
        """Reads the next `count` rows, fewer only where the file ends too early."""
        width = self.size // max(1, self.shape[0])
        parts, left = [], count * width
        while left and (part := self.data.read(left)):
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        if left:
            raise ValueError("the file ends inside the array")
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


def read_array(puzzle: Puzzle, source: Source, name: str) -> Iterator[Batch]:
    """Reads the questions of an array.

    Raises:
        UserError: naming the setting and the file in `name`, and what is wrong.
    """
    try:
        array = _header(source)
        if source.size is not None and not source.packed:
            left = source.size - source.raw.tell() + len(source.peek(1))
            if array.size > left:
                raise ValueError(f"an array of {array.size:,} bytes is claimed, {left:,} follow")
        yield from _batches(puzzle, name, array, None)
    except (ValueError, EOFError, TypeError) as error:
        raise UserError(f"{name} cannot be read: {error}") from error


def read_archive(puzzle: Puzzle, source: Source, name: str) -> Iterator[Batch]:
    """Reads the arrays of an archive that are named for questions and answers.

    Raises:
        UserError: naming the setting and the file in `name`, and what is wrong.
    """
    try:
        with ExitStack() as stack:
            if source.packed or source.size is None:
                raise ValueError("an archive must be a file of its own")
            archive = stack.enter_context(zipfile.ZipFile(source.raw))
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            arrays = {}
            for key, member in _chosen(members, name).items():
                _refuse_growth(member, source.size)
                array = _header(stack.enter_context(archive.open(member)))
                if array.size > member.file_size:
                    claimed = f"{array.size:,} bytes are claimed, {member.file_size:,} there"
                    raise ValueError(f"{member.filename}: {claimed}")
                arrays[key] = array
            yield from _batches(puzzle, name, arrays["question"], arrays.get("answer"))
    except (
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{name} cannot be read: {str(error) or type(error).__name__}") from error


def _chosen(members: Mapping[str, zipfile.ZipInfo], name: str) -> dict[str, zipfile.ZipInfo]:
    """Returns the members that hold questions and answers."""
    names = {normal_name(key): key for key in members}
    try:
        question, answer = named(names, QUESTION_NAMES), named(names, ANSWER_NAMES)
    except PuzzleTextError as error:
        raise UserError(f"{name}: {error.reason}") from error
    if question is None and len(members) == 1:
        question = next(iter(names))
    if question is None:
        raise UserError(
            f"{name} holds {', '.join(sorted(members)) or 'nothing'}; allowed names are inputs, "
            "puzzles, quizzes or questions, and labels, solutions or answers"
        )
    if not members[names[question]].filename.endswith(".npy"):
        raise UserError(f"{name} is a zip archive of other files than arrays: unpack it")
    chosen = {"question": members[names[question]]}
    return chosen | ({"answer": members[names[answer]]} if answer else {})


def _refuse_growth(member: zipfile.ZipInfo, archive_size: int) -> None:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that is not read")
    if member.file_size > max(SAFE_SIZE, SAFE_RATIO * min(member.compress_size, archive_size)):
        raise ValueError(f"{member.filename} grows to more than {SAFE_RATIO} times its size")


def _header(file: Source | IO[bytes]) -> Numbers:
    """Reads the header of an array.

    Raises:
        ValueError: if it is none, or of objects.
    """
    shape, by_column, dtype = read_header(file)
    if dtype.kind not in "iuUS":
        raise ValueError(f"numbers of type {dtype} are no puzzle; whole numbers are")
    if by_column and len(shape) > 1:
        raise ValueError("columns come first in it (Fortran order); save a C-ordered array")
    if math.prod(shape) > 1 << 50:
        raise ValueError(f"its shape is {shape}")
    return Numbers(shape, dtype, file)


# -------------------------------------------------------------------------------------- tokens


def _batches(
    puzzle: Puzzle, name: str, questions: Numbers, answers: Numbers | None
) -> Iterator[Batch]:
    """Reads rows of numbers as tokens."""
    questions = _flat(puzzle, name, questions)
    answers = _flat(puzzle, name, answers) if answers else None
    if answers and answers.shape[0] != questions.shape[0]:
        raise UserError(f"{name}: {questions.shape[0]} questions and {answers.shape[0]} answers")
    meaning = _Meaning(puzzle, name)
    done = 0
    held: list[tuple[np.ndarray, np.ndarray | None]] = []
    while done < questions.shape[0]:
        count = min(ROWS, questions.shape[0] - done)
        rows, right = questions.rows(count), answers.rows(count) if answers else None
        if rows.dtype.kind in "US":
            entries = Entries(puzzle)
            for index in range(count):
                fields = {"puzzle": str(_text(rows[index]))}
                if right is not None:
                    fields["answer"] = str(_text(right[index]))
                entries.add_fields(done + index + 1, fields["puzzle"], fields)
            yield as_batch(entries.found, puzzle.length)._replace(unit="puzzle")
        else:
            held.append((rows, right))
            if meaning.settle(rows, right):
                for part, labels in held:
                    yield meaning.batch(part, labels)
                held = []
        done += count
    if held:
        meaning.refuse_ambiguous()


def _text(value: object) -> object:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _flat(puzzle: Puzzle, name: str, array: Numbers) -> Numbers:
    """Returns an array as one of shape (N, L), or (N,) for text.

    Raises:
        UserError: if its shape is another.
    """
    length, shape, form = puzzle.length, array.shape, puzzle.cell_text
    if array.dtype.kind in "US":
        if len(shape) <= 1 and array.dtype.itemsize <= LONGEST_TEXT:
            return array._replace(shape=shape or (1,))
    else:
        boards = [(length,), *([(form.rows, form.columns)] if form else [])]
        if shape in boards:
            return array._replace(shape=(1, length))
        if shape[1:] in boards:
            return array._replace(shape=(shape[0], length))
        if shape[1:] and math.prod(shape[1:]) == length and 1 in shape[1:]:
            return array._replace(shape=(shape[0], length))
    board = f" or (N, {form.rows}, {form.columns})" if form and form.rows > 1 else ""
    raise UserError(
        f"{name}: an array {array.dtype} {shape}; whole numbers of shape (N, {length}){board} are "
        "expected"
    )


class _Meaning:
    """Decides whether numbers are our tokens or values such as digits, and turns them into tokens.

    Values and tokens overlap, so a whole file is looked at until something occurs in it that has
    one meaning only.

    Args:
        puzzle: has tokens, and maybe values.
        name: the setting and the file, for messages.
    """

    def __init__(self, puzzle: Puzzle, name: str) -> None:
        """Nothing is known yet."""
        self.puzzle, self.name = puzzle, name
        form = puzzle.cell_text
        self.values = dict(form.values) if form else {}
        self.tokens = set(form.signs.values()) if form else set(range(1, len(puzzle.vocabulary)))
        self.labels = self.tokens | (set(form.answer_signs.values()) if form else set())
        self.chosen: dict[int, int] | None = None
        self.done = 0

    def settle(self, questions: np.ndarray, answers: np.ndarray | None) -> bool:
        """Looks at numbers; says whether their meaning is known."""
        if self.chosen is None:
            seen = {int(v) for v in np.unique(questions)}
            every = seen | ({int(v) for v in np.unique(answers)} if answers is not None else set())
            as_values = bool(self.values) and every <= set(self.values)
            as_tokens = every <= self.labels
            if as_tokens and answers is not None and self.puzzle.cell_text:
                # no answer leaves a cell open
                blank = self.puzzle.cell_text.blank
                as_tokens = blank is None or not (answers == blank).any()
            if as_values and answers is not None and self.puzzle.cell_text:
                open_ = {v for v, t in self.values.items() if t == self.puzzle.cell_text.blank}
                as_values = not np.isin(answers, list(open_)).any()
            if as_values and as_tokens:
                return False
            self.chosen = self.values if as_values else {token: token for token in self.labels}
        return True

    def refuse_ambiguous(self) -> None:
        """Refuses numbers that may be tokens as well as values.

        Raises:
            UserError: always.
        """
        values = ", ".join(f"{v} is {self.puzzle.vocabulary[t]}" for v, t in self.values.items())
        raise UserError(
            f"{self.name}: the numbers may be tokens (as in our vocabulary, "
            f"{', '.join(self.puzzle.vocabulary)} from 0 on) or values ({values}), and none of "
            "them decides it; write them as text"
        )

    def batch(self, questions: np.ndarray, answers: np.ndarray | None) -> Batch:
        """Returns rows as puzzles and faults."""
        assert self.chosen is not None
        numbers = np.arange(self.done + 1, self.done + len(questions) + 1)
        self.done += len(questions)
        tokens, known = _mapped(questions.reshape(len(questions), -1), self.chosen)
        form = self.puzzle.cell_text
        known &= np.isin(tokens, list(self.tokens))
        faults: dict[int, Fault] = {}

        def fault(row: int, column: int, reason: str) -> None:
            faults.setdefault(row, Fault(int(numbers[row]), column, reason, ""))

        for row in np.flatnonzero(~known.all(1)).tolist():
            place = int((~known[row]).argmax())
            number = questions.reshape(len(questions), -1)[row, place]
            allowed = sorted(v for v, t in self.chosen.items() if t in self.tokens)
            fault(row, place + 1, f"{number} is no cell; allowed are {_ranges(allowed)}")
        for token, what in form.once.items() if form else ():
            counts = (tokens == token).sum(1)
            for row in np.flatnonzero(counts != 1).tolist():
                fault(row, 1, f"{counts[row]} cells are {what}; a puzzle has one")
        if form is None:
            for row in range(len(tokens)):
                if reason := self._fault_of_tokens(tokens[row]):
                    fault(row, 1, reason)
        labels = None
        if answers is not None:
            labels, right = _mapped(answers.reshape(len(answers), -1), self.chosen)
            rows = [row for row in range(len(tokens)) if row not in faults]
            written = np.ones_like(right)
            written[rows] = self.puzzle.written(torch.from_numpy(tokens[rows])).numpy()
            allowed_here = self.puzzle.slot_mask.numpy()[np.arange(labels.shape[1]), labels]
            right &= np.where(written, allowed_here, labels == tokens)
            for row in np.flatnonzero(~right.all(1)).tolist():
                place = int((~right[row]).argmax())
                fault(row, place + 1, "its answer changes a given cell, or has one that is none")
        kept = np.array([row not in faults for row in range(len(tokens))])
        ones = np.ones(int(kept.sum()), np.int64)
        found = [faults[row] for row in sorted(faults)]
        labels = labels[kept] if labels is not None else None
        return Batch(numbers[kept], ones, tokens[kept], labels, {}, found, "puzzle")

    def _fault_of_tokens(self, tokens: np.ndarray) -> str:
        """Returns what is wrong with tokens that do not print as a puzzle; nothing otherwise."""
        question = torch.from_numpy(tokens)
        try:
            again = self.puzzle.parse(self.puzzle.format_question(question))
        except PuzzleTextError as error:
            return error.reason
        except (IndexError, ValueError):
            return "these tokens are no puzzle"
        return "" if torch.equal(again, question) else "these tokens are no puzzle"


def _mapped(numbers: np.ndarray, meaning: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of numbers, uint8, and which numbers have one."""
    low, high = min(meaning), max(meaning)
    table, known = np.zeros(high - low + 1, np.uint8), np.zeros(high - low + 1, bool)
    for value, token in meaning.items():
        table[value - low], known[value - low] = token, True
    inside = (numbers >= low) & (numbers <= high)
    places = np.where(inside, numbers, low).astype(np.int64) - low
    return np.where(inside & known[places], table[places], 0).astype(np.uint8), (
        inside & known[places]
    )


def _ranges(values: list[int]) -> str:
    whole = values == list(range(values[0], values[-1] + 1))
    return f"{values[0]} to {values[-1]}" if whole else ", ".join(map(str, values))
