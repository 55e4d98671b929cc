"""The contract of an objective, and the weighted sum of terms that every preset is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal, get_args

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.config import check_choice
from pir.depth import RandomDepth
from pir.errors import UserError
from pir.improvement import Lanes, Step
from pir.puzzle import Puzzle
from pir.reasoner import Condition

Update = Literal["step", "rollout"]


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

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Returns what the term needs to know of new puzzles; first dimension B."""
        return {}

    def condition(self, lanes: Lanes, optimizer_step: int) -> dict[str, Tensor]:
        """Returns what the reasoner is told before a step, fields of `Condition`."""
        return {}

    @abstractmethod
    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the loss of one step, a mean over lanes: a scalar with gradient."""

    def experience(self, puzzle: Puzzle, steps: Sequence[Step]) -> dict[str, Tensor]:
        """Returns what the term keeps of a rollout for all updates that are made with it."""
        return {}

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the loss of a rollout of K steps: by default the mean over its steps."""
        return torch.stack([self.loss(puzzle, step) for step in steps]).mean()


class RolloutTerm(Term):
    """A term that judges whole rollouts; it needs an objective with `update="rollout"`."""

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the loss of a rollout of one step."""
        return self.rollout_loss(puzzle, [step], self.experience(puzzle, [step]))


class Objective(ABC):
    """What the training loop minimises.

    Attributes:
        update: "step" to update the parameters after every improvement step, "rollout" to see a
            whole rollout of K steps first.
        backprop_steps: the last steps of a rollout that are one graph; 1 for every step by itself,
            see `improvement_steps`. Losses of earlier steps then have no gradient.
        depth: draws the number of steps of a rollout; None for K.
        names: the names that losses may have.
        phases: the optimizer steps at which a part of it begins to act.
    """

    update: Update
    backprop_steps: int = 1
    depth: RandomDepth | None = None
    names: tuple[str, ...]
    phases: tuple[int, ...] = (0,)

    @abstractmethod
    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> TensorDict:
        """Adds to freshly sampled puzzles whatever the losses of K steps will need."""

    @abstractmethod
    def condition(self, lanes: Lanes, optimizer_step: int) -> Condition:
        """Says what the reasoner is told before the next step."""

    @abstractmethod
    def updates(
        self, puzzle: Puzzle, steps: Sequence[Step], optimizer_step: int
    ) -> Iterator[dict[str, Tensor]]:
        """Yields the named, weighted losses of every update that is made with some steps.

        The loop minimises their sum, and updates the parameters before it asks for the next.

        Args:
            puzzle: judges the answers.
            steps: the last step or, by `update`, all steps of a rollout; with gradient.
            optimizer_step: number of the next update.
        """


class Combined(Objective):
    """A weighted sum of terms.

    Args:
        terms: the terms by name.
        update: see `Objective`.
        epochs: updates per rollout; all but the first take its steps again, from the same states.
        backprop_steps: see `Objective`.
        depth: see `Objective`.

    Raises:
        UserError: if at some optimizer step no term acts, or terms, `update` and the other
            settings do not fit.
    """

    def __init__(
        self,
        terms: Mapping[str, Term],
        update: Update = "step",
        epochs: int = 1,
        backprop_steps: int = 1,
        depth: RandomDepth | None = None,
    ) -> None:
        """Keeps the terms in the order given."""
        if not terms:
            raise UserError("objective.terms is empty: at least one term is needed")
        check_choice("objective.update", update, get_args(Update))
        if epochs < 1 or (epochs > 1 and update == "step"):
            raise UserError(f"objective.epochs={epochs}: 1, or more with objective.update=rollout")
        if backprop_steps < 1 or (backprop_steps > 1 and (update == "step" or epochs > 1)):
            raise UserError(
                f"objective.backprop_steps={backprop_steps}: 1, or more with "
                "objective.update=rollout and objective.epochs=1"
            )
        if depth is not None and update == "step":
            raise UserError("objective.depth draws whole rollouts: set objective.update=rollout")
        for name, term in terms.items():
            if isinstance(term, RolloutTerm) and update == "step":
                raise UserError(f"objective.terms.{name} needs objective.update=rollout")
        for start in (0, *(t.until_step for t in terms.values() if t.until_step is not None)):
            if not any(term.acts_at(start) for term in terms.values()):
                raise UserError(
                    f"no term of the objective acts at optimizer step {start}: check weight, "
                    "from_step and until_step of objective.terms"
                )
        self.terms, self.update, self.names = dict(terms), update, tuple(terms)
        self.epochs, self.backprop_steps, self.depth = epochs, backprop_steps, depth
        self.phases = tuple(sorted({0, *(t.from_step for t in terms.values() if t.weight > 0)}))

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> TensorDict:
        """Asks every term for its targets."""
        for name, term in self.terms.items():
            if term.weight == 0:
                continue
            prepared = term.prepare(puzzle, puzzles, num_steps)
            if taken := sorted(set(prepared) & set(puzzles.keys())):
                raise UserError(
                    f"objective.terms.{name} and another term both prepare {', '.join(taken)}"
                )
            puzzles.update(prepared)
        return puzzles

    def condition(self, lanes: Lanes, optimizer_step: int) -> Condition:
        """Gathers what the terms tell the reasoner."""
        told: dict[str, Tensor] = {}
        for term in self._acting(optimizer_step).values():
            told |= term.condition(lanes, optimizer_step)
        return Condition(**told)

    def updates(
        self, puzzle: Puzzle, steps: Sequence[Step], optimizer_step: int
    ) -> Iterator[dict[str, Tensor]]:
        """Yields each acting term's weighted loss, once per epoch."""
        terms = self._acting(optimizer_step)
        experience = {name: term.experience(puzzle, steps) for name, term in terms.items()}
        for epoch in range(self.epochs):
            if epoch > 0:
                steps = [step.retaken(puzzle) for step in steps]
            yield {
                name: term.weight * term.rollout_loss(puzzle, steps, experience[name])
                for name, term in terms.items()
            }

    def _acting(self, optimizer_step: int) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if term.acts_at(optimizer_step)}


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns log p(token) at every position: logits (..., V) and tokens (...) to (...)."""
    return logits.log_softmax(-1).gather(-1, tokens.long()[..., None]).squeeze(-1)


def cell_log_probs(step: Step, answers: Tensor) -> Tensor:
    """Returns log p of every cell of M answers per puzzle, 0 at cells that are not written.

    Args:
        step: gives the improved policy.
        answers: uint8 of shape (B, M, L).

    Returns:
        float32 of shape (B, M, L), with gradient.
    """
    log_policy = step.improved.logits.log_softmax(-1)
    per_cell = log_policy.gather(-1, answers.long().transpose(1, 2))
    return torch.where(step.written[..., None], per_cell, 0.0).transpose(1, 2)


def answer_log_probs(step: Step, answers: Tensor) -> Tensor:
    """Returns log p(answer), float32 of shape (B, M), of answers (B, M, L), with gradient."""
    return cell_log_probs(step, answers).sum(-1)


def right_answers(puzzle: Puzzle, puzzles: TensorDict, limit: int) -> tuple[Tensor, Tensor]:
    """Lists right answers: the label alone where it is the only one, or they are not listed.

    Returns:
        answers, uint8 of shape (B, M, L), and which are valid, bool of shape (B, M).
    """
    answers = puzzles["solution"][:, None]
    valid = torch.ones_like(answers[..., 0], dtype=torch.bool)
    if not puzzle.unique:
        with suppress(NotImplementedError):
            answers, valid = puzzle.solutions(puzzles["question"], limit)
    return answers, valid


def lane_means(values: Tensor, counted: Tensor) -> Tensor:
    """Returns the mean over counted cells, (B,), of values (B, L); 0 where none is counted."""
    return torch.where(counted, values, 0.0).sum(1) / counted.sum(1).clamp(min=1)


def mean_over_written(values: Tensor, step: Step) -> Tensor:
    """Returns the mean over written cells, then over lanes, of values (B, L): a scalar."""
    return lane_means(values, step.written).mean()


def label_nll(step: Step, logits: Tensor) -> Tensor:
    """Returns -log p(label), the mean over written cells in nats, (B,), of a policy (B, L, V)."""
    return -lane_means(token_log_probs(logits, step.puzzles["solution"]), step.written)
