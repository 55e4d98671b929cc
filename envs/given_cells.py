"""What answers to boards with given cells have in common."""

from torch import Tensor


def first_fault(
    question: Tensor, answer: Tensor, written: Tensor, blank: int
) -> tuple[int, bool] | None:
    """Returns the first cell of an answer that is not as it must be; None if all are.

    Args:
        question: uint8 of shape (L,).
        answer: uint8 of shape (L,).
        written: bool of shape (L,), cells that the answer fills; it keeps the others.
        blank: the token of a cell that is not filled.

    Returns:
        The number of the cell, and whether a given cell is changed; else it is left blank.
    """
    changed = (answer != question) & ~written
    faults = (changed | (answer == blank)).nonzero().flatten().tolist()
    return (faults[0], bool(changed[faults[0]])) if faults else None
