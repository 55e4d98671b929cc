"""The contract of a puzzle: one definition serves training, verification, solving and drawing.

The parts in reading order: `Rules` (tokens, verifier, right answers, difficulty), `Source` (where
instances come from, and their splits), `TextForm`, `Drawing` and `Layout` (what a network may know
of the positions). `Puzzle` is all of them; a puzzle is one subclass of it.

Shapes: B puzzles, L tokens each, V tokens in the vocabulary. A *question* and an *answer* are both
uint8 of shape (B, L); the answer repeats the question's tokens wherever the policy does not write.
What a method returns depends on its arguments alone, row by row; it changes none of them, and draws
from no global random state. `pir.laws.checks` states what must hold; `pir check-env` tests it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.layout import Layout
from pir.notation.cell_text import CellText
from pir.notation.picture import ROW, Cell, Picture
from pir.system.slices import end_if_asked

SPLITS = ("train", "val", "test")
KEY_RANGE = 10_000
_SPLIT_OF_KEY = {"test": (0, 1_000), "val": (1_000, 1_500), "train": (1_500, KEY_RANGE)}

PAD = 0
"""The token of an unused position, in every puzzle."""

MAX_ATTEMPTS = 100_000

MOST_UNSOLVED = 0.999
"""The highest score of an answer that is not solved; below 1 in every format of numbers in use."""


def split_range(split: str) -> tuple[int, int]:
    """Returns the half-open range of `key % KEY_RANGE` that belongs to a split.

    A puzzle belongs to a split by its key alone, so no index is stored, endless streams and files
    are split alike, and no symmetry can carry a puzzle over the border.

    Raises:
        UserError: if the split is none of `SPLITS`.
    """
    check_choice("split", split, SPLITS)
    return _SPLIT_OF_KEY[split]


class Verdict(NamedTuple):
    """What the verifier says of a batch of answers; `graded` makes one.

    Attributes:
        score: float32 of shape (B,), in [0, 1]; 1 exactly where solved.
        solved: bool of shape (B,).
    """

    score: Tensor
    solved: Tensor

    @classmethod
    def graded(cls, solved: Tensor, share: Tensor) -> "Verdict":
        """Returns a verdict whose score is 1 where solved, and below 1 elsewhere.

        Devices round quotients differently: on a GPU 243 * (1 / 243) is 0.99999994. So `solved`
        must come from integers or booleans, never from a quotient that ought to be 1. For the same
        reason `share` should be one quotient, with a denominator that depends on the question
        alone: equally good answers then have equal scores on every device.

        Args:
            solved: bool of shape (B,).
            share: shape (B,), at least 0, how good an answer is that is not solved; cut off at
                `MOST_UNSOLVED`.
        """
        return cls(torch.where(solved, 1.0, share.float().clamp(max=MOST_UNSOLVED)), solved)


class Solutions(NamedTuple):
    """The right answers of B questions, at most `limit` each; `counted` makes one.

    Attributes:
        answers: uint8 of shape (B, limit, L); those that are not valid mean nothing.
        valid: bool of shape (B, limit), which of them are right answers; these come first.
        complete: bool of shape (B,), whether all right answers are known to be listed. False where
            the list is full, as there may be more, and where the search was given up.
    """

    answers: Tensor
    valid: Tensor
    complete: Tensor

    @classmethod
    def counted(cls, answers: Tensor, counts: Tensor) -> "Solutions":
        """Returns the lists of which the first `counts` answers are valid.

        Args:
            answers: uint8 of shape (B, limit, L).
            counts: int64 of shape (B,), how many were found, at most `limit`; -1 where the search
                was given up.
        """
        limit = answers.shape[1]
        valid = torch.arange(limit, device=counts.device) < counts[:, None]
        return cls(answers, valid, (counts >= 0) & (counts < limit))

    @property
    def given_up(self) -> Tensor:
        """Where the search was given up, bool of shape (B,)."""
        return ~self.complete & ~self.valid.all(1)


class Rules(ABC):
    """The tokens, what is right, and how hard it is.

    `reveals` and `lists_solutions` are true where a subclass overrides `reveal` and `solutions`;
    one that inherits a method but does not want it used sets them to False.

    Attributes:
        vocabulary: the V token names; token t is printed as `vocabulary[t]`; token 0 is `PAD`.
        slot_mask: bool of shape (L, V), the tokens that each position of an answer may hold where
            the policy writes it; an answer that holds any other token there is wrong.
        unique: whether every sampled puzzle has exactly one answer.
        no_answer: the rule by which a puzzle has no answer, for messages.
        rating_name: what `rating` counts.
    """

    vocabulary: tuple[str, ...]
    slot_mask: Tensor
    unique: bool = False
    no_answer: str = ""
    rating_name: str = "written cells"

    @property
    def length(self) -> int:
        """The number of tokens L of a question and of an answer."""
        return self.slot_mask.shape[0]

    @abstractmethod
    def written(self, question: Tensor) -> Tensor:
        """Returns which positions the policy writes, bool of shape (B, L); the rest is clamped."""

    @abstractmethod
    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Judges answers by the rules of the puzzle alone, never by a label.

        An answer that changes a clamped position, or holds a token that `slot_mask` forbids, is not
        solved. Take `solved` from integers or booleans, and build the verdict by `Verdict.graded`.

        Args:
            question: uint8 of shape (B, L).
            answer: uint8 of shape (B, L), any tokens, also some that are not in the vocabulary.
        """

    def clamp(self, question: Tensor, answer: Tensor) -> Tensor:
        """Returns the answer with every position that is not written taken from the question."""
        return torch.where(self.written(question), answer.to(question.dtype), question)

    @property
    def reveals(self) -> bool:
        """Whether `reveal` may be called."""
        return type(self).reveal is not Rules.reveal

    def reveal(self, question: Tensor, answer: Tensor, positions: Tensor) -> Tensor:
        """Returns questions in which further positions, bool of shape (B, L), are as in an answer.

        Raises:
            NotImplementedError: if `reveals` is False.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot give parts of an answer")

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks the written positions that break a rule, bool of shape (B, L); none if solved.

        By default nothing is marked.
        """
        return torch.zeros_like(question, dtype=torch.bool)

    @property
    def lists_solutions(self) -> bool:
        """Whether `solutions` may be called."""
        return type(self).solutions is not Rules.solutions

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Lists the right answers of every question, in a fixed order, at most `limit` each.

        A question whose search is given up as too hard has an incomplete list; the other questions
        of the batch have theirs.

        Raises:
            NotImplementedError: if `lists_solutions` is False.
        """
        raise NotImplementedError(f"{type(self).__name__} does not list its right answers")

    def rating(self, question: Tensor) -> Tensor:
        """Rates how hard questions are, float32 of shape (B,), in units of `rating_name`."""
        return self.written(question).sum(1).float()

    def solution_order(self, question: Tensor, solution: Tensor) -> Tensor:
        """Ranks the cells of an answer by when a solver would find them, the first at rank 0.

        By default the written positions from left to right, which suits programs and walks.

        Args:
            question: uint8 of shape (B, L).
            solution: uint8 of shape (B, L), right answers.

        Returns:
            int64 of shape (B, L), at least 0; positions of one rank are found together, and the
            ranks of positions that are not written mean nothing.
        """
        written = self.written(question)
        return torch.where(written, written.cumsum(1) - 1, 0)


class Source(Rules):
    """Where instances come from, and to which split each belongs.

    Instances are generated by `generate` or a faster `sample`;
    `pir.puzzle_files.given.FilePuzzle` reads them from a file instead.

    Attributes:
        disjoint_splits: whether no key occurs in two splits; False only for protocols of others
            that leak.
        splits_by_key: whether `key % KEY_RANGE` decides the split (`split_range`), as it should.
    """

    disjoint_splits: bool = True
    splits_by_key: bool = True

    @abstractmethod
    def key(self, question: Tensor) -> Tensor:
        """Returns a hash in [0, 2**62), int64 of shape (B,), equal for symmetric puzzles."""

    def sample(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates the instances `start .. start + count - 1` of a stream.

        Instance i is a pure function of (seed, split, i) and of the puzzle's own settings, whatever
        the batch it is drawn in. While a GPU trains, a second thread calls this, also while other
        methods run. This default draws by `generate` until the key lies in the split.

        Args:
            count: how many, at least 1.
            split: one of `SPLITS`; streams of different splits share no key.
            seed: names the stream.
            start: index of the first instance.

        Returns:
            `question` and `solution` (one right answer, the label), uint8 of shape (count, L).

        Raises:
            UserError: if the settings admit no instance in this split.
        """
        low, high = split_range(split)
        drawn = []
        for index in range(start, start + count):
            rng = np.random.Generator(np.random.Philox(key=[seed, SPLITS.index(split)]))
            rng.bit_generator.advance(index << 64)  # type: ignore[attr-defined]
            for attempt in range(MAX_ATTEMPTS + 1):
                end_if_asked()
                if attempt == MAX_ATTEMPTS:
                    raise UserError(f"{type(self).__name__}: no puzzle found in the {split} split")
                question, solution = self.generate(rng)
                if low <= int(self.key(question[None])[0]) % KEY_RANGE < high:
                    drawn.append((question, solution))
                    break
        questions, solutions = (torch.stack(part) for part in zip(*drawn, strict=True))
        return instances(questions, solutions)

    def generate(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draws one puzzle and one right answer, uint8 of shape (L,) each, from `rng` alone.

        Raises:
            UserError: if the puzzle has neither this nor `sample`.
        """
        raise UserError(f"{type(self).__name__} has neither generate nor sample")

    def size(self, split: str) -> int | None:
        """Returns how many instances a held-out split holds; None for endless ones and training."""
        return None

    def augment(self, puzzles: TensorDict, *, seed: int, start: int = 0) -> TensorDict:
        """Returns a random symmetric image of each puzzle, with its label.

        Image i depends on instance i, `seed` and `start + i` alone; its key is that of the
        instance. Puzzles without symmetries are returned as they are.
        """
        return puzzles


class TextForm(Rules):
    """How questions and answers are read and printed.

    Attributes:
        cell_text: the signs and the shape of the text form, where it is one sign per cell; files
            may then write it in many more ways (docs/puzzles.md). None elsewhere.
        field_names: names of columns or JSON keys that state a puzzle together (`text_of_fields`).
    """

    cell_text: CellText | None = None
    field_names: tuple[str, ...] = ()

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Reads one puzzle from its text form, uint8 of shape (L,).

        Raises:
            PuzzleTextError: if the text is malformed or outside this puzzle's settings.
        """

    def text_of_fields(self, fields: Mapping[str, Any]) -> str | None:
        """Returns the text form of a puzzle that is given by named fields, such as JSON's.

        Args:
            fields: values by name, in lower case; numbers, text or lists.

        Returns:
            None where the fields do not state one; by default always.
        """
        return None

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


class Drawing(Rules, Layout):
    """How answers are drawn."""

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Returns a drawing of an answer of shape (L,) to a question of shape (L,).

        By default the tokens in rows, as `board` has them or else `ROW` in each, conflicts marked.
        """
        across = self.board[1] if self.board else ROW
        written = self.written(question[None])[0].tolist()
        wrong = self.conflicts(question[None], answer[None])[0].tolist()
        names = ("", *self.vocabulary[PAD + 1 :])
        return Picture(
            cells=tuple(
                Cell(
                    x=float(place % across),
                    y=float(place // across),
                    text=names[token] if token < len(names) else "?",
                    role="wrong" if wrong[place] else "answer" if written[place] else "given",
                )
                for place, token in enumerate(answer.tolist())
            )
        )


class Puzzle(Source, TextForm, Drawing):
    """A family of puzzles with fixed length and vocabulary.

    A subclass must give, part by part:

    * `Rules`: `vocabulary`, `slot_mask`, `written`, `verify`;
    * `Source`: `key`, and `generate` or a faster `sample`;
    * `TextForm`: `parse`, `format_question`, `parse_answer`, `format_answer`.

    All else has a default: right answers, difficulty, conflicts, images, a picture, the `Layout`.
    """


def instances(question: Tensor, solution: Tensor) -> TensorDict:
    """Packs questions and labels, uint8 of shape (B, L) each, as `Puzzle.sample` returns them."""
    return TensorDict({"question": question, "solution": solution}, batch_size=question.shape[:1])
