"""What a network may know of a puzzle's positions and tokens: the last part of a puzzle."""

from torch import Tensor


class Layout:
    """What a network may know of positions and tokens; each is None where there is none.

    Attributes:
        relations: int64 of shape (L, L), the class of the relation between two positions, from 0
            on, such as their offset or the unit that they share; reasoners may attend by it.
        owners: int64 of shape (L,), for positions that belong to what a token names (a successor
            to its node): that token, `PAD` elsewhere; reasoners may embed both.
        at_most_one: int64 of shape (G, L, V), G kinds of sets of pairs (position, token) of which a
            right answer holds at most one, as a digit in a row of Sudoku: the number of the pair's
            set, from 0 on, -1 for none; reasoners may have a latent for every pair.
        token_values: float32 of shape (V,), the number that a token stands for, NaN for others;
            reasoners may embed it.
        board: rows and columns, rows * columns = L, where the tokens lie on a board whose rules
            bind neighbours; reasoners may convolve over it.
    """

    relations: Tensor | None = None
    owners: Tensor | None = None
    at_most_one: Tensor | None = None
    token_values: Tensor | None = None
    board: tuple[int, int] | None = None
