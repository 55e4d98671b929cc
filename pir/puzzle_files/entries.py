"""From boards and named fields, as tables and JSON have them, to entries and faults of a file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.notation.cell_text import DOUBTFUL_ZERO, RULES, Board, CellReader, Pair
from pir.puzzle import Puzzle
from pir.puzzle_files.batch import Entry, Fault, shorten
from pir.puzzle_files.fields import pick


class Entries:
    """Collects what is found in a file.

    Args:
        puzzle: gives the text form.

    Attributes:
        cells: reads boards; None for a puzzle that is not of cells.
        found: entries and faults that were not fetched yet, in their order.
        pair: where question and answer lie in the last line read, if it holds a board of cells.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """Nothing is found yet."""
        self.puzzle = puzzle
        form = puzzle.cell_text
        self.cells = CellReader(form) if form else None
        self.found: list[Entry | Fault] = []
        self.pair: Pair | None = None

    def add(self, line: int, pair: Pair, text: str, lines: Sequence[int] = ()) -> None:
        """Adds a puzzle of cells; a board that is none, or its answer, makes a fault.

        Args:
            line: the number of its line.
            pair: what was found.
            text: what the places in `pair` refer to; empty if the board is on several lines.
            lines: the number of each row's line, if the board is on several lines.
        """
        assert self.cells is not None
        try:
            question, answer = self._checked(pair)
        except _WrongCellError as error:
            if lines:
                line = lines[error.cell // self.cells.form.columns]
            self.add_fault(line, error.board.at[error.cell] + 1, error.reason, text)
            return
        self.found.append(Entry(line, pair.question.at[0] + 1, question, answer, ""))
        if text and "\n" not in text:
            self.pair = pair

    def add_fault(self, line: int, column: int, reason: str, text: str, since: int = 0) -> None:
        """Adds a fault; of its text the beginning is kept."""
        self.found.append(Fault(line, column, reason, shorten(text), since))

    def add_fields(self, number: int, raw: str, fields: Mapping[str, Any]) -> None:
        """Reads a puzzle from fields by normal name, which stand in the text `raw`."""
        place = -1
        try:
            question, answer = pick(self.puzzle, fields)
            place = raw.find(question)
            if self.cells:
                pair = Pair(_moved(self.board(question), max(place, 0)), None)
                if answer.strip():
                    place = _place_of_answer(raw, question, answer)
                    board = _moved(self.board(answer), max(place, 0))
                    pair = pair._replace(answer=board)
                self.add(number, pair, raw)
                return
            tokens = self.puzzle.parse(question)
            entry = Entry(number, max(place, 0) + 1, tokens.numpy(), None, question.strip())
            if answer.strip():
                place = _place_of_answer(raw, question, answer)
                right = self.puzzle.parse_answer(tokens, answer)
                entry = entry._replace(answer=right.numpy())
            self.found.append(entry)
        except PuzzleTextError as error:
            # text that JSON spells in another way, and lists, have no place but that of the entry
            column = place + error.column if place >= 0 else 1
            self.add_fault(number, column, error.reason, raw)

    def board(self, text: str) -> Board:
        """Reads a board in one field; rows may have lines of their own.

        Raises:
            PuzzleTextError: if the text holds none, or more than one.
        """
        assert self.cells is not None
        if "\n" in text:
            lines = [line for line in text.split("\n") if line and not self.cells.is_ruling(line)]
            text = "/".join(RULES.sub("", line) for line in lines)
        pair = self.cells.find(text)
        if pair is None:
            column, reason = self.cells.explain_rows(text) or self.explain(text)
            raise PuzzleTextError(reason, column)
        if pair.answer is not None:
            raise PuzzleTextError("two boards in one field", pair.answer.at[0] + 1)
        return pair.question

    def explain(self, line: str) -> tuple[int, str]:
        """Returns the column of the first mistake in a line without a board, and what it is."""
        assert self.cells is not None
        text, place, reason = self.cells.explain(line)
        if not reason:
            try:
                self.puzzle.parse(text)
            except PuzzleTextError as error:
                return place + error.column, error.reason
            reason = "no puzzle"
        return place + 1, reason

    def _checked(self, pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        assert self.cells is not None
        form, tokens = self.cells.form, pair.question.tokens
        question = torch.tensor(tokens, dtype=torch.uint8)
        for cell, token in enumerate(tokens):
            if token in self.cells.answer_tokens:
                sign = self.cells.plain[token]
                raise _WrongCellError(f"{sign!r} stands in answers only", pair.question, cell)
        for token, name in form.once.items():
            count = tokens.count(token)
            if count != 1:
                reason = f"{count} cells are {name}; a puzzle has one"
                raise _WrongCellError(reason, pair.question, 0)
        zero = self.cells.doubtful_zero(pair.question)
        if zero is not None:
            raise _WrongCellError(DOUBTFUL_ZERO, pair.question, zero)
        if pair.answer is None:
            return question.numpy(), None
        answer = torch.tensor(pair.answer.tokens, dtype=torch.uint8)
        try:
            self.parse_answer(question, answer)
        except PuzzleTextError as error:
            changed = (answer != question) & ~self.puzzle.written(question[None])[0]
            changed |= answer == (form.blank or -1)
            cell = int(changed.int().argmax())
            raise _WrongCellError(error.reason, pair.answer, cell) from error
        return question.numpy(), answer.numpy()

    def parse_answer(self, question: Tensor, answer: Tensor) -> Tensor:
        """Checks an answer's form by the puzzle's own reader."""
        return self.puzzle.parse_answer(question, self.puzzle.format_answer(question, answer))


class _WrongCellError(Exception):
    """A cell that makes a board no puzzle, or no answer."""

    def __init__(self, reason: str, board: Board, cell: int) -> None:
        super().__init__(reason, board, cell)
        self.reason, self.board, self.cell = reason, board, cell


def _moved(board: Board, places: int) -> Board:
    return board._replace(at=[place + places for place in board.at])


def _place_of_answer(raw: str, question: str, answer: str) -> int:
    place = raw.find(answer, raw.find(question) + len(question))
    return place if place >= 0 else raw.find(answer)
