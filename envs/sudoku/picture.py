"""Sudoku's picture."""

from pir.envs.sudoku.text import BLANK, SudokuText
from torch import Tensor

from pir.notation.picture import Cell, Picture, Role, Stroke
from pir.puzzle import Drawing


class SudokuPicture(SudokuText, Drawing):
    """The picture of `Sudoku`; `box` has the rows and columns of a box."""

    box: tuple[int, int]

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Draws the grid with its boxes; see `Puzzle.picture`."""
        given = (~self.written(question[None])[0]).tolist()
        wrong = self.conflicts(question[None], answer[None])[0].tolist()
        cells = []
        for place, token in enumerate(answer.tolist()):
            row, column = divmod(place, self.n)
            text = "" if token == BLANK else self._symbol(token)
            role: Role = "given" if given[place] else "answer" if text else "blank"
            cells.append(Cell(column, row, text, "wrong" if wrong[place] else role))
        strokes = [
            Stroke(*ends, bold=line % size == 0)
            for line in range(self.n + 1)
            for size, ends in (
                (self.box[0], (0, line, self.n, line)),
                (self.box[1], (line, 0, line, self.n)),
            )
        ]
        return Picture(tuple(cells), tuple(strokes))
