"""N-Queens' picture: a chess board."""

from pir.envs.queens.text import FIRST_COLUMN
from torch import Tensor

from pir.notation.picture import Cell, Picture, Role
from pir.puzzle import Drawing


class QueensPicture(Drawing):
    """The picture of `Queens` on n x n squares."""

    n: int

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Draws a chess board; see `Puzzle.picture`."""
        given = (~self.written(question[None])[0]).tolist()
        wrong = self.conflicts(question[None], answer[None])[0].tolist()
        cells = []
        for row, token in enumerate(answer.tolist()):
            for column in range(self.n):
                role: Role = "dark" if (row + column) % 2 else "light"
                queen = token == column + FIRST_COLUMN
                if queen:
                    role = "wrong" if wrong[row] else "given" if given[row] else "answer"
                cells.append(Cell(column, row, "Q" if queen else "", role))
        return Picture(tuple(cells))
