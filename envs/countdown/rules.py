"""Countdown: combine given numbers with + - * / to reach a target.

Description:
    `3 7 8 = 29` asks for an expression over 3, 7 and 8 with the value 29; `(8 * 3) + 7 - 2` would
    not do, `8 + 7 * 3` does. Every intermediate result is a positive integer, every division exact.
    Where numbers may be left out, steps whose result is not used do not count.

Layout (three-address code, one token per step):
    The answer is a program of n - 1 steps on registers. R0 .. R(n-1) hold the numbers in descending
    order, step s writes R(n+s), and one token names a whole step: two registers and an operator.
    Subtraction and division take the larger operand first, so every program has one spelling.
    A question holds the numbers and the target as digits of base `Countdown.base`, then blanks:

        n = 3, `3 7 8 = 29`:  8 7 3 29 _ _   ->   8 7 3 29 R1*R2 R0+R3

    Three-address code spelled out digit by digit takes 27 tokens for n = 3; this takes 6. Operands
    and operator of a step cannot disagree, and a policy that is factorised over tokens is
    factorised over the steps of the program.

    Where numbers may be left out, a stop ends the program. Steps behind it are not run, but hold
    tokens of steps too.

Score:
    1 if solved; else 0.2 + 0.6 * closeness for a legal program, closeness = max(0, 1 - |v - t| / t)
    for its value v and the target t; 0 for an illegal one.
"""

from itertools import combinations
from typing import Unpack

import numpy as np
import torch
from pir.envs.countdown import kernels
from pir.envs.countdown.picture import CountdownPicture
from pir.envs.countdown.text import CountdownText
from pir.envs.countdown.tokens import OPERATORS
from pir.envs.countdown.verifier import Judgement, judge
from pir.envs.instance_stream import stream_of
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_pairs
from pir.errors import UserError
from pir.puzzle import PAD, Solutions, Verdict, instances
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.device import Table
from pir.system.slices import generate_rows, over_rows

MAX_NUMBER = 999
MAX_TARGET = 9999
NO_MOVE = -2


