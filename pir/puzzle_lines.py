"""From lines of text to puzzles: headers, comments, titles, boards on several lines, named fields.

The reader is fed the lines of a file in their order and collects what it finds: an `Entry` for
every puzzle, a `Fault` for everything that should be one and is not.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pir import plain_text
from pir.cell_text import RULES, Board, CellReader, Pair
from pir.errors import PuzzleTextError
from pir.puzzle import Puzzle
from pir.puzzle_fields import QUESTION_NAMES, as_text, names_a_puzzle, normal_name, pick

SHOWN = 60
"""Characters of a faulty line that messages show."""

TITLE = re.compile(r"\[[^\[\]]*\]|.*[^\W\d].*:|[^\W\d]+ *[#.]? *\d+")
"""Lines that may stand before any board: `[Puzzle]`, `Easy ones:`, `Grid 01`."""

MOST_LINES = 1000
"""Lines of a field in quotation marks."""

DEEPEST = 8
"""Lists and objects in which a puzzle may lie."""


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
    """A place of a file that holds no puzzle though it should, and why; `text` is shortened."""

    line: int
    column: int
    reason: str
    text: str


class Row(NamedTuple):
    """A row of a board on a line of its own; without cells if it is faulty."""

    line: int
    board: Board
    is_ruling: bool = False


class LineReader:
    """Reads lines.

    Args:
        puzzle: gives the text form.

    Attributes:
        found: entries and faults that were not fetched yet, in their order.
        pair: where question and answer lie in the last line read, if it holds a board of cells.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """Waits for the first line."""
        self.puzzle = puzzle
        form = puzzle.cell_text
        self.cells = CellReader(form) if form else None
        self.found: list[Entry | Fault] = []
        self.pair: Pair | None = None
        self.header: list[str] | None = None
        self.delimiter = ","
        self._first = True
        self._last = 0
        self._rows: list[Row] = []
        self._part: list[Row] = []
        self._title: tuple[Fault, bool] | None = None
        self._quoted: list[str] = []
        self._open_quotes = 0
        self._by_rows = False

    def feed(self, number: int, line: str) -> None:
        """Reads one line, without its end."""
        self.pair = None
        if number != self._last + 1:
            self._end_rows(whole=True)
            self._drop_title(unless_header=True)
            self._by_rows = False
        self._last = number
        if self._quoted:
            self._read_row(number, line)
        elif not line.strip():
            self._end_rows()
        elif self.header is not None:
            self._read_row(number, line)
        elif self._first and self._is_header(number, line):
            self._first = False
        else:
            self._read_line(number, line)

    def take(self) -> list[Entry | Fault]:
        """Returns what was found and forgets it, but a board on lines whose answer may follow."""
        keep = 1 if self._by_rows and self.found else 0
        taken, self.found = self.found[: len(self.found) - keep], self.found[-keep:] * keep
        return taken

    def end(self) -> None:
        """Ends the file."""
        if self._quoted:
            first = self._last - len(self._quoted) + 1
            self._quoted = []
            self._fault(first, 1, "a quotation mark is not closed", "")
        self._end_rows(whole=True)
        self._drop_title()

    # ---------------------------------------------------------------- lines

    def _read_line(self, number: int, line: str) -> None:
        try:
            if self.cells:
                self._read_cells(self.cells, number, line)
            else:
                found = plain_text.find(self.puzzle, line)
                if found:
                    self._drop_title(unless_header=True)
                    self._first = False
                    answer = None if found.answer is None else found.answer.numpy()
                    place = found.place + 1
                    entry = Entry(number, place, found.question.numpy(), answer, found.text)
                    self.found.append(entry)
        except PuzzleTextError as error:
            fault = Fault(number, error.column, error.reason, shorten(line))
            if self._first and _looks_like_header(line):
                self._title = (fault, True)
            else:
                self._drop_title()
                self.found.append(fault)
            self._first = False

    def _read_cells(self, reader: CellReader, number: int, line: str) -> None:
        text = reader.without_comment(line)
        if not text.strip():
            self._end_rows()
            return
        pair = reader.find(text)
        if pair:
            self._end_rows(whole=True)
            self._drop_title(unless_header=True)
            self._first = self._by_rows = False
            self._add(number, pair, line)
            self.pair = pair
            return
        row = reader.find_row(text) if reader.form.rows > 1 else None
        if row:
            self._first, self._title = False, None
            self._add_row(reader, Row(number, row, reader.is_ruling(text)))
        elif not reader.is_ruling(text) and not reader.is_comment(text):
            self._read_other(reader, number, text)

    def _read_other(self, reader: CellReader, number: int, text: str) -> None:
        """Takes a line without board or row as a header, a title, or a fault."""
        column, reason = self._explain(reader, text)
        fault = Fault(number, column, reason, shorten(text))
        if self._rows and abs(len(text.strip()) - reader.form.columns) <= 2:
            self.found.append(fault)
            self._add_row(reader, Row(number, Board([], [0])))
            return
        self._end_rows(whole=True)
        self._drop_title()
        nearly = all(map(reader.seems_board, text.split()))  # a faulty board is no title
        titled = TITLE.fullmatch(text.strip()) and not nearly
        if titled or (self._first and _looks_like_header(text)):
            self._title = (fault, True)
        elif reader.form.rows > 1 and not all(map(reader.seems_board, text.split())):
            self._title = (fault, False)
        else:
            self.found.append(fault)
        self._first = False

    def _explain(self, reader: CellReader, line: str) -> tuple[int, str]:
        """Returns the column of the first mistake in a line without a board, and what it is."""
        text, place, reason = reader.explain(line)
        if not reason:
            try:
                self.puzzle.parse(text)
            except PuzzleTextError as error:
                return place + error.column, error.reason
            reason = "no puzzle"
        return place + 1, reason

    def _drop_title(self, unless_header: bool = False) -> None:
        """Forgets a line before a puzzle, or reports it if it is no title or header of one."""
        if self._title:
            fault, is_header = self._title
            if not (is_header and unless_header):
                self.found.append(fault)
            self._title = None

    def _fault(self, line: int, column: int, reason: str, text: str) -> None:
        self.found.append(Fault(line, column, reason, shorten(text)))

    # ---------------------------------------------------------------- boards

    def _add_row(self, reader: CellReader, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == reader.form.rows and not any(r.is_ruling for r in self._rows):
            self._end_rows()

    def _end_rows(self, whole: bool = False) -> None:
        """Ends a run of rows, and with `whole` the board: it goes on after no empty line."""
        assert self.cells is not None or not self._rows
        if self.cells and self._rows:
            height = self.cells.form.rows
            band = self.cells.form.band or height
            rows = self._rows
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
                self._add_rows(self._part[:height])
                self._part = self._part[height:]
            if self._part and len(self._part) % band:
                self._refuse_part()
        if whole and self._part:
            self._refuse_part()

    def _refuse_part(self) -> None:
        assert self.cells is not None
        last, count = self._part[-1], len(self._part)
        self._part = []
        reason = f"{count} rows where this puzzle has {self.cells.form.rows}"
        self._fault(last.line, last.board.at[0] + 1, reason, "")

    def _add_rows(self, rows: Sequence[Row]) -> None:
        """Adds a board, or takes it as the answer to the board before it."""
        if not all(row.board.tokens for row in rows):
            return  # the fault of a row was reported with the row
        tokens = [token for row in rows for token in row.board.tokens]
        before = self.found[-1] if self.found and self._by_rows else None
        if isinstance(before, Entry) and before.answer is None:
            answer = np.array(tokens, np.uint8)
            with suppress(PuzzleTextError):
                if (answer != before.question).any():
                    self._parse_answer(torch.from_numpy(before.question), torch.from_numpy(answer))
                    self.found[-1] = before._replace(answer=answer)
                    return
        self._add(rows[0].line, Pair(Board(tokens, rows[0].board.at), None), "")
        self._by_rows = True

    def _add(self, line: int, pair: Pair, text: str) -> None:
        """Adds the puzzle of a line; a board that is none, or its answer, makes a fault."""
        try:
            question, answer = self._checked(pair)
        except PuzzleTextError as error:
            self._fault(line, error.column, error.reason, text)
            return
        self.found.append(Entry(line, pair.question.at[0] + 1, question, answer, ""))

    def _checked(self, pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        assert self.cells is not None
        form, (tokens, at) = self.cells.form, pair.question
        question = torch.tensor(tokens, dtype=torch.uint8)
        for place, token in enumerate(tokens):
            if token in self.cells.answer_tokens:
                sign = self.cells.plain[token]
                raise PuzzleTextError(f"{sign!r} stands in answers only", at[place % len(at)] + 1)
        for token, name in form.once.items():
            count = tokens.count(token)
            if count != 1:
                raise PuzzleTextError(f"{count} cells are {name}; a puzzle has one", at[0] + 1)
        if pair.answer is None:
            return question.numpy(), None
        answer = torch.tensor(pair.answer.tokens, dtype=torch.uint8)
        try:
            self._parse_answer(question, answer)
        except PuzzleTextError as error:
            changed = (answer != question) & ~self.puzzle.written(question[None])[0]
            changed |= answer == (form.blank or -1)
            place = int(changed.int().argmax())
            raise PuzzleTextError(error.reason, pair.answer.at[place] + 1) from error
        return question.numpy(), answer.numpy()

    def _parse_answer(self, question: Tensor, answer: Tensor) -> Tensor:
        """Checks an answer's form by the puzzle's own reader."""
        return self.puzzle.parse_answer(question, self.puzzle.format_answer(question, answer))

    # ---------------------------------------------------------------- named fields

    def _is_header(self, number: int, line: str) -> bool:
        """Takes a line that names columns as the header."""
        for delimiter in (",", ";", "\t", "|"):
            try:
                cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
                names = [normal_name(cell) for cell in cells]
                if len(names) == 1 and names[0] in QUESTION_NAMES:
                    return True  # what follows is one puzzle per line
                if len(names) > 1 and names_a_puzzle(self.puzzle, names):
                    self.header, self.delimiter = names, delimiter
                    return True
            except csv.Error:
                continue
            except PuzzleTextError as error:
                self._fault(number, error.column, error.reason, line)
                return True
        return False

    def _read_row(self, number: int, line: str) -> None:
        """Reads a row below a header, once its quotation marks are closed."""
        assert self.header is not None
        self._quoted.append(line)
        self._open_quotes = (self._open_quotes + line.count('"')) % 2
        if self._open_quotes:
            if len(self._quoted) > MOST_LINES or len(line) > csv.field_size_limit():
                self._quoted, self._open_quotes = [], 0
                self._fault(number, 1, "a quotation mark is not closed", line)
            return
        text, first = "\n".join(self._quoted), number - len(self._quoted) + 1
        self._quoted = []
        if text.lstrip().startswith("#") and self.delimiter not in text:
            return
        try:
            lines, padded = io.StringIO(text, newline=""), f'{self.delimiter} "' in text
            row = next(csv.reader(lines, delimiter=self.delimiter, skipinitialspace=padded), [])
        except csv.Error as error:
            self._fault(first, 1, f"no row of a table: {error}", text)
            return
        if not any(cell.strip() for cell in row):
            return
        while len(row) > len(self.header) and not row[-1].strip():
            row.pop()
        if len(row) > len(self.header):
            count = f"{len(row)} fields where the header names {len(self.header)}"
            self._fault(first, 1, count, text)
            return
        self._read_fields(first, text, dict(zip(self.header, row, strict=False)))

    def read_value(self, number: int, raw: str, value: Any, depth: int = 0) -> None:
        """Reads a JSON value: an object, a list, or text.

        Args:
            number: the line that it begins in.
            raw: the text it stands in, for columns.
            value: as JSON's reader gives it.
            depth: of lists and objects around it.
        """
        if isinstance(value, dict):
            fields = {normal_name(str(name)): item for name, item in value.items()}
            inner = [item for item in value.values() if isinstance(item, dict | list)]
            try:
                is_puzzle = names_a_puzzle(self.puzzle, list(fields))
            except PuzzleTextError as error:
                self._fault(number, 1, error.reason, raw)
                return
            only = inner[0] if len(inner) == len(fields) == 1 else None
            if isinstance(only, list) and self._seems_list_of_puzzles(only):
                is_puzzle = False
            if is_puzzle or len(inner) != 1 or depth > DEEPEST:
                self._read_fields(number, raw, fields)
            else:
                self.read_value(number, raw, inner[0], depth + 1)
        elif isinstance(value, str) and value.strip():
            if "\n" in value:
                self._read_fields(number, raw, {"puzzle": value})
            else:
                self._read_line(number, value)
        elif isinstance(value, list) and depth <= DEEPEST:
            self._read_list(number, raw, value, depth)
        else:
            self._fault(number, 1, "no puzzle", raw)

    def _read_list(self, number: int, raw: str, value: list[Any], depth: int) -> None:
        """Reads a list: a board, a pair of question and answer, or a list of puzzles."""
        if not self._seems_list_of_puzzles(value):
            self._read_fields(number, raw, {"puzzle": value})
            return
        if len(value) == 2:
            pair = LineReader(self.puzzle)
            pair._read_fields(number, raw, {"puzzle": value[0], "answer": value[1]})
            if all(isinstance(entry, Entry) for entry in pair.found):
                self.found += pair.found
                return
        for item in value:
            self.read_value(number, raw, item, depth + 1)

    def _seems_list_of_puzzles(self, value: list[Any]) -> bool:
        """Says whether a list is no board itself."""
        if not self.cells:
            return True
        inner = [item for item in value if isinstance(item, list)]
        if any(isinstance(part, list) for item in inner for part in item):
            return True
        if any(isinstance(item, dict) for item in value) or (inner and self.cells.form.rows == 1):
            return True
        if not any(isinstance(item, str | list) for item in value):
            return False
        try:
            self._board(self.cells, as_text(value))
        except PuzzleTextError:
            lengths = {len(item) for item in value if isinstance(item, str | list)}
            return lengths != {1} and lengths != {self.cells.form.columns}
        return False

    def _read_fields(self, number: int, raw: str, fields: Mapping[str, Any]) -> None:
        """Reads a puzzle from fields by normal name, which stand in the text `raw`."""
        place = -1
        try:
            question, answer = pick(self.puzzle, fields)
            place = raw.find(question)
            if self.cells:
                pair = Pair(_moved(self._board(self.cells, question), max(place, 0)), None)
                if answer.strip():
                    place = _place_of_answer(raw, question, answer)
                    board = _moved(self._board(self.cells, answer), max(place, 0))
                    pair = pair._replace(answer=board)
                self._add(number, pair, raw)
                self.pair = pair if "\n" not in raw else None
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
            self._fault(number, column, error.reason, raw)

    def _board(self, reader: CellReader, text: str) -> Board:
        """Reads a board in one field; rows may have lines of their own.

        Raises:
            PuzzleTextError: if the text holds none, or more than one.
        """
        if "\n" in text:
            lines = [line for line in text.split("\n") if line and not reader.is_ruling(line)]
            text = "/".join(RULES.sub("", line) for line in lines)
        pair = reader.find(text)
        if pair is None:
            column, reason = self._explain(reader, text)
            raise PuzzleTextError(reason, column)
        if pair.answer is not None:
            raise PuzzleTextError("two boards in one field", pair.answer.at[0] + 1)
        return pair.question


def shorten(text: str) -> str:
    """Returns the beginning of a text."""
    text = text.strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def _moved(board: Board, places: int) -> Board:
    return Board(board.tokens, [place + places for place in board.at])


def _place_of_answer(raw: str, question: str, answer: str) -> int:
    place = raw.find(answer, raw.find(question) + len(question))
    return place if place >= 0 else raw.find(answer)


def _looks_like_header(line: str) -> bool:
    """Says whether a line is made of several names, as the first line of a table is."""
    words = [word.strip(' "') for word in re.split(r"[,;\t|]", line.rstrip(",; \t"))]
    return len(words) > 1 and all(re.fullmatch(r"[^\W\d][\w .()-]*", word) for word in words)
