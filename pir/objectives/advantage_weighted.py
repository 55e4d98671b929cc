"""Advantage-weighted regression (AWR): answers are learned the more, the better they are.

Shapes: B puzzles, S answers to each, L cells; u is the policy before the step, c the one after it,
y* the label. Advantages are centred: their mean over the answers (or, of a label's gain, over the
written cells) is 0; that of "previous" is measured against the answer before.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.ledger.guidance import log_prob_gain
from pir.objective import Term, cell_log_probs, masked_mean, mean_over_written, token_log_probs
from pir.objectives.episodes import EpisodeForm, discounted_sums, last_scores, rewards
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, sample_answers, verify_answers

Weights = Literal["exponential", "indicator"]
UNCONDITIONAL = 0.1
"""What the indicator leaves to answers without advantage (CFGRL, arXiv:2505.23458)."""

NO_ADVANTAGE = 1e-6
"""What the rounding of means can make of an advantage of 0; no score differs by so little."""

SAMPLES, BETA, CLIP = 16, 0.2, 20.0
"""The settings of `AdvantageWeighted` where they are not given."""

Advantage = Literal["group", "previous", "conflicts", "label_gain"]


class AdvantageWeighted(Term):
    """-mean f(A) log c(y_i) over answers y with advantage A and cells i, c the improved policy.

    It is a mean over cells, as the label's loss is, so that beside the label both weigh alike on
    large boards and small ones.

    The weight f is min(exp(A / beta), clip) (AWR, Peng et al. 2019, arXiv:1910.00177, Eq. 11 and
    section 3.3) or 1{A > 0} + 0.1 (CFGRL, Frans et al. 2025, arXiv:2505.23458: the indicator and
    its unconditional term). The advantage is of

    * "group": an answer sampled from c; its score less the mean score of the puzzle's samples;
    * "previous": the same; its score less that of the answer held before the step, which rewards
      improvement itself;
    * "conflicts": every cell of a sampled answer; whether it breaks no rule, less the mean over the
      samples: credit where the verifier sees the fault;
    * "label_gain": every cell of the label; the log-probability that the step gained, less the mean
      over the cells. All of them are right, so this only weighs cells against one another.

    The first three use no label. Puzzles whose samples all have one advantage (cells, in
    conflicts) carry no information and get weight 0.

    All this is the form "bandits". In the form "revisions" (`pir.objectives.episodes`) the samples
    of a puzzle are the answers that S lanes side by side write at the same step, and an answer has
    the score of its lane's last one in place of its own.

    Args:
        samples: answers S per puzzle and step, at least 2; None for `SAMPLES`. None with
            "label_gain", which draws none.
        advantage: one of the four above.
        episode: "bandits", or "revisions", which needs `update="rollout"`; "bandits" with
            "label_gain".
        weights: "exponential" or "indicator".
        beta: temperature of the exponential, in units of the advantage; None for `BETA`. None with
            "indicator".
        clip: largest exponential weight; None for `CLIP`. None with "indicator".

    Raises:
        UserError: if a setting is out of range, or would do nothing.
    """

    def __init__(
        self,
        samples: int | None = None,
        advantage: Advantage = "group",
        episode: EpisodeForm = "bandits",
        weights: Weights = "exponential",
        beta: float | None = None,
        clip: float | None = None,
    ) -> None:
        """Checks and keeps the settings."""
        if advantage == "label_gain" and samples is not None:
            raise UserError(f"objective: samples={samples} does nothing with advantage=label_gain")
        check_choice("objective: episode", episode, get_args(EpisodeForm))
        if advantage == "label_gain" and episode == "revisions":
            raise UserError("objective: advantage=label_gain draws no answers: episode=bandits")
        if weights == "indicator" and (beta, clip) != (None, None):
            raise UserError(
                f"objective: beta={beta}, clip={clip} do nothing with weights=indicator"
            )
        samples = SAMPLES if samples is None else samples
        beta, clip = BETA if beta is None else beta, CLIP if clip is None else clip
        if samples < 2:
            raise UserError(f"objective: samples={samples}; at least 2")
        check_choice("objective: advantage", advantage, get_args(Advantage))
        check_choice("objective: weights", weights, get_args(Weights))
        if beta <= 0 or clip <= 0:
            raise UserError(f"objective: beta={beta}, clip={clip}; both must be above 0")
        self.samples, self.advantage, self.weights = samples, advantage, weights
        self.beta, self.clip, self.episode = beta, clip, episode
        if episode == "revisions":
            self.whole_rollouts = self.sampled_answers = True
            self.lanes_per_puzzle, self.inputs = samples, ("written_answer",)

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, samples and written cells, in nats."""
        if self.advantage == "label_gain":
            weight = self._weight(label_gain(rollout))
            log_probs = token_log_probs(rollout.after.logits, rollout.puzzles["solution"])
            return -mean_over_written(weight * log_probs, rollout)
        steps = rollout.flatten(0, 1)
        with torch.no_grad():
            if self.episode == "revisions":
                answers = steps.after.answer[:, None]
                weight = self.lane_weights(puzzle, rollout)
            else:
                question = steps.puzzles["question"]
                answers = sample_answers(puzzle, question, steps.after.logits, self.samples)
                weight = self.answer_weights(puzzle, steps, answers)
        log_probs = weight * cell_log_probs(steps, answers)
        return -masked_mean(log_probs, steps.written[:, None]).mean()

    def answer_weights(self, puzzle: Puzzle, steps: Rollout, answers: Tensor) -> Tensor:
        """Returns the weights of sampled answers (B, S, L): (B, S, 1), or (B, S, L) per cell."""
        question = steps.puzzles["question"]
        if self.advantage == "conflicts":
            return self._weight_or_zero(conflict_advantage(puzzle, question, answers))
        score = verify_answers(puzzle, question, answers).score
        if self.advantage == "group":
            return self._weight_or_zero(group_advantage(score)[..., None])
        return self._weight_or_zero((score - steps.before.score[:, None])[..., None])

    def lane_weights(self, puzzle: Puzzle, rollout: Rollout) -> Tensor:
        """Returns the weights of the answers that lanes wrote, (K B, 1, 1) or (K B, 1, L)."""
        if self.advantage == "conflicts":
            question = rollout.puzzles["question"].flatten(0, 1)[:: self.samples]
            answers = rollout.after.answer.reshape(len(question), self.samples, -1)
            advantage = conflict_advantage(puzzle, question, answers)
        elif self.advantage == "group":
            advantage = group_advantage(last_scores(rollout, self.samples))[..., None]
        else:
            advantage = discounted_sums(rewards(rollout)).reshape(-1, self.samples, 1)
        return self._weight_or_zero(advantage).reshape(rollout.numel(), 1, -1)

    def _weight_or_zero(self, advantage: Tensor) -> Tensor:
        """Weighs advantages (B, S, ...); 0 where those of a group are all alike."""
        spread = advantage.amax(1, keepdim=True) - advantage.amin(1, keepdim=True)
        return torch.where(spread > NO_ADVANTAGE, self._weight(advantage), 0.0)

    def _weight(self, advantage: Tensor) -> Tensor:
        return advantage_weight(advantage, self.weights, self.beta, self.clip)


