"""The maze's picture."""

from pir.envs.maze.tokens import GOAL, PATH, START, WALL
from torch import Tensor

from pir.notation.picture import Cell, Picture, Role
from pir.puzzle import Drawing


class MazePicture(Drawing):
    """The picture of `Maze`, of `width` columns."""

    width: int

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Draws walls, start, goal and the marked cells; see `Puzzle.picture`."""
        wrong = self.conflicts(question[None], answer[None])[0].tolist()
        cells = []
        for place, token in enumerate(answer.tolist()):
            row, column = divmod(place, self.width)
            role: Role = "blank"
            if token == WALL:
                role = "wall"
            elif token in (START, GOAL):
                role = "given"
            elif token == PATH:
                role = "wrong" if wrong[place] else "answer"
            cells.append(Cell(column, row, {START: "S", GOAL: "G", PATH: "o"}.get(token, ""), role))
        return Picture(tuple(cells))
