"""Boards whose rows have lines of their own, with or without rulings, in bands, answer below."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch

from pir.errors import PuzzleTextError
from pir.notation.cell_text import Board, Pair
from pir.puzzle_files.batch import Entry, Fault
from pir.puzzle_files.entries import Entries


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
        lead: the fault that the line above the rows is, if it was no title but a row.
        below_state: whether the rows are those of a board in play, which is no puzzle of its own.
    """

    def __init__(self, entries: Entries) -> None:
        """Waits for the first row."""
        self.entries, self.awaits_answer = entries, False
        form = entries.puzzle.cell_text
        self.height = form.rows if form else 1
        self.band = form.band or form.rows if form else 1
        self._rows: list[Row] = []
        self._part: list[Row] = []
        self._since, self._in_bands = 0, False
        self._below_fault = False
        self.lead: Fault | None = None
        self.below_state = False

    def __bool__(self) -> bool:
        """Says whether a row was added since the last run of rows ended."""
        return bool(self._rows)

    def add(self, row: Row) -> None:
        """Adds a row below those before it."""
        self._rows.append(row)
        if len(self._rows) == self.height and not any(r.is_ruling for r in self._rows):
            self._end_run()

    def end(self, whole: bool = False) -> None:
        """Ends a run of rows, and with `whole` the board: it goes on after no empty line."""
        self._end_run()
        if whole and self._part:
            self._refuse_part()
        self._in_bands = bool(self._part) or (self._in_bands and not whole)
        if not self._in_bands:
            self._since, self.lead = 0, None

    def _end_run(self) -> None:
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
            self._since = self._since or next((row.line for row in rows), 0)
            self._part += rows
            while len(self._part) >= height:
                self._add_board(self._part[:height])
                self._part = self._part[height:]
            if self._part and len(self._part) % band:
                self._refuse_part()

    def _refuse_part(self) -> None:
        """Refuses rows that are no whole board, and the boards that they follow without a gap."""
        part, since = self._part, self._since
        self._part, self._since, self._in_bands = [], 0, False
        reason = f"{len(part)} rows where this puzzle has {self.height}"
        if since < part[0].line:
            reason += f"; so no board from line {since} on is sure to begin where it seems to"
        elif not all(row.board.tokens for row in part):
            return  # the fault of a row was reported with the row
        else:
            since = 0
        if self.lead:
            self.entries.found.append(self.lead)
        self.awaits_answer, self.lead = False, None
        self.entries.add_fault(part[-1].line, part[-1].board.at[0] + 1, reason, "", since)

    def _add_board(self, rows: Sequence[Row]) -> None:
        """Adds a board, or takes it as the answer to the board before it."""
        below_fault, self._below_fault = self._below_fault, False
        if not all(row.board.tokens for row in rows):
            self.awaits_answer, self._below_fault = False, True
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
        if self.below_state:
            reason = "a board in play ([State]) is no puzzle of its own: leave it out"
            self.entries.add_fault(rows[0].line, places[0] + 1, reason, "")
            return
        cells = self.entries.cells
        if below_fault and cells and cells.is_answer(pair.question):
            reason = "this may be the answer to the faulty board above it"
            self.entries.add_fault(rows[0].line, places[0] + 1, reason, "")
            return
        self.entries.add(rows[0].line, pair, "", [row.line for row in rows])
        self.awaits_answer = True
