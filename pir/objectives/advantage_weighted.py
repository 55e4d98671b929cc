"""Advantage-weighted regression on answers that the policy samples and the verifier scores."""

from typing import Literal

import torch
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step, sample_answers
from pir.objectives.base import Term, answer_log_probs
from pir.puzzle import Puzzle

Baseline = Literal["group", "previous"]
Weights = Literal["exponential", "indicator"]


class AdvantageWeighted(Term):
    """-mean_s f(A_s) log c(y_s) over S answers y_s sampled from the improved policy c.

    The advantage A of an answer is its score minus a baseline: the mean score of the puzzle's
    samples ("group"), or the score of the answer held before the step ("previous"), which rewards
    improvement itself. The weight f is min(exp(A / beta), clip) (AWR, Peng et al. 2019,
    arXiv:1910.00177, Eq. 11 and section 3.3) or 1{A > 0} + 0.1 (CFGRL, Frans et al. 2025,
    arXiv:2505.23458: the indicator and its unconditional term). No label is used. Puzzles whose
    samples all score alike carry no information and are left out.

    Args:
        weight: see `Term`.
        samples: answers S per puzzle and step, at least 2.
        baseline: "group" or "previous".
        weights: "exponential" or "indicator".
        beta: temperature of the exponential, in units of score.
        clip: largest exponential weight.
        from_step: see `Term`.
        until_step: see `Term`.
    """

    UNCONDITIONAL = 0.1

    def __init__(
        self,
        weight: float = 1.0,
        samples: int = 16,
        baseline: Baseline = "group",
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
        if baseline not in ("group", "previous"):
            raise UserError(f"objective: baseline={baseline}; allowed are group, previous")
        if weights not in ("exponential", "indicator"):
            raise UserError(f"objective: weights={weights}; allowed are exponential, indicator")
        if beta <= 0 or clip <= 0:
            raise UserError(f"objective: beta={beta}, clip={clip}; both must be above 0")
        self.samples, self.baseline, self.weights = samples, baseline, weights
        self.beta, self.clip = beta, clip

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Samples, has the verifier score, and returns the mean over puzzles with a contrast."""
        question = step.puzzles["question"]
        with torch.no_grad():
            answers = sample_answers(puzzle, question, step.improved.logits, self.samples)
            repeated = question.repeat_interleave(self.samples, 0)
            score = puzzle.verify(repeated, answers.flatten(0, 1)).score.view(-1, self.samples)
            weight = self.answer_weights(score, step.before.score)
        return -(weight * answer_log_probs(step, answers)).mean()

    def answer_weights(self, score: Tensor, previous: Tensor) -> Tensor:
        """Turns scores (B, S) and the scores before the step (B,) into weights (B, S)."""
        baseline = score.mean(1) if self.baseline == "group" else previous
        advantage = score - baseline[:, None]
        if self.weights == "exponential":
            weight = (advantage / self.beta).exp().clamp(max=self.clip)
        else:
            weight = (advantage > 0) + self.UNCONDITIONAL
        informative = score.amax(1) > score.amin(1)
        return torch.where(informative[:, None], weight, 0.0)
