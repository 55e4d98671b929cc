"""The form of what a puzzle states and draws, which every law builds on."""

import difflib
import traceback
from collections.abc import Sequence

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from pir.errors import UserError
from pir.puzzle import SPLITS, Puzzle, Source
from pir.settings.plugins import raised_in
from pir.system.terminal import one_line

NEAR = 0.85
"""Names that are so alike, as `difflib` counts, are taken for one that was misspelt."""

TOKENS = 256
"""Tokens that uint8 can hold."""


class LawError(Exception):
    """A law is broken; the message says how, and shows the instance."""


def require_form(name: str, found: object, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Breaks the law where a result is no tensor of this dtype and shape."""
    due = f"{dtype} of shape {shape} is due"
    if not isinstance(found, Tensor):
        raise LawError(f"{name} is a {type(found).__name__}; a tensor, {due}")
    if (found.dtype, tuple(found.shape)) != (dtype, shape):
        raise LawError(f"{name} is {found.dtype} of shape {tuple(found.shape)}; {due}")


def require_statements(puzzle: Puzzle) -> None:
    """Breaks the law where an attribute of a puzzle, or a size, is none of its kind.

    What is looked at here is what every method of ours reads: `vocabulary`, `slot_mask`, `board`.
    """
    for name in vars(puzzle):
        if callable(getattr(type(puzzle), name, None)):
            raise LawError(f"self.{name} hides the method {name}; give the attribute another name")
    names = ("vocabulary", "slot_mask", "board")
    tokens, mask, board = (getattr(puzzle, name, None) for name in names)
    if not isinstance(tokens, Sequence) or not all(isinstance(name, str) for name in tokens):
        raise LawError(f"vocabulary is {_named(tokens)}; a tuple of texts is due")
    if not 2 <= len(tokens) <= TOKENS:
        raise LawError(f"vocabulary has {len(tokens)} tokens; allowed are 2 to {TOKENS}")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2:
        raise LawError(f"slot_mask is {_named(mask)}; a tensor, bool of shape (L, V), is due")
    if mask.shape[1] != len(tokens):
        raise LawError(f"slot_mask has {mask.shape[1]} tokens, vocabulary {len(tokens)}")
    whole = isinstance(board, Sequence) and all(
        isinstance(number, int | np.integer) for number in board
    )
    if board is not None and not (whole and len(board) == 2):
        raise LawError(f"board is {_named(board)}; None or (rows, columns) is due")
    for split in SPLITS:
        size = puzzle.size(split)
        if size is not None and not isinstance(size, int | np.integer):
            raise LawError(f"size gives {_named(size)} for {split}; a whole number or None is due")


def drawn(puzzle: Puzzle, count: int, split: str) -> TensorDict:
    """Draws the first instances of a split, fewer where it has fewer; breaks the law of their form.

    Raises:
        UserError: if the split is empty.
    """
    size, length = puzzle.size(split), puzzle.length
    if size == 0:
        raise UserError(f"the {split} split is empty")
    if type(puzzle).generate is not Source.generate and puzzle.size("test") is None:
        pair = puzzle.generate(np.random.Generator(np.random.Philox(key=[0, 0])))
        if not isinstance(pair, tuple) or len(pair) != 2:
            due = "a pair of tensors, question and right answer, is due"
            raise LawError(f"generate gives {_named(pair)}; {due}")
        for name, tokens in zip(("question", "answer"), pair, strict=True):
            require_form(f"the {name} of generate", tokens, torch.uint8, (length,))
        require_form("key", puzzle.key(pair[0][None]), torch.int64, (1,))
    count = count if size is None else min(count, size)
    sample = puzzle.sample(count, split, seed=0)
    if not isinstance(sample, TensorDictBase) or sample.batch_size != (count,):
        due = f"what pir.puzzle.instances makes of {count} questions and answers is due"
        raise LawError(f"sample gives {_named(sample)}; {due}")
    for name in ("question", "solution"):
        require_form(f"the {name} of sample", sample.get(name, None), torch.uint8, (count, length))
    written = puzzle.written(sample["question"].clone())
    require_form("written", written, torch.bool, (count, length))
    return sample


def unlike_names(puzzle: Puzzle) -> list[str]:
    """Returns notes on public names of a puzzle that are nearly those of optional parts."""
    known = {name for name in dir(Puzzle) if not name.startswith("_")}
    own = type(puzzle)
    optional = [n for n in known if getattr(own, n) is getattr(Puzzle, n) and n not in vars(puzzle)]
    notes = []
    for name in sorted({*dir(own), *vars(puzzle)} - known):
        near = difflib.get_close_matches(name, optional, n=1, cutoff=NEAR)
        if near and not name.startswith("_"):
            notes.append(f"{name} is no part of a puzzle that pir uses; did you mean {near[0]}?")
    return notes


def failure(error: Exception, puzzle: Puzzle) -> str:
    """Says what went wrong, and for other than our own errors in which method, file and line."""
    if isinstance(error, UserError | LawError):
        return str(error)
    what = one_line(f"{type(error).__name__}: {error}")
    place = raised_in(error, *(kind.__module__ for kind in type(puzzle).__mro__))
    if place:
        return f"{place.function} fails: {what} ({place.line})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{what} ({last.filename}, line {last.lineno})"


def _named(value: object) -> str:
    """Says what a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor, {str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return one_line(f"({', '.join(map(_named, value))})")
    if value is None or isinstance(value, str | int | float):
        return one_line(repr(value))
    return f"a {type(value).__name__}"
