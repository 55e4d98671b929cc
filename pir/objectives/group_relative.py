"""Group-relative policy gradient, with credit for every step of the rollout."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from pir.advantages import group_advantage, standardised
from pir.config import check_choice
from pir.errors import UserError
from pir.improvement import Step, sample_answers, verify_answers
from pir.objectives.base import RolloutTerm, cell_log_probs
from pir.objectives.halting import exit_distribution, halt_logits
from pir.puzzle import Puzzle

Credit = Literal["uniform", "progressive", "exit", "last"]


class GroupRelative(RolloutTerm):
    """-sum_k omega_k mean min(r A, clip(r, 1 - low, 1 + high) A), answers drawn at the last step.

    S answers are drawn from the last policy of a rollout and scored; A is the score less the mean
    of the puzzle's S scores, in standard deviations (GRPO, Shao et al. 2024, arXiv:2402.03300, Eq.
    3); r is the ratio of a cell's probability now to that when the rollout was made; the wider
    upper clip lets rare right tokens grow (DAPO, Yu et al. 2025, arXiv:2503.14476, Eq. 10). Every
    step's policy is credited with the answers, not only the last, by weights omega that sum to one
    (RLTT, arXiv:2602.10520): "uniform", "progressive" (in proportion to k), "exit" (the probability
    that the halt head, as a gate, ends the rollout there) or "last". No label is used.

    Args:
        weight: see `Term`.
        samples: answers S per puzzle, at least 2.
        clip: how far a ratio may fall below and rise above 1.
        credit: weights of the steps.
        from_step: see `Term`.
        until_step: see `Term`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        samples: int = 16,
        clip: tuple[float, float] = (0.2, 0.28),
        credit: Credit = "uniform",
        from_step: int = 0,
        until_step: int | None = None,
    ) -> None:
        """Checks and keeps the settings."""
        super().__init__(weight, from_step, until_step)
        if samples < 2:
            raise UserError(f"objective: samples={samples}; at least 2")
        if not (0 < clip[0] <= 1 and clip[1] > 0):
            raise UserError(
                f"objective: clip={list(clip)}; the first in (0, 1], the second above 0"
            )
        check_choice("objective: credit", credit, get_args(Credit))
        self.samples, self.clip, self.credit = samples, clip, credit

    @torch.no_grad()
    def experience(self, puzzle: Puzzle, steps: Sequence[Step]) -> dict[str, Tensor]:
        """Draws and scores answers; keeps their log-probabilities under every step's policy."""
        question, last = steps[-1].puzzles["question"], steps[-1].improved.logits
        answers = sample_answers(puzzle, question, last, self.samples)
        score = verify_answers(puzzle, question, answers).score
        return {
            "answers": answers,
            "advantage": standardised(group_advantage(score)),
            "log_probs": torch.stack([cell_log_probs(step, answers) for step in steps]),
            "credit": self.credits(steps),
        }

    def credits(self, steps: Sequence[Step]) -> Tensor:
        """Returns omega, float32 of shape (K, B), which sums to one over the steps.

        Raises:
            UserError: if credit is "exit" and the model has no halt head.
        """
        count = len(steps)
        k = torch.arange(1, count + 1, device=steps[0].k.device, dtype=torch.float32)
        if self.credit == "exit":
            halts = halt_logits(steps)
            return exit_distribution(halts)
        weights = {
            "uniform": torch.ones_like(k),
            "progressive": k,
            "last": (k == count).float(),
        }[self.credit]
        return (weights / weights.sum())[:, None].expand(-1, len(steps[0].k))

    def rollout_loss(
        self, puzzle: Puzzle, steps: Sequence[Step], experience: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the mean over puzzles and answers, summed over cells and steps."""
        advantage = experience["advantage"][..., None]
        low, high = self.clip
        total = torch.zeros((), device=advantage.device)
        for index, step in enumerate(steps):
            now = cell_log_probs(step, experience["answers"])
            ratio = (now - experience["log_probs"][index]).exp()
            clipped = ratio.clamp(1 - low, 1 + high)
            surrogate = torch.minimum(ratio * advantage, clipped * advantage)
            per_answer = torch.where(step.written[:, None], surrogate, 0.0).sum(-1)
            total = total - (experience["credit"][index, :, None] * per_answer).mean()
        return total