class Countdown(CountdownText, CountdownPicture, FilePuzzle):
    """Countdown with n numbers.

    Args:
        numbers: how many numbers n, 3 to 6.
        number_range: smallest and largest number, within 1..999.
        target_range: smallest and largest target, within 1..9999.
        use_all: whether every number must be used; otherwise any two or more.
        file: a file of puzzles and how it is used; see `FileSettings`.

    Raises:
        UserError: if a setting is out of range.
    """

    no_answer = "every division must be exact and every step positive (no fractions)"

    def __init__(
        self,
        numbers: int = 3,
        number_range: tuple[int, int] = (1, 25),
        target_range: tuple[int, int] = (10, 100),
        use_all: bool = True,
        **file: Unpack[FileSettings],
    ) -> None:
        """Builds the vocabulary and the tables of moves."""
        super().__init__(**file)
        check_pairs("env", number_range=number_range, target_range=target_range)
        if not 3 <= numbers <= 6:
            raise UserError(f"env.numbers={numbers}: allowed are 3 to 6")
        self.numbers, self.use_all = numbers, use_all
        self.number_range = _checked_range("env.number_range", number_range, MAX_NUMBER)
        self.target_range = _checked_range("env.target_range", target_range, MAX_TARGET)

        n = numbers
        self.pairs = np.array(list(combinations(range(2 * n - 2), 2)), dtype=np.int64)
        moves = [f"R{i}{op}R{j}" for i, j in self.pairs for op in OPERATORS]
        self.base = 128 if n < 6 else 64
        self.vocabulary = ("PAD", "_", "STOP", *moves, *(str(d) for d in range(self.base)))
        self.blank, self.stop, self.first_move = 1, 2, 3
        self.first_digit = self.first_move + len(moves)

        self.number_digits = _digits_needed(self.number_range[1], self.base)
        self.target_digits = _digits_needed(self.target_range[1], self.base)
        self.answer_start = n * self.number_digits + self.target_digits
        self.slot_mask = self._build_slot_mask()
        self._allowed = Table(self.slot_mask[self.answer_start :])
        self._pairs = Table(torch.from_numpy(self.pairs))
        self.token_values = torch.full((len(self.vocabulary),), torch.nan)
        self.token_values[self.first_digit :] = torch.arange(self.base).float()

    def _build_slot_mask(self) -> Tensor:
        length = self.answer_start + self.numbers - 1
        mask = torch.zeros(length, len(self.vocabulary), dtype=torch.bool)
        mask[: self.answer_start, self.first_digit :] = True
        for step in range(self.numbers - 1):
            slot = mask[self.answer_start + step]
            newest = self.numbers + step - 1
            for index, (_, second) in enumerate(self.pairs):
                # The last step of a program that uses every number must read the step before it.
                is_last = self.use_all and step == self.numbers - 2
                if second == newest if is_last else second <= newest:
                    slot[self.first_move + 4 * index : self.first_move + 4 * index + 4] = True
            slot[self.stop] = step > 0 and not self.use_all
        return mask

    # ---------------------------------------------------------------- instances

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates instances; see `Puzzle.sample`.

        Numbers are uniform, the target is the result of random legal play, and instances are
        redrawn until the numbers' key lies in the split and the target in its range. The label is
        the first program in search order.

        Raises:
            UserError: if the settings admit no instance in this split.
        """
        numbers = np.zeros((count, self.numbers), np.int64)
        targets = np.zeros(count, np.int64)
        moves = np.zeros((count, self.numbers - 1), np.int64)
        found = generate_rows(
            kernels.generate,
            stream_of(split, seed, start, kernels.MAX_ATTEMPTS),
            self.number_range,
            self.target_range,
            self.use_all,
            self.pairs,
            numbers,
            targets,
            moves,
        )
        if not found:
            raise UserError(
                f"no Countdown puzzle found in the {split} split with env.numbers={self.numbers}, "
                f"env.number_range={list(self.number_range)}, "
                f"env.target_range={list(self.target_range)}; widen a range"
            )
        question = self.encode(numbers, targets)
        solution = question.clone()
        solution[:, self.answer_start :] = self._move_tokens(moves)
        return instances(question, solution)

    def _move_tokens(self, moves: np.ndarray) -> Tensor:
        tokens = np.where(moves == kernels.STOP, self.stop, moves + self.first_move)
        return torch.from_numpy(tokens.astype(np.uint8))

    def decode(self, question: Tensor) -> tuple[Tensor, Tensor]:
        """Reads numbers, int64 (B, n), and targets, int64 (B,), off questions (B, L)."""
        digits = question[:, : self.answer_start].long() - self.first_digit
        split_at = self.numbers * self.number_digits
        grouped = digits[:, :split_at].reshape(-1, self.numbers, self.number_digits)
        numbers = _from_digits(grouped, self.base)
        return numbers, _from_digits(digits[:, split_at:], self.base)

    def written(self, question: Tensor) -> Tensor:
        """Returns the positions of the program; see `Puzzle.written`."""
        position = torch.arange(self.length, device=question.device)
        return (position >= self.answer_start).expand(question.shape)

    def key(self, question: Tensor) -> Tensor:
        """Hashes the multiset of numbers, so that no number set is shared between splits."""
        numbers = self.decode(question)[0].cpu().numpy()
        keys = [kernels.number_key(row) for row in numbers]
        return torch.tensor(keys, dtype=torch.int64, device=question.device)

    # ---------------------------------------------------------------- rules

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Runs every program in exact integer arithmetic; see `Puzzle.verify`."""
        found = self._judge(question, answer)
        return Verdict.graded(found.solved, found.share)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks illegal steps, and the last one of a wrong program; see `Puzzle.conflicts`."""
        wrong = torch.zeros_like(question, dtype=torch.bool)
        wrong[:, self.answer_start :] = self._judge(question, answer).wrong
        return wrong

    def _judge(self, question: Tensor, answer: Tensor) -> Judgement:
        """Runs programs; nothing else may be changed, and only steps' tokens may stand in steps."""
        numbers, targets = self.decode(question)
        tokens, allowed = answer[:, self.answer_start :].long(), self._allowed.on(answer.device)
        is_move = (tokens >= self.first_move) & (tokens < self.first_digit)
        programs = torch.where(is_move, tokens - self.first_move, NO_MOVE)
        programs = torch.where(tokens == self.stop, kernels.STOP, programs)
        pairs = self._pairs.on(answer.device)
        found = judge(numbers, targets, programs, self.use_all, pairs)
        known = torch.where(tokens < allowed.shape[1], tokens, PAD)  # which no step may hold
        kept = allowed[torch.arange(len(allowed), device=answer.device), known].all(1)
        kept &= ((answer == question) | self.written(question)).all(1)
        return Judgement(torch.where(kept, found.share, 0.0), found.solved & kept, found.wrong)

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Enumerates right programs in search order; see `Puzzle.solutions`.

        Every register is used once; where two numbers are equal, programs that use the register of
        one of them twice read the same in text and are right too, but are not listed; a list
        without them counts as complete.
        """
        numbers, targets = (part.cpu().numpy() for part in self.decode(question))
        found = np.zeros((len(numbers), limit, self.numbers - 1), np.int64)
        counts = np.zeros(len(numbers), np.int64)
        rules = self.use_all, self.pairs
        over_rows(
            len(numbers),
            lambda r: kernels.enumerate_programs(
                numbers[r], targets[r], *rules, found[r], counts[r]
            ),
        )
        answers = question[:, None, :].repeat(1, limit, 1)
        answers[:, :, self.answer_start :] = self._move_tokens(found).to(question.device)
        return Solutions.counted(answers, torch.from_numpy(counts).to(question.device))


def _checked_range(key: str, bounds: tuple[int, int], most: int) -> tuple[int, int]:
    low, high = (int(v) for v in bounds)
    if not 1 <= low <= high <= most:
        raise UserError(
            f"{key}={list(bounds)}: allowed is [low, high] with 1 <= low <= high <= {most}"
        )
    return low, high


def _digits_needed(value: int, base: int) -> int:
    return 1 if value < base else 1 + _digits_needed(value // base, base)


def _from_digits(digits: Tensor, base: int) -> Tensor:
    value = digits[..., 0]
    for place in range(1, digits.shape[-1]):
        value = value * base + digits[..., place]
    return value
