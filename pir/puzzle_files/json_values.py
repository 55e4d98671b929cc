"""Puzzles in JSON: one value per line, or a text of values, each read as soon as it is whole."""

import io
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pir.errors import PuzzleTextError
from pir.puzzle import Puzzle
from pir.puzzle_files.batch import SHOWN, Batch, Entry, Fault, as_batch
from pir.puzzle_files.entries import Entries
from pir.puzzle_files.fields import as_fields, as_text, names_a_puzzle
from pir.puzzle_files.lines import LineReader

LONGEST_VALUE = 1 << 23
"""Characters of a value that is still read."""

TOO_LONG = f"no JSON value ends within {LONGEST_VALUE:,} characters"

DEEPEST = 8
"""Lists and objects in which a puzzle may lie."""

MOST_FOUND = 1000
"""Puzzles and faults that are collected before they are handed on."""

BETWEEN = re.compile(r"[\s,]*")
"""What may stand between values."""

UNREADABLE = "no JSON that is read here"


def read_json(
    puzzle: Puzzle, head: tuple[int, bytes], blocks: Iterator[tuple[int, bytes]]
) -> Iterator[Batch]:
    """Reads one JSON value per line, or a text of JSON: values one after another, or an array.

    Args:
        puzzle: gives the text form.
        head: number of the first line, and whole lines, some that are more than comments.
        blocks: the rest, alike.
    """
    reader = ValueReader(puzzle)
    lines = head[1].split(b"\n")
    begin = next(line for line in lines if line.strip() and not line.lstrip().startswith(b"#"))
    try:
        by_line = not isinstance(json.loads(begin), list) or len(lines) > 2
    except (ValueError, RecursionError):
        by_line = False
    yield from (_read_lines if by_line else _read_values)(reader, chain([head], blocks))
    yield reader.end()


def _read_lines(reader: "ValueReader", blocks: Iterator[tuple[int, bytes]]) -> Iterator[Batch]:
    """Reads values that have a line each."""
    for first, block in blocks:
        for number, line in enumerate(io.StringIO(block.decode(), newline="\n"), first):
            text = line.strip()
            if text and not text.startswith("#"):
                try:
                    value = json.loads(text, object_pairs_hook=_without_doubles)
                    reader.read(number, line.rstrip("\r\n"), value)
                except json.JSONDecodeError as error:
                    column = error.colno + len(line) - len(line.lstrip())
                    reader.refuse(number, column, f"no JSON: {error.msg}", text)
                except (ValueError, RecursionError):
                    reader.refuse(number, 1, UNREADABLE, text)
        yield reader.batch()


