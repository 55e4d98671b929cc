"""The recurrent-depth transformer, or Huginn (Geiping et al. 2025, arXiv:2502.05171, section 3).

A prelude P embeds the question once, e = P(x); the core R is repeated from a random state,
s_0 ~ N, s_i = R(W [s_(i-1); e]); a coda C reads out, p = C(s_r). All blocks are normalised before
and after (sandwich). The random start makes the path forget where it began, so that more steps
can be taken in use than in training. Training draws the number of steps and differentiates through
the last eight (`objective=recurrent_depth`).
"""

from typing import Unpack

import torch
from tensordict import TensorDict
from torch import Tensor

from pir import noise
from pir.models.network import Linear
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.puzzle import Puzzle

START_DEVIATION = 0.4**0.5
"""Of the random start, cut at three deviations, as in the published code (sqrt(2 / 5))."""


class RecurrentDepth(PuzzleModel):
    """A recurrent-depth transformer over the tokens of one puzzle; a step is one core iteration.

    Prelude and coda are evaluated at every step too, as parameters change between training steps
    and the policy after each is wanted; they count as passes.

    Args:
        puzzle: see `PuzzleModel`.
        prelude_layers: blocks of P.
        core_layers: blocks of R.
        coda_layers: blocks of C.
        shared: see `PuzzleModel`.

    Raises:
        UserError: if a setting is out of range.
    """

    def __init__(
        self,
        puzzle: Puzzle,
        prelude_layers: int = 1,
        core_layers: int = 2,
        coda_layers: int = 1,
        **shared: Unpack[Shared],
    ) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **shared)
        at_least_one(
            prelude_layers=prelude_layers, core_layers=core_layers, coda_layers=coda_layers
        )
        self.prelude = self.network(puzzle, prelude_layers, sandwich=True)
        self.adapter = Linear(2 * self.hidden_size, self.hidden_size)
        self.core = self.network(puzzle, core_layers, sandwich=True)
        self.coda = self.network(puzzle, coda_layers, sandwich=True)

    @property
    def passes_per_step(self) -> int:
        """Prelude, core and coda, each evaluated once."""
        return 3

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Draws a state."""
        shape = (self.num_latents, self.hidden_size)
        state = noise.normal(question, "start", *shape, deviation=START_DEVIATION, cut=3.0)
        return {"s": state.to(self.dtype)}

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Applies the core once."""
        e = self.prelude(x)
        return {"s": self.core(self.adapter(torch.cat([latents["s"], e], -1)))}

    def answer(self, latents: TensorDict) -> Tensor:
        """Applies the coda."""
        result: Tensor = self.coda(latents["s"])
        return result
