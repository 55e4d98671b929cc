"""Files of puzzles, in all their forms, read in blocks (docs/puzzles.md has the table of forms).

One reader serves every command and every puzzle: `read_puzzles` yields batches of questions and of
the answers that the file gives. Lines that lie like one before them are read together, so a large
file takes seconds; every other line goes through `LineReader`. Nothing is ever unpickled.
"""

import codecs
import gzip
import io
import json
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch

from pir.cell_text import Pair
from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.puzzle_lines import Entry, Fault, LineReader
from pir.terminal import printable, say

STDIN = "-"
BLOCK = 1 << 21
"""Bytes read at once."""

LONGEST_LINE = 1 << 23
"""Characters of a line, and of a JSON value, that is still read."""

SAFE_SIZE, SAFE_RATIO = 1 << 26, 250
"""A compressed file may always grow to so many bytes, and beyond them so many times its size."""

REPORT_SECONDS = 2.0
MOST_LAYOUTS = 16
SEPARATORS = np.frombuffer(b",;\t|\"' ", np.uint8)


class Batch(NamedTuple):
    """Puzzles of a file, in its order.

    Attributes:
        lines: int64 of shape (N,), the number of each one's line, or of the puzzle in an array.
        columns: int64 of shape (N,), where it begins in the line, from 1.
        questions: uint8 of shape (N, L).
        answers: uint8 of shape (N, L), well-formed but unchecked, 0 where the file gives none;
            None if it gives none at all.
        texts: the questions as they stand in the file, by row, where that is their text form.
        faults: what could not be read.
        unit: what the numbers in `lines` count, "line" or "puzzle".
    """

    lines: np.ndarray
    columns: np.ndarray
    questions: np.ndarray
    answers: np.ndarray | None
    texts: dict[int, str]
    faults: list[Fault]
    unit: str = "line"


def read_puzzles(puzzle: Puzzle, path: str, key: str) -> Iterator[Batch]:
    """Reads a file of puzzles block by block, and says how far it is when that takes long.

    Args:
        puzzle: gives the text form.
        path: the file; `-` for standard input.
        key: the setting that names it, for messages.

    Raises:
        UserError: if the file cannot be read, is no text, or holds nothing.
    """
    from pir.puzzle_arrays import read_archive, read_array

    found = False
    with _opened(path, key) as source:
        start = source.peek(6)
        if start.startswith(b"\x93NUMPY"):
            batches = read_array(puzzle, source, f"{key}={path}")
        elif start.startswith(b"PK\x03\x04"):
            batches = read_archive(puzzle, source, f"{key}={path}")
        else:
            batches = _read_text(puzzle, source, f"{key}={path}")
        for batch in batches:
            found = found or bool(len(batch.lines) or batch.faults)
            yield batch
            source.report(len(batch.lines))
    if not found:
        raise UserError(f"{key}={path} holds no puzzle")


def read_one(puzzle: Puzzle, text: str) -> Batch:
    """Reads text that was typed, which holds puzzles in any form that a file may have."""
    reader = LineReader(puzzle)
    for number, line in enumerate(text.split("\n"), 1):
        reader.feed(number, line)
    reader.end()
    return as_batch(reader.found, puzzle.length)


# -------------------------------------------------------------------------------------- sources


