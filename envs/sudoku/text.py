"""Sudoku as text: a grid is n * n characters row by row."""

import torch
from pir.envs.given_cells import first_fault
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.notation.cell_text import DOUBTFUL_ZERO, CellText
from pir.puzzle import TextForm

SYMBOLS = "123456789ABCDEFG"
BLANK = 1
BLANKS = (*".0_*-?xX ", "-1")
"""Signs of a blank in files; the first is ours."""


def signs_of_cells(box: tuple[int, int]) -> CellText:
    """Returns the signs of a grid's cells in files, and its shape; see `TextForm.cell_text`."""
    n = box[0] * box[1]
    digits = {s: v for v in range(1, n + 1) for s in (SYMBOLS[v - 1], str(v))}
    lower = {sign.lower(): value for sign, value in digits.items()}
    return CellText(
        rows=n,
        columns=n,
        signs=dict.fromkeys(BLANKS, BLANK) | {s: v + 1 for s, v in (digits | lower).items()},
        blank=BLANK,
        band=box[0],
        values={value: value + 1 for value in range(n + 1)},
        highest=n + 1,
    )


class SudokuText(TextForm):
    """The text form of `Sudoku`; `n` is the number of rows."""

    n: int

    def parse(self, text: str) -> Tensor:
        """Reads n * n characters; see `Puzzle.parse`."""
        indent = len(text) - len(text.lstrip())
        text = text.strip()
        known = "." + SYMBOLS[: self.n]
        if "." in text and "0" in text and known[-1] not in text.upper():
            raise PuzzleTextError(DOUBTFUL_ZERO, indent + text.index("0") + 1)
        readable = [s.upper() if s.isascii() else s for s in text[: self.length].replace("0", ".")]
        for place, symbol in enumerate(readable):
            if symbol not in known:
                raise PuzzleTextError(
                    f"{text[place]!r} is neither . nor one of 1 to {known[-1]}", indent + place + 1
                )
        if len(text) != self.length:
            raise PuzzleTextError(
                f"{len(text)} characters where a grid has {self.length}",
                indent + min(len(text), self.length) + 1,
            )
        return torch.tensor([known.index(symbol) + 1 for symbol in readable], dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints n * n characters, `.` for a blank; see `Puzzle.format_question`."""
        return "".join("." if t == BLANK else self._symbol(t) for t in question.tolist())

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads a full grid that keeps the clues; see `Puzzle.parse_answer`."""
        answer = self.parse(text).to(question.device)
        fault = first_fault(question, answer, self.written(question[None])[0], BLANK)
        if fault:
            place, changed = fault
            raise PuzzleTextError("a clue is changed" if changed else "a cell is blank", place + 1)
        return answer

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints n * n characters; see `Puzzle.format_answer`."""
        return self.format_question(answer)

    def _symbol(self, token: int) -> str:
        return self.vocabulary[token] if 2 <= token < self.n + 2 else "?"
