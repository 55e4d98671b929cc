"""Lights Out: press cells so that every light goes out.

A press flips a cell and its neighbours. In text a question is `*` (lit) and `.` (dark), row by row;
an answer is `x` (pressed) and `.`.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pir.errors import PuzzleTextError, UserError
from pir.puzzle import Puzzle, Verdict

DARK, LIT, REST, PRESS = 1, 2, 3, 4


class LightsOut(Puzzle):
    """Lights Out on a square board.

    Args:
        size: rows and columns, 2 to 8.
    """

    vocabulary = ("PAD", ".", "*", ".", "x")

    def __init__(self, size: int = 4) -> None:
        """Notes which cells a press flips."""
        if not 2 <= size <= 8:
            raise UserError(f"env.size={size}: allowed are 2 to 8")
        self.board = (size, size)
        self.slot_mask = torch.zeros(size * size, 5, dtype=torch.bool)
        self.slot_mask[:, [REST, PRESS]] = True
        row, column = np.divmod(np.arange(size * size), size)
        apart = abs(row[:, None] - row) + abs(column[:, None] - column)
        self.flips = torch.from_numpy(apart <= 1)

    def written(self, question: Tensor) -> Tensor:
        """Every cell is written: pressed or not."""
        return torch.ones_like(question, dtype=torch.bool)

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Presses, then counts the dark cells; the score is their share."""
        dark = ~(self._pressed(answer == PRESS) ^ (question == LIT))
        legal = ((answer == REST) | (answer == PRESS)).all(1)
        share = torch.where(legal, dark.sum(1) / self.length, 0.0)
        return Verdict.graded(legal & dark.all(1), share)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks the cells whose light is still on; a board that nobody has answered has none."""
        lit = self._pressed(answer == PRESS) ^ (question == LIT)
        return lit & ((answer == REST) | (answer == PRESS))

    def _pressed(self, presses: Tensor) -> Tensor:
        """Returns which lights some presses (B, L) flip; devices multiply no integer matrices."""
        return (presses[:, None] & self.flips.to(presses.device)).sum(2) % 2 == 1

    def key(self, question: Tensor) -> Tensor:
        """Hashes the board and its mirror images alike."""
        size = math.isqrt(question.shape[1])
        board = (question == LIT).view(-1, size, size)
        images = [board.rot90(turns, (1, 2)) for turns in range(4)]
        images += [image.flip(2) for image in images]
        rng = torch.Generator().manual_seed(1)
        weights = torch.randint(1 << 60, (size * size,), generator=rng)
        weights = weights.to(question.device)
        hashes = torch.stack([(image.flatten(1) * weights).sum(1) for image in images])
        return hashes.amin(0) % (1 << 61)

    def generate(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Presses cells of a dark board at random."""
        presses = torch.from_numpy(rng.integers(2, size=self.length))
        lit = self._pressed(presses[None] == 1)[0]
        return (lit + DARK).to(torch.uint8), (presses + REST).to(torch.uint8)

    def parse(self, text: str) -> Tensor:
        """Reads `*` and `.`."""
        return self._read(text, ".*", DARK)

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads `x` and `.`."""
        return self._read(text, ".x", REST)

    def _read(self, text: str, symbols: str, first: int) -> Tensor:
        for place, symbol in enumerate(text):
            if symbol not in symbols:
                raise PuzzleTextError(f"{symbol!r} is none of {symbols}", place + 1)
        if len(text) != self.length:
            raise PuzzleTextError(f"{len(text)} cells, not {self.length}", len(text) + 1)
        return torch.tensor([symbols.index(s) + first for s in text], dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints `*` and `.`."""
        known = range(DARK, len(self.vocabulary))
        return "".join(self.vocabulary[t] if t in known else "?" for t in question.tolist())

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints `x` and `.`."""
        return self.format_question(answer)
