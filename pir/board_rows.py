"""Boards whose rows have lines of their own, with or without rulings, in bands, answer below."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch

from pir.cell_text import Board, Pair
from pir.errors import PuzzleTextError
from pir.puzzle_batch import Entry
from pir.puzzle_entries import Entries


class Row(NamedTuple):
    """A row of a board on a line of its own; without cells if it is faulty."""

    line: int
    board: Board
    is_ruling: bool = False


class BoardRows:
    """Joins rows into boards.

    Args:
        entries: takes the boards and the faults.

    Attributes:
        awaits_answer: whether the last puzzle was a board of rows, so that its answer may follow.
    """

    def __init__(self, entries: Entries) -> None:
        """Waits for the first row."""
        self.entries, self.awaits_answer = entries, False
        form = entries.puzzle.cell_text
        self.height = form.rows if form else 1
        self.band = form.band or form.rows if form else 1
        self._rows: list[Row] = []
        self._part: list[Row] = []

    def __bool__(self) -> bool:
        """Says whether a row was added since the last run of rows ended."""
        return bool(self._rows)

    def add(self, row: Row) -> None:
        """Adds a row below those before it."""
        self._rows.append(row)
        if len(self._rows) == self.height and not any(r.is_ruling for r in self._rows):
            self.end()

    def end(self, whole: bool = False) -> None:
        """Ends a run of rows, and with `whole` the board: it goes on after no empty line."""
        height, band, rows = self.height, self.band, self._rows
        if rows:
            if len(rows) % height and len(rows) % band:
                rows = [row for row in rows if not row.is_ruling]
            elif len(rows) > height and not self._part:
                bare = [row for row in rows if not row.is_ruling]
                rows = bare if bare and len(bare) % height == 0 else rows
            self._rows = []
            if self._part and (len(rows) % band or len(self._part) + len(rows) > height):
                self._refuse_part()
            self._part += rows
            while len(self._part) >= height:
                self._add_board(self._part[:height])
                self._part = self._part[height:]
            if self._part and len(self._part) % band:
                self._refuse_part()
        if whole and self._part:
            self._refuse_part()

    def _refuse_part(self) -> None:
        last, count = self._part[-1], len(self._part)
        self._part = []
        reason = f"{count} rows where this puzzle has {self.height}"
        self.entries.add_fault(last.line, last.board.at[0] + 1, reason, "")

    def _add_board(self, rows: Sequence[Row]) -> None:
        """Adds a board, or takes it as the answer to the board before it."""
        if not all(row.board.tokens for row in rows):
            return  # the fault of a row was reported with the row
        tokens = [token for row in rows for token in row.board.tokens]
        found = self.entries.found
        before = found[-1] if found and self.awaits_answer else None
        if isinstance(before, Entry) and before.answer is None:
            answer = np.array(tokens, np.uint8)
            with suppress(PuzzleTextError):
                if (answer != before.question).any():
                    question = torch.from_numpy(before.question)
                    self.entries.parse_answer(question, torch.from_numpy(answer))
                    found[-1] = before._replace(answer=answer)
                    return
        places = [place for row in rows for place in row.board.at]
        signs = [sign for row in rows for sign in row.board.signs]
        pair = Pair(Board(tokens, places, signs), None)
        self.entries.add(rows[0].line, pair, "", [row.line for row in rows])
        self.awaits_answer = True
