"""Countdown's picture: numbers and target, and below them the steps."""

from typing import cast

from pir.envs.countdown import kernels
from pir.envs.countdown.tokens import OPERATORS, CountdownTokens
from torch import Tensor

from pir.notation.picture import Cell, Picture, Role
from pir.puzzle import Drawing


class CountdownPicture(CountdownTokens, Drawing):
    """The picture of `Countdown`."""

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
