"""Latin squares: fill a square so that every row and every column holds each number once.

The cells that are given are clamped: only the blank ones are written. In text a question is its
cells row by row, `.` for a blank one; an answer is the same without blanks.
"""

import numpy as np
import torch
from torch import Tensor

from pir.errors import PuzzleTextError, UserError
from pir.notation.cell_text import CellText
from pir.puzzle import Puzzle, Verdict

BLANK, FIRST = 1, 2
"""Token of a blank cell, and of the number 1."""


class LatinSquare(Puzzle):
    """Latin squares with some cells given.

    Args:
        size: rows, columns and numbers, 3 to 9.
        blanks: the least and the most cells that are left blank, up to all but one.
    """

    def __init__(self, size: int = 5, blanks: tuple[int, int] = (8, 16)) -> None:
        """Names the tokens, and says which a cell may hold."""
        if not 3 <= size <= 9:
            raise UserError(f"env.size={size}: allowed are 3 to 9")
        if not 1 <= blanks[0] <= blanks[1] < size * size:
            raise UserError(f"env.blanks={list(blanks)}: allowed are 1 to {size * size - 1}")
        self.blanks, self.board = blanks, (size, size)
        self.vocabulary = ("PAD", ".", *map(str, range(1, size + 1)))
        signs = {sign: token for token, sign in enumerate(self.vocabulary) if token >= BLANK}
        self.cell_text = CellText(size, size, signs, blank=BLANK)
        self.slot_mask = torch.zeros(size * size, len(self.vocabulary), dtype=torch.bool)
        self.slot_mask[:, FIRST:] = True
        row, column = np.divmod(np.arange(size * size), size)
        meet = (row[:, None] == row) | (column[:, None] == column)
        self.meet = torch.from_numpy(meet & ~np.eye(size * size, dtype=bool))

    def written(self, question: Tensor) -> Tensor:
        """The blank cells are written; the others stay as they are given."""
        return question == BLANK

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Counts the cells that are a number, meet no equal one, and are as given."""
        right = self._are_numbers(answer) & ~self._repeated(answer)
        right &= self.written(question) | (answer == question)
        return Verdict.graded(right.all(1), right.sum(1) / self.length)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks written numbers that meet an equal one; a blank cell is not wrong yet."""
        return self.written(question) & self._are_numbers(answer) & self._repeated(answer)

    def _are_numbers(self, answer: Tensor) -> Tensor:
        return (answer >= FIRST) & (answer < len(self.vocabulary))

    def _repeated(self, answer: Tensor) -> Tensor:
        """Says which cells meet an equal one in their row or column: bool (B, L)."""
        equal = answer[:, :, None] == answer[:, None]
        return (equal & self.meet.to(answer.device)).any(2)

    def key(self, question: Tensor) -> Tensor:
        """Hashes the cells; without `augment` a puzzle is symmetric to none but itself."""
        rng = torch.Generator().manual_seed(1)
        weights = torch.randint(1 << 56, (self.length,), generator=rng).to(question.device)
        return (question * weights).sum(1) % (1 << 61)

    def generate(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Shuffles rows, columns and numbers of a square, and blanks some of its cells."""
        size = self.board[0]
        row, column, number = (rng.permutation(size) for _ in range(3))
        square = number[(row[:, None] + column) % size].ravel() + FIRST
        count = rng.integers(self.blanks[0], self.blanks[1] + 1)
        blank = rng.permutation(self.length) < count
        question = np.where(blank, BLANK, square)
        return torch.from_numpy(question).to(torch.uint8), torch.from_numpy(square).to(torch.uint8)

    def parse(self, text: str) -> Tensor:
        """Reads numbers and `.`."""
        return self._read(text, self.vocabulary[BLANK:])

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads numbers."""
        return self._read(text, self.vocabulary[FIRST:])

    def _read(self, text: str, symbols: tuple[str, ...]) -> Tensor:
        for place, symbol in enumerate(text):
            if symbol not in symbols:
                raise PuzzleTextError(f"{symbol!r} is none of {''.join(symbols)}", place + 1)
        if len(text) != self.length:
            raise PuzzleTextError(f"{len(text)} cells, not {self.length}", len(text) + 1)
        return torch.tensor([self.vocabulary.index(s) for s in text], dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints numbers and `.`."""
        known = range(BLANK, len(self.vocabulary))
        return "".join(self.vocabulary[t] if t in known else "?" for t in question.tolist())

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints numbers."""
        return self.format_question(answer)
