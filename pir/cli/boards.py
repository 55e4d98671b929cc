"""Puzzles and answers for people: boards side by side, or lines where a puzzle has no board."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pir.notation.picture import as_text

if TYPE_CHECKING:
    from torch import Tensor

    from pir.puzzle import Puzzle

GAP = 4
"""Columns between boards."""

TALL = 16
"""Rows from which on a board is tall."""


def write_example(puzzle: "Puzzle") -> str:
    """Returns a puzzle of the kind in its text form, as a setting of `pir solve`."""
    question = puzzle.sample(1, "test", seed=0)["question"][0]
    return f"puzzle={shlex.quote(puzzle.format_question(question))}"


class Board(NamedTuple):
    """A board with what stands above it."""

    caption: str
    text: str


def has_board(puzzle: "Puzzle") -> bool:
    """Says whether answers are better seen as boards than read in their text form."""
    return puzzle.cell_text is not None


def draw(puzzle: "Puzzle", question: "Tensor", answer: "Sequence[int] | Tensor") -> str:
    """Draws an answer of L tokens, as `pir.notation.picture.as_text`."""
    import torch

    return as_text(puzzle.picture(question.cpu(), torch.as_tensor(answer, device="cpu")))


def is_tall(board: Board) -> bool:
    """Says whether a board takes up much of a screen."""
    return board.text.count("\n") >= TALL


def side_by_side(boards: Sequence[Board], width: int) -> str:
    """Joins boards, as many in a row as the terminal has room for."""
    blocks = [[board.caption, *board.text.splitlines()] for board in boards]
    sizes = [max(map(len, block)) for block in blocks]
    rows: list[list[int]] = []
    for i, size in enumerate(sizes):
        taken = sum(sizes[j] + GAP for j in rows[-1]) if rows else 0
        if not rows or taken + size > width:
            rows.append([])
        rows[-1].append(i)
    return "\n\n".join(_row([blocks[i] for i in row], [sizes[i] for i in row]) for row in rows)


def _row(blocks: Sequence[Sequence[str]], sizes: Sequence[int]) -> str:
    height = max(map(len, blocks))
    lines = []
    for place in range(height):
        parts = (block[place] if place < len(block) else "" for block in blocks)
        padded = (part.ljust(size + GAP) for part, size in zip(parts, sizes, strict=True))
        lines.append("".join(padded).rstrip())
    return "\n".join(lines)
