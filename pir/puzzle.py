"""The contract of a puzzle: one definition serves training, verification, solving and drawing.

Shapes: B puzzles, L tokens each, V tokens in the vocabulary. A *question* and an *answer* are both
uint8 of shape (B, L); the answer repeats the question's tokens wherever the policy does not write.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

SPLITS = ("train", "val", "test")
KEY_RANGE = 10_000
_SPLIT_OF_KEY = {"test": (0, 1_000), "val": (1_000, 1_500), "train": (1_500, KEY_RANGE)}

PAD = 0
"""The token of an unused position, in every puzzle."""


def split_range(split: str) -> tuple[int, int]:
    """Returns the half-open range of `key % KEY_RANGE` that belongs to a split.

    A puzzle belongs to a split by its key alone, so no index is stored, endless streams and files
    are split alike, and no symmetry can carry a puzzle over the border.

    Raises:
        ValueError: if the split is none of `SPLITS`.
    """
    if split not in _SPLIT_OF_KEY:
        raise ValueError(f"split {split!r} is unknown; allowed: {', '.join(SPLITS)}")
    return _SPLIT_OF_KEY[split]


class Verdict(NamedTuple):
    """What the verifier says of a batch of answers.

    Attributes:
        score: float32 of shape (B,), in [0, 1]; 1 exactly where solved.
        solved: bool of shape (B,).
    """

    score: Tensor
    solved: Tensor


class Puzzle(ABC):
    """A family of puzzles with fixed length and vocabulary.

    Attributes:
        vocabulary: the V token names; token t is printed as `vocabulary[t]`.
        slot_mask: bool of shape (L, V), the tokens that each position of an answer may hold.
    """

    vocabulary: tuple[str, ...]
    slot_mask: Tensor

    @property
    def length(self) -> int:
        """The number of tokens L of a question and of an answer."""
        return self.slot_mask.shape[0]

    @abstractmethod
    def sample(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates the instances `start .. start + count - 1` of a stream.

        Instance i is a pure function of (seed, split, i) and of the puzzle's own settings, whatever
        the batch it is drawn in.

        Args:
            count: how many, at least 1.
            split: one of `SPLITS`; streams of different splits share no key.
            seed: names the stream.
            start: index of the first instance.

        Returns:
            `question` and `solution` (one right answer, the label), uint8 of shape (count, L).
        """

    @abstractmethod
    def written(self, question: Tensor) -> Tensor:
        """Returns which positions the policy writes, bool of shape (B, L); the rest is clamped."""

    @abstractmethod
    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Judges answers by the rules of the puzzle alone, never by a label.

        Args:
            question: uint8 of shape (B, L).
            answer: uint8 of shape (B, L).
        """

    @abstractmethod
    def key(self, question: Tensor) -> Tensor:
        """Returns a hash in [0, 2**62), int64 of shape (B,), equal for symmetric puzzles."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Reads one puzzle from its text form, uint8 of shape (L,).

        Raises:
            PuzzleTextError: if the text is malformed or outside this puzzle's settings.
        """

    @abstractmethod
    def format_question(self, question: Tensor) -> str:
        """Prints a question of shape (L,); `parse` reads it back."""

    @abstractmethod
    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads an answer to a question from its text form, uint8 of shape (L,).

        Raises:
            PuzzleTextError: if the text is malformed or cannot answer this question.
        """

    @abstractmethod
    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints an answer of shape (L,); answers that break the rules are printed as they are."""

    @abstractmethod
    def solvable(self, question: Tensor) -> bool:
        """Says by exhaustive search whether a question of shape (L,) has an answer."""

    def solutions(self, question: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Enumerates the right answers of every question, in a fixed order, at most `limit` each.

        Returns:
            answers, uint8 of shape (B, limit, L), and their validity, bool of shape (B, limit).

        Raises:
            NotImplementedError: if this puzzle does not enumerate its answers.
        """
        raise NotImplementedError(f"{type(self).__name__} does not enumerate its solutions")

    def clamp(self, question: Tensor, answer: Tensor) -> Tensor:
        """Returns the answer with every position that is not written taken from the question."""
        return torch.where(self.written(question), answer.to(question.dtype), question)
