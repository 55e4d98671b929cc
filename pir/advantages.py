"""How much better an answer is than others, per answer or per cell, and what weight it gets.

Shapes: B puzzles, S answers to each, L cells. Every advantage is centred: its mean over the answers
(or, of a label's gain, over the written cells) is 0, or it is measured against a stated baseline.
"""

from typing import Literal

import torch
from torch import Tensor

from pir.guidance import gain
from pir.improvement import Step
from pir.puzzle import Puzzle

Weights = Literal["exponential", "indicator"]
UNCONDITIONAL = 0.1
"""What the indicator leaves to answers without advantage (CFGRL, arXiv:2505.23458)."""

NO_ADVANTAGE = 1e-6
"""What the rounding of means can make of an advantage of 0; no score differs by so little."""


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


def label_gain(step: Step) -> Tensor:
    """Returns log c(y*) - log u(y*) of every cell less its mean over written cells, (B, L)."""
    reference = step.reference.log_softmax(-1)
    improved = step.improved.logits.detach().log_softmax(-1)
    gained = torch.where(step.written, gain(reference, improved, step.puzzles["solution"]), 0.0)
    mean = gained.sum(1, keepdim=True) / step.written.sum(1, keepdim=True).clamp(min=1)
    return gained - mean


def advantage_weight(advantage: Tensor, weights: Weights, beta: float, clip: float) -> Tensor:
    """Returns min(exp(A / beta), clip) or 1{A > 0} + 0.1, of the advantage's shape."""
    if weights == "indicator":
        return (advantage > NO_ADVANTAGE) + UNCONDITIONAL
    return (advantage / beta).exp().clamp(max=clip)
