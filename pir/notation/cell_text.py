"""How boards of cells are written by people: signs, separators, rows, tags and ratings.

A line is read in every way that has meaning; it is taken if exactly one way gives a board. The
ways, from the strictest on: words (or fields, where a blank is a sign) of exactly as many signs as
the board has cells; then cells or rows that are parted by blanks, commas or `/`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from pir.errors import PuzzleTextError

FIELD = re.compile(r'[^,;\t|"]+')
WORD = re.compile(r"[^\s,;|\"'\[\]()]+")
PART = re.compile(r"[^\s,;|/\"'\[\]()]+")
RATING = re.compile(r"\d{1,2}\.\d{1,2}")
RULING = re.compile(r"[-+=|*_:.\s\u2014\u2500-\u257f]+")
RULES = re.compile(r"[|!:\u2500-\u257f]")

DOUBTFUL_ZERO = (
    "0 may be a blank, or a clue of those who count from 0: write blanks alike, and clues from 1 on"
)
GLUED = "it may be numbers that touch, or single signs: part numbers, as in -1 -1 4"


@dataclass(frozen=True)
class CellText:
    """The signs of a puzzle whose text is one sign per cell.

    Attributes:
        rows: of the board; 1 where the cells are a mere row.
        columns: cells in a row.
        signs: the tokens of questions by what is written for them: characters, or longer words
            that stand between separators; the first sign of a token is the one that we print. A
            blank counts in lines and rows of full width alone.
        answer_signs: further signs, which answers alone hold.
        blank: the token that a question leaves open; None where answers have signs of their own.
        once: tokens that a question holds exactly once, with their names.
        band: rows after which an empty line may stand inside a board; the whole board by default.
        row_end: what parts the rows in the puzzle's own text form.
        values: tokens by number, where arrays may hold numbers beside tokens.
        highest: the token of the highest clue where `0` is a blank, and yet a clue for people who
            count from 0; 0 elsewhere.
    """

    rows: int
    columns: int
    signs: Mapping[str, int]
    answer_signs: Mapping[str, int] = field(default_factory=dict)
    blank: int | None = None
    once: Mapping[int, str] = field(default_factory=dict)
    band: int = 0
    row_end: str = ""
    values: Mapping[int, int] = field(default_factory=dict)
    highest: int = 0

    @property
    def cells(self) -> int:
        """The number of cells."""
        return self.rows * self.columns


class Board(NamedTuple):
    """Cells that were found in a line: their tokens, the place of each from 0, and its sign."""

    tokens: list[int]
    at: list[int]
    signs: list[str]


class Pair(NamedTuple):
    """A question and, if the line has one, its answer."""

    question: Board
    answer: Board | None


class CellReader:
    """Reads single lines of boards.

    Args:
        form: how they are written.
    """

    def __init__(self, form: CellText) -> None:
        """Joins the signs of questions and answers."""
        self.form, self.cells = form, form.cells
        self.signs = {**form.signs, **form.answer_signs}
        self.answer_tokens = frozenset(form.answer_signs.values())
        self.plain: dict[int, str] = {}
        for sign, token in self.signs.items():
            self.plain.setdefault(token, sign)

    def without_comment(self, line: str) -> str:
        """Returns a line up to `#`, where that is no sign."""
        return line if "#" in self.signs else line.partition("#")[0]

    def is_comment(self, line: str) -> bool:
        """Says whether a line in which no board was found is a comment.

        Where `#` is a sign, a line that begins like a board is none, but a faulty board.
        """
        text = line.lstrip()
        first = re.split(r"[\s,;]", text, maxsplit=1)[0]
        return text.startswith(("#", "//", "%", ";")) and (
            len(first) < 3 or self._share(first) < 0.6
        )

    def find(self, line: str) -> Pair | None:
        """Finds question and answer in a line; None if there is no board in it.

        Raises:
            PuzzleTextError: if there are several ways to read it, or a part of a board is left.
        """
        boards = next((found for found in self._ways(line) if found), [])
        if not boards:
            return None
        if len(boards) > 2:
            raise PuzzleTextError(f"{len(boards)} puzzles on one line", boards[2].at[0] + 1)
        self._refuse_remains(line, boards)
        if len(boards) == 2 and self.is_answer(boards[0]) and not self.is_answer(boards[1]):
            boards.reverse()
        return Pair(boards[0], boards[1] if len(boards) == 2 else None)

    def find_row(self, line: str) -> Board | None:
        """Finds one row of a board that has a line of its own."""
        wide = self._full_width(line, 0, self.form.columns)
        if wide is None:
            bare = RULES.sub("", line)
            places = [i for i, c in enumerate(line) if not RULES.match(c)]
            found = self._parted(bare, 0, (self.form.columns,)) or self._full_width(
                bare, 0, self.form.columns
            )
            wide = found and found._replace(at=[places[i] for i in found.at])
        return wide or self._with_gaps(line, self.form.columns)

    def is_ruling(self, line: str) -> bool:
        """Says whether a line only parts rows, such as `---+---`."""
        text = line.strip()
        return len(text) > 2 and bool(RULING.fullmatch(text)) and text.strip(".:*|") != ""

    def doubtful_zero(self, board: Board) -> int | None:
        """Returns the first cell of a question whose `0` is a blank or a clue, nobody knows which.

        Beside the highest clue it is a blank: there are as many signs as a row has cells.
        """
        if not self.form.highest or "0" not in board.signs or self.form.highest in board.tokens:
            return None
        written = zip(board.signs, board.tokens, strict=True)
        blanks = {sign for sign, token in written if token == self.form.blank}
        return board.signs.index("0") if len(blanks) > 1 else None

    def seems_board(self, text: str) -> bool:
        """Says whether most of a text are signs, so that it must be meant as a part of a board."""
        return self._share(text) >= 0.9

    def explain(self, line: str) -> tuple[str, int, str]:
        """Returns the part of a line that comes nearest to a board.

        Returns:
            the part in our own signs, its place from 0, and what is wrong if its signs are right.
        """
        parts = [*WORD.finditer(line), *FIELD.finditer(line)]
        if not parts:
            return "", 0, "no puzzle"
        best = max(parts, key=lambda part: self._sum(part.group()))
        text = best.group()
        words = PART.findall(line)
        if self._are_numbers(words) and self.signs.keys() >= set(words):
            return text, len(line), f"{len(words)} numbers where this puzzle has {self.cells} cells"
        if self._are_numbers([text]):
            return text, best.start() + text.index("-1"), GLUED
        count = sum(map(len, words))
        wrong = ""
        if len(text.strip()) * 2 < self.cells and count * 2 > self.cells:
            text, place = line, 0
            bad = next((i for i, c in enumerate(line) if not self._known(c)), None)
            if bad is not None:
                return text, bad, f"{line[bad]!r} is no sign of this puzzle"
            return text, len(line), f"{count} cells where this puzzle has {self.cells}"
        place = best.start() + len(text) - len(text.lstrip(" "))
        text = text.strip(" ") if len(text) != self.cells else text
        if self.form.row_end and self.form.row_end not in text and len(text) > self.form.columns:
            bad = next((i for i, c in enumerate(text) if not self._known(c)), None)
            if bad is not None:
                return text, place + bad, f"{text[bad]!r} is no sign of this puzzle"
            wrong = f"{len(text)} cells where this puzzle has {self.cells}"
            return text, place + min(len(text), self.cells), wrong
        return "".join(self.plain[self.signs[c]] if c in self.signs else c for c in text), place, ""

    def explain_rows(self, text: str) -> tuple[int, str] | None:
        """Returns the column of the first mistake in rows parted by `/`, and what it is."""
        form, rows = self.form, text.split("/")
        if len(rows) == 1 or form.rows == 1:
            return None
        if len(rows) != form.rows:
            return 1, f"{len(rows)} rows where this puzzle has {form.rows}"
        place = 1
        for number, row in enumerate(rows, 1):
            if not self.find_row(row):
                parted = " " in row.strip() and not form.row_end
                cells = list((PART if parted else re.compile(".")).finditer(row))
                wrong = next((cell for cell in cells if cell.group() not in self.signs), None)
                if wrong:
                    reason = f"{wrong.group()!r} is no sign of this puzzle"
                    return place + wrong.start(), f"row {number}: {reason}"
                return place, f"row {number}: {len(cells)} cells where a row has {form.columns}"
            place += len(row) + 1
        return None

    def nearly_row(self, line: str) -> bool:
        """Says whether a line has about as many signs as a row, most of them right."""
        bare = RULES.sub("", line)
        texts = (bare.strip(), re.sub(r"[\s,;]", "", bare))
        sizes = [abs(len(text) - self.form.columns) <= 2 for text in texts]
        return any(
            size and self._share(text) >= 0.6 for size, text in zip(sizes, texts, strict=True)
        )

    # ---------------------------------------------------------------- ways

    def _ways(self, line: str) -> Iterator[list[Board]]:
        """Yields the boards that every way of reading finds, from the strictest way on."""
        if " " in line and (whole := self._full_width(line, 0, self.cells)):
            yield [whole]
        for pattern in (FIELD, WORD) if " " in self.signs else (WORD,):
            spans = pattern.finditer(line)
            found = [self._full_width(s.group(), s.start(), self.cells) for s in spans]
            yield [board for board in found if board]
        for pattern in (re.compile(r'[^;\t"]+'), re.compile(r".+")):
            boards: list[Board] = []
            for span in pattern.finditer(line):
                sizes = (self.cells, 2 * self.cells)
                found_here = self._parted(span.group(), span.start(), sizes)
                if found_here:
                    n = self.cells
                    for first in range(0, len(found_here.at), n):
                        cells = slice(first, first + n)
                        tokens, at, signs = found_here
                        boards.append(Board(tokens[cells], at[cells], signs[cells]))
            yield boards
        whole = self._with_gaps(line, self.cells)
        yield [whole] if whole else []

    def _full_width(self, text: str, start: int, size: int) -> Board | None:
        """Reads text of exactly `size` signs, or rows parted by `/`; spaces may be around it."""
        bare = text.strip(" ")
        if len(text) != size and (len(bare) == size or "/" in bare):
            text, start = bare, start + len(text) - len(text.lstrip(" "))
        if len(text) == size:
            places: Sequence[int] = range(size)
        elif size == self.cells and len(text) == size + self.form.rows - 1 and "/" in text:
            width = self.form.columns
            if any(text[i] != "/" for i in range(width, len(text), width + 1)):
                return None
            places = [i for i in range(len(text)) if i % (width + 1) != width]
        else:
            return None
        if not text.strip():
            return None
        if "-1" in text and self._are_numbers([text]):
            return None
        return self._board([text[i] for i in places], [start + i for i in places])

    def _parted(self, text: str, start: int, sizes: Sequence[int]) -> Board | None:
        """Reads cells or rows between separators, one of `sizes` in all."""
        words = list(PART.finditer(text))
        written = [word.group() for word in words]
        if len(words) in sizes:
            board = self._board(written, [start + word.start() for word in words])
            if board:
                return board
        places = [i for word in words for i in range(*word.span())]
        if len(places) not in sizes or (len(places) > len(words) and self._are_numbers(written)):
            return None
        return self._board([text[i] for i in places], [start + i for i in places])

    def _with_gaps(self, text: str, size: int) -> Board | None:
        """Reads `size` fields of a spreadsheet, where an empty one is a blank."""
        if self.form.blank is None:
            return None
        blank = self.plain[self.form.blank]
        for separator in ",;\t":
            if text.count(separator) == size - 1:
                fields = text.split(separator)
                starts = accumulate((len(part) + 1 for part in fields[:-1]), initial=0)
                return self._board([part.strip() or blank for part in fields], list(starts))
        return None

    def _board(self, written: list[str], at: list[int]) -> Board | None:
        tokens = [self.signs.get(sign, -1) for sign in written]
        return None if -1 in tokens else Board(tokens, at, written)

    def _are_numbers(self, words: Sequence[str]) -> bool:
        """Says whether words are numbers, so that their characters are no cells of their own."""
        if len({len(word) for word in words}) > 1:
            return any(len(word) > 1 and word in self.signs for word in words)
        text = "".join(words)
        return "-1" in self.signs and text.count("-") == text.count("-1") > 1

    # ---------------------------------------------------------------- what is left

    def _refuse_remains(self, line: str, boards: Sequence[Board]) -> None:
        """Refuses a line on which something like a part of another board is left."""
        used = [(board.at[0], board.at[-1]) for board in boards]
        left = 0
        for word in WORD.finditer(line):
            inside = any(low <= word.start() <= high for low, high in used)
            text = word.group()
            is_like = self.seems_board(text) or (
                len(text) == self.cells and self._share(text) >= 0.75
            )
            if inside or RATING.fullmatch(text) or not is_like:
                continue
            left += len(text)
            if 2 * left >= self.cells:
                wrong = next((i for i, c in enumerate(text) if c not in self.signs), None)
                if wrong is not None:
                    reason = f"{text[wrong]!r} is no sign of this puzzle"
                    raise PuzzleTextError(reason, word.start() + wrong + 1)
                raise PuzzleTextError(
                    f"{left} cells beside the puzzle, where an answer has {self.cells}",
                    word.end() + 1,
                )

    def is_answer(self, board: Board) -> bool:
        """Says whether a board has what answers have, or lacks what puzzles have."""
        if self.form.blank is None:
            return not self.answer_tokens.isdisjoint(board.tokens)
        return self.form.blank not in board.tokens

    def _known(self, character: str) -> bool:
        return character in self.signs or character in " ,;|/\"'[]()\t"

    def _sum(self, text: str) -> int:
        known = sum(character in self.signs for character in text)
        return 2 * known - len(text)

    def _share(self, text: str) -> float:
        signs = sum(c in self.signs or c == self.form.row_end for c in text)
        return signs / max(1, len(text))
