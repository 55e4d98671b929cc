"""Group-relative policy gradient, with credit for every step of the rollout."""

from typing import Literal, get_args

import torch
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.objective import Term, cell_log_probs
from pir.objectives.advantage_weighted import group_advantage, standardised
from pir.objectives.halting import exit_distribution
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, sample_answers, verify_answers

Credit = Literal["uniform", "progressive", "exit", "last"]


class GroupRelative(Term):
    """-sum_k omega_k mean min(r A, clip(r, 1 - low, 1 + high) A), answers drawn at the last step.

    S answers are drawn from the last policy of a rollout and scored; A is the score less the mean
    of the puzzle's S scores, in standard deviations (GRPO, Shao et al. 2024, arXiv:2402.03300, Eq.
    3); r is the ratio of a cell's probability now to that when the rollout was made; the wider
    upper clip lets rare right tokens grow (DAPO, Yu et al. 2025, arXiv:2503.14476, Eq. 10). Every
    step's policy is credited with the answers, not only the last, by weights omega that sum to one
    (RLTT, arXiv:2602.10520): "uniform", "progressive" (in proportion to k), "exit" (the probability
    that the halt head, as a gate, ends the rollout there) or "last". No label is used.

    Args:
        samples: answers S per puzzle, at least 2.
        clip: how far a ratio may fall below and rise above 1.
        credit: weights of the steps.
    """

    whole_rollouts = True

    def __init__(
        self,
        samples: int = 16,
        clip: tuple[float, float] = (0.2, 0.28),
        credit: Credit = "uniform",
    ) -> None:
        """Checks and keeps the settings."""
        if samples < 2:
            raise UserError(f"objective: samples={samples}; at least 2")
        if not (0 < clip[0] <= 1 and clip[1] > 0):
            raise UserError(
                f"objective: clip={list(clip)}; the first in (0, 1], the second above 0"
            )
        check_choice("objective: credit", credit, get_args(Credit))
        self.samples, self.clip, self.credit = samples, clip, credit
        self.outputs = ("halt_logit",) if credit == "exit" else ()

    @torch.no_grad()
    def collect(self, rollout: Rollout, puzzle: Puzzle) -> dict[str, Tensor]:
        """Draws and scores answers; keeps their log-probabilities under every step's policy."""
        question, last = rollout.puzzles["question"][-1], rollout.after.logits[-1]
        answers = sample_answers(puzzle, question, last, self.samples)
        score = verify_answers(puzzle, question, answers).score
        every_step = (len(rollout), *answers.shape)
        answers = answers.expand(every_step)
        return {
            "answers": answers,
            "advantage": standardised(group_advantage(score)).expand(every_step[:-1]),
            "log_probs": cell_log_probs(rollout, answers),
            "credit": self.credits(rollout),
        }

    def credits(self, rollout: Rollout) -> Tensor:
        """Returns omega, float32 of shape (K, B), which sums to one over the steps."""
        if self.credit == "exit":
            return exit_distribution(rollout.after.halt_logit)
        count = len(rollout)
        k = torch.arange(1, count + 1, device=rollout.k.device, dtype=torch.float32)
        weights = {
            "uniform": torch.ones_like(k),
            "progressive": k,
            "last": (k == count).float(),
        }[self.credit]
        return (weights / weights.sum())[:, None].expand(rollout.shape)

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over puzzles and answers, summed over cells and steps."""
        kept, (low, high) = rollout.experience, self.clip
        advantage = kept["advantage"][..., None]
        ratio = (cell_log_probs(rollout, kept["answers"]) - kept["log_probs"]).exp()
        clipped = ratio.clamp(1 - low, 1 + high)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage)
        per_answer = torch.where(rollout.written[:, :, None], surrogate, 0.0).sum(-1)
        total: Tensor = -(kept["credit"][..., None] * per_answer).mean((1, 2)).sum()
        return total
