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

from functools import cached_property
from typing import Unpack

import numpy as np
import torch
from pir.envs.instance_stream import Stream, stream_of
from pir.envs.sudoku import generator_kernels as generator
from pir.envs.sudoku import solver_kernels as solver
from pir.envs.sudoku import symmetry
from tensordict import TensorDict
from torch import Tensor

from pir.errors import PuzzleTextError, UserError
from pir.notation.cell_text import DOUBTFUL_ZERO, CellText
from pir.notation.picture import Cell, Picture, Role, Stroke
from pir.puzzle import KEY_RANGE, SPLITS, Solutions, Verdict, instances
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.slices import FILLED, generate_rows, in_slices, over_rows

SYMBOLS = "123456789ABCDEFG"
BLANK = 1
BLANKS = (*".0_*-?xX ", "-1")
"""Signs of a blank in files; the first is ours."""

MAX_DRAWS, TRIAL_DRAWS = 40_000, 10_000
"""Grids of 9x9 that are dug for one instance before giving up, and in the trial that shows whether
the settings admit any puzzle; more of smaller grids, fewer of larger ones."""

MAX_GUESSES = 100_000
"""A search is given up after so many; the hardest 9x9 puzzles known take some thousand."""


class Sudoku(FilePuzzle):
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
        n = box[0] * box[1]
        if min(box) < 1 or not 4 <= n <= 16:
            raise UserError(f"env.box={list(box)}: allowed are products of 4 to 16")
        if clues is not None and not 1 <= clues[0] <= clues[1] <= n * n:
            raise UserError(f"env.clues={list(clues)}: allowed is 1 <= fewest <= most <= {n * n}")
        if guesses is not None and not 0 <= guesses[0] <= guesses[1]:
            raise UserError(f"env.guesses={list(guesses)}: allowed is 0 <= fewest <= most")
        self.box, self.n, self.clues, self.guesses = box, n, clues, guesses
        self.vocabulary = ("PAD", ".", *SYMBOLS[:n])
        digits = {s: v for v in range(1, n + 1) for s in (SYMBOLS[v - 1], str(v))}
        lower = {sign.lower(): value for sign, value in digits.items()}
        self.cell_text = CellText(
            rows=n,
            columns=n,
            signs=dict.fromkeys(BLANKS, BLANK) | {s: v + 1 for s, v in (digits | lower).items()},
            blank=BLANK,
            band=box[0],
            values={value: value + 1 for value in range(n + 1)},
            highest=n + 1,
        )
        self.slot_mask = torch.zeros(n * n, n + 2, dtype=torch.bool)
        self.slot_mask[:, 2:] = True
        self.relations = _shared_units(*box)
        self.units, self.peers = solver.build_tables(*box)
        self._units = torch.from_numpy(self.units)
        bits = np.arange(1 << n)
        self._bit_counts = torch.from_numpy(
            (bits[:, None] >> np.arange(n) & 1).sum(1, dtype=np.int32)
        )

    # ---------------------------------------------------------------- rules

    def written(self, question: Tensor) -> Tensor:
        """Returns the blank cells; see `Puzzle.written`."""
        return question == BLANK

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Collects the digits of every unit as bits; see `Puzzle.verify`."""
        device = question.device
        digit = answer.T.int() - 2  # cells first: all reads below are of whole rows
        bits = torch.where((digit >= 0) & (digit < self.n), 1 << digit.clamp(0, self.n), 0)
        in_units = bits.index_select(0, self._units.T.flatten().to(device))
        seen, *others = in_units.view(self.n, 3 * self.n, len(answer))
        for cells in others:
            seen = seen | cells
        present, pairs = self._bit_counts.to(device)[seen.long()].sum(0), 3 * self.n * self.n
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
        units = self._units.to(question.device)
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
        near = (fewest, clues + 2), (-(-least // 2), 2 * guesses + 1)
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

    # ---------------------------------------------------------------- text and picture

    def parse(self, text: str) -> Tensor:
        """Reads n * n characters; see `Puzzle.parse`."""
        indent = len(text) - len(text.lstrip())
        text = text.strip()
        known = "." + SYMBOLS[: self.n]
        if "." in text and "0" in text and known[-1] not in text.upper():
            raise PuzzleTextError(DOUBTFUL_ZERO, indent + text.index("0") + 1)
        readable = [s.upper() if s.isascii() else s for s in text[: self.length].replace("0", ".")]
        for place, symbol in enumerate(readable):
            if symbol not in known:
                raise PuzzleTextError(
                    f"{text[place]!r} is neither . nor one of 1 to {known[-1]}", indent + place + 1
                )
        if len(text) != self.length:
            raise PuzzleTextError(
                f"{len(text)} characters where a grid has {self.length}",
                indent + min(len(text), self.length) + 1,
            )
        return torch.tensor([known.index(symbol) + 1 for symbol in readable], dtype=torch.uint8)

    def format_question(self, question: Tensor) -> str:
        """Prints n * n characters, `.` for a blank; see `Puzzle.format_question`."""
        return "".join("." if t == BLANK else self._symbol(t) for t in question.tolist())

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads a full grid that keeps the clues; see `Puzzle.parse_answer`."""
        answer = self.parse(text).to(question.device)
        changed = (answer != question) & ~self.written(question[None])[0]
        for place, wrong in enumerate((changed | (answer == BLANK)).tolist()):
            if wrong:
                what = "a clue is changed" if changed[place] else "a cell is blank"
                raise PuzzleTextError(what, place + 1)
        return answer

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints n * n characters; see `Puzzle.format_answer`."""
        return self.format_question(answer)

    def _symbol(self, token: int) -> str:
        return self.vocabulary[token] if 2 <= token < self.n + 2 else "?"

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


def _shared_units(box_height: int, box_width: int) -> Tensor:
    """Returns which units two cells share, int64 (L, L): row 1 + column 2 + box 4."""
    n = box_height * box_width
    cell = torch.arange(n * n)
    row, column = cell // n, cell % n
    box = row // box_height * n + column // box_width
    same = [(unit == unit[:, None]).long() for unit in (row, column, box)]
    return same[0] + 2 * same[1] + 4 * same[2]
