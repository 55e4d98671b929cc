"""The tiny recursive model, TRM (Jolicoeur-Martineau 2025, arXiv:2510.04871, section 4).

One small network f updates two latents of shape (B, N, D): the reasoning z and the answer y. An
improvement step is T cycles; a cycle is n updates z <- f(x + y + z) and one update y <- f(y + z),
with the embedded question x injected every time z is updated. Only the last cycle has gradient.
The embedded condition of a step (`Conditioning`) is part of x, and added to y at its update.

The paper's ablations are settings: separate networks for z and y; no z (y <- f(x + y), n + 1
times); or m reasoning latents, which take turns: z_i <- f(x + y + z_1 + .. + z_m). With a running
average the new y of every cycle is a proposal alone (`RunningAverage`).
"""

from contextlib import nullcontext
from functools import reduce
from typing import Unpack

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.models.network import truncated_normal
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.models.running_average import RunningAverage
from pir.puzzle import Puzzle


class TRM(PuzzleModel):
    """A TRM over the tokens of one puzzle.

    Args:
        puzzle: see `PuzzleModel`.
        layers: blocks in the network f.
        cycles: T, cycles in a step; the first T - 1 run without gradient.
        latent_steps: n, updates of z in a cycle.
        latents: m, how many z there are; 0 for y alone.
        separate_networks: whether y is updated by a network of its own.
        running_average: whether y is a running average of what the cycles propose.
        shared: see `PuzzleModel`.

    Raises:
        UserError: if a setting is out of range.
    """

    y_start: Tensor
    z_start: Tensor

    def __init__(
        self,
        puzzle: Puzzle,
        layers: int = 2,
        cycles: int = 1,
        latent_steps: int = 2,
        latents: int = 1,
        separate_networks: bool = False,
        running_average: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **shared)
        at_least_one(layers=layers, cycles=cycles, latent_steps=latent_steps)
        if not 0 <= latents <= latent_steps:
            raise UserError(
                f"model.latents={latents}: must be 0 to model.latent_steps={latent_steps}, "
                "of which each updates one"
            )
        if separate_networks and not latents:
            raise UserError(
                "model.separate_networks=true: without z (model.latents=0) there is one"
            )
        self.cycles, self.latent_steps = cycles, latent_steps
        self.carries_gradient = cycles == 1
        self.f = self.network(puzzle, layers)
        self.f_y = self.network(puzzle, layers) if separate_networks else self.f
        self.average = RunningAverage(self.hidden_size) if running_average else None
        many = latents > 1
        self.z_names = [f"z{i + 1}" if many else "z" for i in range(latents)]
        self.register_buffer("y_start", truncated_normal(self.hidden_size, std=1.0))
        self.register_buffer("z_start", truncated_normal(latents, self.hidden_size, std=1.0))

    @property
    def passes_per_step(self) -> int:
        """T * (n + 1) evaluations of the network."""
        return self.cycles * (self.latent_steps + 1)

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Sets y and every z to their fixed starts."""
        starts = zip(["y", *self.z_names], [self.y_start, *self.z_start], strict=True)
        first = {name: self.repeated(start, question) for name, start in starts}
        if self.average is not None:
            first["y_weight"] = torch.zeros_like(first["y"][..., :1], dtype=torch.float32)
        return first

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Runs T cycles, the last with gradient: z <- f(x + y + z) n times, then y <- f(y + z)."""
        y, z = latents["y"], [latents[name] for name in self.z_names]
        bias = self.f.bias(self.dtype)
        bias_y = bias if self.f_y is self.f else self.f_y.bias(self.dtype)
        kept = {} if self.average is None else {"y_weight": latents["y_weight"]}
        for cycle in range(self.cycles):
            with nullcontext() if cycle == self.cycles - 1 else torch.no_grad():
                proposal = self._cycle(x, condition, y, z, bias, bias_y)
                if self.average is None:
                    y = proposal
                else:
                    y, kept["y_weight"] = self.average(y, kept["y_weight"], proposal)
        return {"y": y, **kept, **dict(zip(self.z_names, z, strict=True))}

    def _cycle(
        self,
        x: Tensor,
        condition: Tensor | None,
        y: Tensor,
        z: list[Tensor],
        bias: list[Tensor | None],
        bias_y: list[Tensor | None],
    ) -> Tensor:
        """Updates z <- f(x + y + z) n times, in the list z; returns the new y, f(y + z)."""
        if not z:  # ablation: y <- f(x + y), n + 1 times
            for _ in range(self.latent_steps + 1):
                y = self.f(x + y, bias)
            return y
        for update in range(self.latent_steps):
            z[update % len(z)] = self.f(x + y + reduce(torch.add, z), bias)
        y = y + reduce(torch.add, z)
        new: Tensor = self.f_y(y if condition is None else y + condition, bias_y)
        return new

    def answer(self, latents: TensorDict) -> Tensor:
        """Returns y."""
        y: Tensor = latents["y"]
        return y
