"""N-Queens: complete a board so that no queen attacks another.

Description:
    n rows with one queen each, some given. In text a board is n comma-separated columns 0 .. n - 1,
    row by row, `.` for a hidden queen. Every completion that keeps the given queens is right.

Layout:
    One token per row, L = n: 1 for a hidden queen, 2 + c for column c. Given rows are clamped. The
    label is the lexicographically first completion.

Splits:
    board: by the board's key, equal for its eight images (the default).
    orbits: stricter, by whole orbits of solutions under the eight symmetries: a board belongs to a
        split if all its completions do, so no held-out solution is ever a right answer in training.
        8 x 8 has only 12 orbits: 9 for training, 1 for validation, 2 for the test.
    published: the set-up of arXiv:2511.16886 (8 x 8: 800 boards with 0 to 7 queens given, each
        with its eight images and once more itself, 200 boards for the test, labels drawn at
        random). It leaks: every test solution occurs in training, and a look-up of the most
        frequent completion scores about 0.75 exact accuracy, which is where its labels' ambiguity
        caps every method; use it to compare with published figures only.

Score:
    The share of rows whose queen is attacked by no other, times the share of given queens kept.
"""

import math
from functools import cache, cached_property
from typing import Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from pir.envs.instance_stream import stream_of
from pir.envs.queens import kernels
from pir.envs.queens.picture import QueensPicture
from pir.envs.queens.published import PUBLISHED_BOARDS, published_boards
from pir.envs.queens.text import BLANK, FIRST_COLUMN, QueensText, signs_of_cells
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice, check_pairs
from pir.errors import UserError
from pir.puzzle import Solutions, Verdict, instances
from pir.puzzle_files.epochs import shuffled_epochs
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.slices import generate_rows, over_rows


