"""The contract of an objective, and the weighted sum of terms that every preset is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step
from pir.puzzle import Puzzle

Update = Literal["step", "rollout"]
UPDATES: tuple[Update, ...] = ("step", "rollout")


class Term(ABC):
    """One loss. It is asked for targets when puzzles enter the lanes, for its loss at every step.

    Args:
        weight: factor in the objective, at least 0.
        from_step: first optimizer step at which the term acts (a warm start by other terms).
        until_step: first optimizer step at which it no longer acts; None for never.
    """

    def __init__(
        self, weight: float = 1.0, from_step: int = 0, until_step: int | None = None
    ) -> None:
        """Keeps weight and schedule."""
        if weight < 0:
            raise UserError(f"objective: a term's weight is {weight}; it must be at least 0")
        self.weight, self.from_step, self.until_step = weight, from_step, until_step

    def acts_at(self, optimizer_step: int) -> bool:
        """Says whether the term takes part in this optimizer step."""
        before_end = self.until_step is None or optimizer_step < self.until_step
        return self.weight > 0 and self.from_step <= optimizer_step and before_end

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict) -> dict[str, Tensor]:
        """Returns what the term needs to know of new puzzles; first dimension B."""
        return {}

    @abstractmethod
    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the loss of one step, a mean over lanes: a scalar with gradient."""


class Objective(ABC):
    """What the training loop minimises.

    Attributes:
        update: "step" to update the parameters after every improvement step, "rollout" to gather
            the gradient of a whole rollout of K steps first.
        names: the names that `losses` may use.
    """

    update: Update
    names: tuple[str, ...]

    @abstractmethod
    def prepare(self, puzzle: Puzzle, puzzles: TensorDict) -> TensorDict:
        """Adds to freshly sampled puzzles whatever the losses will need."""

    @abstractmethod
    def losses(self, puzzle: Puzzle, step: Step, optimizer_step: int) -> dict[str, Tensor]:
        """Returns the named losses of one step, weighted; the loop minimises their sum."""


class Combined(Objective):
    """A weighted sum of terms.

    Args:
        terms: the terms by name.
        update: see `Objective`.

    Raises:
        UserError: if at some optimizer step no term acts, or `update` is unknown.
    """

    def __init__(self, terms: Mapping[str, Term], update: Update = "step") -> None:
        """Keeps the terms in the order given."""
        if not terms:
            raise UserError("objective.terms is empty: at least one term is needed")
        if update not in UPDATES:
            raise UserError(f"objective.update={update}: allowed are {', '.join(UPDATES)}")
        for start in (0, *(t.until_step for t in terms.values() if t.until_step is not None)):
            if not any(term.acts_at(start) for term in terms.values()):
                raise UserError(
                    f"no term of the objective acts at optimizer step {start}: check weight, "
                    "from_step and until_step of objective.terms"
                )
        self.terms, self.update, self.names = dict(terms), update, tuple(terms)

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict) -> TensorDict:
        """Asks every term for its targets."""
        for term in self.terms.values():
            puzzles.update(term.prepare(puzzle, puzzles))
        return puzzles

    def losses(self, puzzle: Puzzle, step: Step, optimizer_step: int) -> dict[str, Tensor]:
        """Returns each acting term's weighted loss."""
        return {
            name: term.weight * term.loss(puzzle, step)
            for name, term in self.terms.items()
            if term.acts_at(optimizer_step)
        }


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns log p(token) at every position: logits (..., V) and tokens (...) to (...)."""
    return logits.log_softmax(-1).gather(-1, tokens.long()[..., None]).squeeze(-1)


def answer_log_probs(step: Step, answers: Tensor) -> Tensor:
    """Returns log p(answer), summed over written cells, of M answers per puzzle.

    Args:
        step: gives the improved policy.
        answers: uint8 of shape (B, M, L).

    Returns:
        float32 of shape (B, M), with gradient.
    """
    log_policy = step.improved.logits.log_softmax(-1)
    per_cell = log_policy.gather(-1, answers.long().transpose(1, 2))
    return torch.where(step.written[..., None], per_cell, 0.0).sum(1)
