"""The looped transformer: one stack of layers, applied again and again to its own output.

As in LoopLM, or Ouro (arXiv:2510.25741, section 3), h_1 = f(x) and h_t = f(h_(t-1)); the halt head
is the exit gate, whose probability lambda_t of leaving at loop t, if not left before, gives the
distribution of the exit (`pir.objectives.exit_distribution`). With recall the question enters
every loop, h_t = f(W [h_(t-1); x]), as in deep-thinking networks (arXiv:2202.05826, section 3),
which keep their answers over more loops than they were trained for.
"""

from typing import Unpack

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.models.network import Linear
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.puzzle import Puzzle


class Looped(PuzzleModel):
    """A looped transformer over the tokens of one puzzle; a step is a loop.

    Args:
        puzzle: see `PuzzleModel`.
        layers: blocks in the stack f.
        recall: whether every loop reads the question again.
        shared: see `PuzzleModel`.

    Raises:
        UserError: if a setting is out of range.
    """

    def __init__(
        self, puzzle: Puzzle, layers: int = 2, recall: bool = False, **shared: Unpack[Shared]
    ) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **shared)
        at_least_one(layers=layers)
        self.f = self.network(puzzle, layers)
        self.reads_start = recall
        self.adapter = Linear(2 * self.hidden_size, self.hidden_size) if recall else None

    @property
    def passes_per_step(self) -> int:
        """One evaluation of the stack."""
        return 1

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Starts from nothing."""
        return {"h": self.blank(question)}

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Applies the stack once: to the question at the first step, to its own output later."""
        h: Tensor = latents["h"]
        if self.adapter is not None:
            return {"h": self.f(self.adapter(torch.cat([h, x], -1)))}
        later = h if condition is None else h + condition
        return {"h": self.f(torch.where(k[:, None, None] == 1, x, later))}

    def answer(self, latents: TensorDict) -> Tensor:
        """Returns the stack's output."""
        h: Tensor = latents["h"]
        return h
