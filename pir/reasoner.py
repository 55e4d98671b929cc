"""The contract of a reasoner: a recursive network whose every iteration improves a policy.

Shapes: B puzzles, L tokens, V vocabulary, D hidden size.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.errors import UserError

MASKED_LOGIT = -1e4
"""Logit of a token that its position may not hold; finite, so that KL terms stay defined."""


class Policy(NamedTuple):
    """What a reasoner reads out of its state.

    Attributes:
        logits: float32 of shape (B, L, V); `MASKED_LOGIT` at tokens that the position may not hold.
        halt_logit: float32 of shape (B,), the logit of "this answer is right", or None.
        continue_logit: float32 of shape (B,), the logit of "a later answer will be right", or None.
        value: float32 of shape (B,), the score that the last answer is expected to have, or None.
    """

    logits: Tensor
    halt_logit: Tensor | None = None
    continue_logit: Tensor | None = None
    value: Tensor | None = None


def refuse_infinite(logits: Tensor) -> None:
    """Refuses logits of minus infinity: entropy and KL of such a policy are no numbers.

    Raises:
        UserError: naming the value to take.
    """
    if bool(logits.isneginf().any()):
        raise UserError(
            "the reasoner's logits hold -inf, so that entropy and KL are no numbers: give tokens "
            f"that are not allowed pir.reasoner.MASKED_LOGIT ({MASKED_LOGIT:g})"
        )


def halts(halt_logit: Tensor, continue_logit: Tensor | None) -> Tensor:
    """Returns where the halt head would stop, bool of shape (B,); see `Policy`."""
    return halt_logit > (0.0 if continue_logit is None else continue_logit)


class Optimality(IntEnum):
    """What the answer of a step should be: the token of classifier-free guidance."""

    NONE = 0
    """Any answer that occurs: the unconditional policy."""
    GOOD = 1
    """An answer that the verifier accepts."""
    BAD = 2
    """One that it refuses."""


class Reasoner(nn.Module, ABC):
    """A network that holds a policy over answers in its state and improves it step by step.

    What happens to a puzzle does not depend on the others in its batch. Reasoners that need random
    numbers draw them with `pir.noise`.

    Attributes:
        improvement_steps: the number of steps K that it is trained for.
        inputs: names of the conditions that a step reads beside question and latents; those of the
            built-in reasoners are

            * `optimality`, int64 of shape (B,), values of `Optimality`; GOOD if it is not given;
            * `partial_answer`, float32 of shape (B, L, V), one-hot at the cells of an answer that
              are shown, 0 elsewhere; rollouts then draw answers, and samples of answers are ends of
              rollouts;
            * `own_answer`, uint8 of shape (B, L), the answer held now, read in place of the
              question (as the code of arXiv:2511.16886 does; its text keeps the question);
            * `written_answer`, uint8 of shape (B, L), the answer written so far, read beside the
              question: with both the state of an `Episode`; the question itself before step 1.
        reads_start: whether the first step reads the state that it is given; if not, another start
            or a late one changes nothing.
        carries_gradient: whether gradient reaches through a whole step, to the state before it; if
            not, back-propagation through time ends where a step begins.
        needs_init: whether it has parts that are never trained, and so needs another run's weights.
    """

    improvement_steps: int
    inputs: frozenset[str] = frozenset()
    reads_start: bool = True
    carries_gradient: bool = True
    needs_init: bool = False

    @property
    @abstractmethod
    def passes_per_step(self) -> int:
        """Network evaluations of one improvement step, T * (n + 1) for a TRM."""

    @abstractmethod
    def start(self, question: Tensor) -> TensorDict:
        """Returns the state before the first step, batch size B, for questions of shape (B, L)."""

    @abstractmethod
    def improve(
        self, question: Tensor, state: TensorDict, k: Tensor, condition: TensorDict | None = None
    ) -> TensorDict:
        """Performs one improvement step.

        Args:
            question: uint8 of shape (B, L), injected again at every update.
            state: the latents before the step.
            k: int64 of shape (B,), the number of this step, counted from 1.
            condition: what else the step reads, by name, batch size B: its context and what an
                objective tells. A reasoner ignores what is not among its `inputs`.
        """

    @abstractmethod
    def read_out(self, state: TensorDict) -> Policy:
        """Reads the policy that a state holds."""

    def context(self, question: Tensor) -> TensorDict:
        """Returns what the first step reads beside question and latents; by default nothing."""
        return TensorDict(batch_size=question.shape[:1])

    def next_context(
        self, question: Tensor, context: TensorDict, logits: Tensor, answer: Tensor, k: Tensor
    ) -> TensorDict:
        """Returns what the step after step k reads; by default the same.

        Args:
            question: uint8 of shape (B, L).
            context: what step k read, without an objective's condition.
            logits: float32 of shape (B, L, V), the policy after step k.
            answer: uint8 of shape (B, L), the answer that step k wrote, see `Iterate`.
            k: int64 of shape (B,).
        """
        return context

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

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Returns the parameters that are trained, by name."""
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]

    def parameter_count(self) -> int:
        """Returns the number of trained parameters."""
        return sum(p.numel() for _, p in self.trained_parameters())


@contextmanager
def in_use(reasoner: nn.Module) -> Iterator[None]:
    """Puts a reasoner into evaluation mode, without dropout, and every part back into its own."""
    modes = [(module, module.training) for module in reasoner.modules()]
    reasoner.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def latents_of(state: TensorDict) -> list[Tensor]:
    """Returns the latents of a state in the order of their names, float32."""
    return [state[key].float() for key in sorted(state.keys(True, True))]
