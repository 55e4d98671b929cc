"""N-Queens as text: a board is n comma-separated columns, row by row."""

import torch
from pir.envs.given_cells import first_fault
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.notation.cell_text import CellText
from pir.puzzle import TextForm

BLANK, FIRST_COLUMN = 1, 2
BLANKS = (*"._*-?xX", "-1")
"""Signs of a hidden queen in files; the first is ours."""


def signs_of_cells(n: int) -> CellText:
    """Returns the signs of a board's rows in files; see `TextForm.cell_text`."""
    columns = {column: column + FIRST_COLUMN for column in range(n)}
    return CellText(
        rows=1,
        columns=n,
        signs=dict.fromkeys(BLANKS, BLANK) | {str(c): token for c, token in columns.items()},
        blank=BLANK,
        values={-1: BLANK} | columns,
    )


class QueensText(TextForm):
    """The text form of `Queens` on n x n squares."""

    n: int

    def parse(self, text: str) -> Tensor:
        """Reads n comma-separated columns, `.` where hidden; see `Puzzle.parse`."""
        tokens, column = [], 1
        for field in text.split(","):
            word = field.strip()
            place = column + len(field) - len(field.lstrip())
            if word == ".":
                tokens.append(BLANK)
            elif word in self.vocabulary[FIRST_COLUMN:]:
                tokens.append(FIRST_COLUMN + int(word))
            else:
                raise PuzzleTextError(f"{word!r} is neither . nor one of 0 to {self.n - 1}", place)
            column += len(field) + 1
        if len(tokens) != self.n:
            raise PuzzleTextError(
                f"{len(tokens)} rows where this board has {self.n}", len(text) + 1
            )
        return torch.tensor(tokens, dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints n comma-separated columns; see `Puzzle.format_question`."""
        known = range(BLANK, self.n + FIRST_COLUMN)
        return ",".join(self.vocabulary[t] if t in known else "?" for t in question.tolist())

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads a full board that keeps the given queens; see `Puzzle.parse_answer`."""
        answer = self.parse(text).to(question.device)
        fault = first_fault(question, answer, self.written(question[None])[0], BLANK)
        if fault:
            row, changed = fault
            what = "is changed" if changed else "is missing"
            column = len(",".join(text.split(",")[:row])) + 1 + (row > 0)
            raise PuzzleTextError(f"the queen of row {row + 1} {what}", column)
        return answer

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints n comma-separated columns; see `Puzzle.format_answer`."""
        return self.format_question(answer)