@cache
def solutions_of(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns all solutions, int64 (S, n), their index `having`, and the set of all of them."""
    count = kernels.find_solutions(n, np.zeros((0, n), np.int64))
    solutions = np.zeros((count, n), np.int64)
    kernels.find_solutions(n, solutions)
    having = np.zeros((n, n, math.ceil(count / 64)), np.uint64)
    kernels.index_solutions(solutions, having)
    return solutions, having, np.bitwise_or.reduce(having[0])


class Queens(QueensText, QueensPicture, FilePuzzle):
    """N-Queens with some queens given.

    Args:
        n: rows and columns, 5 to 12 (7 to 12 for orbits).
        hide: fewest and most hidden queens, within 1..n.
        split: "board", "orbits" or "published"; see the module. Files are parted by board.
        file: a file of boards and how it is used; see `FileSettings`.

    Raises:
        UserError: if a setting is out of range.
    """

    rating_name = "hidden queens"

    def __init__(
        self,
        n: int = 8,
        hide: tuple[int, int] = (5, 7),
        split: Literal["board", "orbits", "published"] = "board",
        **file: Unpack[FileSettings],
    ) -> None:
        """Finds all solutions."""
        super().__init__(**file)
        check_pairs("env", hide=hide)
        least = 7 if split == "orbits" else 5
        if not least <= n <= 12:
            few = "; smaller boards have too few orbits of solutions" if split == "orbits" else ""
            raise UserError(f"env.n={n}: allowed are {least} to 12{few}")
        if not 1 <= hide[0] <= hide[1] <= n:
            raise UserError(f"env.hide={list(hide)}: allowed is 1 <= fewest <= most <= {n}")
        check_choice("env.split", split, ("board", "orbits", "published"))
        if self.puzzles is not None and split != "board":
            raise UserError(f"env.split={split}: a file is parted by board; set env.split=board")
        self.n, self.hide, self.split = n, hide, split
        self.disjoint_splits = split != "published"
        self.splits_by_key = split == "board"
        self.vocabulary = ("PAD", ".", *map(str, range(n)))
        self.slot_mask = torch.zeros(n, n + 2, dtype=torch.bool)
        self.slot_mask[:, FIRST_COLUMN:] = True
        self.at_most_one = _lines(n)
        self.cell_text = signs_of_cells(n)
        self._solutions, self._having, self._all = solutions_of(n)

    # ---------------------------------------------------------------- rules

    def written(self, question: Tensor) -> Tensor:
        """Returns the hidden rows; see `Puzzle.written`."""
        return question == BLANK

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Compares every pair of queens; see `Puzzle.verify`."""
        is_given = ~self.written(question)
        given, kept = is_given.sum(1), (is_given & (answer == question)).sum(1)
        peaceful = (~self._attacked(answer)).sum(1)
        solved = (peaceful == self.n) & (kept == given)
        share = peaceful * torch.where(given > 0, kept, 1) / (self.n * given.clamp(min=1))
        return Verdict.graded(solved, share)

    def reveal(self, question: Tensor, answer: Tensor, positions: Tensor) -> Tensor:
        """Fills cells in; see `Puzzle.reveal`."""
        return torch.where(positions, answer, question)

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks written queens under attack; see `Puzzle.conflicts`."""
        return self._attacked(answer) & self.written(question)

    def _attacked(self, answer: Tensor) -> Tensor:
        """Returns rows without a queen or whose queen is attacked, bool of shape (B, n)."""
        column = answer.int() - FIRST_COLUMN
        row = torch.arange(self.n, device=answer.device)
        apart = (row[:, None] - row).abs()
        distance = (column[:, :, None] - column[:, None, :]).abs()
        attacks = ((distance == 0) | (distance == apart)) & (apart > 0)
        return attacks.any(2) | (column < 0) | (column >= self.n)

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Looks the completions up, in lexicographic order; see `Puzzle.solutions`."""
        found, counts = self._complete(_to_boards(question), limit)
        device = question.device
        answers = torch.from_numpy((found + FIRST_COLUMN).astype(np.uint8)).to(device)
        return Solutions.counted(answers, torch.from_numpy(counts).to(device))

    def _complete(self, boards: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.zeros((len(boards), limit, self.n), np.int64)
        counts = np.zeros(len(boards), np.int64)
        index = self._solutions, self._having, self._all
        over_rows(len(boards), lambda r: kernels.complete(boards[r], *index, found[r], counts[r]))
        return found, counts

    def solution_order(self, question: Tensor, solution: Tensor) -> Tensor:
        """Places queens in the most constrained row first; see `Puzzle.solution_order`."""
        ranks = np.zeros(question.shape, np.int64)
        kernels.rank_rows(_to_boards(question), _to_boards(solution), ranks)
        return torch.from_numpy(ranks).to(question.device)

    # ---------------------------------------------------------------- instances

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Hides queens of random solutions; see `Puzzle.sample`."""
        if self.split == "published":
            return self._sample_published(count, split, seed, start)
        boards, labels = np.zeros((2, count, self.n), np.int64)
        inside = self._orbit_sets[split] if self.split == "orbits" else self._all
        found = generate_rows(
            kernels.generate,
            stream_of(split, seed, start, kernels.MAX_ATTEMPTS),
            self.hide,
            self.split == "orbits",
            self._solutions,
            self._having,
            np.stack([self._all, inside]),
            boards,
            labels,
        )
        if not found:
            raise UserError(
                f"no board found in the {split} split with env.n={self.n}, "
                f"env.hide={list(self.hide)}, env.split={self.split}; hide fewer queens or take "
                "a larger board"
            )
        return _as_instances(boards, labels)

    @cached_property
    def _orbit_sets(self) -> dict[str, np.ndarray]:
        """The set of solutions of every split, made of whole orbits.

        The orbits are ordered by key; at least a tenth are for the test and a twentieth for
        validation.
        """
        keys = np.zeros(len(self._solutions), np.int64)
        kernels.board_keys(self._solutions, keys)
        orbits = np.unique(keys)
        test, val = math.ceil(len(orbits) / 10), math.ceil(len(orbits) / 20)
        parts = {"test": orbits[:test], "val": orbits[test : test + val]}
        parts["train"] = orbits[test + val :]
        sets = {}
        for split, members in parts.items():
            sets[split] = np.zeros_like(self._all)
            for s in np.flatnonzero(np.isin(keys, members)):
                sets[split][s // 64] |= np.uint64(1) << np.uint64(s % 64)
        return sets

    def size(self, split: str) -> int | None:
        """Returns the number of boards held out, of the file or published; see `Puzzle.size`."""
        held_out = self.split == "published" and split != "train"
        return PUBLISHED_BOARDS[split][0] if held_out else super().size(split)

    def _sample_published(self, count: int, split: str, seed: int, start: int) -> TensorDict:
        boards, labels = published_boards(self.n, split)
        if split != "train":
            if start + count > len(boards):
                raise UserError(f"the published set-up has {len(boards)} {split} boards")
            return _as_instances(boards[start : start + count], labels[start : start + count])
        chosen = shuffled_epochs(len(boards), count, seed, start)
        return _as_instances(boards[chosen], labels[chosen])

    def augment(self, puzzles: TensorDict, *, seed: int, start: int = 0) -> TensorDict:
        """Turns and mirrors at random, and labels anew; see `Puzzle.augment`."""
        boards = _to_boards(puzzles["question"])
        kernels.random_images(seed, start, boards)
        images = _as_instances(boards, self._complete(boards, 1)[0][:, 0])
        return images.to(puzzles["question"].device)

    def key(self, question: Tensor) -> Tensor:
        """Hashes the least of the eight images; see `Puzzle.key`."""
        keys = np.zeros(len(question), np.int64)
        boards = _to_boards(question)
        over_rows(len(boards), lambda r: kernels.board_keys(boards[r], keys[r]))
        return torch.from_numpy(keys).to(question.device)


def _to_boards(question: Tensor) -> np.ndarray:
    boards: np.ndarray = np.maximum(question.cpu().numpy().astype(np.int64) - FIRST_COLUMN, -1)
    return boards


def _as_instances(boards: np.ndarray, labels: np.ndarray) -> TensorDict:
    tokens = ((part + FIRST_COLUMN).astype(np.uint8) for part in (boards, labels))
    return instances(*map(torch.from_numpy, tokens))


def _lines(n: int) -> Tensor:
    """Returns the squares of every column and diagonal as sets, int64 (3, n, V)."""
    row, column = torch.arange(n)[:, None].expand(n, n), torch.arange(n).expand(n, n)
    lines = torch.stack([column, row + column, row - column + n - 1])
    return F.pad(lines, (FIRST_COLUMN, 0), value=-1)
