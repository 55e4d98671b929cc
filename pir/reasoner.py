"""The contract of a reasoner: a recursive network whose every iteration improves a policy.

Shapes: B puzzles, L tokens, V vocabulary, D hidden size.
"""

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.errors import UserError

NEVER = -1e4
"""Logit of a token that its position may not hold; finite, so that KL terms stay defined."""


class Policy(NamedTuple):
    """What a reasoner reads out of its state.

    Attributes:
        logits: float32 of shape (B, L, V); tokens that the position may not hold are at `NEVER`.
        halt_logit: float32 of shape (B,), the logit of "this answer is right", or None.
        continue_logit: float32 of shape (B,), the logit of "a later answer will be right", or None.
        value: float32 of shape (B,), the score that is expected of the steps to come, or None.
    """

    logits: Tensor
    halt_logit: Tensor | None = None
    continue_logit: Tensor | None = None
    value: Tensor | None = None

    def halts(self) -> Tensor:
        """Says where the halt head would stop, bool of shape (B,).

        Raises:
            UserError: if the model has no halt head.
        """
        if self.halt_logit is None:
            raise UserError("this needs a halt head: set model.halt_head=true")
        rival = 0.0 if self.continue_logit is None else self.continue_logit
        return self.halt_logit > rival


class Optimality(IntEnum):
    """What the answer of a step should be: the token of classifier-free guidance."""

    NONE = 0
    """Any answer that occurs: the unconditional policy."""
    GOOD = 1
    """An answer that the verifier accepts."""
    BAD = 2
    """One that it refuses."""


class Condition(NamedTuple):
    """What a step is told beside question and state; the reasoner chooses what is None.

    Attributes:
        optimality: int64 of shape (B,), values of `Optimality`; GOOD if None.
        partial_answer: float32 of shape (B, L, V), one-hot at the cells of an answer that are
            shown, 0 elsewhere; if None, what the rollout itself has come to.
    """

    optimality: Tensor | None = None
    partial_answer: Tensor | None = None


SHOWN = ("order", "partial_answer")
"""Entries of a state that are no latents, but what the next step will be shown."""

NOTHING = Condition()
"""A step is told nothing."""


class Reasoner(nn.Module, ABC):
    """A network that holds a policy over answers in its state and improves it step by step.

    What happens to a puzzle does not depend on the others in its batch. Reasoners that need random
    numbers draw them with `pir.noise`.

    Attributes:
        improvement_steps: the number of steps K that it is trained for.
        reads_own_answer: whether every step but the first reads the answer held now in place of
            the question (as the code of arXiv:2511.16886 does; its text keeps the question).
        conditional: whether steps can be conditioned on an optimality token.
        stochastic: whether rollouts draw their answers, so that samples of answers are rollouts;
            else they are draws from the policy of one.
        needs_init: whether it has parts that are never trained, and so needs another run's weights.
        steps_taken: improvement steps of single lanes so far, for the count of forward passes.
    """

    improvement_steps: int
    reads_own_answer: bool = False
    conditional: bool = False
    stochastic: bool = False
    needs_init: bool = False
    steps_taken: int = 0

    @property
    @abstractmethod
    def passes_per_step(self) -> int:
        """Network evaluations of one improvement step, T * (n + 1) for a TRM."""

    @abstractmethod
    def start(self, question: Tensor) -> TensorDict:
        """Returns the state before the first step, batch size B, for questions of shape (B, L)."""

    @abstractmethod
    def improve(
        self, question: Tensor, state: TensorDict, k: Tensor, condition: Condition = NOTHING
    ) -> TensorDict:
        """Performs one improvement step.

        Args:
            question: uint8 of shape (B, L), injected again at every update.
            state: the state before the step.
            k: int64 of shape (B,), the number of this step, counted from 1.
            condition: what else the step is told, injected at every update too; a reasoner
                ignores what it has no input for.
        """

    @abstractmethod
    def read_out(self, state: TensorDict) -> Policy:
        """Reads the policy that a state holds."""

    def slots(self, state: TensorDict) -> Tensor:
        """Returns the latent vectors that an analysis tells apart, float32 of shape (B, S, D).

        By default the vectors of all latents of the state; of the largest width, if they differ.
        """
        leaves = latents_of(state)
        vectors = [
            leaf.reshape(len(leaf), -1, leaf.shape[-1] if leaf.ndim > 1 else 1) for leaf in leaves
        ]
        width = max(part.shape[-1] for part in vectors)
        return torch.cat([part for part in vectors if part.shape[-1] == width], 1)

    def parameter_count(self) -> int:
        """Returns the number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def latents_of(state: TensorDict) -> list[Tensor]:
    """Returns the latents of a state in the order of their names, float32."""
    latents = state.exclude(*SHOWN)
    return [latents[key].float() for key in sorted(latents.keys(True, True))]


def mask_logits(logits: Tensor, slot_mask: Tensor) -> Tensor:
    """Puts the tokens that a position may not hold at `NEVER`; returns float32."""
    return torch.where(slot_mask, logits.float(), NEVER)
