"""The parts of a dual architecture: what can play the Base, and what the Coprocessor."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pir.models.network import KeysValues, Network

Cache = list[KeysValues]
"""Keys and values by layer."""


class Speaker(nn.Module, ABC):
    """A network that can play the Base or the Coprocessor."""

    def body(self) -> nn.Module:
        """Returns what a speaker of pretrained weights has of them; by default all of it."""
        return self

    @abstractmethod
    def read(self, x: Tensor) -> Cache:
        """Reads an embedded question (B, L, D)."""

    @abstractmethod
    def think(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Reads latents (B, N, D) beside another's cache; returns them changed, and their cache."""

    @abstractmethod
    def answer(self, x: Tensor, cache: Cache, latents: Tensor, thoughts: Cache | None) -> Tensor:
        """Answers a question (B, L, D).

        Args:
            x: the embedded question.
            cache: what `read` returned for it.
            latents: (B, N, D), read beside the question.
            thoughts: their cache in the other network, read in every layer too; None for not.

        Returns:
            What the policy is read off, (B, L, D).
        """


class Transformer(Speaker):
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

    def read(self, x: Tensor) -> Cache:
        """See `Speaker.read`."""
        cache: Cache = []
        self.network(x, kept=cache)
        return cache

    def think(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """See `Speaker.think`."""
        thoughts: Cache = []
        unrelated = [None] * len(cache)
        return self.network(latents, unrelated, memory=cache, kept=thoughts), thoughts

    def answer(self, x: Tensor, cache: Cache, latents: Tensor, thoughts: Cache | None) -> Tensor:
        """See `Speaker.answer`; the question is read anew, for its tokens attend to the latents."""
        read: Tensor = self.network(torch.cat([x, latents], 1), memory=thoughts)
        return read[:, : x.shape[1]]


class Backbone(ABC):
    """Makes speakers of one kind; a component of the config (`model.backbone`).

    Attributes:
        pretrained: whether their weights are those of a model that was trained before.
    """

    pretrained: bool

    @abstractmethod
    def build(self, width: int, tokens: int) -> Speaker:
        """Builds a speaker.

        Args:
            width: D, of the embeddings.
            tokens: the most that it will read at once, its cache included.

        Raises:
            UserError: if it cannot read so many.
        """