def _read_values(reader: "ValueReader", blocks: Iterator[tuple[int, bytes]]) -> Iterator[Batch]:
    """Reads values from a text, each as soon as it is whole."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    number, block = next(blocks)
    text = re.sub(r"\A\s*(?:#[^\n]*\n\s*)*", lambda m: "\n" * m.group().count("\n"), block.decode())
    in_array = bool(re.match(r"\s*\[\s*\{", text))
    place = text.index("[") + 1 if in_array else 0
    counted = line_start = 0  # `number` is that of the line at `counted`, which began there
    while True:
        place = BETWEEN.match(text, place).end()  # type: ignore[union-attr]
        if in_array and text.startswith("]", place):
            place, in_array = place + 1, False
            continue
        number += text.count("\n", counted, place)
        line_start = max(line_start, text.rfind("\n", counted, place) + 1)
        counted = place
        fault = None
        if place < len(text):
            try:
                value, end = decoder.raw_decode(text, place)
                reader.read(number, text[place:end], value)
                place = end
                if len(reader.entries.found) > MOST_FOUND:
                    yield reader.batch()
                continue
            except json.JSONDecodeError as error:
                line = number + text.count("\n", place, error.pos)
                end = text.rfind("\n", place, error.pos)
                column = error.pos - (end if end >= 0 else line_start - 1)
                fault = (line, column, f"no JSON: {error.msg}")
            except (ValueError, RecursionError):
                fault = (number, place - line_start + 1, UNREADABLE)
        more = None
        if len(text) - place < LONGEST_VALUE:
            more = next(blocks, None)
        elif fault:
            fault = (number, place - line_start + 1, TOO_LONG)
        if more is None:
            break
        text, line_start = text[place:] + more[1].decode(), line_start - place
        place = counted = 0
    if fault:
        reader.refuse(*fault, text[place : place + SHOWN])
    elif in_array:
        reader.refuse(number, 1, "the list of puzzles is not closed: a `]` is missing", "")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; one with a key twice can be read in two ways."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


class ValueReader:
    """Reads JSON values.

    Args:
        puzzle: gives the text form.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """Nothing is found yet."""
        self.puzzle, self.lines = puzzle, LineReader(puzzle)
        self.entries = self.lines.entries

    def batch(self) -> Batch:
        """Returns what was found and forgets it."""
        return as_batch(self.lines.take(), self.puzzle.length)

    def end(self) -> Batch:
        """Ends the file; returns what was waiting for more values."""
        return as_batch(self.lines.end(), self.puzzle.length)

    def refuse(self, line: int, column: int, reason: str, text: str) -> None:
        """Adds a fault of text that is no JSON."""
        self.entries.found.append(Fault(line, column, reason, text[:SHOWN]))

    def read(self, number: int, raw: str, value: Any, depth: int = 0) -> None:
        """Reads a JSON value: an object, a list, or text.

        Args:
            number: the line that it begins in.
            raw: the text it stands in, for columns.
            value: as JSON's reader gives it.
            depth: of lists and objects around it.
        """
        if isinstance(value, dict):
            inner = [item for item in value.values() if isinstance(item, dict | list)]
            try:
                fields = as_fields(self.puzzle, value.items())
            except PuzzleTextError as error:
                self.entries.add_fault(number, 1, error.reason, raw)
                return
            is_puzzle = names_a_puzzle(self.puzzle, list(fields))
            only = inner[0] if len(inner) == len(fields) == 1 else None
            if isinstance(only, list) and self._seems_list_of_puzzles(only):
                is_puzzle = False
            if is_puzzle or len(inner) != 1 or depth > DEEPEST:
                self.entries.add_fields(number, raw, fields)
            else:
                self.read(number, raw, inner[0], depth + 1)
        elif isinstance(value, str) and value.strip():
            if "\n" in value:
                self.entries.add_fields(number, raw, {"puzzle": value})
            else:
                self.lines.read_line(number, value)
        elif isinstance(value, list) and depth <= DEEPEST:
            self._read_list(number, raw, value, depth)
        else:
            self.entries.add_fault(number, 1, "no puzzle", raw)

    def _read_list(self, number: int, raw: str, value: list[Any], depth: int) -> None:
        """Reads a list: a board, a pair of question and answer, or a list of puzzles."""
        if not self._seems_list_of_puzzles(value):
            self.entries.add_fields(number, raw, {"puzzle": value})
            return
        if len(value) == 2:
            pair = Entries(self.puzzle)
            pair.add_fields(number, raw, {"puzzle": value[0], "answer": value[1]})
            if all(isinstance(entry, Entry) for entry in pair.found):
                self.entries.found += pair.found
                return
        for item in value:
            self.read(number, raw, item, depth + 1)

    def _seems_list_of_puzzles(self, value: list[Any]) -> bool:
        """Says whether a list is no board itself."""
        form = self.puzzle.cell_text
        if form is None:
            return True
        inner = [item for item in value if isinstance(item, list)]
        if any(isinstance(part, list) for item in inner for part in item):
            return True
        if any(isinstance(item, dict) for item in value) or (inner and form.rows == 1):
            return True
        if not any(isinstance(item, str | list) for item in value):
            return False
        try:
            self.entries.board(as_text(value))
        except PuzzleTextError:
            lengths = [len(item) for item in value if isinstance(item, str | list)]
            if form.rows == 1:
                return set(lengths) != {1}
            return set(lengths) != {1} and 2 * lengths.count(form.columns) <= len(value)
        return False
