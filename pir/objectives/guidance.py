"""Classifier-free guidance: one network learns what good, bad and any answers look like."""

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.noise import drawn
from pir.objective import Term, mean_over_written, token_log_probs
from pir.puzzle import Puzzle
from pir.reasoner import Optimality, Reasoner
from pir.rollout import Lanes, Rollout, sample_answers, verify_answers


class OptimalityGuidance(Term):
    """-log c(a | o) for an answer a of optimality o, or of either for unconditional rollouts.

    Source: CFGRL (Frans et al. 2025, arXiv:2505.23458), the indicator of a positive advantage with
    a tenth of unconditional training, here for categorical policies. In test mode the guided policy
    has logits l_none + w (l_good - l_none) for any w (`pir eval eval.guidance=[...]`).

    Every rollout has one token. Those with GOOD learn a right answer: one that the policy finds by
    itself, if it does, else the label. Those with BAD learn a wrong answer: one that the policy
    gives, or, where it gives none, the label with one cell changed. Without wrong answers there is
    no contrast: all policies are one, and w does nothing. Unconditional rollouts are rollouts of
    their own, as the state that a token has led to gives the token away.

    Args:
        negatives: share of rollouts that learn wrong answers.
        unconditional: share of rollouts with the token NONE.
        samples: answers S drawn per puzzle and step.
    """

    conditions = ("optimality",)

    def __init__(
        self,
        negatives: float = 0.25,
        unconditional: float = 0.1,
        samples: int = 8,
    ) -> None:
        """Checks and keeps the settings."""
        for name, share in {"negatives": negatives, "unconditional": unconditional}.items():
            if not 0 <= share < 1:
                raise UserError(f"objective: {name}={share}; must lie in [0, 1)")
        if samples < 1:
            raise UserError(f"objective: samples={samples}; at least 1")
        self.negatives, self.unconditional, self.samples = negatives, unconditional, samples

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Draws what every rollout learns, right or wrong answers, and its token."""
        good = drawn(torch.rand, len(puzzles)) >= self.negatives
        token = torch.where(good, Optimality.GOOD, Optimality.BAD)
        unconditional = drawn(torch.rand, len(puzzles)) < self.unconditional
        return {
            "learns_good": good,
            "optimality": torch.where(unconditional, Optimality.NONE, token),
        }

    def condition(self, lanes: Lanes) -> dict[str, Tensor]:
        """Gives every lane its token."""
        return {"optimality": lanes.puzzles["optimality"]}

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, in nats per cell."""
        steps = rollout.flatten(0, 1)
        with torch.no_grad():
            answer, found = self.answers(puzzle, steps)
        return -mean_over_written(found * token_log_probs(steps.after.logits, answer), steps)

    def answers(self, puzzle: Puzzle, steps: Rollout) -> tuple[Tensor, Tensor]:
        """Chooses an answer of the wanted kind for every lane, of those drawn from its policy.

        Returns:
            answers, uint8 of shape (B, L), and whether they are of the wanted kind, bool (B, 1).
        """
        good = steps.puzzles["learns_good"]
        question, label = steps.puzzles["question"], steps.puzzles["solution"]
        drawn = sample_answers(puzzle, question, steps.after.logits, self.samples)
        spare = torch.where(good[:, None], label, corrupted(puzzle, question, label))
        candidates = torch.cat([drawn, spare[:, None]], 1)
        solved = verify_answers(puzzle, question, candidates).solved
        wanted = solved == good[:, None]
        first = wanted.int().argmax(1)
        lane = torch.arange(len(question), device=first.device)
        return candidates[lane, first], wanted.any(1)[:, None]


def corrupted(puzzle: Puzzle, question: Tensor, solution: Tensor) -> Tensor:
    """Returns solutions with one written cell, drawn evenly, holding another allowed token."""
    written = puzzle.written(question)
    cell = _even(written)
    lane = torch.arange(len(cell), device=cell.device)
    mask = puzzle.slot_mask.to(cell.device)[cell]
    others = mask.scatter(1, solution[lane, cell].long()[:, None], False)
    result = solution.clone()
    result[lane, cell] = _even(others).to(result.dtype)
    return result


def _even(among: Tensor) -> Tensor:
    """Draws one column per row, evenly among those that are set: int64 (N,), for bool (N, C)."""
    columns, device = among.shape[1], among.device
    chance = drawn(lambda rows: torch.rand(rows, columns, device=device), len(among))
    return chance.where(among, -1.0).argmax(1)
