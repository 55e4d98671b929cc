"""The contract of a loss, and the objective: a weighted sum of losses with a schedule.

Shapes: a rollout has K steps of B lanes; N stands for any leading shape, such as (K, B).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Lanes, Rollout, changed, retake

Update = Literal["step", "window", "rollout"]


class Term(ABC):
    """One loss of an objective.

    Attributes:
        outputs: what it needs of the read-out beside logits: fields of `Policy`.
        conditions: names of the conditions that it gives the reasoner (`Reasoner.inputs`), which
            then knows more than in use.
        whole_rollouts: whether it judges whole rollouts, and so needs `update="rollout"`.
        sampled_answers: whether the answer that a step writes is drawn from the policy: the action
            of an episode, which the next step reads. Else the most likely answer is written.
        lanes_per_puzzle: lanes side by side that hold the same puzzle.
        inputs: names of what the reasoner must read (`Reasoner.inputs`).
        unrolls: whether its loss takes several steps in a row with gradient. The reasoner must
            carry gradient through a step, and read no answer that would change between them.
        figure_names: what it says of an update beside its loss, see `figures`.
        whole_batch: whether it needs numbers of all lanes at once, such as the spread of their
            advantages, so that their gradient cannot be accumulated part by part.
    """

    outputs: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    whole_rollouts: bool = False
    sampled_answers: bool = False
    lanes_per_puzzle: int = 1
    inputs: tuple[str, ...] = ()
    unrolls: bool = False
    whole_batch: bool = False
    figure_names: tuple[str, ...] = ()

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Returns what the term needs to know of new puzzles; first dimension B."""
        return {}

    def condition(self, lanes: Lanes) -> dict[str, Tensor]:
        """Returns the values of `conditions` for the next step."""
        return {}

    def collect(self, rollout: Rollout, puzzle: Puzzle) -> dict[str, Tensor]:
        """Returns what the term keeps of a rollout (K, B) for all updates that are made with it.

        It is found in `rollout.experience` then; first dimensions (K, B).
        """
        return {}

    @abstractmethod
    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the loss of a rollout of shape (K, B), a mean over its lanes.

        Args:
            rollout: all steps of a rollout or, where the parameters are updated after every step,
                one (K = 1); `after` has gradient.
            puzzle: judges answers.
            reasoner: took the steps.
        """

    def figures(self, rollout: Rollout) -> dict[str, Tensor]:
        """Returns means over lanes that tell how an update goes, in the order of `figure_names`.

        They are columns of metrics.csv, under the term's name.
        """
        return {}


class Losses(NamedTuple):
    """What one update is made of.

    Attributes:
        terms: the weighted losses by name, whose sum is minimised.
        figures: what else the terms say of it, by name of term and figure, without gradient.
        scores: the verdicts that it learns from.
    """

    terms: dict[str, Tensor]
    figures: dict[str, Tensor]
    scores: Tensor


class RandomDepth:
    """Draws how many steps a training rollout takes.

    r = min(Poisson(e^tau) + 1, 2 K) with tau ~ N(log K - s^2 / 2, s) (recurrent depth,
    arXiv:2502.05171, section 3.3; there without the cut), from torch's global random state.

    Args:
        deviation: s, of the logarithm of the rate.
    """

    def __init__(self, deviation: float = 0.5) -> None:
        """Keeps the deviation."""
        if not deviation >= 0:
            raise UserError(f"objective.depth.deviation={deviation}: must be at least 0")
        self.deviation = deviation

    def longest(self, mean: int) -> int:
        """Returns the most steps that are drawn around a mean K."""
        return 2 * mean

    def draw(self, mean: int) -> int:
        """Returns a number of steps, at least 1."""
        tau = math.log(mean) - self.deviation**2 / 2 + self.deviation * torch.randn(())
        return min(int(torch.poisson(tau.exp())) + 1, self.longest(mean))


@dataclass(frozen=True)
class Weighted:
    """A term with its place in the sum.

    Attributes:
        term: the loss.
        weight: factor in the sum, at least 0.
        from_step: first optimizer step at which the term acts (a warm start by other terms).
        until_step: first optimizer step at which it no longer acts; None for never.
    """

    term: Term
    weight: float = 1.0
    from_step: int = 0
    until_step: int | None = None

    def __post_init__(self) -> None:
        """Refuses what is no term, and a negative weight."""
        if not isinstance(self.term, Term):
            raise UserError(f"objective: {self.term!r} is no term")
        if not self.weight >= 0:
            raise UserError(f"objective: a term's weight is {self.weight}; it must be at least 0")

    def acts_at(self, optimizer_step: int) -> bool:
        """Says whether the term takes part in this optimizer step."""
        before_end = self.until_step is None or optimizer_step < self.until_step
        return self.weight > 0 and self.from_step <= optimizer_step and before_end


RESERVED_NAMES = ("loss", "norm")
"""Names that no term may have: `loss` is the sum of all terms, `norm` that of the gradient."""


class Objective:
    """What the training loop minimises: a weighted sum of terms.

    Args:
        terms: the terms by name; one without a place in the sum has weight 1.
        update: "step" to update the parameters after every improvement step, "window" after every
            `backprop_steps` steps (and at the end of a rollout), "rollout" to see a whole rollout
            of K steps first.
        epochs: updates per rollout; all but the first take its steps again, from the same states.
        backprop_steps: the steps that are one graph (truncated back-propagation through time): of
            a window all, of a rollout the last, and steps before have no gradient; 1 for every
            step by itself.
        depth: draws the number of steps of a rollout; None for K.

    Raises:
        UserError: if at some optimizer step no term acts, or terms, `update` and the other
            settings do not fit.
    """

    def __init__(
        self,
        terms: Mapping[str, Term | Weighted],
        update: Update = "step",
        epochs: int = 1,
        backprop_steps: int = 1,
        depth: RandomDepth | None = None,
    ) -> None:
        """Keeps the terms in the order given."""
        if not isinstance(terms, Mapping):
            raise UserError(
                f"objective.terms: {type(terms).__name__} is no mapping; terms by name are needed, "
                'such as {"supervision": DeepSupervision()}'
            )
        if not terms:
            raise UserError("objective.terms is empty: at least one term is needed")
        check_choice("objective.update", update, get_args(Update))
        if epochs < 1 or (epochs > 1 and update != "rollout"):
            raise UserError(f"objective.epochs={epochs}: 1, or more with objective.update=rollout")
        if backprop_steps < 1 or (backprop_steps > 1 and (update == "step" or epochs > 1)):
            raise UserError(
                f"objective.backprop_steps={backprop_steps}: 1, or more with "
                "objective.update=window or rollout and objective.epochs=1"
            )
        if update == "window" and backprop_steps == 1:
            raise UserError(
                "objective.update=window: set objective.backprop_steps to the steps of a window, "
                "2 or more; windows of one step are objective.update=step"
            )
        if depth is not None and update != "rollout":
            raise UserError("objective.depth draws whole rollouts: set objective.update=rollout")
        places = {n: t if isinstance(t, Weighted) else Weighted(t) for n, t in terms.items()}
        _check_terms(places, update)
        self.terms, self.update = places, update
        self.figure_names = tuple(
            f"{name}_{figure}" for name, t in places.items() for figure in t.term.figure_names
        )
        self.epochs, self.backprop_steps, self.depth = epochs, backprop_steps, depth
        used = self.used_terms()
        self.lanes_per_puzzle = max(term.lanes_per_puzzle for term in used.values())
        for name, term in used.items():
            if term.lanes_per_puzzle not in (1, self.lanes_per_puzzle):
                raise UserError(
                    f"objective.terms.{name} puts {term.lanes_per_puzzle} lanes on a puzzle, "
                    f"another term {self.lanes_per_puzzle}: make them equal"
                )

    def steps_of_update(self, length: int, steps_so_far: int = 0) -> int:
        """Returns how many improvement steps the next update sees.

        Args:
            length: of the present rollouts.
            steps_so_far: improvement steps of this run.
        """
        if self.update == "window":
            return min(self.backprop_steps, length - steps_so_far % length)
        return length if self.update == "rollout" else 1

    def used_terms(self) -> dict[str, Term]:
        """Returns the terms that act at some optimizer step."""
        return {name: t.term for name, t in self.terms.items() if t.weight > 0}

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> TensorDict:
        """Returns freshly sampled puzzles with whatever the losses of K steps will need."""
        puzzles = puzzles.clone(recurse=False)
        owners = dict.fromkeys(("question", "solution"), "the puzzle")
        for name, term in self.used_terms().items():
            prepared = term.prepare(puzzle, puzzles, num_steps)
            for key in sorted(owners.keys() & prepared.keys()):
                raise UserError(f"objective.terms.{name} and {owners[key]} both prepare {key}")
            owners |= dict.fromkeys(prepared, f"objective.terms.{name}")
            puzzles.update(prepared)
        return puzzles

    def condition(self, lanes: Lanes, optimizer_step: int) -> dict[str, Tensor]:
        """Returns the conditions that the acting terms give the next step, by name."""
        conditions: dict[str, Tensor] = {}
        for weighted in self._acting(optimizer_step).values():
            conditions |= weighted.term.condition(lanes)
        return conditions

    def samples_answers(self, optimizer_step: int) -> bool:
        """Says whether the answers that are written now are drawn (`Term.sampled_answers`)."""
        return any(t.term.sampled_answers for t in self._acting(optimizer_step).values())

    def losses(
        self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner, optimizer_step: int
    ) -> Iterator[Losses]:
        """Yields the losses of every update that is made with a rollout (K, B).

        The loop minimises the sum of the terms, and updates the parameters before it asks again.

        Raises:
            UserError: if the rollout is a single step (B,), or a term returns no number, or other
                figures than it names.
        """
        if rollout.ndim != 2:
            raise UserError(
                f"objective.losses: a rollout of shape (K, B) is needed, and this one has shape "
                f"{tuple(rollout.shape)}: give pir.stack([step]) for a single step"
            )
        acting = self._acting(optimizer_step)
        kept = {
            name: TensorDict(weighted.term.collect(rollout, puzzle), batch_size=rollout.shape)
            for name, weighted in acting.items()
        }
        for epoch in range(self.epochs):
            if epoch > 0:
                sampled = self.samples_answers(optimizer_step)
                rollout = retake(reasoner, puzzle, rollout, same_answers=sampled)
            terms, figures = dict[str, Tensor](), dict[str, Tensor]()
            for name, weighted in acting.items():
                own = changed(rollout, experience=kept[name])
                loss = weighted.term.loss(own, puzzle, reasoner)
                if not isinstance(loss, Tensor) or loss.ndim > 0:
                    kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
                    raise UserError(
                        f"objective.terms.{name}: its loss is {kind}; allowed is a tensor of "
                        "shape (), a mean over lanes"
                    )
                terms[name] = weighted.weight * loss
                with torch.no_grad():
                    told = weighted.term.figures(own)
                if told.keys() != set(weighted.term.figure_names):
                    raise UserError(
                        f"objective.terms.{name}: figures() returns {', '.join(told) or 'nothing'}"
                        "; figure_names says "
                        + (", ".join(weighted.term.figure_names) or "nothing")
                    )
                figures |= {f"{name}_{figure}": value for figure, value in told.items()}
            yield Losses(terms, figures, rollout.after.score)

    def _acting(self, optimizer_step: int) -> dict[str, Weighted]:
        return {
            n: weighted for n, weighted in self.terms.items() if weighted.acts_at(optimizer_step)
        }


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns log p(token) at every position: logits (N, L, V) and tokens (N, L) to (N, L)."""
    return logits.log_softmax(-1).gather(-1, tokens.long()[..., None]).squeeze(-1)


