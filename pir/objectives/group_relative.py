"""Group-relative policy gradient, with credit for every step of the rollout."""

import torch
from torch import Tensor

from pir.errors import UserError
from pir.objectives.advantage_weighted import group_advantage, standardised
from pir.objectives.episodes import EpisodeForm, last_scores
from pir.objectives.policy_gradient import CountedCells, Credit, PolicyGradient
from pir.puzzle import Puzzle
from pir.rollout import Rollout, sample_answers, verify_answers


class GroupRelative(PolicyGradient):
    """The advantage of an answer is its score, in standard deviations of its group (GRPO).

    As "revisions" S lanes side by side hold the same puzzle and revise their answers by themselves.
    The advantage of every step is the score of its lane's last answer, less the mean of the
    group's. As "bandits" the group are S answers drawn from the last policy of a
    lane's rollout; their advantage by score is credited to every step's policy.

    Args:
        samples: the size of a group S, at least 2.
        episode: see `PolicyGradient`, as all below.
        clip: see there.
        credit: see there.
        cells: see there.
        entropy: see there.
        kl: see there.
    """

    def __init__(
        self,
        samples: int = 16,
        episode: EpisodeForm = "revisions",
        clip: float | tuple[float, float] = (0.2, 0.28),
        credit: Credit = "uniform",
        cells: CountedCells = "all",
        entropy: float = 0.0,
        kl: float = 0.0,
    ) -> None:
        """Checks and keeps the settings."""
        if samples < 2:
            raise UserError(f"objective: samples={samples}; at least 2")
        super().__init__(episode, clip, credit, cells, entropy, kl)
        self.samples = samples
        self.lanes_per_puzzle = samples if episode == "revisions" else 1

    @torch.no_grad()
    def collect(self, rollout: Rollout, puzzle: Puzzle) -> dict[str, Tensor]:
        """Gives the answers of every step their advantages, see `PolicyGradient.kept`."""
        if self.episode == "revisions":
            score = last_scores(rollout, self.samples)
            advantage = standardised(group_advantage(score)).reshape(*rollout.shape, 1)
            return self.kept(rollout, rollout.after.answer[:, :, None], advantage)
        question, last = rollout.puzzles["question"][-1], rollout.after.logits[-1]
        answers = sample_answers(puzzle, question, last, self.samples)
        score = verify_answers(puzzle, question, answers).score
        every_step = (len(rollout), *answers.shape)
        advantage = standardised(group_advantage(score)).expand(every_step[:-1])
        return self.kept(rollout, answers.expand(every_step), advantage)
