"""Countdown as text: `3 7 8 = 29`, answered by an expression."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from pir.envs.countdown.expressions import Expression, ExpressionReader
from pir.envs.countdown.tokens import OPERATORS, CountdownTokens
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.puzzle import TextForm
from pir.puzzle_files.fields import QUESTION_NAMES, as_text, candidates, one_value


class CountdownText(CountdownTokens, TextForm):
    """The text form of `Countdown`.

    Attributes:
        number_range: smallest and largest number.
        target_range: smallest and largest target.
    """

    field_names = ("nums", "numbers", "target")
    number_range: tuple[int, int]
    target_range: tuple[int, int]

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


def _check_within(token: re.Match[str], what: str, bounds: tuple[int, int]) -> None:
    if not (len(token.group()) <= 6 and bounds[0] <= int(token.group()) <= bounds[1]):
        raise PuzzleTextError(
            f"the {what} {token.group()} is outside {bounds[0]}..{bounds[1]}", token.start() + 1
        )
