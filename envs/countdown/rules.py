"""Countdown: combine given numbers with + - * / to reach a target.

Description:
    `3 7 8 = 29` asks for an expression over 3, 7 and 8 with the value 29; `(8 * 3) + 7 - 2` would
    not do, `8 + 7 * 3` does. Every intermediate result is a positive integer, every division exact.

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

import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from typing import Any, Unpack, cast

import numpy as np
import torch
from pir.envs.countdown import kernels
from pir.envs.countdown.expressions import Expression, ExpressionReader
from pir.envs.instance_stream import stream_of
from tensordict import TensorDict
from torch import Tensor

from pir.errors import PuzzleTextError, UserError
from pir.notation.picture import Cell, Picture, Role
from pir.puzzle import PAD, Solutions, Verdict
from pir.puzzle_files.fields import QUESTION_NAMES, as_text, candidates, one_value
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.slices import generate_rows, over_rows

OPERATORS = "+-*/"
MAX_NUMBER = 999
MAX_TARGET = 9999
NO_MOVE = -2


class Countdown(FilePuzzle):
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

    field_names = ("nums", "numbers", "target")
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
        return TensorDict(
            {"question": question, "solution": solution}, batch_size=torch.Size([count])
        )

    def encode(self, numbers: np.ndarray, targets: np.ndarray) -> Tensor:
        """Writes numbers (B, n), descending, and targets (B,) as questions, uint8 (B, L)."""
        question = np.full((len(numbers), self.length), self.blank, np.uint8)
        digits = [
            _to_digits(numbers[:, i], self.base, self.number_digits) for i in range(self.numbers)
        ]
        digits.append(_to_digits(targets, self.base, self.target_digits))
        question[:, : self.answer_start] = np.concatenate(digits, axis=1) + self.first_digit
        return torch.from_numpy(question)

    def decode(self, question: Tensor) -> tuple[Tensor, Tensor]:
        """Reads numbers, int64 (B, n), and targets, int64 (B,), off questions (B, L)."""
        digits = question[:, : self.answer_start].long() - self.first_digit
        split_at = self.numbers * self.number_digits
        grouped = digits[:, :split_at].reshape(len(digits), self.numbers, -1)
        numbers = _from_digits(grouped, self.base)
        return numbers, _from_digits(digits[:, split_at:], self.base)

    def _move_tokens(self, moves: np.ndarray) -> Tensor:
        tokens = np.where(moves == kernels.STOP, self.stop, moves + self.first_move)
        return torch.from_numpy(tokens.astype(np.uint8))

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
        share, solved, _ = self._judge(question, answer)
        return Verdict.graded(solved, share)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks illegal steps, and the last one of a wrong program; see `Puzzle.conflicts`."""
        wrong = torch.zeros_like(question, dtype=torch.bool)
        wrong[:, self.answer_start :] = self._judge(question, answer)[2]
        return wrong

    def _judge(self, question: Tensor, answer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns share, solved and the wrong steps, as `kernels.judge` has them."""
        numbers, targets = (part.cpu().numpy() for part in self.decode(question))
        tokens = answer[:, self.answer_start :].cpu().numpy().astype(np.int64)
        is_move = (tokens >= self.first_move) & (tokens < self.first_digit)
        programs = np.where(is_move, tokens - self.first_move, NO_MOVE)
        programs[tokens == self.stop] = kernels.STOP
        known = np.where(tokens < len(self.vocabulary), tokens, PAD)  # which no step may hold
        allowed = self.slot_mask[self.answer_start :].numpy()
        held = allowed[np.arange(self.numbers - 1), known].all(1)
        share = np.zeros(len(question), np.float32)
        solved = np.zeros(len(question), bool)
        wrong = np.zeros(programs.shape, bool)
        kernels.judge(numbers, targets, programs, self.use_all, self.pairs, share, solved, wrong)
        device = question.device
        kept = ((answer == question) | self.written(question)).all(1)
        kept &= torch.from_numpy(held).to(device)
        return (
            torch.where(kept, torch.from_numpy(share).to(device), 0.0),
            torch.from_numpy(solved).to(device) & kept,
            torch.from_numpy(wrong).to(device),
        )

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

    # ---------------------------------------------------------------- text

    def parse(self, text: str) -> Tensor:
        """Reads `3 7 8 = 29`; see `Puzzle.parse`."""
        tokens = list(re.finditer(r"\d+|=|[^\d\s=]+", text))
        equals = [i for i, token in enumerate(tokens) if token.group() == "="]
        for token in tokens:
            if not (token.group() == "=" or re.fullmatch(r"[0-9]+", token.group())):
                raise PuzzleTextError(f"{token.group()!r} is no number", token.start() + 1)
        if len(equals) != 1 or equals[0] != len(tokens) - 2:
            raise PuzzleTextError(
                "a Countdown puzzle is numbers, one '=' and one target, like `3 7 8 = 29`",
                tokens[equals[1]].start() + 1 if len(equals) > 1 else len(text) + 1,
            )
        given, target = tokens[: equals[0]], tokens[-1]
        if len(given) != self.numbers:
            raise PuzzleTextError(
                f"{len(given)} numbers where this puzzle has {self.numbers}",
                tokens[equals[0]].start() + 1,
            )
        for token in given:
            _check_within(token, "number", self.number_range)
        _check_within(target, "target", self.target_range)
        numbers = np.array([sorted((int(t.group()) for t in given), reverse=True)], np.int64)
        return self.encode(numbers, np.array([int(target.group())]))[0]

    def text_of_fields(self, fields: Mapping[str, Any]) -> str | None:
        """Reads `nums` (or `numbers`) and `target`; see `Puzzle.text_of_fields`.

        A question in one piece beside them gives the one that is missing.
        """
        question = as_text(one_value(fields, candidates(fields.keys(), QUESTION_NAMES)))
        left, _, right = question.partition("=")
        numbers, target = one_value(fields, ("nums", "numbers")), fields.get("target")
        if numbers is None and as_text(target):
            numbers = left.strip() or None
        elif not as_text(target):
            target = right.strip()
        if numbers is None or not as_text(target):
            return None
        listed = " ".join(map(str, numbers)) if isinstance(numbers, list) else as_text(numbers)
        words = re.sub(r"[\[\](),;]", " ", listed).split()
        return f"{' '.join(words)} = {as_text(target).strip()}"

    def format_question(self, question: Tensor) -> str:
        """Prints `8 7 3 = 29`; see `Puzzle.format_question`."""
        numbers, target = self.decode(question[None])
        return f"{' '.join(str(int(v)) for v in numbers[0])} = {int(target[0])}"

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints the program's last result as an infix expression.

        Brackets are left out only where the text reads as the same steps.

        An answer that is no program, such as one not written yet, is printed as `_`.
        """
        numbers, _ = self.decode(question[None])
        nodes = [Expression(str(int(v)), Fraction(int(v)), "") for v in numbers[0]]
        last = None
        for token in answer[self.answer_start :].tolist():
            if token == self.stop and not self.use_all:
                break
            if not self.first_move <= token < self.first_digit:
                return "_"
            pair, operator = divmod(token - self.first_move, 4)
            first, second = self.pairs[pair]
            if second >= len(nodes):
                return "_"
            last = nodes[first].combine(OPERATORS[operator], nodes[second])
            nodes.append(last)
        return last.text if last else "_"

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Draws numbers and target, and below them the steps; see `Puzzle.picture`."""
        numbers, target = self.decode(question[None])
        wrong = self.conflicts(question[None], answer[None])[0, self.answer_start :].tolist()
        values: list[int] = numbers[0].tolist()
        cells = [Cell(x, 0, str(value), "given") for x, value in enumerate(values)]
        cells += [Cell(self.numbers, 0, "=", "blank")]
        cells += [Cell(self.numbers + 1, 0, str(int(target[0])), "given")]
        for step, token in enumerate(answer[self.answer_start :].tolist()):
            words, role = ["", "", "", "", ""], "blank"
            if self.first_move <= token < self.first_digit:
                pair, operator = divmod(token - self.first_move, 4)
                first, second = (int(i) for i in self.pairs[pair])
                if max(first, second) < len(values):
                    high, low = sorted((values[first], values[second]), reverse=True)
                    result = kernels.apply_operator(operator, high, low) if low > 0 else 0
                    values.append(result)
                    words = [str(high), OPERATORS[operator], str(low), "=", str(result or "?")]
                    role = "wrong" if wrong[step] else "answer"
            if role == "blank":
                values.append(0)
            cells += [Cell(x, 1 + step, word, cast(Role, role)) for x, word in enumerate(words)]
        return Picture(tuple(cells))

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads an infix expression over the question's numbers; see `Puzzle.parse_answer`."""
        numbers, _ = self.decode(question[None])
        steps = ExpressionReader(text, [int(v) for v in numbers[0]]).read()
        allowed = range(self.numbers - 1, self.numbers) if self.use_all else range(1, self.numbers)
        if len(steps) not in allowed:
            use = f"all {self.numbers}" if self.use_all else "two or more"
            raise PuzzleTextError(f"this puzzle uses {use} numbers", len(text) + 1)
        index = {(int(i), int(j)): p for p, (i, j) in enumerate(self.pairs)}
        answer = question.clone()
        answer[self.answer_start :] = self.stop
        for step, (first, operator, second) in enumerate(steps):
            pair = index[min(first, second), max(first, second)]
            token = self.first_move + 4 * pair + OPERATORS.index(operator)
            answer[self.answer_start + step] = token
        return answer


def _checked_range(key: str, bounds: tuple[int, int], most: int) -> tuple[int, int]:
    low, high = (int(v) for v in bounds) if len(bounds) == 2 else (0, 0)
    if not 1 <= low <= high <= most:
        raise UserError(
            f"{key}={list(bounds)}: allowed is [low, high] with 1 <= low <= high <= {most}"
        )
    return low, high


def _check_within(token: re.Match[str], what: str, bounds: tuple[int, int]) -> None:
    if not (len(token.group()) <= 6 and bounds[0] <= int(token.group()) <= bounds[1]):
        raise PuzzleTextError(
            f"the {what} {token.group()} is outside {bounds[0]}..{bounds[1]}", token.start() + 1
        )


def _digits_needed(value: int, base: int) -> int:
    return 1 if value < base else 1 + _digits_needed(value // base, base)


def _to_digits(values: np.ndarray, base: int, digits: int) -> np.ndarray:
    return values[:, None] // base ** np.arange(digits - 1, -1, -1) % base


def _from_digits(digits: Tensor, base: int) -> Tensor:
    value = digits[..., 0]
    for place in range(1, digits.shape[-1]):
        value = value * base + digits[..., place]
    return value
