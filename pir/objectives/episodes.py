"""Improvement as a Markov decision process: what a rollout earned, and whom to credit.

In the form "revisions" a rollout is an episode of `pir.envs.views.episode.Episode` with horizon K.
The state is the question, the answer written so far and the reasoner's latents; the action is the
revised answer, drawn from the policy after the step, and the next step reads it; the reward is the
score that it gains over the answer before. With discount 1 the rewards add up to the last score
less the first, and to keep the answer earns 0.

In the form "bandits" a drawn answer is scored and forgotten: the next step starts from the most
likely one. Every step is then a decision by itself.

Shapes: K steps, B lanes, L cells; G lanes side by side hold the same puzzle.
"""

from typing import Literal

import torch
from torch import Tensor

from pir.rollout import Rollout

EpisodeForm = Literal["revisions", "bandits"]


def rewards(rollout: Rollout) -> Tensor:
    """Returns the score that every step gained, float32 of shape (K, B), in [-1, 1]."""
    gained: Tensor = rollout.after.score - rollout.before.score
    return gained


def discounted_sums(values: Tensor, discount: float = 1.0) -> Tensor:
    """Returns x_k + discount x_(k+1) + discount^2 x_(k+2) + ..., of shape (K, B)."""
    sums = [values[-1]]
    for value in reversed(values[:-1]):
        sums.append(value + discount * sums[-1])
    return torch.stack(sums[::-1])


def generalized_advantages(rewards: Tensor, values: Tensor, gamma: float, lmbda: float) -> Tensor:
    """Returns generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438, Eq. 16).

    Args:
        rewards: float32 of shape (K, B).
        values: float32 of shape (K, B), V of the state that each step acts in; 0 after the last.
        gamma: discount of later rewards.
        lmbda: lambda, the decay of later errors; 0 for the error of one step alone.
    """
    following = torch.cat([values[1:], torch.zeros_like(values[:1])])
    return discounted_sums(rewards + gamma * following - values, gamma * lmbda)


def last_scores(rollout: Rollout, group: int) -> Tensor:
    """Returns the score of every lane's last answer, once for each step, (K B / G, G).

    The G lanes of each puzzle and step are side by side. Lanes of one puzzle hold different answers
    after the first step. A lane that has gained much has little left to gain, so later gains do not
    compare lanes; their last scores do. The last score is the gain still to come plus the score
    held now, and the action does not change the latter.
    """
    last = rollout.after.score[-1].expand(rollout.shape)
    return last.reshape(-1, group)
