"""The loop of the papers: a policy in, an improved policy out, K times.

Training, evaluation and solving all iterate over `improvement_steps`; this module alone calls
`Reasoner.improve`, so every step that is taken is counted.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir import noise
from pir.puzzle import Puzzle, Verdict
from pir.reasoner import NOTHING, SHOWN, Condition, Policy, Reasoner, latents_of


@dataclass
class Lanes:
    """B slots, each holding a puzzle and how far its answer has come.

    A lane that is finished takes the next puzzle (`refill`); what TRM's code hides in its "carry".

    Attributes:
        puzzles: `question`, and whatever else was sampled with it; batch size B.
        state: the reasoner's state, without gradient.
        k: int64 of shape (B,), improvement steps taken.
        logits: float32 of shape (B, L, V), the policy held now: the next step's reference.
        answer: uint8 of shape (B, L), that policy's most likely answer.
        verdict: the verifier's word on it.
        first_solved: int64 of shape (B,), the first step whose answer was right; 0 if none yet.
        finished: bool of shape (B,), lanes that may be refilled.
    """

    puzzles: TensorDict
    state: TensorDict
    k: Tensor
    logits: Tensor
    answer: Tensor
    verdict: Verdict
    first_solved: Tensor
    finished: Tensor

    @classmethod
    @torch.no_grad()
    def begin(
        cls,
        reasoner: Reasoner,
        puzzle: Puzzle,
        puzzles: TensorDict,
        state: TensorDict | None = None,
    ) -> "Lanes":
        """Puts one puzzle into every lane, at the reasoner's starting state or at a given one."""
        question = puzzles["question"]
        state = reasoner.start(question) if state is None else state
        logits = reasoner.read_out(state).logits
        answer = puzzle.clamp(question, logits.argmax(-1))
        verdict = puzzle.verify(question, answer)
        k = torch.zeros(len(question), dtype=torch.int64, device=question.device)
        finished = torch.zeros_like(k, dtype=torch.bool)
        return cls(puzzles, state, k, logits, answer, verdict, k.clone(), finished)

    def bytes(self) -> int:
        """Returns how much memory the states and policies of these lanes take."""
        states: int = sum(leaf.nbytes for leaf in self.state.values(True, True))
        return states + self.logits.nbytes

    def refill(self, fresh: "Lanes") -> "Lanes":
        """Returns lanes in which the finished ones, in order, are replaced by `fresh` ones."""
        if bool(self.finished.all()):
            return fresh
        rows = self.finished.nonzero().squeeze(-1)

        def merged(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(0, rows, new.to(old.dtype))

        return self._each(merged, fresh)

    def keep(self, rows: Tensor) -> "Lanes":
        """Returns the lanes that `rows`, bool of shape (B,) or indices, choose."""
        return self._each(lambda values: values[rows])

    def _each(self, change: Callable[..., Tensor], *others: "Lanes") -> "Lanes":
        """Applies a function to every tensor, together with those of other lanes."""
        size = change(self.k, *(other.k for other in others)).shape

        def one(name: str) -> Any:
            values = [getattr(lanes, name) for lanes in (self, *others)]
            if isinstance(values[0], TensorDict):
                return values[0].apply(change, *values[1:], batch_size=size)
            if isinstance(values[0], Verdict):
                return Verdict(*map(change, *values))
            return change(*values)

        return Lanes(**{field.name: one(field.name) for field in fields(self)})

    def state_dict(self) -> dict[str, Any]:
        """Returns plain tensors for a checkpoint."""
        return {
            "puzzles": self.puzzles.to_dict(),
            "state": self.state.to_dict(),
            "k": self.k,
            "logits": self.logits,
            "answer": self.answer,
            "verdict": list(self.verdict),
            "first_solved": self.first_solved,
            "finished": self.finished,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Lanes":
        """Takes lanes back from a checkpoint."""
        size = state["k"].shape
        return cls(
            **state
            | {
                "puzzles": TensorDict(state["puzzles"], batch_size=size),
                "state": TensorDict(state["state"], batch_size=size),
                "verdict": Verdict(*state["verdict"]),
            }
        )


@dataclass
class Step:
    """One improvement step, as objectives and the ledger see it.

    Attributes:
        k: int64 of shape (B,), the number of the step, from 1.
        puzzles: the puzzles it works on.
        written: bool of shape (B, L), the positions that the policy writes.
        reference: float32 of shape (B, L, V), logits of the policy before the step, no gradient.
        improved: the policy after the step, with gradient while training.
        previous: uint8 of shape (B, L), the most likely answer under the reference policy.
        answer: uint8 of shape (B, L), the most likely answer under the improved policy.
        before: the verdict on `previous`.
        after: the verdict on `answer`.
        first_solved: int64 of shape (B,), the first step whose answer was right; 0 if none yet.
        state_before: the reasoner's state before the step, no gradient.
        state_after: the state after it, no gradient.
        read: uint8 of shape (B, L), what the reasoner read as the question.
        condition: what else it was told.
        reasoner: took the step.
    """

    k: Tensor
    puzzles: TensorDict
    written: Tensor
    reference: Tensor
    improved: Policy
    previous: Tensor
    answer: Tensor
    before: Verdict
    after: Verdict
    first_solved: Tensor
    state_before: TensorDict
    state_after: TensorDict
    read: Tensor
    condition: Condition
    reasoner: Reasoner

    def again(self, condition: Condition | None = None, count: int = 1) -> Policy:
        """Takes the step once more, from the same state and with gradient.

        Args:
            condition: what the reasoner is told this time; by default the same.
            count: steps that are taken in all, with gradient through every one of them.
        """
        told = condition or self.condition
        state = self._state_again(told)
        for later in range(1, count):
            state = _improve(self.reasoner, self.read, state, self.k + later, told)
        return self.reasoner.read_out(state)

    def _state_again(self, condition: Condition) -> TensorDict:
        return _improve(self.reasoner, self.read, self.state_before, self.k, condition)

    def retaken(self, puzzle: Puzzle) -> "Step":
        """Returns the step taken once more, by the parameters as they are now."""
        state = self._state_again(self.condition)
        improved = self.reasoner.read_out(state)
        question = self.puzzles["question"]
        answer = puzzle.clamp(question, improved.logits.argmax(-1))
        after = puzzle.verify(question, answer)
        return replace(
            self, improved=improved, answer=answer, after=after, state_after=state.detach()
        )

    @torch.no_grad()
    def look_ahead(self) -> Policy:
        """Returns the policy that the next step would reach under the same condition."""
        read = self.answer if self.reasoner.reads_own_answer else self.read
        state = _improve(self.reasoner, read, self.state_after, self.k + 1, self.condition)
        return self.reasoner.read_out(state)

    def first(self, count: int) -> "Step":
        """Returns the step as its first `count` lanes saw it."""

        def part(value: Any) -> Any:
            if isinstance(value, Reasoner):
                return value
            if isinstance(value, tuple):  # a named one, of which some part may be missing
                return value._make(v if v is None else v[:count] for v in value)  # type: ignore[attr-defined]
            return value[:count]

        return Step(**{field.name: part(getattr(self, field.name)) for field in fields(self)})

    def state_change(self) -> Tensor:
        """Returns |s_k - s_(k-1)| / |s_(k-1)|, float32 of shape (B,), over all latents.

        A step from a state of zeros changes all of it: 1.
        """

        def square(state: TensorDict) -> Tensor:
            latents = [latent.flatten(1) for latent in latents_of(state)]
            return torch.stack([latent.square().sum(1) for latent in latents]).sum(0)

        after, before = (state.exclude(*SHOWN) for state in (self.state_after, self.state_before))
        size = square(before)
        size = torch.where(size > 0, size, square(after))
        return (square(after - before) / size.clamp(min=1e-12)).sqrt()


def improvement_steps(
    reasoner: Reasoner,
    puzzle: Puzzle,
    lanes: Lanes,
    num_steps: int,
    step_size: float = 1.0,
    condition: Callable[[Lanes], Condition] | None = None,
    backprop_steps: int = 1,
) -> Iterator[Step]:
    """Improves the policy in every lane step by step.

    By default the state passes from step to step without gradient (deep supervision, Wang et al.
    2025, arXiv:2506.21734, section 2): an objective differentiates through one step. `lanes` is
    updated in place before a step is handed out.

    Args:
        reasoner: does the steps.
        puzzle: judges the answers.
        lanes: the puzzles and how far they are.
        num_steps: how many steps.
        step_size: how much of every change of the latents is made, alpha in s + alpha (s' - s).
        condition: says what the reasoner is told before a step; by default nothing.
        backprop_steps: if more than 1, the last so many steps are one graph, and those before are
            taken without gradient (truncated back-propagation through time).
    """
    chained: TensorDict | None = None
    for number in range(1, num_steps + 1):
        told = NOTHING if condition is None else condition(lanes)
        question, reference, before = lanes.puzzles["question"], lanes.logits, lanes.verdict
        earlier, previous = lanes.state if chained is None else chained, lanes.answer
        read = question
        if reasoner.reads_own_answer:
            read = torch.where(lanes.k[:, None] > 0, lanes.answer, question)
        lanes.k = lanes.k + 1
        in_window = backprop_steps == 1 or number > num_steps - backprop_steps
        with nullcontext() if in_window else torch.no_grad():
            state = _improve(reasoner, read, earlier, lanes.k, told)
            if step_size != 1.0:
                latents = earlier.exclude(*SHOWN).lerp(state.exclude(*SHOWN), step_size)
                state = state.update(latents)
            improved = reasoner.read_out(state)
        answer = puzzle.clamp(question, improved.logits.argmax(-1))
        after = puzzle.verify(question, answer)

        chained = state if backprop_steps > 1 else None
        lanes.state, lanes.logits = state.detach(), improved.logits.detach()
        lanes.answer, lanes.verdict = answer, after
        first_time = after.solved & (lanes.first_solved == 0)
        lanes.first_solved = torch.where(first_time, lanes.k, lanes.first_solved)
        yield Step(
            k=lanes.k,
            puzzles=lanes.puzzles,
            written=puzzle.written(question),
            reference=reference,
            improved=improved,
            previous=previous,
            answer=answer,
            before=before,
            after=after,
            first_solved=lanes.first_solved,
            state_before=earlier.detach(),
            state_after=lanes.state,
            read=read,
            condition=told,
            reasoner=reasoner,
        )


def _improve(
    reasoner: Reasoner, read: Tensor, state: TensorDict, k: Tensor, condition: Condition
) -> TensorDict:
    """Takes one step and counts it."""
    reasoner.steps_taken += len(k)
    return reasoner.improve(read, state, k, condition)


def sample_answers(
    puzzle: Puzzle,
    question: Tensor,
    logits: Tensor,
    count: int,
    k: Tensor | None = None,
) -> Tensor:
    """Draws answers from a policy, every token by itself; clamped positions are kept.

    Args:
        puzzle: says what is clamped.
        question: uint8 of shape (B, L).
        logits: float32 of shape (B, L, V).
        count: answers S per puzzle.
        k: int64 of shape (B,), the step that they are drawn after, see `pir.noise`.

    Returns:
        uint8 of shape (B, S, L).
    """
    drawn = noise.tokens(question, "answers", torch.softmax(logits, -1), count, k)
    answers = drawn.to(question.dtype).movedim(-1, 1)
    repeated = question[:, None].expand(answers.shape).flatten(0, 1)
    return puzzle.clamp(repeated, answers.flatten(0, 1)).view(answers.shape)


def verify_answers(puzzle: Puzzle, question: Tensor, answers: Tensor) -> Verdict:
    """Judges several answers per puzzle: of (B, S, L) to questions (B, L), with results (B, S)."""
    repeated = question.repeat_interleave(answers.shape[1], 0)
    verdict = puzzle.verify(repeated, answers.flatten(0, 1))
    return Verdict(*(part.view(answers.shape[:2]) for part in verdict))
