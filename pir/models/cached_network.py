"""The two networks of a dual architecture, Base and Coprocessor, and what builds them."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pir.models.network import KeysValues, Network

Cache = list[KeysValues]
"""Keys and values by layer."""


class CachedNetwork(nn.Module, ABC):
    """A network whose keys and values (the cache) another may attend to: Base or Coprocessor."""

    def body(self) -> nn.Module:
        """Returns the part with pretrained weights, if any; by default all of the network."""
        return self

    @abstractmethod
    def encode(self, x: Tensor) -> Cache:
        """Returns keys and values, by layer, of an embedded question (B, L, D)."""

    @abstractmethod
    def update_latents(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Updates latents (B, N, D) that attend to a cache; returns them, and their own cache."""

    @abstractmethod
    def decode(
        self, x: Tensor, cache: Cache, latents: Tensor, latent_cache: Cache | None
    ) -> Tensor:
        """Returns what the policy on a question (B, L, D) is read off.

        Args:
            x: the embedded question.
            cache: what `encode` returned for it.
            latents: (B, N, D), attended to beside the question.
            latent_cache: keys and values of the latents in the other network, attended to in every
                layer; None to leave them out.

        Returns:
            float of shape (B, L, D).
        """


class Transformer(CachedNetwork):
    """A small transformer, in which all tokens attend to all.

    Args:
        network: its blocks must attend, but for `forward`.
    """

    def __init__(self, network: Network) -> None:
        """Takes the network."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Maps an embedded question (B, L, D) to what its answer is read off."""
        result: Tensor = self.network(x)
        return result

    def encode(self, x: Tensor) -> Cache:
        """See `CachedNetwork.encode`."""
        cache: Cache = []
        self.network(x, kept=cache)
        return cache

    def update_latents(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """See `CachedNetwork.update_latents`."""
        latent_cache: Cache = []
        unrelated = [None] * len(cache)
        return self.network(latents, unrelated, memory=cache, kept=latent_cache), latent_cache

    def decode(
        self, x: Tensor, cache: Cache, latents: Tensor, latent_cache: Cache | None
    ) -> Tensor:
        """See `CachedNetwork.decode`; the question is encoded again, beside the latents."""
        read: Tensor = self.network(torch.cat([x, latents], 1), memory=latent_cache)
        return read[:, : x.shape[1]]


class Backbone(ABC):
    """Builds networks of one kind; a component of the settings (`model.backbone`).

    Attributes:
        pretrained: whether their weights are those of a model that was trained before.
    """

    pretrained: bool

    @abstractmethod
    def build(self, width: int, tokens: int) -> CachedNetwork:
        """Builds a network.

        Args:
            width: D, of the embeddings.
            tokens: the most that it will read at once, its cache included.

        Raises:
            UserError: if it cannot read so many.
        """
