"""Advantage-weighted regression: answers are learned the more, the better they are."""

from typing import Literal, get_args

import torch
from torch import Tensor

from pir.advantages import (
    Weights,
    advantage_weight,
    conflict_advantage,
    group_advantage,
    label_gain,
)
from pir.config import check_choice
from pir.errors import UserError
from pir.improvement import Step, sample_answers, verify_answers
from pir.objectives.base import Term, cell_log_probs, mean_over_written, token_log_probs
from pir.puzzle import Puzzle

Advantage = Literal["group", "previous", "conflicts", "label_gain"]


class AdvantageWeighted(Term):
    """-mean f(A) log c(y) over answers y with advantage A, c the improved policy.

    The weight f is min(exp(A / beta), clip) (AWR, Peng et al. 2019, arXiv:1910.00177, Eq. 11 and
    section 3.3) or 1{A > 0} + 0.1 (CFGRL, Frans et al. 2025, arXiv:2505.23458: the indicator and
    its unconditional term). The advantage is of

    * "group": an answer sampled from c; its score less the mean score of the puzzle's samples;
    * "previous": the same; its score less that of the answer held before the step, which rewards
      improvement itself;
    * "conflicts": every cell of a sampled answer; whether it breaks no rule, less the mean over the
      samples: credit where the verifier sees the fault;
    * "label_gain": every cell of the label; the log-probability that the step gained, less the mean
      over the cells. All actions are right here, so this only weighs cells against one another.

    The first three use no label. Puzzles whose samples are all alike in score (or conflicts) carry
    no information and are left out.

    Args:
        weight: see `Term`.
        samples: answers S per puzzle and step, at least 2.
        advantage: which one.
        weights: "exponential" or "indicator".
        beta: temperature of the exponential, in units of the advantage.
        clip: largest exponential weight.
        from_step: see `Term`.
        until_step: see `Term`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        samples: int = 16,
        advantage: Advantage = "group",
        weights: Weights = "exponential",
        beta: float = 0.2,
        clip: float = 20.0,
        from_step: int = 0,
        until_step: int | None = None,
    ) -> None:
        """Checks and keeps the settings."""
        super().__init__(weight, from_step, until_step)
        if samples < 2:
            raise UserError(f"objective: samples={samples}; at least 2")
        check_choice("objective: advantage", advantage, get_args(Advantage))
        check_choice("objective: weights", weights, get_args(Weights))
        if beta <= 0 or clip <= 0:
            raise UserError(f"objective: beta={beta}, clip={clip}; both must be above 0")
        self.samples, self.advantage, self.weights = samples, advantage, weights
        self.beta, self.clip = beta, clip

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean over lanes and samples, in nats per answer; per cell for label_gain."""
        if self.advantage == "label_gain":
            weight = self._weight(label_gain(step))
            log_probs = token_log_probs(step.improved.logits, step.puzzles["solution"])
            return -mean_over_written(weight * log_probs, step)
        with torch.no_grad():
            question = step.puzzles["question"]
            answers = sample_answers(puzzle, question, step.improved.logits, self.samples)
            weight = self.answer_weights(puzzle, step, answers)
        return -(weight * cell_log_probs(step, answers)).sum(-1).mean()

    def answer_weights(self, puzzle: Puzzle, step: Step, answers: Tensor) -> Tensor:
        """Returns the weights of sampled answers (B, S, L): (B, S, 1), or (B, S, L) per cell."""
        question = step.puzzles["question"]
        if self.advantage == "conflicts":
            advantage = conflict_advantage(puzzle, question, answers)
        else:
            score = verify_answers(puzzle, question, answers).score
            if self.advantage == "group":
                advantage = group_advantage(score)[..., None]
            else:
                advantage = (score - step.before.score[:, None])[..., None]
        told_apart = advantage.amax(1, keepdim=True) > advantage.amin(1, keepdim=True)
        return torch.where(told_apart, self._weight(advantage), 0.0)

    def _weight(self, advantage: Tensor) -> Tensor:
        return advantage_weight(advantage, self.weights, self.beta, self.clip)