def cell_log_probs(rollout: Rollout, answers: Tensor) -> Tensor:
    """Returns log c of every cell of M answers per puzzle, 0 at cells that are not written.

    Args:
        rollout: gives the improved policy c.
        answers: uint8 of shape (N, M, L).

    Returns:
        float32 of shape (N, M, L), with gradient.
    """
    log_policy = rollout.after.logits.log_softmax(-1)
    per_cell = log_policy.gather(-1, answers.long().transpose(-2, -1))
    return torch.where(rollout.written[..., None], per_cell, 0.0).transpose(-2, -1)


def right_answers(puzzle: Puzzle, puzzles: TensorDict, limit: int) -> tuple[Tensor, Tensor]:
    """Lists right answers.

    The label alone is listed where it is the only right answer, where the puzzle does not list its
    answers, and for each question whose search was given up without any.

    Returns:
        answers, uint8 of shape (B, M, L), and which are valid, bool of shape (B, M).
    """
    label = puzzles["solution"][:, None]
    if puzzle.unique or not puzzle.lists_solutions:
        return label, torch.ones_like(label[..., 0], dtype=torch.bool)
    listed = puzzle.solutions(puzzles["question"], limit)
    by_label = torch.zeros_like(listed.valid)
    by_label[:, 0] = ~listed.valid.any(1)
    return torch.where(by_label[..., None], label, listed.answers), listed.valid | by_label


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean over the last dimension where `mask` is set; 0 where it is set nowhere."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def mean_over_written(values: Tensor, rollout: Rollout) -> Tensor:
    """Returns the mean over written cells, then over lanes and steps, of values (N, L)."""
    return masked_mean(values, rollout.written).mean()


def label_nll(logits: Tensor, rollout: Rollout) -> Tensor:
    """Returns -log p(label), the mean over written cells in nats, (N,), of a policy (N, L, V)."""
    return -masked_mean(token_log_probs(logits, rollout.puzzles["solution"]), rollout.written)


def _check_terms(places: Mapping[str, Weighted], update: Update) -> None:
    """Refuses names that are taken, terms that need another update, and steps without a term."""
    for name, weighted in places.items():
        if name in RESERVED_NAMES:
            raise UserError(f"objective.terms.{name}: that name is taken; choose another")
        if weighted.term.whole_rollouts and update != "rollout":
            raise UserError(f"objective.terms.{name} needs objective.update=rollout")
    for start in (0, *(t.until_step for t in places.values() if t.until_step is not None)):
        if not any(weighted.acts_at(start) for weighted in places.values()):
            raise UserError(
                f"no term of the objective acts at optimizer step {start}: check weight, "
                "from_step and until_step of objective.terms"
            )
