"""The clipped policy gradient that PPO and group-relative training share.

Shapes: K steps, B lanes, S answers per lane, L cells, V tokens; c is the policy after a step, u the
one before it.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from pir.checks import check_choice
from pir.errors import UserError
from pir.ledger.guidance import divergence
from pir.objective import Term, cell_log_probs, masked_mean
from pir.objectives.episodes import EpisodeForm
from pir.objectives.halting import exit_distribution
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout

Credit = Literal["uniform", "progressive", "exit", "last"]
CountedCells = Literal["all", "changed"]


class PolicyGradient(Term):
    """-sum_k omega_k mean_s mean_i min(r A, clip(r, 1 - low, 1 + high) A), a loss per lane.

    r is the ratio of a cell's probability now to that when the rollout was made, A the advantage of
    the answer (Schulman et al. 2017, arXiv:1707.06347, Eq. 7, token by token as in GRPO, Shao et
    al. 2024, arXiv:2402.03300, Eq. 3, whose mean over tokens is one over written cells i here); the
    wider upper clip lets rare right tokens grow (DAPO, Yu et al. 2025, arXiv:2503.14476, Eq. 10).
    Every step is credited by weights omega that sum to one (RLTT, arXiv:2602.10520): "uniform",
    "progressive" (in proportion to k), "exit" (the probability that the halt head, as a gate, ends
    the rollout there) or "last". No label is used.

    A subclass draws answers and gives them advantages, in `collect`.

    Args:
        episode: "revisions", an episode of K revised answers, or "bandits", K decisions by
            themselves; see `pir.objectives.episodes`.
        clip: how far a ratio may fall below and rise above 1; one number for both.
        credit: weights of the steps.
        cells: whose probabilities count: "all" written cells, or those that the answer "changed"
            against the answer before. That is biased, as to keep a token is an action too, and a
            mean over all written cells still.
        entropy: weight of the bonus mean_i H(c_i), in nats.
        kl: weight of the penalty mean_i KL(c_i || u_i) on moving away from the policy before.

    Raises:
        UserError: if a setting is out of range.
    """

    whole_rollouts = True
    figure_names: tuple[str, ...] = ("return", "entropy", "moved", "clipped")

    def __init__(
        self,
        episode: EpisodeForm,
        clip: float | tuple[float, float],
        credit: Credit,
        cells: CountedCells,
        entropy: float,
        kl: float,
    ) -> None:
        """Checks and keeps the settings."""
        check_choice("objective: episode", episode, get_args(EpisodeForm))
        check_choice("objective: credit", credit, get_args(Credit))
        check_choice("objective: cells", cells, get_args(CountedCells))
        clip = (clip, clip) if isinstance(clip, int | float) else clip
        if not (isinstance(clip, list | tuple) and len(clip) == 2):
            raise UserError(f"objective: clip={clip}; allowed are one or two numbers")
        if not (0 < clip[0] <= 1 and clip[1] > 0):
            raise UserError(
                f"objective: clip={list(clip)}; the first in (0, 1], the second above 0"
            )
        if not (entropy >= 0 and kl >= 0):
            raise UserError(f"objective: entropy={entropy}, kl={kl}; at least 0")
        self.episode, self.clip, self.credit, self.cells = episode, clip, credit, cells
        self.entropy, self.kl = entropy, kl
        self.sampled_answers = episode == "revisions"
        self.inputs = ("written_answer",) if self.sampled_answers else ()
        self.outputs = ("halt_logit",) if credit == "exit" else ()

    def kept(self, rollout: Rollout, answers: Tensor, advantage: Tensor) -> dict[str, Tensor]:
        """Returns what all updates with a rollout need.

        Args:
            rollout: of shape (K, B).
            answers: uint8 of shape (K, B, S, L), what was drawn.
            advantage: float32 of shape (K, B, S).
        """
        return {
            "answers": answers,
            "advantage": advantage,
            "log_probs": cell_log_probs(rollout, answers),
            "credit": self.credits(rollout),
        }

    def credits(self, rollout: Rollout) -> Tensor:
        """Returns omega, float32 of shape (K, B), which sums to one over the steps."""
        if self.credit == "exit":
            return exit_distribution(rollout.after.halt_logit)
        count = len(rollout)
        k = torch.arange(1, count + 1, device=rollout.k.device, dtype=torch.float32)
        weights = {
            "uniform": torch.ones_like(k),
            "progressive": k,
            "last": (k == count).float(),
        }[self.credit]
        return (weights / weights.sum())[:, None].expand(rollout.shape)

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean over lanes, answers and written cells, summed over steps."""
        kept, (low, high) = rollout.experience, self.clip
        advantage, written = kept["advantage"][..., None], rollout.written[:, :, None]
        ratio = (cell_log_probs(rollout, kept["answers"]) - kept["log_probs"]).exp()
        clipped = ratio.clamp(1 - low, 1 + high)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage)
        if self.cells == "changed":
            changed = kept["answers"] != rollout.before.answer[:, :, None]
            surrogate = torch.where(changed, surrogate, 0.0)
        per_answer = masked_mean(surrogate, written)
        total: Tensor = -(kept["credit"][..., None] * per_answer).mean((1, 2)).sum()
        if self.entropy:
            total = total - self.entropy * (kept["credit"] * entropy(rollout)).mean(1).sum()
        if self.kl:
            total = total + self.kl * (kept["credit"] * moved(rollout)).mean(1).sum()
        return total

    def figures(self, rollout: Rollout) -> dict[str, Tensor]:
        """Returns what is gained, how sure the policy is, how far it moved, and what is clipped.

        How far it moved is the mean of r - 1 - log r per cell. Where the answers were drawn from
        the policy that r compares with, that estimates the KL of that policy from the one of now
        (Schulman 2020, "Approximating KL divergence"); `GroupRelative` as bandits judges the
        answers of the last step at every step, and there it is a distance alone.
        """
        kept, (low, high) = rollout.experience, self.clip
        log_ratio = cell_log_probs(rollout, kept["answers"]) - kept["log_probs"]
        ratio = log_ratio.exp()
        written = rollout.written[:, :, None].expand(ratio.shape)
        outside = (ratio < 1 - low) | (ratio > 1 + high)
        return {
            "return": (rollout.after.score[-1] - rollout.before.score[0]).mean(),
            "entropy": entropy(rollout).mean(),
            "moved": masked_mean(ratio - 1 - log_ratio, written).mean(),
            "clipped": masked_mean(outside.float(), written).mean(),
        }


def entropy(rollout: Rollout) -> Tensor:
    """Returns the entropy of the policies after the steps, nats per written cell, (K, B)."""
    log_policy = rollout.after.logits.log_softmax(-1)
    per_cell = -(log_policy.exp() * log_policy).sum(-1)
    return masked_mean(per_cell, rollout.written)


def moved(rollout: Rollout) -> Tensor:
    """Returns KL(c || u) of the steps, nats per written cell, (K, B), with gradient to c."""
    after, before = (at.logits.log_softmax(-1) for at in (rollout.after, rollout.before))
    return masked_mean(divergence(after, before), rollout.written)