class Source:
    """Bytes of a file that may be compressed, with a look ahead and a report of progress.

    Args:
        name: the setting and the file, for messages.
        raw: the file.
        size: its size in bytes; None where that is unknown.
    """

    def __init__(self, name: str, raw: IO[bytes], size: int | None) -> None:
        """Looks for compression."""
        self.name, self.raw, self.size = name, raw, size
        self.count, self.progress = 0, Progress(name)
        self._ahead = b""
        self.stream: IO[bytes] = raw
        self._unpacked, self.packed = 0, False
        self.packed = self.peek(2) == b"\x1f\x8b"
        if self.packed:
            self.raw = cast(IO[bytes], _Rest(self._ahead, raw))
            self.stream, self._ahead = cast(IO[bytes], gzip.GzipFile(fileobj=self.raw)), b""

    def peek(self, count: int) -> bytes:
        """Returns the next bytes without taking them; fewer at the end."""
        while len(self._ahead) < count and (more := self._read(count - len(self._ahead))):
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """Takes the next bytes, at least one and at most `count`; none at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead[:count], self._ahead[count:]
            return taken
        return self._read(count)

    def read_exactly(self, count: int) -> bytes:
        """Takes `count` bytes, fewer at the end."""
        parts, left = [], count
        while left and (part := self.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def blocks(self) -> Iterator[bytes]:
        """Yields the rest."""
        ahead, self._ahead = self._ahead, b""
        while block := ahead + self._read(BLOCK):
            yield block
            ahead = b""

    def _read(self, count: int) -> bytes:
        read = getattr(self.stream, "read1", self.stream.read)
        data: bytes = read(min(count, BLOCK))
        if self.packed:
            self._unpacked += len(data)
            if self._unpacked > max(SAFE_SIZE, SAFE_RATIO * self.raw.tell()):
                raise UserError(f"{self.name} grows to more than {SAFE_RATIO} times its size")
        return data

    def report(self, count: int) -> None:
        """Counts puzzles, and says so now and then."""
        self.count += count
        share = self.raw.tell() / self.size if self.size else None
        self.progress.report("reading", self.count, share)


class Progress:
    """A line on standard error every few seconds.

    Args:
        name: the setting and the file.
    """

    def __init__(self, name: str) -> None:
        """Starts the clock."""
        self.name, self.told = printable(name), time.monotonic()

    def report(self, doing: str, count: int, share: float | None) -> None:
        """Says how many puzzles are done, and which share of all that is, if it is time to."""
        now = time.monotonic()
        if now - self.told < REPORT_SECONDS:
            return
        self.told = now
        known = "" if share is None else f"{min(1.0, share):.0%}, "
        say(f"{doing} {self.name}: {known}{count:,} puzzles", error=True)


class _Rest(io.RawIOBase):
    """Bytes that were read already, and then the rest of a stream."""

    def __init__(self, ahead: bytes, raw: IO[bytes]) -> None:
        self.ahead, self.raw, self.taken = ahead, raw, 0

    def read(self, count: int = -1) -> bytes:
        part = self.ahead[:count] if count >= 0 else self.ahead
        self.ahead = self.ahead[len(part) :]
        part = part or self.raw.read(count)
        self.taken += len(part)
        return part

    def tell(self) -> int:
        return self.taken

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(path: str, key: str) -> Iterator[Source]:
    """Opens a file, or takes standard input.

    Raises:
        UserError: if it cannot be read, then or later.
    """
    try:
        if path == STDIN:
            yield Source(f"{key}={path}", sys.stdin.buffer, None)
            return
        with open(path, "rb") as file:
            size = Path(path).stat().st_size
            yield Source(f"{key}={path}", file, size or None)
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{key}={path} cannot be read: {reason}") from error


# -------------------------------------------------------------------------------------- text


def _read_text(puzzle: Puzzle, source: Source, name: str) -> Iterator[Batch]:
    first = source.peek(4)
    blocks = source.blocks()
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        blocks = _transcoded(blocks)
    elif first.startswith(codecs.BOM_UTF8):
        source.read(len(codecs.BOM_UTF8))
    numbered = _whole_lines(blocks, name)
    head = next(numbered, None)
    if head is None:
        return
    if re.match(rb"\s*(?:#[^\n]*\n\s*)*[\[{]", head[1]) and not _is_title(head[1]):
        yield from _read_json(puzzle, head, numbered)
        return
    lines = _Lines(puzzle)
    yield lines.read(*head)
    for number, block in numbered:
        yield lines.read(number, block)
    lines.reader.end()
    yield as_batch(lines.reader.found, puzzle.length)


def _is_title(block: bytes) -> bool:
    """Says whether a text that begins with a bracket begins with a title such as `[Puzzle]`."""
    return bool(re.match(rb"\s*(?:#[^\n]*\n\s*)*\[\s*[A-Za-z]", block))


def _transcoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Turns UTF-16 into UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def _whole_lines(blocks: Iterator[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yields blocks that end where a line ends, with the number of their first line.

    Lines that are too long are cut there; the reader of lines then refuses them.

    Raises:
        UserError: if the bytes are no text.
    """
    number, rest, old_mac = 1, b"", None
    for block in blocks:
        if b"\0" in block:
            raise UserError(f"{name} cannot be read: it is no text (a zero byte in it)")
        if old_mac is None and block:
            old_mac = b"\r" in block[:-1] and b"\n" not in block
        block = rest + (block.replace(b"\r", b"\n") if old_mac else block)
        end = block.rfind(b"\n") + 1
        if end == 0 and len(block) > LONGEST_LINE:
            raise UserError(
                f"{name}, line {number}: longer than {LONGEST_LINE:,} bytes, so no line of a puzzle"
            )
        rest = block[end:]
        if end:
            yield number, block[:end]
            number += block.count(b"\n", 0, end)
    if rest:
        yield number, rest


