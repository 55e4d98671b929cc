"""A file of puzzles as a test set of its own, and how much of it a run may have seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensordict import TensorDict

from pir.puzzle import KEY_RANGE, Puzzle, split_range
from pir.puzzle_files.given import FilePuzzle, GivenPuzzles
from pir.puzzle_files.source import STDIN
from pir.runs.inputs import file_sha256


@dataclass
class TestFile:
    """A file to evaluate.

    Attributes:
        path: the file, or `-`.
        skip_faulty: whether faults are left out or refused.
        sha256: of its bytes; None for standard input.
    """

    path: str
    skip_faulty: bool
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Hashes the file."""
        if self.path != STDIN and Path(self.path).is_file():
            self.sha256 = file_sha256(self.path)

    @property
    def name(self) -> str:
        """A name for the folder of its results, which tells files of one name apart."""
        stem = "stdin" if self.path == STDIN else Path(self.path).name.split(".")[0] or "file"
        return f"{stem}-{self.sha256[:8]}" if self.sha256 else stem

    def read(self, puzzle: Puzzle, count: int | None) -> tuple[TensorDict, dict[str, Any]]:
        """Reads and labels the puzzles.

        Args:
            puzzle: the run's own, which says what it was trained on.
            count: so many at most, the first ones; None for all.

        Returns:
            `question` and `solution`, and what eval.json says of the file: absolute path, hash,
            the puzzles left out as faulty, those whose key belongs to the training split, and
            those equal or symmetric to one of the file that the run was trained on.

        Raises:
            UserError: if the file cannot be read or has faults.
        """
        given = GivenPuzzles(puzzle, self.path, "env.puzzles", self.skip_faulty)
        given.check_all()
        rows = given.checked[:count]
        keys, (low, high) = given.keys[rows], split_range("train")
        by_key = int(((keys % KEY_RANGE >= low) & (keys % KEY_RANGE < high)).sum())
        trained_on = puzzle.training_keys() if isinstance(puzzle, FilePuzzle) else None
        facts = {
            "path": self.path if self.path == STDIN else str(Path(self.path).absolute()),
            "sha256": self.sha256,
            "left_out": given.faulty,
            "in_training_split": by_key if puzzle.splits_by_key else None,
            "in_training_file": (
                None if trained_on is None else int(np.isin(keys, trained_on).sum())
            ),
        }
        return given.instances(rows), facts
