"""Proximal policy optimisation over the episode of K improvement steps."""

import torch
from torch import Tensor

from pir.errors import UserError
from pir.objectives.episodes import EpisodeForm, generalized_advantages, rewards
from pir.objectives.policy_gradient import CountedCells, Credit, PolicyGradient
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout, sample_answers, verify_answers
from pir.system import processes

GAMMA, LMBDA = 1.0, 0.95
"""The discount and the lambda of an episode of revisions where they are not given."""


class PPO(PolicyGradient):
    """The clipped surrogate with a value head (Schulman et al. 2017, arXiv:1707.06347, Eq. 9).

    The value head F estimates the score of the last answer. It reads the latents after step k,
    which have seen the question and the answer held but not the one that the step draws, so that
    F less the score of the answer held is V(s_k), the gain to come; V after the last step is 0.
    Advantages are generalised advantage estimates of the gains, standardised over all steps and
    lanes; gradient reaches back through one step. As "bandits" one answer is drawn after every
    step and the episode is that step alone: F estimates the score of a drawn answer.

    Args:
        episode: see `PolicyGradient`.
        clip: see there.
        gamma: discount of later gains; None for `GAMMA`. None with "bandits".
        lmbda: lambda of the advantage estimates; None for `LMBDA`. None with "bandits".
        credit: see `PolicyGradient`, as the three below.
        cells: see there.
        entropy: see there.
        kl: see there.
        critic: weight of the value head's loss, the mean squared error.

    Raises:
        UserError: if a setting is out of range, or would do nothing.
    """

    whole_batch = True
    figure_names = (*PolicyGradient.figure_names, "explained")

    def __init__(
        self,
        episode: EpisodeForm = "revisions",
        clip: float | tuple[float, float] = (0.2, 0.28),
        gamma: float | None = None,
        lmbda: float | None = None,
        credit: Credit = "uniform",
        cells: CountedCells = "all",
        entropy: float = 0.01,
        kl: float = 0.0,
        critic: float = 0.5,
    ) -> None:
        """Checks and keeps the settings."""
        super().__init__(episode, clip, credit, cells, entropy, kl)
        if episode == "bandits" and (gamma, lmbda) != (None, None):
            raise UserError(
                f"objective: gamma={gamma}, lmbda={lmbda} do nothing with episode=bandits"
            )
        self.gamma = GAMMA if gamma is None else gamma
        self.lmbda = LMBDA if lmbda is None else lmbda
        for name, value in {"gamma": self.gamma, "lmbda": self.lmbda}.items():
            if not 0 <= value <= 1:
                raise UserError(f"objective: {name}={value}; must lie in [0, 1]")
        if not critic >= 0:
            raise UserError(f"objective: critic={critic}; at least 0")
        self.critic = critic
        self.outputs = ("value", *self.outputs)

    @torch.no_grad()
    def collect(self, rollout: Rollout, puzzle: Puzzle) -> dict[str, Tensor]:
        """Gives the answer of every step its advantage, and the value head its target."""
        # with "revisions" `improve` has drawn the answers (`Term.sampled_answers`)
        held, answers = rollout.before.score, rollout.after.answer[:, :, None]
        value = rollout.after.value
        if self.episode == "revisions":
            advantage = generalized_advantages(
                rewards(rollout), value - held, self.gamma, self.lmbda
            )
        else:
            steps = rollout.flatten(0, 1)
            question = steps.puzzles["question"]
            drawn = sample_answers(puzzle, question, steps.after.logits, 1)
            score = verify_answers(puzzle, question, drawn).score
            answers = drawn.view(answers.shape)
            advantage = score.view(held.shape) - value
        everywhere = processes.gathered(advantage, 1)
        spread = everywhere.std(correction=0).clamp(min=1e-4)
        standard = (advantage - everywhere.mean()) / spread
        target = {"value_target": advantage + value}
        return self.kept(rollout, answers, standard[..., None]) | target

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the clipped surrogate and the value head's loss."""
        error = rollout.experience["value_target"] - rollout.after.value
        total: Tensor = (
            super().loss(rollout, puzzle, reasoner) + self.critic * error.square().mean()
        )
        return total

    def figures(self, rollout: Rollout) -> dict[str, Tensor]:
        """Returns those of `PolicyGradient`, and the share of variance that the head explains."""
        target = rollout.experience["value_target"]
        # of all processes' lanes: a mean of variances is not the variance
        error = processes.gathered(target - rollout.after.value, 1)
        spread = processes.gathered(target, 1).var(correction=0)
        left = error.var(correction=0) / spread.clamp(min=1e-8)
        explained = torch.where(spread > 1e-8, 1 - left, 0.0)
        return super().figures(rollout) | {"explained": explained}
