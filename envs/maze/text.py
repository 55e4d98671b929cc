"""Mazes as text: rows of signs joined by `/`."""

import torch
from pir.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.notation.cell_text import CellText
from pir.puzzle import TextForm

SYMBOLS = "#.SGo"
QUESTION_SIGNS = {WALL: "#\u25881", OPEN: ". _-0", START: "SsA", GOAL: "GgBE"}
"""Signs of a cell in files; the first is ours."""

ANSWER_SIGNS = {PATH: "oO*+"}


def signs_of_cells(height: int, width: int) -> CellText:
    """Returns the signs of a maze's cells in files, and its shape; see `TextForm.cell_text`."""
    return CellText(
        rows=height,
        columns=width,
        signs={sign: token for token, signs in QUESTION_SIGNS.items() for sign in signs},
        answer_signs={sign: token for token, signs in ANSWER_SIGNS.items() for sign in signs},
        once={START: "S", GOAL: "G"},
        row_end="/",
    )


class MazeText(TextForm):
    """The text form of `Maze`, of `height` rows and `width` columns."""

    height: int
    width: int

    def parse(self, text: str) -> Tensor:
        """Reads rows joined by `/`; see `Puzzle.parse`."""
        maze = self._read(text, SYMBOLS[:4])
        for token, name in ((START, "S"), (GOAL, "G")):
            count = int((maze == token).sum())
            if count != 1:
                raise PuzzleTextError(f"{count} cells are {name}; a maze has one", len(text) + 1)
        return maze

    def _read(self, text: str, symbols: str) -> Tensor:
        rows = text.strip().split("/")
        tokens: list[int] = []
        column = 1 + len(text) - len(text.lstrip())
        for row in rows:
            for place, symbol in enumerate(row[: self.width]):
                if symbol not in symbols:
                    raise PuzzleTextError(f"{symbol!r} is none of {symbols}", column + place)
                tokens.append(SYMBOLS.index(symbol) + 1)
            if len(row) != self.width:
                raise PuzzleTextError(
                    f"a row of {len(row)} cells where this maze has {self.width}",
                    column + min(len(row), self.width),
                )
            column += len(row) + 1
        if len(rows) != self.height:
            raise PuzzleTextError(
                f"{len(rows)} rows where this maze has {self.height}", len(text.rstrip()) + 1
            )
        return torch.tensor(tokens, dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints rows joined by `/`; see `Puzzle.format_question`."""
        symbols = [SYMBOLS[t - 1] if 1 <= t <= 5 else "?" for t in question.tolist()]
        rows = range(0, self.length, self.width)
        return "/".join("".join(symbols[row : row + self.width]) for row in rows)

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads the maze with `o` on the path; see `Puzzle.parse_answer`."""
        answer = self._read(text, SYMBOLS).to(question.device)
        changed = torch.where(answer == PATH, OPEN, answer) != question
        if changed.any():
            row, column = divmod(int(changed.int().argmax()), self.width)
            raise PuzzleTextError(
                "the answer is to another maze", row * (self.width + 1) + column + 1
            )
        return answer

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints rows joined by `/`, `o` on the path; see `Puzzle.format_answer`."""
        return self.format_question(answer)
