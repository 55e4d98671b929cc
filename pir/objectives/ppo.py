"""Proximal policy optimisation over the episode of K improvement steps, by TorchRL."""

from functools import cached_property

import torch
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch import Tensor
from torch.distributions import Categorical

from pir.errors import UserError
from pir.objective import Term
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, sample_answers
from pir.system import processes


class PPO(Term):
    """The clipped surrogate with a value head (Schulman et al. 2017, arXiv:1707.06347, Eq. 9).

    The episode is the rollout: action a_k is an answer drawn from the policy after step k, reward
    its score less that of the answer held before the step, so that holding on earns 0; V(s_k) is
    the value head's estimate at the state after step k, V of the last state 0. Advantages are
    TorchRL's functional GAE (Schulman et al. 2016, arXiv:1506.02438), the loss is its
    `ClipPPOLoss`, and gradient reaches back through one step. No label is used.

    Args:
        clip: how far a ratio may fall below and rise above 1.
        gamma: discount of later gains.
        lmbda: lambda of GAE.
        entropy: weight of the policy's entropy bonus.
        critic: weight of the value head's loss.
    """

    outputs = ("value",)
    whole_rollouts = True
    whole_batch = True

    def __init__(
        self,
        clip: tuple[float, float] = (0.2, 0.28),
        gamma: float = 1.0,
        lmbda: float = 0.95,
        entropy: float = 0.01,
        critic: float = 0.5,
    ) -> None:
        """Checks and keeps the settings."""
        if not (0 < clip[0] < 1 and clip[1] > 0):
            raise UserError(
                f"objective: clip={list(clip)}; the first in (0, 1), the second above 0"
            )
        for name, value in {"gamma": gamma, "lmbda": lmbda}.items():
            if not 0 <= value <= 1:
                raise UserError(f"objective: {name}={value}; must lie in [0, 1]")
        if entropy < 0 or critic < 0:
            raise UserError(f"objective: entropy={entropy}, critic={critic}; at least 0")
        self.clip, self.gamma, self.lmbda = clip, gamma, lmbda
        self.entropy, self.critic = entropy, critic

    @cached_property
    def _loss(self) -> torch.nn.Module:
        """TorchRL's loss over policies and values that are computed already."""
        from torchrl.objectives import ClipPPOLoss  # takes seconds to import

        read = TensorDictModule(lambda logits: logits, in_keys=["logits"], out_keys=["logits"])
        draw = ProbabilisticTensorDictModule(
            in_keys=["logits", "written"],
            out_keys=["action"],
            distribution_class=AnswerDistribution,
            return_log_prob=True,
        )
        value = TensorDictModule(lambda value: value, in_keys=["value"], out_keys=["state_value"])
        loss: torch.nn.Module = ClipPPOLoss(
            ProbabilisticTensorDictSequential(read, draw),
            value,
            clip_epsilon=self.clip,
            entropy_coeff=self.entropy,
            critic_coeff=self.critic,
            loss_critic_type="l2",
            functional=False,
        )
        return loss

    @torch.no_grad()
    def collect(self, rollout: Rollout, puzzle: Puzzle) -> dict[str, Tensor]:
        """Draws one answer per lane and step, scores it, and estimates its advantage."""
        from torchrl.objectives.value.functional import generalized_advantage_estimate

        actions, log_probs, rewards = [], [], []
        for step in rollout.unbind(0):
            question, logits = step.puzzles["question"], step.after.logits
            action = sample_answers(puzzle, question, logits, 1)[:, 0]
            actions.append(action.long())
            log_probs.append(AnswerDistribution(logits, step.written).log_prob(action.long()))
            rewards.append(puzzle.verify(question, action).score - step.before.score)
        value = rollout.before.value
        following = torch.cat([value[1:], torch.zeros_like(value[:1])])
        done = torch.zeros_like(value, dtype=torch.bool)
        done[-1] = True
        columns = [x[..., None] for x in (value, following, torch.stack(rewards), done)]
        advantage, target = generalized_advantage_estimate(
            self.gamma, self.lmbda, *columns, time_dim=0
        )
        everywhere = processes.gathered(advantage, 1)
        spread = everywhere.std(correction=0).clamp(min=1e-4)
        return {
            "action": torch.stack(actions),
            "action_log_prob": torch.stack(log_probs),
            "advantage": (advantage - everywhere.mean()) / spread,
            "value_target": target,
        }

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes and steps of surrogate, entropy bonus and value loss."""
        batch = rollout.experience.clone(recurse=False).update(
            {
                "logits": rollout.after.logits,
                "written": rollout.written,
                "value": values(rollout, reasoner)[..., None],
            }
        )
        losses = self._loss.to(rollout.k.device)(batch)
        total: Tensor = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        return total


def values(rollout: Rollout, reasoner: Reasoner) -> Tensor:
    """Returns V of the states before the steps, float32 of shape (K, B), with gradient."""
    start = reasoner.read_out(rollout.before.state[0]).value
    assert start is not None
    return torch.cat([start[None], rollout.after.value[:-1]])


class AnswerDistribution(Categorical):
    """Answers whose written cells are drawn each by itself; the other cells do not count.

    Args:
        logits: float32 of shape (..., L, V).
        written: bool of shape (..., L).
    """

    def __init__(self, logits: Tensor, written: Tensor) -> None:
        """Takes the policy."""
        super().__init__(logits=logits, validate_args=False)
        self.is_written = written

    def log_prob(self, answer: Tensor) -> Tensor:
        """Returns log p(answer), shape (...), of answers (..., L)."""
        return (super().log_prob(answer) * self.is_written).sum(-1)  # type: ignore[no-any-return,no-untyped-call]

    def entropy(self) -> Tensor:
        """Returns the entropy in nats per answer, shape (...)."""
        return (super().entropy() * self.is_written).sum(-1)  # type: ignore[no-any-return,no-untyped-call]