class _Layout:
    """Where question and answer lie in a line, so that lines like it can be read together.

    Args:
        puzzle: a puzzle of cells.
        line: a line that was read.
        pair: what was found in it.
    """

    def __init__(self, puzzle: Puzzle, line: str, pair: Pair) -> None:
        """Keeps the places, and what lies between them."""
        form = puzzle.cell_text
        assert form is not None
        self.puzzle, self.form = puzzle, form
        boards = [pair.question, *([pair.answer] if pair.answer else [])]
        self.cells = [np.array(board.at) for board in boards]
        every = np.concatenate(self.cells)
        self.start, self.end = int(every.min()), int(every.max()) + 1
        between = sorted(set(range(self.start, self.end)) - set(every.tolist()))
        self.between = np.array(between, np.int64)
        self.fixed = np.array([ord(line[i]) for i in between], np.uint8)
        blanks = any(line[i] == " " for i in every)
        self.question = _table(form.signs, blanks)
        self.answer = _table({**form.signs, **form.answer_signs}, blanks)
        self.most_rest = form.cells // 2
        # where a blank is a sign it parts nothing
        self.separators = SEPARATORS[:-1] if blanks else SEPARATORS
        self.name = (blanks, self.cells[0].tobytes(), every.tobytes(), self.fixed.tobytes())

    @classmethod
    def fits(cls, puzzle: Puzzle, line: str, pair: Pair) -> bool:
        """Says whether a line has a layout: one plain character per cell, little beside them."""
        places = pair.question.at + (pair.answer.at if pair.answer else [])
        form = puzzle.cell_text
        assert form is not None
        rest = max(min(places), len(line) - max(places) - 1)
        single = all(len(sign) == 1 or sign not in line for sign in form.signs)
        return line.isascii() and single and rest < form.cells // 2

    def read(
        self, text: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Reads the lines that have this layout.

        Returns:
            bool of shape (lines,), which do; their questions; their answers, if it has any.
        """
        fits = (lengths >= self.end) & (lengths - self.end < self.most_rest)
        fits &= self._ends_there(text, starts, lengths)
        rows = np.flatnonzero(fits)
        if self.start:
            lead = text[starts[rows, None] + np.arange(self.start)]
            alone = (lead != ord("#")).all(1) & np.isin(lead[:, -1], self.separators)
            rows = rows[alone & ~np.isin(lead[:, 0], np.frombuffer(b"%/", np.uint8))]
        if len(self.between):
            rows = rows[(text[starts[rows, None] + self.between] == self.fixed).all(1)]
        questions = self.question[text[starts[rows, None] + self.cells[0]]]
        right = (questions > 0).all(1)
        for token in self.form.once:
            right &= (questions == token).sum(1) == 1
        rows, questions, answers = rows[right], questions[right], None
        if len(self.cells) > 1:
            answers = self.answer[text[starts[rows, None] + self.cells[1]]]
            written = self.puzzle.written(torch.from_numpy(questions)).numpy()
            allowed = self.puzzle.slot_mask.numpy()[np.arange(self.form.cells), answers]
            right = np.where(written, allowed, answers == questions).all(1) & (answers > 0).all(1)
            rows, questions, answers = rows[right], questions[right], answers[right]
        fits[:] = False
        fits[rows] = True
        return fits, questions, answers

    def _ends_there(self, text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        after = np.minimum(starts + self.end, len(text) - 1)
        ends: np.ndarray = (lengths == self.end) | np.isin(text[after], self.separators)
        return ends


def _table(signs: Mapping[str, int], blanks: bool) -> np.ndarray:
    """Returns the token of every byte, uint8 of shape (256,); 0 where it is no sign."""
    table = np.zeros(256, np.uint8)
    for sign, token in signs.items():
        if len(sign) == 1 and sign.isascii() and (sign != " " or blanks):
            table[ord(sign)] = token
    return table


class _Lines:
    """Reads blocks of lines: those alike together, the others one by one."""

    def __init__(self, puzzle: Puzzle) -> None:
        self.puzzle, self.reader = puzzle, LineReader(puzzle)
        self.layouts: dict[object, _Layout] = {}

    def read(self, first: int, block: bytes) -> Batch:
        """Reads a block; `first` is the number of its first line."""
        text = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(text == 10)
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(text))
        starts = np.append(0, ends[:-1] + 1)
        ends = ends - ((ends > starts) & (text[ends - 1] == 13))
        left = np.arange(len(starts))
        parts: list[Batch] = []
        for layout in self.layouts.values():
            left = self._read_alike(layout, text, starts, ends, left, first, parts)
        while len(left):
            done = 0
            new: _Layout | None = None
            while new is None and done < len(left):
                index = int(left[done])
                new = self._read_line(first + index, block[starts[index] : ends[index]])
                done += 1
            left = left[done:]
            if new:
                left = self._read_alike(new, text, starts, ends, left, first, parts)
        parts.append(as_batch(self.reader.take(), self.puzzle.length))
        return _merged(parts)

    def _read_line(self, number: int, data: bytes) -> _Layout | None:
        """Reads one line; returns its layout, if it is a new one."""
        line = data.decode()
        self.reader.feed(number, line)
        pair = self.reader.pair
        if not pair or len(self.layouts) >= MOST_LAYOUTS:
            return None
        if not isinstance(self.reader.found[-1], Entry) or not _Layout.fits(
            self.puzzle, line, pair
        ):
            return None
        layout = _Layout(self.puzzle, line, pair)
        if layout.name in self.layouts:
            return None
        self.layouts[layout.name] = layout
        return layout

    def _read_alike(
        self,
        layout: _Layout,
        text: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        left: np.ndarray,
        first: int,
        parts: list[Batch],
    ) -> np.ndarray:
        """Reads the lines of a layout among those left; returns the others."""
        if not len(left):
            return left
        fits, questions, answers = layout.read(text, starts[left], ends[left] - starts[left])
        columns = np.full(len(questions), layout.cells[0][0] + 1)
        parts.append(Batch(left[fits] + first, columns, questions, answers, {}, []))
        others: np.ndarray = left[~fits]
        return others


def as_batch(found: list[Entry | Fault], length: int) -> Batch:
    """Packs what a reader of lines found; `length` is that of a question."""
    entries = [item for item in found if isinstance(item, Entry)]
    faults = [item for item in found if isinstance(item, Fault)]
    questions = np.zeros((len(entries), length), np.uint8)
    answers = None
    if any(entry.answer is not None for entry in entries):
        answers = np.zeros_like(questions)
    for row, entry in enumerate(entries):
        questions[row] = entry.question
        if entry.answer is not None and answers is not None:
            answers[row] = entry.answer
    places = np.array([(e.line, e.column) for e in entries], np.int64).reshape(-1, 2)
    texts = {row: entry.text for row, entry in enumerate(entries) if entry.text}
    return Batch(places[:, 0], places[:, 1], questions, answers, texts, faults)


def _merged(parts: list[Batch]) -> Batch:
    """Joins batches in the order of their lines; the last one alone may hold texts and faults."""
    if len(parts) == 1:
        return parts[0]
    lines = np.concatenate([part.lines for part in parts])
    order = np.argsort(lines, kind="stable")
    answers = None
    if any(part.answers is not None for part in parts):
        every = [np.zeros_like(p.questions) if p.answers is None else p.answers for p in parts]
        answers = np.concatenate(every)[order]
    before = len(lines) - len(parts[-1].lines)
    row_of = np.argsort(order)
    texts = {int(row_of[before + row]): text for row, text in parts[-1].texts.items()}
    return Batch(
        lines[order],
        np.concatenate([part.columns for part in parts])[order],
        np.concatenate([part.questions for part in parts])[order],
        answers,
        texts,
        parts[-1].faults,
    )


# -------------------------------------------------------------------------------------- JSON


def _read_json(
    puzzle: Puzzle, head: tuple[int, bytes], blocks: Iterator[tuple[int, bytes]]
) -> Iterator[Batch]:
    """Reads one JSON value per line, or a text of JSON: values one after another, or an array."""
    reader = LineReader(puzzle)
    lines = head[1].split(b"\n")
    begin = next(line for line in lines if line.strip() and not line.lstrip().startswith(b"#"))
    try:
        value = json.loads(begin)
        alone = not isinstance(value, list) or len(lines) > 2
    except (ValueError, RecursionError):
        alone = False
    if alone:
        yield from _read_json_lines(reader, head, blocks)
    else:
        yield from _read_json_text(reader, head, blocks)


def _read_json_lines(
    reader: LineReader, head: tuple[int, bytes], blocks: Iterator[tuple[int, bytes]]
) -> Iterator[Batch]:
    number, block = head
    while block:
        for line in io.StringIO(block.decode(), newline="\n"):
            text = line.strip()
            if text and not text.startswith("#"):
                try:
                    reader.read_value(
                        number,
                        line.rstrip("\r\n"),
                        json.loads(text, object_pairs_hook=_without_doubles),
                    )
                except json.JSONDecodeError as error:
                    column = error.colno + len(line) - len(line.lstrip())
                    reader.found.append(Fault(number, column, f"no JSON: {error.msg}", text[:60]))
                except (ValueError, RecursionError):
                    reader.found.append(Fault(number, 1, "no JSON that is read here", text[:60]))
            number += 1
        yield as_batch(reader.take(), reader.puzzle.length)
        number, block = next(blocks, (0, b""))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; one with a key twice can be read in two ways."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _read_json_text(
    reader: LineReader, head: tuple[int, bytes], blocks: Iterator[tuple[int, bytes]]
) -> Iterator[Batch]:
    """Reads values from a text, each as soon as it is whole."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    number, block = head
    text = re.sub(r"\A\s*(?:#[^\n]*\n\s*)*", lambda m: "\n" * m.group().count("\n"), block.decode())
    skip = re.compile(r"[\s,]*")
    in_array = bool(re.match(r"\s*\[\s*\{", text))
    place = text.index("[") + 1 if in_array else 0
    seen = line_start = (
        0  # line ends are counted up to the first, the last line began at the second
    )
    while True:
        place = skip.match(text, place).end()  # type: ignore[union-attr]
        if in_array and text.startswith("]", place):
            place, in_array = place + 1, False
            continue
        number += text.count("\n", seen, place)
        line_start = max(line_start, text.rfind("\n", seen, place) + 1)
        seen = place
        fault = None
        if place < len(text):
            try:
                value, end = decoder.raw_decode(text, place)
                reader.read_value(number, text[place:end], value)
                place = end
                if len(reader.found) > 1000:
                    yield as_batch(reader.take(), reader.puzzle.length)
                continue
            except json.JSONDecodeError as error:
                line = number + text.count("\n", place, error.pos)
                column = error.pos - max(line_start - 1, text.rfind("\n", place, error.pos))
                fault = Fault(line, column, f"no JSON: {error.msg}", text[place : place + 60])
            except (ValueError, RecursionError):
                reason = "no JSON that is read here"
                fault = Fault(number, place - line_start + 1, reason, text[place : place + 60])
        more = next(blocks, None) if len(text) - place < LONGEST_LINE else None
        if more is None:
            break
        text, line_start = text[place:] + more[1].decode(), line_start - place
        place = seen = 0
    if in_array and not fault:
        fault = Fault(number, 1, "the list of puzzles is not closed: a `]` is missing", "")
    if fault:
        reader.found.append(fault)
    yield as_batch(reader.take(), reader.puzzle.length)
