"""Sudoku: fill a grid so that every row, column and box holds every digit once.

Description:
    n x n cells in boxes of `box` = (rows, columns), n = rows * columns; every puzzle has exactly
    one answer. In text a grid is n * n characters row by row, `.` (or 0) for a blank; digits above
    9 are letters from A on.

Layout:
    One token per cell, L = n * n: 1 for a blank, 1 + d for the digit d. Clues are clamped.

Score:
    The share of (unit, digit) pairs that are present, times the share of clues that are kept.
"""

import math
from functools import cached_property
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from pir.envs.instance_stream import Stream, stream_of
from pir.envs.sudoku import generator_kernels as generator
from pir.envs.sudoku import solver_kernels as solver
from pir.envs.sudoku import symmetry
from pir.envs.sudoku.picture import SudokuPicture
from pir.envs.sudoku.text import BLANK, SYMBOLS, signs_of_cells
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_pairs
from pir.errors import UserError
from pir.puzzle import KEY_RANGE, SPLITS, Solutions, Verdict, instances
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.device import Table
from pir.system.slices import FILLED, generate_rows, in_slices, over_rows

MAX_DRAWS, TRIAL_DRAWS = 40_000, 10_000
"""Grids of 9x9 that are dug for one instance before giving up, and in the trial that shows whether
the settings admit any puzzle; more of smaller grids, fewer of larger ones."""

MAX_GUESSES = 100_000
"""A search is given up after so many; the hardest 9x9 puzzles known take some thousand."""


