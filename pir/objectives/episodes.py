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

Episode = Literal["revisions", "bandits"]


def rewards(rollout: Rollout) -> Tensor:
    """Returns the score that every step gained, float32 of shape (K, B), in [-1, 1]."""
    gained: Tensor = rollout.after.score - rollout.before.score
    return gained


def returns(rewards: Tensor, gamma: float = 1.0) -> Tensor:
    """Returns the discounted sums of a step's reward and of those to come, of shape (K, B)."""
    sums = [rewards[-1]]
    for reward in reversed(rewards[:-1]):
        sums.append(reward + gamma * sums[-1])
    return torch.stack(sums[::-1])


def generalized_advantages(rewards: Tensor, values: Tensor, gamma: float, lmbda: float) -> Tensor:
    """Returns generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438, Eq. 16).

    Args:
        rewards: float32 of shape (K, B).
        values: float32 of shape (K, B), V of the state before each step; that after the last is 0.
        gamma: discount of later rewards.
        lmbda: lambda, the decay of later errors; 0 for the error of one step alone.
    """
    following = torch.cat([values[1:], torch.zeros_like(values[:1])])
    return returns(rewards + gamma * following - values, gamma * lmbda)


def group_returns(rollout: Rollout, group: int) -> Tensor:
    """Returns what every lane still gained at a step, (K B / G, G); see `returns`.

    The G lanes of each puzzle and step are side by side.
    """
    return returns(rewards(rollout)).reshape(-1, group)
