"""The hierarchical reasoning model, HRM (Wang et al. 2025, arXiv:2506.21734, section 2).

Two networks at two frequencies: the low-level latent takes T quick updates
l <- f_L(l + h + x), then the high-level one a slow update h <- f_H(h + l), N times over. Gradient
reaches the last update of either alone (the one-step approximation of the equilibrium's gradient).
The policy is read off h.
"""

from contextlib import nullcontext
from typing import Unpack

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.models.network import truncated_normal
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.puzzle import Puzzle


class HRM(PuzzleModel):
    """An HRM over the tokens of one puzzle.

    Args:
        puzzle: see `PuzzleModel`.
        high_layers: blocks in the high-level network f_H.
        low_layers: blocks in the low-level network f_L.
        high_cycles: N, updates of h in a step.
        low_cycles: T, updates of l before each of them.
        shared: see `PuzzleModel`.

    Raises:
        UserError: if a setting is out of range.
    """

    high_start: Tensor
    low_start: Tensor

    def __init__(
        self,
        puzzle: Puzzle,
        high_layers: int = 1,
        low_layers: int = 1,
        high_cycles: int = 2,
        low_cycles: int = 2,
        **shared: Unpack[Shared],
    ) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **shared)
        at_least_one(
            high_layers=high_layers,
            low_layers=low_layers,
            high_cycles=high_cycles,
            low_cycles=low_cycles,
        )
        self.high_cycles, self.low_cycles = high_cycles, low_cycles
        self.carries_gradient = high_cycles == 1
        self.f_high, self.f_low = (
            self.network(puzzle, high_layers),
            self.network(puzzle, low_layers),
        )
        self.register_buffer("high_start", truncated_normal(self.hidden_size, std=1.0))
        self.register_buffer("low_start", truncated_normal(self.hidden_size, std=1.0))

    @property
    def passes_per_step(self) -> int:
        """N * (T + 1) evaluations of one of the two networks."""
        return self.high_cycles * (self.low_cycles + 1)

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Sets both latents to their fixed starts."""
        starts = {"high": self.high_start, "low": self.low_start}
        return {name: self.repeated(start, question) for name, start in starts.items()}

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Runs N cycles; the last update of either latent has gradient."""
        high, low = latents["high"], latents["low"]
        bias_high, bias_low = self.f_high.bias(self.dtype), self.f_low.bias(self.dtype)
        for high_cycle in range(self.high_cycles):
            last_cycle = high_cycle == self.high_cycles - 1
            for low_cycle in range(self.low_cycles):
                last = last_cycle and low_cycle == self.low_cycles - 1
                with nullcontext() if last else torch.no_grad():
                    low = self.f_low(low + high + x, bias_low)
            with nullcontext() if last_cycle else torch.no_grad():
                high = self.f_high(high + low, bias_high)
        return {"high": high, "low": low}

    def answer(self, latents: TensorDict) -> Tensor:
        """Returns the high-level latent."""
        high: Tensor = latents["high"]
        return high
