"""The loop of the papers: a policy in, an improved policy out, K times.

Training, evaluation and solving all iterate over `improvement_steps`; nothing else calls
`Reasoner.improve`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.puzzle import Puzzle, Verdict
from pir.reasoner import Policy, Reasoner


@dataclass
class Lanes:
    """B slots, each holding a puzzle and how far its answer has come.

    A lane that is finished takes the next puzzle (`refill`); what TRM's code hides in its "carry".

    Attributes:
        puzzles: `question`, and whatever else was sampled with it; batch size B.
        state: the reasoner's state, without gradient.
        k: int64 of shape (B,), improvement steps taken.
        logits: float32 of shape (B, L, V), the policy held now: the next step's reference.
        verdict: the verifier's word on that policy's most likely answer.
        finished: bool of shape (B,), lanes that may be refilled.
    """

    puzzles: TensorDict
    state: TensorDict
    k: Tensor
    logits: Tensor
    verdict: Verdict
    finished: Tensor

    @classmethod
    @torch.no_grad()
    def begin(cls, reasoner: Reasoner, puzzle: Puzzle, puzzles: TensorDict) -> "Lanes":
        """Puts one puzzle into every lane, at the reasoner's starting state."""
        question = puzzles["question"]
        state = reasoner.start(question)
        logits = reasoner.read_out(state).logits
        verdict = puzzle.verify(question, puzzle.clamp(question, logits.argmax(-1)))
        k = torch.zeros(len(question), dtype=torch.int64, device=question.device)
        return cls(puzzles, state, k, logits, verdict, torch.zeros_like(k, dtype=torch.bool))

    def refill(self, fresh: "Lanes") -> "Lanes":
        """Returns lanes in which the finished ones, in order, are replaced by `fresh` ones."""
        if bool(self.finished.all()):
            return fresh
        rows = self.finished.nonzero().squeeze(-1)

        def merged(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(0, rows, new.to(old.dtype))

        return Lanes(
            self.puzzles.apply(merged, fresh.puzzles),
            self.state.apply(merged, fresh.state),
            merged(self.k, fresh.k),
            merged(self.logits, fresh.logits),
            Verdict(*map(merged, self.verdict, fresh.verdict)),
            merged(self.finished, fresh.finished),
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns plain tensors for a checkpoint."""
        return {
            "puzzles": self.puzzles.to_dict(),
            "state": self.state.to_dict(),
            "k": self.k,
            "logits": self.logits,
            "verdict": list(self.verdict),
            "finished": self.finished,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Lanes":
        """Takes lanes back from a checkpoint."""
        size = state["k"].shape
        return cls(
            TensorDict(state["puzzles"], batch_size=size),
            TensorDict(state["state"], batch_size=size),
            state["k"],
            state["logits"],
            Verdict(*state["verdict"]),
            state["finished"],
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
        answer: uint8 of shape (B, L), the most likely answer under the improved policy.
        before: the verdict on the most likely answer before the step.
        after: the verdict on `answer`.
    """

    k: Tensor
    puzzles: TensorDict
    written: Tensor
    reference: Tensor
    improved: Policy
    answer: Tensor
    before: Verdict
    after: Verdict


def improvement_steps(
    reasoner: Reasoner, puzzle: Puzzle, lanes: Lanes, num_steps: int
) -> Iterator[Step]:
    """Improves the policy in every lane step by step.

    The state passes from step to step without gradient (deep supervision, Wang et al. 2025,
    arXiv:2506.21734, section 2): an objective differentiates through one step. `lanes` is updated
    in place before a step is handed out.
    """
    for _ in range(num_steps):
        question, reference, before = lanes.puzzles["question"], lanes.logits, lanes.verdict
        lanes.k = lanes.k + 1
        state = reasoner.improve(question, lanes.state, lanes.k)
        improved = reasoner.read_out(state)
        answer = puzzle.clamp(question, improved.logits.argmax(-1))
        after = puzzle.verify(question, answer)

        lanes.state, lanes.logits, lanes.verdict = state.detach(), improved.logits.detach(), after
        yield Step(
            k=lanes.k,
            puzzles=lanes.puzzles,
            written=puzzle.written(question),
            reference=reference,
            improved=improved,
            answer=answer,
            before=before,
            after=after,
        )


def sample_answers(
    puzzle: Puzzle,
    question: Tensor,
    logits: Tensor,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws answers from a policy, every token by itself; clamped positions are kept.

    Args:
        puzzle: says what is clamped.
        question: uint8 of shape (B, L).
        logits: float32 of shape (B, L, V).
        count: answers S per puzzle.
        generator: where the randomness comes from; torch's own by default.

    Returns:
        uint8 of shape (B, S, L).
    """
    policy = torch.softmax(logits, -1).flatten(0, 1)
    drawn = torch.multinomial(policy, count, replacement=True, generator=generator)
    answers = drawn.view(*question.shape, count).movedim(-1, 1)
    repeated = question[:, None].expand(answers.shape).flatten(0, 1)
    return puzzle.clamp(repeated, answers.flatten(0, 1)).view(answers.shape)
