"""Files with one puzzle per line, and given puzzles as instances of the splits."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pir.errors import PuzzleTextError, UserError
from pir.puzzle import KEY_RANGE, SPLITS, split_range


def read_lines(path: str, key: str) -> list[tuple[int, str]]:
    """Returns the lines of a text file with their numbers, blank lines left out.

    Args:
        path: the file.
        key: the setting that names it, for messages.

    Raises:
        UserError: if the file cannot be read as text or holds no line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}={path} cannot be read: {error}") from error
    lines = [(i, line.rstrip()) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{key}={path} holds no puzzle")
    return lines


def parse_lines(path: str, key: str, parse: Callable[[str], Tensor]) -> tuple[Tensor, list[int]]:
    """Reads a file of puzzles.

    Returns:
        the questions, uint8 of shape (N, L), and the number of the line of each.

    Raises:
        UserError: naming file, line and column of the first text that is no puzzle.
    """
    lines = read_lines(path, key)
    questions = []
    for number, text in lines:
        try:
            questions.append(parse(text))
        except PuzzleTextError as error:
            raise UserError(f"{key}={path}, line {number}: {error}") from error
    return torch.stack(questions), [number for number, _ in lines]


class GivenPuzzles:
    """Puzzles that somebody else made, parted into splits by key; symmetric ones count once.

    The training stream goes through its puzzles in a new random order every epoch; the held-out
    streams hold every puzzle once, in the order of the file.

    Args:
        source: the file, for messages.
        keys: int64 of shape (N,), the puzzles' keys.
        train_puzzles: so many puzzles, the first of the file's training split, are trained on;
            None for all.

    Raises:
        UserError: if there are fewer puzzles to train on.
    """

    def __init__(self, source: str, keys: np.ndarray, train_puzzles: int | None) -> None:
        """Parts the rows."""
        self.source = source
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        self.rows = {}
        for split in SPLITS:
            low, high = split_range(split)
            inside = (keys % KEY_RANGE >= low) & (keys % KEY_RANGE < high)
            self.rows[split] = np.flatnonzero(inside & first)
        if train_puzzles is not None:
            if not 1 <= train_puzzles <= len(self.rows["train"]):
                raise UserError(
                    f"env.train_puzzles={train_puzzles}: {source} holds "
                    f"{len(self.rows['train'])} puzzles for training"
                )
            self.rows["train"] = self.rows["train"][:train_puzzles]

    def size(self, split: str) -> int | None:
        """Returns the length of a split's stream; None for training, which repeats."""
        return None if split == "train" else len(self.rows[split])

    def draw(self, count: int, split: str, seed: int, start: int) -> np.ndarray:
        """Returns the rows of the instances `start .. start + count - 1`, int64 of shape (count,).

        Raises:
            UserError: if the split holds fewer.
        """
        rows = self.rows[split]
        if split != "train":
            if start + count > len(rows):
                raise UserError(f"{self.source} holds {len(rows)} puzzles for the {split} split")
            return rows[start : start + count]
        if len(rows) == 0:
            raise UserError(f"{self.source} holds no puzzle for training")
        chosen: np.ndarray = rows[shuffled_epochs(len(rows), count, seed, start)]
        return chosen


def shuffled_epochs(length: int, count: int, seed: int, start: int) -> np.ndarray:
    """Returns a part of an endless stream that goes through 0 .. length - 1 in ever new orders.

    Returns:
        int64 of shape (count,), the entries `start .. start + count - 1` of the stream.
    """
    epochs = range(start // length, (start + count - 1) // length + 1)
    stream: np.ndarray = np.concatenate([_order(length, seed, epoch) for epoch in epochs])
    return stream[start - epochs[0] * length :][:count]


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> np.ndarray:
    order: np.ndarray = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
    return order
