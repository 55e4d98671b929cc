"""Tables of puzzles: a header that names the columns, and rows of fields that may be quoted."""

import csv
import io
import re
from collections.abc import Iterator

from pir.errors import PuzzleTextError
from pir.puzzle_files.entries import Entries
from pir.puzzle_files.fields import (
    QUESTION_NAMES,
    as_fields,
    known_names,
    names_a_puzzle,
    normal_name,
)

EXCEL_MARK = re.compile(r"\s*\"?sep=[,;\t|]\"?\s*", re.IGNORECASE)
"""A first line by which Excel knows the separator; the header tells it anyway."""

MARKDOWN_RULE = re.compile(r"[\s|:+-]+")
"""The line between header and rows, where `|` parts the columns."""

MOST_LINES = 1000
"""Lines of a field in quotation marks."""


class Table:
    """Reads the lines of a table.

    Args:
        entries: takes the puzzles and the faults.
    """

    def __init__(self, entries: Entries) -> None:
        """Waits for a header."""
        self.entries = entries
        self._header: list[str] | None = None
        self._delimiter = ","
        self._below_header = False
        self._quoted: list[str] = []

    def take_header(self, line: str) -> bool:
        """Takes a line that names columns as the header; says whether it is one.

        The mark of a spreadsheet above it is taken too.
        """
        if EXCEL_MARK.fullmatch(line):
            return True
        for delimiter in (",", ";", "\t", "|"):
            try:
                cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
                names = [normal_name(cell) for cell in cells]
                if len(names) == 1 and names[0] in QUESTION_NAMES and "|" not in line:
                    return True  # what follows is one puzzle per line
                if line.lstrip().startswith("#") and not known_names(names):
                    continue  # a comment with commas
                if len(names) > 1 and names_a_puzzle(self.entries.puzzle, names):
                    self._header, self._delimiter = cells, delimiter
                    self._below_header = True
                    return True
            except csv.Error:
                continue
        return False

    def takes(self, line: str) -> bool:
        """Says whether a line is one of a table: below a header, or inside quotation marks."""
        return bool(self._quoted or (self._header is not None and line.strip()))

    def read_row(self, number: int, line: str) -> None:
        """Reads a row below a header, once its quotation marks are closed."""
        assert self._header is not None
        rule = self._below_header and self._delimiter == "|" and MARKDOWN_RULE.fullmatch(line)
        self._below_header = False
        if rule:
            return
        self._quoted.append(line)
        first = number - len(self._quoted) + 1
        if first < number and self._is_too_long():
            self._quoted = []
            self.entries.add_fault(number, 1, "a quotation mark is not closed", line)
            return
        text = "\n".join(self._quoted)
        if self._is_open(text) if '"' in line else first < number:
            return
        self._quoted = []
        if self._delimiter not in text and self._is_comment(text):
            return
        try:
            row = next(self._rows(text), [])
            if self._delimiter == "|":
                row = [cell.replace("`", "") for cell in row]  # Markdown's mark of code
        except csv.Error as error:
            self.entries.add_fault(first, 1, f"no row of a table: {error}", text)
            return
        if not any(cell.strip() for cell in row):
            return
        while len(row) > len(self._header) and not row[-1].strip():
            row.pop()
        if len(row) > len(self._header):
            count = f"{len(row)} fields where the header names {len(self._header)}"
            self.entries.add_fault(first, 1, count, text)
            return
        try:
            fields = as_fields(self.entries.puzzle, zip(self._header, row, strict=False))
        except PuzzleTextError as error:
            self.entries.add_fault(first, 1, error.reason, text)
            return
        self.entries.add_fields(first, text, fields)

    def _rows(self, text: str, strict: bool = False) -> Iterator[list[str]]:
        """Parts text into rows of fields."""
        lines, padded = io.StringIO(text, newline=""), f'{self._delimiter} "' in text
        return csv.reader(lines, delimiter=self._delimiter, skipinitialspace=padded, strict=strict)

    def _is_open(self, text: str) -> bool:
        """Says whether a field that begins with a quotation mark does not end in this text.

        Marks inside of other fields, as in `a 5" screen`, are signs like others.
        """
        try:
            for _ in self._rows(text, strict=True):
                pass
        except csv.Error as error:
            return "unexpected end of data" in str(error)
        return False

    def _is_too_long(self) -> bool:
        """Says whether more lines are inside of quotation marks than a row may have."""
        size = sum(map(len, self._quoted))
        return len(self._quoted) > MOST_LINES or size > csv.field_size_limit()

    def _is_comment(self, text: str) -> bool:
        cells = self.entries.cells
        return cells.is_comment(text) if cells else text.lstrip().startswith("#")

    def end(self, last: int) -> None:
        """Ends the file, whose last line has the number `last`."""
        if self._quoted:
            first = last - len(self._quoted) + 1
            self._quoted = []
            self.entries.add_fault(first, 1, "a quotation mark is not closed", "")
