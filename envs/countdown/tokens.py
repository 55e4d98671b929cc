"""The layout of Countdown's tokens: reading and writing it; `rules` shows an example."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from pir.puzzle import Rules

OPERATORS = "+-*/"


class CountdownTokens(Rules):
    """Questions as numbers and a target, and back.

    Attributes:
        numbers: how many numbers n.
        use_all: whether every number must be used.
        pairs: int64 of shape (P, 2), the registers that a step may combine.
        base: base of the digits.
        number_digits: digits of a number.
        target_digits: digits of the target.
        blank: token of a step that is not written yet.
        stop: token that ends a program.
        first_move: first token of a step, 4 * pair + operator.
        first_digit: token of the digit 0.
        answer_start: first position of the program.
    """

    numbers: int
    use_all: bool
    pairs: np.ndarray
    base: int
    number_digits: int
    target_digits: int
    blank: int
    stop: int
    first_move: int
    first_digit: int
    answer_start: int

    def encode(self, numbers: np.ndarray, targets: np.ndarray) -> Tensor:
        """Writes numbers (B, n), descending, and targets (B,) as questions, uint8 (B, L)."""
        question = np.full((len(numbers), self.length), self.blank, np.uint8)
        digits = [
            _to_digits(numbers[:, i], self.base, self.number_digits) for i in range(self.numbers)
        ]
        digits.append(_to_digits(targets, self.base, self.target_digits))
        question[:, : self.answer_start] = np.concatenate(digits, axis=1) + self.first_digit
        return torch.from_numpy(question)

    @abstractmethod
    def decode(self, question: Tensor) -> tuple[Tensor, Tensor]:
        """Reads numbers, int64 (B, n), and targets, int64 (B,), off questions (B, L)."""


def _to_digits(values: np.ndarray, base: int, digits: int) -> np.ndarray:
    return values[:, None] // base ** np.arange(digits - 1, -1, -1) % base
