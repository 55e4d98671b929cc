"""Blocks of lines: those that lie like one before them are read together, as arrays.

Most large files hold one puzzle per line, at the same places of every line. Once `LineReader` has
found such a line, its places make a `Layout`, and numpy reads the other lines that have it. Lines
of no layout go through `LineReader` one by one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from pir.notation.cell_text import Pair
from pir.puzzle import Puzzle
from pir.puzzle_files.batch import Batch, as_batch, merged
from pir.puzzle_files.lines import LineReader

MOST_LAYOUTS = 16
EMPTY_FIELDS = {separator * count for separator in ",;\t|" for count in (1, 2)}
RATING = 16
"""Characters that may stand behind a board beyond those of the first line of its layout."""

SEPARATORS = np.frombuffer(b",;\t|\"' ", np.uint8)


class Block(NamedTuple):
    """Lines that are read together.

    Attributes:
        first: number of the first line.
        text: uint8 of shape (bytes,).
        starts: int64 of shape (lines,), where each line begins in `text`.
        ends: int64 of shape (lines,), where each ends, before its line end.
    """

    first: int
    text: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, first: int, data: bytes) -> "Block":
        """Finds the lines; the last one may lack its line end."""
        text = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        if not data.endswith(b"\n"):
            ends = np.append(ends, len(text))
        starts = np.append(0, ends[:-1] + 1)
        return cls(first, text, starts, ends - ((ends > starts) & (text[ends - 1] == ord("\r"))))

    def line(self, index: int) -> str:
        """Returns the text of a line."""
        return self.text[self.starts[index] : self.ends[index]].tobytes().decode()


class BlockReader:
    """Reads blocks of lines in their order.

    Args:
        puzzle: gives the text form.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """Knows no layout yet."""
        self.puzzle, self.lines = puzzle, LineReader(puzzle)
        self.layouts: dict[object, Layout] = {}

    def read(self, first: int, data: bytes) -> Batch:
        """Reads the lines of a block; `first` is the number of its first line."""
        block = Block.of(first, data)
        left = np.arange(len(block.starts))
        parts: list[Batch] = []
        for layout in self.layouts.values():
            left = layout.read(block, left, parts)
        while len(left):
            done = 0
            new: Layout | None = None
            while new is None and done < len(left):
                new = self._read_line(block, int(left[done]))
                done += 1
            left = left[done:]
            if new:
                left = new.read(block, left, parts)
        parts.append(as_batch(self.lines.take(), self.puzzle.length))
        return merged(parts)

    def end(self) -> Batch:
        """Ends the file; returns what was waiting for more lines."""
        return as_batch(self.lines.end(), self.puzzle.length)

    def _read_line(self, block: Block, index: int) -> "Layout | None":
        """Reads one line; returns its layout, if it is a new one."""
        line = block.line(index)
        self.lines.feed(block.first + index, line)
        pair = self.lines.entries.pair
        full = len(self.layouts) >= MOST_LAYOUTS
        if pair is None or full or not Layout.fits(self.puzzle, line, pair):
            return None
        layout = Layout(self.puzzle, line, pair)
        if layout.name in self.layouts:
            return None
        self.layouts[layout.name] = layout
        return layout


class Layout:
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
        zero = "0" in pair.question.signs
        self.dashes = "-1" in form.signs and "-" in pair.question.signs
        # lines with `0` beside other blanks, or `-` that may be minus, are looked at one by one
        doubtful = set() if self.dashes or "-1" not in form.signs else {"-"}
        if form.highest:
            doubtful |= {s for s, t in form.signs.items() if t == form.blank and zero == (s != "0")}
        signs = {sign: token for sign, token in form.signs.items() if sign not in doubtful}
        self.question = _table(signs, blanks)
        self.answer = _table({**form.signs, **form.answer_signs}, blanks)
        rest = len(line) - self.end
        # more could be an answer; with separators between the cells even one sign is a cell more
        first = [i for i in between if self.cells[0].min() < i < self.cells[0].max()]
        parted = any(line[i] in ",;\t|\"' " for i in first)
        self.most_rest = rest + 1 if parted else min(form.cells // 2, rest + RATING)
        # where a blank is a sign it parts nothing
        self.separators = SEPARATORS[:-1] if blanks else SEPARATORS
        places = (self.cells[0].tobytes(), every.tobytes(), self.fixed.tobytes())
        tail = line[self.end : self.end + 2]
        # an empty field behind a puzzle may be that of the answer, which other lines may fill
        self.tail = tail.encode() if len(boards) == 1 and tail in EMPTY_FIELDS else b""
        self.name = (blanks, zero, self.dashes, self.tail, *places)

    @classmethod
    def fits(cls, puzzle: Puzzle, line: str, pair: Pair) -> bool:
        """Says whether a line has a layout: one plain character per cell, little beside them."""
        places = pair.question.at + (pair.answer.at if pair.answer else [])
        form = puzzle.cell_text
        assert form is not None
        rest = max(min(places), len(line) - max(places) - 1)
        single = all(len(sign) == 1 or sign not in line for sign in form.signs)
        signs = pair.question.signs + (pair.answer.signs if pair.answer else [])
        written = [line[place : place + 1] for place in places] == signs  # no empty fields
        return line.isascii() and single and written and rest < form.cells // 2

    def read(self, block: Block, left: np.ndarray, parts: list[Batch]) -> np.ndarray:
        """Reads the lines of this layout.

        Args:
            block: lines.
            left: int64, the places of those that may be read.
            parts: takes what was read.

        Returns:
            the places of the lines that have another layout.
        """
        if not len(left):
            return left
        fits, questions, answers = self._fitting(block, left)
        columns = np.full(len(questions), self.cells[0][0] + 1)
        parts.append(Batch(left[fits] + block.first, columns, questions, answers, {}, []))
        others: np.ndarray = left[~fits]
        return others

    def _fitting(
        self, block: Block, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Returns which lines have this layout, their questions, and answers if it has any."""
        text, starts = block.text, block.starts[left]
        lengths = block.ends[left] - starts
        fits = (lengths >= self.end) & (lengths - self.end < self.most_rest)
        fits &= self._ends_there(text, starts, lengths)
        rows = np.flatnonzero(fits)
        if self.start:
            lead = text[starts[rows, None] + np.arange(self.start)]
            alone = (lead != ord("#")).all(1) & np.isin(lead[:, -1], self.separators)
            rows = rows[alone & ~np.isin(lead[:, 0], np.frombuffer(b"%/", np.uint8))]
        if len(self.between):
            rows = rows[(text[starts[rows, None] + self.between] == self.fixed).all(1)]
        signs = text[starts[rows, None] + self.cells[0]]
        questions = self.question[signs]
        right = (questions > 0).all(1)
        if self.dashes:  # `-1-1` may be numbers
            dashes = signs == ord("-")
            right &= (dashes[:, :-1] & (signs[:, 1:] != ord("1"))).any(1) | dashes[:, -1]
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
        if self.tail:
            last = np.minimum(starts + self.end + 1, len(text) - 1)
            ends = (lengths > self.end) & (text[after] == self.tail[0])
            alone = lengths == self.end + 1
            ends &= alone if len(self.tail) == 1 else ~alone & (text[last] == self.tail[1])
        return ends


def _table(signs: Mapping[str, int], blanks: bool) -> np.ndarray:
    """Returns the token of every byte, uint8 of shape (256,); 0 where it is no sign."""
    table = np.zeros(256, np.uint8)
    for sign, token in signs.items():
        if len(sign) == 1 and sign.isascii() and (sign != " " or blanks):
            table[ord(sign)] = token
    return table
