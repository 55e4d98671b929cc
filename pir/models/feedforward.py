"""The control without recursion: one network reads the question once and answers.

With as many layers as a recursive network it has equal parameters; with as many as that one
evaluates in all its passes, equal depth. Trained alone it is also the Base that the dual
architecture may start from (`init=RUN`).
"""

from typing import Unpack

from tensordict import TensorDict
from torch import Tensor

from pir.models.cached_network import Transformer
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.puzzle import Puzzle


class FeedForward(PuzzleModel):
    """A transformer over the tokens of one puzzle; K is always 1.

    Args:
        puzzle: see `PuzzleModel`.
        layers: blocks in the network.
        shared: see `PuzzleModel`.

    Raises:
        UserError: if a setting is out of range.
    """

    reads_start = False
    carries_gradient = False

    def __init__(self, puzzle: Puzzle, layers: int = 2, **shared: Unpack[Shared]) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **(shared | Shared(improvement_steps=1)))
        at_least_one(layers=layers)
        self.base = Transformer(self.network(puzzle, layers))

    @property
    def passes_per_step(self) -> int:
        """One evaluation of the network."""
        return 1

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Starts from nothing."""
        return {"y": self.blank(question)}

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Answers the question, whatever the latents hold."""
        return {"y": self.base(x)}

    def answer(self, latents: TensorDict) -> Tensor:
        """Returns the network's output."""
        y: Tensor = latents["y"]
        return y