# ---------------------------------------------------------------- advantages and weights


def group_advantage(score: Tensor) -> Tensor:
    """Returns scores (B, S) less the mean of their puzzle's answers."""
    return score - score.mean(1, keepdim=True)


def standardised(advantage: Tensor) -> Tensor:
    """Returns group advantages (B, S) in standard deviations of their puzzle's answers (GRPO)."""
    spread = advantage.square().mean(1, keepdim=True).sqrt()
    return advantage / (spread + 1e-4)


def conflict_advantage(puzzle: Puzzle, question: Tensor, answers: Tensor) -> Tensor:
    """Credits cells: 1 for a cell without conflict, less the mean of that cell over the answers.

    Args:
        puzzle: marks the conflicts.
        question: uint8 of shape (B, L).
        answers: uint8 of shape (B, S, L).

    Returns:
        float32 of shape (B, S, L).
    """
    repeated = question.repeat_interleave(answers.shape[1], 0)
    conflicts = puzzle.conflicts(repeated, answers.flatten(0, 1)).view(answers.shape)
    return -(conflicts.float() - conflicts.float().mean(1, keepdim=True))


def label_gain(rollout: Rollout) -> Tensor:
    """Returns log c(y*) - log u(y*) of every cell less its mean over written cells, (..., L)."""
    before = rollout.before.logits.log_softmax(-1)
    after = rollout.after.logits.detach().log_softmax(-1)
    written = rollout.written
    gained = log_prob_gain(before, after, rollout.puzzles["solution"])
    return torch.where(written, gained - masked_mean(gained, written)[..., None], 0.0)


def advantage_weight(advantage: Tensor, weights: Weights, beta: float, clip: float) -> Tensor:
    """Returns min(exp(A / beta), clip) or 1{A > 0} + 0.1, of the advantage's shape."""
    if weights == "indicator":
        return (advantage > NO_ADVANTAGE) + UNCONDITIONAL
    return (advantage / beta).exp().clamp(max=clip)
