"""Puzzles and answers that come from outside as tokens: arrays, tensors or lists."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pir.errors import UserError
from pir.puzzle import Puzzle


def read_tokens(puzzle: Puzzle, value: Any, name: str, rows: int | None = None) -> Tensor:
    """Reads tokens that came from outside.

    Args:
        puzzle: has L and the vocabulary.
        value: integers of shape (`rows`, L): an array, a tensor or nested lists.
        name: what the value is, for messages.
        rows: how many rows there must be; None for a value of shape (L,).

    Returns:
        uint8 of the same shape.

    Raises:
        UserError: if the shape is another, or a token is not in the vocabulary.
    """
    shape = (puzzle.length,) if rows is None else (rows, puzzle.length)
    size = len(puzzle.vocabulary)
    tokens = value if isinstance(value, Tensor) else _as_tensor(value, name)
    if tuple(tokens.shape) != shape:
        raise UserError(f"{name} has the shape {tuple(tokens.shape)} where {shape} is expected")
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise UserError(f"{name} holds {tokens.dtype}, not whole numbers")
    low, high = torch.stack(tokens.to(torch.int64).aminmax()).tolist()
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise UserError(f"{name} holds the token {wrong}: allowed are 0..{size - 1}")
    return tokens.to(torch.uint8)


def _as_tensor(value: Any, name: str) -> Tensor:
    try:
        return torch.from_numpy(np.asarray(value))
    except (TypeError, ValueError) as error:  # rows of different lengths, texts, objects
        raise UserError(f"{name} is no array of whole numbers: {error}") from error
