"""From lines of text to puzzles: headers, comments, titles, boards on one line or on several.

The reader is fed the lines of a file in their order and collects what it finds: an `Entry` for
every puzzle, a `Fault` for everything that should be one and is not.
"""

import re

from pir.errors import PuzzleTextError
from pir.notation.cell_text import Board, CellReader
from pir.puzzle import Puzzle
from pir.puzzle_files import plain_text
from pir.puzzle_files.batch import Entry, Fault, shorten
from pir.puzzle_files.board_rows import BoardRows, Row
from pir.puzzle_files.entries import Entries
from pir.puzzle_files.table import EXCEL_MARK, Table

TITLE = re.compile(r"\[[^\[\]]*\]|.*[^\W\d].*:|[^\W\d]+ *[#.]? *\d+")
"""Lines that may stand before any board: `[Puzzle]`, `Easy ones:`, `Grid 01`."""

LONGEST_TITLE = 200
"""Characters; longer lines are no titles."""

STATE = re.compile(r"\[\s*state\s*\]", re.IGNORECASE)
"""The line before a board that somebody has begun to fill, in files of Sudoku programs."""


class LineReader:
    """Reads lines.

    Args:
        puzzle: gives the text form.

    Attributes:
        entries: what was found and not taken yet.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """Waits for the first line."""
        self.puzzle, self.entries = puzzle, Entries(puzzle)
        self._table, self._rows = Table(self.entries), BoardRows(self.entries)
        self._first, self._last = True, 0
        self._title: tuple[Fault, bool] | None = None

    def feed(self, number: int, line: str) -> None:
        """Reads one line, without its end."""
        self.entries.pair = None
        if number != self._last + 1:
            self._rows.end(whole=True)
            self._drop_title(unless_header=True)
            self._rows.awaits_answer = False
        self._last = number
        if self._table.takes(line):
            self._table.read_row(number, line)
        elif not line.strip():
            self._rows.end()
        elif self._first and self._table.take_header(line):
            self._first = bool(EXCEL_MARK.fullmatch(line))
        else:
            self.read_line(number, line)

    def take(self) -> list[Entry | Fault]:
        """Returns what was found and forgets it, but a board on lines whose answer may follow."""
        found = self.entries.found
        end = len(found) - bool(self._rows.awaits_answer and found)
        self.entries.found = found[end:]
        return found[:end]

    def end(self) -> list[Entry | Fault]:
        """Ends the file; returns what was found and not taken."""
        self._table.end(self._last)
        self._rows.end(whole=True)
        self._drop_title()
        return self.entries.found

    def read_line(self, number: int, line: str) -> None:
        """Reads a line that stands for itself or in a board, and is no part of a table."""
        try:
            if self.entries.cells:
                self._read_cells(self.entries.cells, number, line)
            else:
                found = plain_text.find(self.puzzle, line)
                if found:
                    self._drop_title(unless_header=True)
                    self._first = False
                    answer = None if found.answer is None else found.answer.numpy()
                    place = found.place + 1
                    entry = Entry(number, place, found.question.numpy(), answer, found.text)
                    self.entries.found.append(entry)
        except PuzzleTextError as error:
            fault = Fault(number, error.column, error.reason, shorten(line))
            if self._first and _looks_like_header(line):
                self._title = (fault, True)
            else:
                self._drop_title()
                self.entries.found.append(fault)
            self._first = False

    def _read_cells(self, reader: CellReader, number: int, line: str) -> None:
        text = reader.without_comment(line)
        if not text.strip():
            self._rows.end()
            return
        pair = reader.find(text)
        if pair:
            self._rows.end(whole=True)
            self._drop_title(unless_header=True)
            self._first = self._rows.awaits_answer = False
            self.entries.add(number, pair, line)
            return
        row = reader.find_row(text) if reader.form.rows > 1 else None
        if row:
            if self._title and not self._title[1]:
                self._rows.lead = self._title[0]
            self._first, self._title = False, None
            self._rows.add(Row(number, row, reader.is_ruling(text)))
        elif not reader.is_ruling(text) and not reader.is_comment(text):
            self._read_other(reader, number, text)

    def _read_other(self, reader: CellReader, number: int, text: str) -> None:
        """Takes a line without board or row as a header, a title, or a fault."""
        column, reason = self.entries.explain(text)
        fault = Fault(number, column, reason, shorten(text))
        nearly = all(map(reader.seems_board, text.split()))  # a faulty board is no title
        titled = len(text) <= LONGEST_TITLE and TITLE.fullmatch(text.strip()) and not nearly
        inside = self._rows and abs(len(text.strip()) - reader.form.columns) <= 2
        if reader.form.rows > 1 and not titled and (inside or reader.nearly_row(text)):
            self._first, self._title = False, None
            self.entries.found.append(fault)
            self._rows.add(Row(number, Board([], [0], [])))
            return
        self._rows.end(whole=True)
        self._drop_title()
        self._rows.below_state = bool(STATE.fullmatch(text.strip()))
        if titled or (self._first and _looks_like_header(text)):
            self._title = (fault, True)
        elif reader.form.rows > 1 and not nearly:
            self._title = (fault, False)
        else:
            self.entries.found.append(fault)
        self._first = False

    def _drop_title(self, unless_header: bool = False) -> None:
        """Forgets a line before a puzzle, or reports it if it is no title or header of one."""
        if self._title:
            fault, is_header = self._title
            if not (is_header and unless_header):
                self.entries.found.append(fault)
            self._title = None


def _looks_like_header(line: str) -> bool:
    """Says whether a line is made of several names, as the first line of a table is."""
    words = [word.strip(' "') for word in re.split(r"[,;\t|]", line.rstrip(",; \t"))]
    return len(words) > 1 and all(re.fullmatch(r"[^\W\d][\w .()-]*", word) for word in words)