class Sudoku(SudokuPicture, FilePuzzle):
    """Sudoku with boxes of any shape, generated or from a file.

    Args:
        box: rows and columns of a box; their product n is 4 to 16.
        clues: fewest and most clues of a generated puzzle; null for minimal puzzles, of which no
            clue can be left out.
        guesses: fewest and most guesses that a generated puzzle may need beside naked and hidden
            singles; null for any.
        file: a file of puzzles and how it is used; see `FileSettings`.

    Raises:
        UserError: if a setting is out of range.
    """

    unique = True
    rating_name = "guesses"

    def __init__(
        self,
        box: tuple[int, int] = (2, 2),
        clues: tuple[int, int] | None = None,
        guesses: tuple[int, int] | None = None,
        **file: Unpack[FileSettings],
    ) -> None:
        """Builds the tables of units and peers."""
        super().__init__(**file)
        check_pairs("env", box=box, clues=clues, guesses=guesses)
        n = box[0] * box[1]
        if min(box) < 1 or not 4 <= n <= 16:
            raise UserError(f"env.box={list(box)}: allowed are products of 4 to 16")
        if clues is not None and not 1 <= clues[0] <= clues[1] <= n * n:
            raise UserError(f"env.clues={list(clues)}: allowed is 1 <= fewest <= most <= {n * n}")
        if guesses is not None and not 0 <= guesses[0] <= guesses[1]:
            raise UserError(f"env.guesses={list(guesses)}: allowed is 0 <= fewest <= most")
        self.box, self.n, self.clues, self.guesses = box, n, clues, guesses
        self.vocabulary = ("PAD", ".", *SYMBOLS[:n])
        self.cell_text = signs_of_cells(box)
        self.slot_mask = torch.zeros(n * n, n + 2, dtype=torch.bool)
        self.slot_mask[:, 2:] = True
        self.relations = _shared_units(*box)
        self.at_most_one = _digits_in_units(*box)
        self.units, self.peers = solver.build_tables(*box)
        self._units = Table(torch.from_numpy(self.units))
        bits = np.arange(1 << n)
        counts = (bits[:, None] >> np.arange(n) & 1).sum(1, dtype=np.int32)
        self._bit_counts = Table(torch.from_numpy(counts))

    # ---------------------------------------------------------------- rules

    def written(self, question: Tensor) -> Tensor:
        """Returns the blank cells; see `Puzzle.written`."""
        return question == BLANK

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Collects the digits of every unit as bits; see `Puzzle.verify`."""
        device = question.device
        digit = answer.T.int() - 2  # cells first: all reads below are of whole rows
        bits = torch.where((digit >= 0) & (digit < self.n), 1 << digit.clamp(0, self.n), 0)
        in_units = bits.index_select(0, self._units.on(device).T.flatten())
        seen, *others = in_units.view(self.n, 3 * self.n, len(answer))
        for cells in others:
            seen = seen | cells
        present, pairs = self._bit_counts.on(device)[seen.long()].sum(0), 3 * self.n * self.n
        is_clue = ~self.written(question)
        clues, kept = is_clue.sum(1), (is_clue & (answer == question)).sum(1)
        solved = (present == pairs) & (kept == clues)
        share = present * torch.where(clues > 0, kept, 1) / (pairs * clues.clamp(min=1))
        return Verdict.graded(solved, share)

    def reveal(self, question: Tensor, answer: Tensor, positions: Tensor) -> Tensor:
        """Fills cells in; see `Puzzle.reveal`."""
        return torch.where(positions, answer, question)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks written digits that stand twice in a unit; see `Puzzle.conflicts`."""
        units = self._units.on(question.device)
        digit = answer.long() - 2
        is_digit = (digit >= 0) & (digit < self.n)
        digit = torch.where(is_digit, digit, self.n)  # whatever is no digit counts as one more
        counts = torch.nn.functional.one_hot(digit, self.n + 1)[:, units].sum(2)  # (B, 3n, n + 1)
        twice = torch.zeros_like(question, dtype=torch.bool)
        for unit, cells in enumerate(units):
            twice[:, cells] |= counts[:, unit].gather(1, digit[:, cells]) > 1
        return twice & is_digit & self.written(question)

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Searches with naked and hidden singles and at most `MAX_GUESSES` guesses.

        See `Puzzle.solutions`.
        """
        found, counts, _ = self._solve(question, limit)
        device = question.device
        answers = torch.from_numpy(found + 1).to(device)
        return Solutions.counted(answers, torch.from_numpy(counts).to(device))

    def rating(self, question: Tensor) -> Tensor:
        """Counts the guesses that proving uniqueness takes; see `Puzzle.rating`."""
        return torch.from_numpy(self._solve(question, 2)[2]).float().to(question.device)

    def _solve(self, question: Tensor, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        grids = question.cpu().numpy() - 1
        found = np.zeros((len(grids), limit, self.length), np.uint8)
        counts, guesses = np.zeros((2, len(grids)), np.int64)
        room, progress = solver.make_room(self.length), np.zeros(2, np.int64)
        arguments = (grids, self.units, self.peers, MAX_GUESSES, found, counts, guesses)
        in_slices(lambda budget: solver.solve(*arguments, *room, progress, budget) == FILLED)
        return found, counts, guesses

    def solution_order(self, question: Tensor, solution: Tensor) -> Tensor:
        """Counts the rounds of singles before a cell is found; see `Puzzle.solution_order`."""
        ranks = np.zeros(question.shape, np.int64)
        grids, answers = question.cpu().numpy() - 1, solution.cpu().numpy() - 1
        over_rows(
            len(grids),
            lambda r: solver.rank_cells(grids[r], answers[r], self.units, self.peers, ranks[r]),
        )
        return torch.from_numpy(ranks).to(question.device)

    # ---------------------------------------------------------------- instances

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Digs random grids; see `Puzzle.sample`."""
        puzzles, grids = np.zeros((2, count, self.length), np.uint8)
        stream = stream_of(split, seed, start, self._max_draws)
        wanted = self.clues or (0, 0), self.guesses or (0, -1)
        if not self._fill(puzzles, grids, stream, *wanted):
            raise UserError(
                f"no Sudoku found in the {split} split with env.clues={self.clues} and "
                f"env.guesses={self.guesses}; widen a range"
            )
        return instances(torch.from_numpy(puzzles + 1), torch.from_numpy(grids + 1))

    def _fill(
        self,
        puzzles: np.ndarray,
        grids: np.ndarray,
        stream: Stream,
        clues: tuple[int, int],
        guesses: tuple[int, int],
    ) -> bool:
        """Generates the rows of a stream; returns whether all were found."""
        return generate_rows(
            generator.generate,
            stream,
            clues,
            guesses,
            self.box,
            (self.units, self.peers),
            solver.make_room(self.length),
            puzzles,
            grids,
        )

    @cached_property
    def _max_draws(self) -> int:
        """How many grids are dug for one instance; 0 where a trial shows that it is of no use.

        The trial is a stream of its own, of all splits together, and finds nothing where no puzzle
        comes near the settings: two clues more than wanted, half or double the guesses.
        """
        size = 81 / self.length
        most = max(50, int(min(MAX_DRAWS * size**2, 50_000 * size**6)))
        trial = int(TRIAL_DRAWS * size**2)
        if most <= trial or (self.clues is None and self.guesses is None):
            return most
        puzzle, grid = np.zeros((2, 1, self.length), np.uint8)
        stream = Stream(0, 0, len(SPLITS), KEY_RANGE, 0, KEY_RANGE, trial)
        fewest, clues = self.clues or (0, -2)
        least, guesses = self.guesses or (0, -1)
        near = (fewest, clues + 2), (math.ceil(least / 2), 2 * guesses + 1)
        return most if self._fill(puzzle, grid, stream, *near) else 0

    def augment(self, puzzles: TensorDict, *, seed: int, start: int = 0) -> TensorDict:
        """Exchanges digits, lines, bands and stacks and mirrors at random; see `Puzzle.augment`."""
        images = [puzzles[name].cpu().numpy().copy() for name in ("question", "solution")]
        symmetry.augment(seed, start, *self.box, images[0], images[1])
        device = puzzles["question"].device
        return instances(*(torch.from_numpy(image).to(device) for image in images))

    def key(self, question: Tensor) -> Tensor:
        """Hashes by colour refinement, without regard to symmetries; see `Puzzle.key`."""
        keys = np.zeros(len(question), np.int64)
        grids = question.cpu().numpy() - 1
        over_rows(len(grids), lambda r: symmetry.puzzle_keys(grids[r], *self.box, keys[r]))
        return torch.from_numpy(keys).to(question.device)


def _shared_units(box_height: int, box_width: int) -> Tensor:
    """Returns which units two cells share, int64 (L, L): row 1 + column 2 + box 4."""
    same = [(unit == unit[:, None]).long() for unit in _units_of_cells(box_height, box_width)]
    return same[0] + 2 * same[1] + 4 * same[2]


def _digits_in_units(box_height: int, box_width: int) -> Tensor:
    """Returns the sets of cells of a row, column or box that hold the same digit, (3, L, V)."""
    n = box_height * box_width
    sets = [unit[:, None] * n + torch.arange(n) for unit in _units_of_cells(box_height, box_width)]
    return F.pad(torch.stack(sets), (2, 0), value=-1)


def _units_of_cells(box_height: int, box_width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns row, column and box of every cell, int64 (L,) each, numbered from 0."""
    n = box_height * box_width
    cell = torch.arange(n * n)
    row, column = cell // n, cell % n
    return row, column, row // box_height * box_height + column // box_width
