"""Dual-architecture latent reasoning: a Base that answers, a Coprocessor that updates latents.

The Base reads the question; the Coprocessor reads the Base's cache of keys and values with N
latents, soft tokens at first, and returns them changed; the Base answers with the latents at
hand (Liu et al. 2024, arXiv:2412.17747; Coda-Forno et al. 2025, arXiv:2510.00494):

    cache = Base(x),  latents_k = Coprocessor(latents_(k-1); cache),  y_k = Base(x; latents_k)

A step is one such exchange; further steps update the same latents. The settings span
what those papers compare: a frozen Base with the latents beside its input (Liu et al.:
`train_base=false`), latents whose keys and values enter every layer too (H1: also `channel=cache`),
joint training (H2), and one network in both roles (the unified soft-embedding baseline,
`SoftEmbedding`).
"""

from typing import Unpack

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.checks import check_choice
from pir.models.cached_network import Backbone, CachedNetwork, Transformer
from pir.models.network import truncated_normal
from pir.models.puzzle_model import PuzzleModel, Shared, at_least_one
from pir.puzzle import Puzzle

CHANNELS = ("embeddings", "cache")


class Dual(PuzzleModel):
    """Base and Coprocessor over the tokens of one puzzle; a step is one exchange.

    Args:
        puzzle: see `PuzzleModel`.
        layers: blocks of the Base, and of the Coprocessor.
        backbone: makes both in place of small transformers, such as a language model.
        latents: N, how many latents they exchange.
        channel: how the Base sees them: "embeddings", beside its input, or "cache", their keys and
            values in every layer of the Coprocessor as well (H1).
        train_base: whether the Base is trained too (H2); if not, it needs weights: `init=RUN`, or a
            pretrained backbone, whose adapters and the puzzle's embeddings are still trained.
        shared: see `PuzzleModel`; `mixer` is "attention", as no other reads a cache.

    Raises:
        UserError: if a setting is out of range.
    """

    unified: bool = False
    reads_start = False

    def __init__(
        self,
        puzzle: Puzzle,
        layers: int = 2,
        backbone: Backbone | None = None,
        latents: int = 4,
        channel: str = "embeddings",
        train_base: bool = True,
        **shared: Unpack[Shared],
    ) -> None:
        """Initialises the parameters."""
        super().__init__(puzzle, **(Shared(mixer="attention") | shared))
        at_least_one(layers=layers, latents=latents)
        check_choice("model.channel", channel, CHANNELS)
        check_choice("model.mixer", self.mixer, ("attention",))
        self.channel = channel

        def network(related: bool) -> CachedNetwork:
            if backbone is None:
                return Transformer(self.network(puzzle, layers, related=related))
            # at most the question, latents and their cache, and the question once more
            return backbone.build(self.hidden_size, tokens=2 * (puzzle.length + latents))

        self.base = network(related=True)
        # latents have no places on the board, so nothing relates them
        self.coprocessor = self.base if self.unified else network(related=False)
        self.soft_tokens = nn.Parameter(truncated_normal(latents, self.hidden_size, std=1.0))
        if not train_base:
            pretrained = backbone is not None and backbone.pretrained
            alone = (self.token, self.position, self.owner_map, self.base, self.logit_head)
            for part in (self.base.body(),) if pretrained else alone:
                if part is not None:
                    part.requires_grad_(False)
            self.needs_init = not pretrained

    @property
    def passes_per_step(self) -> int:
        """The Base encodes, the Coprocessor updates the latents, the Base decodes."""
        return 3

    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Starts with the soft tokens, and no answer."""
        latents = self.soft_tokens.to(self.dtype).expand(len(question), -1, -1)
        return {"latents": latents, "y": self.blank(question)}

    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Exchanges the latents once."""
        soft = self.soft_tokens.to(x.dtype)  # here once more, for their gradient
        given = torch.where(k[:, None, None] == 1, soft, latents["latents"])
        cache = self.base.encode(x)
        updated, latent_cache = self.coprocessor.update_latents(given, cache)
        y = self.base.decode(x, cache, updated, latent_cache if self.channel == "cache" else None)
        return {"latents": updated, "y": y}

    def answer(self, latents: TensorDict) -> Tensor:
        """Returns the Base's output."""
        y: Tensor = latents["y"]
        return y

    def slots(self, state: TensorDict) -> Tensor:
        """Returns the latents that are exchanged, (B, N, D)."""
        latents: Tensor = state["latents"]
        return latents.float()


class SoftEmbedding(Dual):
    """The unified baseline: one network is Base and Coprocessor, at the same latent budget."""

    unified = True
