"""Maze: mark a shortest path from the start to the goal.

Description:
    height x width cells, walls and open ones; steps go to the four neighbours. In text the rows are
    joined by `/`: `#` wall, `.` open, `S` start, `G` goal, and in answers `o` on the path. Every
    shortest path is right.

Layouts:
    rooms: odd cells are rooms, joined to a random spanning tree (depth-first search), with a share
        `loops` of the other doors opened; start and goal are rooms.
    walls: every cell is a wall by chance, start and goal far apart; 30 x 30 with density 0.37 and
        paths of at least 109 steps resembles the Maze-Hard benchmark (arXiv:2506.21734, section 3).

Layout of tokens:
    One per cell, L = height * width: 1 wall, 2 open, 3 start, 4 goal, 5 path, as in Maze-Hard. The
    label is the first shortest path in the order south, west, east, north, Maze-Hard's convention.

Score:
    1 if solved; else at most 0.99, right path cells / (steps - 1 + superfluous ones); a marked cell
    is right if it lies on a shortest path and is alone in its distance from the goal.
"""

from functools import cached_property
from typing import Literal, Unpack

import numpy as np
import torch
from pir.envs.instance_stream import stream_of
from pir.envs.maze import generator_kernels as generator
from pir.envs.maze import kernels, symmetry
from pir.envs.maze.picture import MazePicture
from pir.envs.maze.text import MazeText, signs_of_cells
from pir.envs.maze.tokens import OPEN, PATH
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.puzzle import Solutions, Verdict, instances
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.slices import generate_rows, over_rows

REACH = 3


