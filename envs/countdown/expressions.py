"""Infix expressions over registers: printing them, and reading them without Python's evaluator."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn

from pir.errors import PuzzleTextError

MAX_BRACKETS = 50


class Expression:
    """An expression as text, for printing.

    Args:
        text: how it is printed.
        value: its value, None where it divides by zero.
        binds: the operator at its root, empty for a number.
    """

    def __init__(self, text: str, value: Fraction | None, binds: str) -> None:
        """Keeps the parts."""
        self.text, self.value, self.binds = text, value, binds

    def combine(self, operator: str, other: "Expression") -> "Expression":
        """Returns the expression of one more step; the larger operand is printed first."""
        left, right = self, other
        known = left.value is not None and right.value is not None
        if known and left.value < right.value:  # type: ignore[operator]
            left, right = right, left
        loose = "+-" if operator in "*/" else ""
        left_text = f"({left.text})" if left.binds and left.binds in loose else left.text
        # Without these brackets another reading could turn an illegal step legal: a * (b / c * d).
        tight = "+-*/" if operator in "*/" else "+-"
        right_text = f"({right.text})" if right.binds and right.binds in tight else right.text
        return Expression(
            f"{left_text} {operator} {right_text}",
            evaluate(operator, left.value, right.value),
            operator,
        )


class ExpressionReader:
    """Recursive descent over an infix expression of positive integers.

    Args:
        text: the expression.
        numbers: the numbers that may be used once each; they lie in the first registers.
    """

    def __init__(self, text: str, numbers: list[int]) -> None:
        """Splits the text into tokens."""
        self.text = text
        self.tokens = list(re.finditer(r"[0-9]+|\S", text))
        self.position = self.open_brackets = 0
        self.numbers = numbers
        self.free = list(range(len(numbers)))
        self.values: dict[int, int] = dict(enumerate(numbers))
        self.steps: list[tuple[int, str, int]] = []

    def read(self) -> list[tuple[int, str, int]]:
        """Returns three-address steps (register, operator, register), each into a new register.

        Raises:
            PuzzleTextError: if the text is malformed or breaks a rule.
        """
        self._sum()
        if self.position < len(self.tokens):
            self._fail(f"unexpected {self.tokens[self.position].group()!r}")
        return self.steps

    def _peek(self) -> str:
        return self.tokens[self.position].group() if self.position < len(self.tokens) else ""

    def _fail(self, message: str) -> NoReturn:
        at_end = self.position >= len(self.tokens)
        column = len(self.text) if at_end else self.tokens[self.position].start()
        raise PuzzleTextError(message, column + 1)

    def _sum(self) -> int:
        register = self._product()
        while self._peek() in ("+", "-"):
            register = self._step(register, self._product)
        return register

    def _product(self) -> int:
        register = self._operand()
        while self._peek() in ("*", "/"):
            register = self._step(register, self._operand)
        return register

    def _step(self, left: int, read_right: Callable[[], int]) -> int:
        operator = self._peek()
        at = self.position
        self.position += 1
        right = read_right()
        value = evaluate(operator, Fraction(self.values[left]), Fraction(self.values[right]))
        if value is None or value.denominator != 1 or value <= 0:
            self.position = at
            self._fail(f"the result of this {operator!r} is no positive integer")
        register = len(self.numbers) + len(self.steps)
        self.steps.append((left, operator, right))
        self.values[register] = int(value)
        return register

    def _operand(self) -> int:
        token = self._peek()
        if token == "(":
            self.open_brackets += 1
            if self.open_brackets > MAX_BRACKETS:
                self._fail(f"more than {MAX_BRACKETS} brackets")
            self.position += 1
            register = self._sum()
            if self._peek() != ")":
                self._fail("a bracket is not closed")
            self.position += 1
            return register
        if not re.fullmatch("[0-9]+", token):
            self._fail(f"a number or '(' is missing before {token!r}" if token else "it ends early")
        for register in self.free:
            if str(self.numbers[register]) == token.lstrip("0"):
                self.free.remove(register)
                self.position += 1
                return register
        self._fail(f"{token[:20]} is not among the numbers left")


def evaluate(operator: str, left: Fraction | None, right: Fraction | None) -> Fraction | None:
    """Returns the exact result of one operation, None where it does not exist."""
    if left is None or right is None or (operator == "/" and right == 0):
        return None
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right
