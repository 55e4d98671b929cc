"""The contract of a reasoner: a recursive network whose every iteration improves a policy.

Shapes: B puzzles, L tokens, V vocabulary, D hidden size.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor, nn

NEVER = -1e4
"""Logit of a token that its position may not hold; finite, so that KL terms stay defined."""


class Policy(NamedTuple):
    """What a reasoner reads out of its state.

    Attributes:
        logits: float32 of shape (B, L, V); tokens that the position may not hold are at `NEVER`.
        halt_logit: float32 of shape (B,), the logit of "this answer is right", or None.
    """

    logits: Tensor
    halt_logit: Tensor | None


class Reasoner(nn.Module, ABC):
    """A network that holds a policy over answers in its state and improves it step by step.

    Attributes:
        improvement_steps: the number of steps K that it is trained for.
    """

    improvement_steps: int

    @property
    @abstractmethod
    def passes_per_step(self) -> int:
        """Network evaluations of one improvement step, T * (n + 1) for a TRM."""

    @abstractmethod
    def start(self, question: Tensor) -> TensorDict:
        """Returns the state before the first step, batch size B, for questions of shape (B, L)."""

    @abstractmethod
    def improve(self, question: Tensor, state: TensorDict, k: Tensor) -> TensorDict:
        """Performs one improvement step.

        Args:
            question: uint8 of shape (B, L), injected again at every update.
            state: the state before the step.
            k: int64 of shape (B,), the number of this step, counted from 1.
        """

    @abstractmethod
    def read_out(self, state: TensorDict) -> Policy:
        """Reads the policy that a state holds."""

    def parameter_count(self) -> int:
        """Returns the number of trained parameters."""
        return sum(p.numel() for p in self.parameters())


def mask_logits(logits: Tensor, slot_mask: Tensor) -> Tensor:
    """Puts the tokens that a position may not hold at `NEVER`; returns float32."""
    return torch.where(slot_mask, logits.float(), NEVER)
