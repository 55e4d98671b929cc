"""The mathematics of one improvement step: a family of guided policies, and the best of them.

A step takes a reference policy u to an improved policy c. Both belong to the family

    p_w(a) ~ u(a)^(1 - w) c(a)^w,   logits  l_w = l_u + w (l_c - l_u),

u at w = 0, c at w = 1 (Asadulaev et al. 2025, arXiv:2511.16886v2, section 4; Frans et al. 2025,
arXiv:2505.23458, for guidance with a weight). With the advantage A = log c - log u, the loss
L(w) = -log p_w(y*) of a right token y* has

    dL/dw = E_{p_w}[A] - A(y*)     (Prop. 4.1: minus the advantage margin),
    d2L/dw2 = Var_{p_w}[A] >= 0.

So L is convex, and as E_u[A] = -KL(u || c) and E_c[A] = KL(c || u), two divergences tell where its
minimum, the best w, lies (`Region`). The realised gain of the full step is A(y*) itself: a positive
margin at w = 0 (the paper's Eq. 18) says that a small enough step would gain, not that this one
did.

Shapes: policies are given as log-probabilities of shape (..., V) (`guided_log_policy` takes logits
too, from which they differ by a constant); tokens, weights and results have
the leading shape (...). Everything is in nats.
"""

from enum import IntEnum

import torch
from torch import Tensor


class Region(IntEnum):
    """Where the best guidance weight w* of a token lies, for a step that moved the policy."""

    HARMFUL = 0
    """A(y*) <= -KL(u || c), w* <= 0: the wrong direction."""
    OVERSHOOT = 1
    """-KL(u || c) < A(y*) < 0, 0 < w* < 1: the right direction, but too far, a loss."""
    SIZED_RIGHT = 2
    """0 <= A(y*) <= KL(c || u), 0 < w* <= 1: a gain, and guidance beyond w = 1 would lose."""
    UNDER_SIZED = 3
    """A(y*) > KL(c || u), w* > 1: a gain, and guidance beyond w = 1 would gain more."""


def guided_log_policy(reference: Tensor, improved: Tensor, w: float | Tensor) -> Tensor:
    """Returns log p_w of shape (..., V), for any real weight w (one, or one per policy)."""
    weight = w[..., None] if isinstance(w, Tensor) else w
    return (reference + weight * (improved - reference)).log_softmax(-1)


def advantage(reference: Tensor, improved: Tensor) -> Tensor:
    """Returns A = log c - log u of every token, shape (..., V) (arXiv:2511.16886, ICML, Eq. 17)."""
    return improved - reference


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Returns KL(p || q)."""
    return (p.exp() * (p - q)).sum(-1)


def log_prob_gain(reference: Tensor, improved: Tensor, token: Tensor) -> Tensor:
    """Returns the realised gain log c(y*) - log u(y*) of a token, int of shape (...)."""
    index = token.long()[..., None]
    return (improved.gather(-1, index) - reference.gather(-1, index)).squeeze(-1)


def margin(reference: Tensor, improved: Tensor, token: Tensor, w: float | Tensor = 1.0) -> Tensor:
    """Returns the advantage margin at w, A(y*) - E_{p_w}[A] = d log p_w(y*) / dw (Prop. 4.1)."""
    guided = guided_log_policy(reference, improved, w).exp()
    mean = (guided * advantage(reference, improved)).sum(-1)
    return log_prob_gain(reference, improved, token) - mean


def region(log_prob_gain: Tensor, kl: Tensor, reverse_kl: Tensor) -> Tensor:
    """Classifies steps by A(y*) against the two divergences.

    Args:
        log_prob_gain: A(y*).
        kl: KL(c || u).
        reverse_kl: KL(u || c).

    Returns:
        `Region` values, int64. Where the policy did not move, rounding decides.
    """
    gains = log_prob_gain >= 0
    right_way = log_prob_gain > -reverse_kl
    return right_way.long() + gains.long() + (gains & (log_prob_gain > kl)).long()


def best_weight(
    reference: Tensor,
    improved: Tensor,
    token: Tensor,
    low: float = 0.0,
    high: float = 8.0,
    halvings: int = 40,
) -> Tensor:
    """Returns the w in [low, high] with the largest p_w(y*), by bisection of the margin.

    The margin falls with w (it is minus the slope of a convex function), so its sign at the middle
    says which half holds the best w. Where it has one sign throughout, that end is returned.
    """
    lower = torch.full_like(log_prob_gain(reference, improved, token), low)
    upper = torch.full_like(lower, high)
    for _ in range(halvings):
        middle = (lower + upper) / 2
        rising = margin(reference, improved, token, middle) > 0
        lower, upper = torch.where(rising, middle, lower), torch.where(rising, upper, middle)
    return (lower + upper) / 2