class Maze(MazeText, MazePicture, FilePuzzle):
    """Mazes of any size up to 64 x 64, generated or from a file.

    Args:
        height: rows of cells, 3 to 64; odd for rooms.
        width: cells in a row, 3 to 64; odd for rooms.
        layout: "rooms" or "walls".
        loops: share of the doors beside the spanning tree that are opened, 0 for perfect mazes.
        wall_density: share of walls, for walls.
        min_path: fewest steps from start to goal.
        file: a file of mazes and how it is used; see `FileSettings`.

    Raises:
        UserError: if a setting is out of range.
    """

    rating_name = "steps"
    no_answer = "no way leads from S to G"

    def __init__(
        self,
        height: int = 11,
        width: int = 11,
        layout: Literal["rooms", "walls"] = "rooms",
        loops: float = 0.1,
        wall_density: float = 0.37,
        min_path: int = 2,
        **file: Unpack[FileSettings],
    ) -> None:
        """Builds the tables of neighbours."""
        super().__init__(**file)
        puzzles = self.puzzles
        for name, size in (("height", height), ("width", width)):
            if not 3 <= size <= 64 or (layout == "rooms" and puzzles is None and size % 2 == 0):
                odd = ", odd for rooms" if layout == "rooms" else ""
                raise UserError(f"env.{name}={size}: allowed are 3 to 64{odd}")
        check_choice("env.layout", layout, ("rooms", "walls"))
        for name, share in (("loops", loops), ("wall_density", wall_density)):
            if not 0 <= share <= 1:
                raise UserError(f"env.{name}={share}: allowed is 0 to 1")
        if not 1 <= min_path < height * width:
            raise UserError(f"env.min_path={min_path}: allowed is 1 to {height * width - 1}")
        self.height, self.width, self.min_path = height, width, min_path
        self.vocabulary = ("PAD", "wall", "open", "start", "goal", "path")
        self.slot_mask = torch.zeros(height * width, len(self.vocabulary), dtype=torch.bool)
        self.slot_mask[:, [OPEN, PATH]] = True
        self.board = (height, width)
        self.cell_text = signs_of_cells(height, width)
        self.around = kernels.build_neighbours(height, width)
        cells = np.arange(self.length)
        is_room = (cells // width % 2 == 1) & (cells % width % 2 == 1)
        next_rooms = kernels.build_neighbours(height, width, reach=2)
        next_rooms[~np.append(is_room, False)[next_rooms]] = self.length
        self._plan = generator.Plan(
            height,
            width,
            generator.ROOMS if layout == "rooms" else generator.WALLS,
            float(loops),
            float(wall_density),
            min_path,
            self.around,
            cells[is_room] if layout == "rooms" else cells,
            next_rooms,
        )

    @cached_property
    def relations(self) -> Tensor:  # type: ignore[override]
        """Classes of the offset between two cells, int64 of shape (L, L); large, so made on demand.

        Offsets are told apart up to `REACH` rows and columns, beyond that by direction.
        """
        cell = torch.arange(self.length)
        row, column = cell // self.width, cell % self.width
        down = (row - row[:, None]).clamp(-REACH, REACH) + REACH
        right = (column - column[:, None]).clamp(-REACH, REACH) + REACH
        return down * (2 * REACH + 1) + right

    # ---------------------------------------------------------------- rules

    def written(self, question: Tensor) -> Tensor:
        """Returns the open cells; see `Puzzle.written`."""
        return question == OPEN

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Accepts every shortest path; see `Puzzle.verify`."""
        share, solved, _ = self._judge(question, answer)
        return Verdict.graded(solved, share)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks path cells that are superfluous or loose; see `Puzzle.conflicts`."""
        return self._judge(question, answer)[2]

    def _judge(self, question: Tensor, answer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns share, solved and the wrong cells, as `kernels.judge` has them."""
        share = np.zeros(len(question), np.float32)
        solved = np.zeros(len(question), bool)
        wrong = np.zeros(question.shape, bool)
        mazes, answers = question.cpu().numpy(), answer.cpu().numpy()
        kernels.judge(mazes, answers, self.around, share, solved, wrong)
        device = question.device
        return (
            torch.from_numpy(share).to(device),
            torch.from_numpy(solved).to(device),
            torch.from_numpy(wrong).to(device),
        )

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Enumerates shortest paths, the label first; see `Puzzle.solutions`."""
        found = np.zeros((len(question), limit, self.length), np.uint8)
        counts = np.zeros(len(question), np.int64)
        mazes = question.cpu().numpy()
        over_rows(
            len(mazes),
            lambda r: kernels.shortest_paths(mazes[r], self.around, found[r], counts[r]),
        )
        device = question.device
        answers = torch.from_numpy(found).to(device)
        return Solutions.counted(answers, torch.from_numpy(counts).to(device))

    def rating(self, question: Tensor) -> Tensor:
        """Counts the steps of a shortest path; see `Puzzle.rating`."""
        return torch.from_numpy(self._label(question)[1]).float().to(question.device)

    def solution_order(self, question: Tensor, solution: Tensor) -> Tensor:
        """Grows the path from both ends, all other cells first; see `Puzzle.solution_order`."""
        ranks = np.zeros(question.shape, np.int64)
        mazes, answers = question.cpu().numpy(), solution.cpu().numpy()
        over_rows(
            len(mazes),
            lambda r: kernels.rank_paths(mazes[r], answers[r], self.around, ranks[r]),
        )
        return torch.from_numpy(ranks).to(question.device)

    def _label(self, question: Tensor) -> tuple[Tensor, np.ndarray]:
        mazes = question.cpu().numpy()
        answers, steps = np.zeros_like(mazes), np.zeros(len(mazes), np.int64)
        over_rows(
            len(mazes), lambda r: kernels.label_all(mazes[r], self.around, answers[r], steps[r])
        )
        return torch.from_numpy(answers).to(question.device), steps

    # ---------------------------------------------------------------- instances

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates mazes; see `Puzzle.sample`."""
        mazes, answers = np.zeros((2, count, self.length), np.uint8)
        found = generate_rows(
            generator.generate,
            stream_of(split, seed, start, generator.MAX_ATTEMPTS),
            self._plan,
            mazes,
            answers,
        )
        if not found:
            raise UserError(
                f"no maze found in the {split} split with env.min_path={self.min_path}; lower it"
            )
        return instances(torch.from_numpy(mazes), torch.from_numpy(answers))

    def augment(self, puzzles: TensorDict, *, seed: int, start: int = 0) -> TensorDict:
        """Turns and mirrors at random, and labels anew, as the label depends on directions.

        A maze that is not square is mirrored only; see `Puzzle.augment`.
        """
        question = puzzles["question"]
        images = self.symmetric_images(question)
        choice = np.zeros(len(question), np.int64)
        symmetry.draw_images(seed, start, len(images), choice)
        rows = torch.arange(len(question), device=question.device)
        chosen = images[torch.from_numpy(choice).to(question.device), rows].contiguous()
        return instances(chosen, self._label(chosen)[0])

    def symmetric_images(self, question: Tensor) -> Tensor:
        """Returns the 8 images of square mazes (4 of others), uint8 of shape (8 or 4, B, L)."""
        board = question.view(-1, self.height, self.width)
        images = [board, board.flip(1), board.flip(2), board.flip(1, 2)]
        if self.height == self.width:
            images += [image.transpose(1, 2) for image in images]
        return torch.stack([image.reshape(question.shape) for image in images])

    def key(self, question: Tensor) -> Tensor:
        """Hashes the least symmetric image, start and goal alike; see `Puzzle.key`."""
        keys = np.zeros(len(question), np.int64)
        mazes, shape = question.cpu().numpy(), (self.height, self.width)
        over_rows(len(mazes), lambda r: symmetry.maze_keys(mazes[r], *shape, keys[r]))
        return torch.from_numpy(keys).to(question.device)
