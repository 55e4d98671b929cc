"""Deep supervision and deep improvement supervision: after every step, cross-entropy."""

from tensordict import TensorDict
from torch import Tensor

from pir.objective import Term, masked_mean, token_log_probs
from pir.objectives.targets import TargetGenerator
from pir.puzzle import PAD, Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Rollout


class DeepSupervision(Term):
    """The mean over written cells of -log c(y_k), c the improved policy, y_k the step's target.

    Without target generator the target of every step is the whole label (deep supervision: TRM,
    arXiv:2510.04871, section 2.4 and figure 3; HRM, arXiv:2506.21734, section 2). With one, every
    step is asked for a little more than the step before (DIS, arXiv:2511.16886v2, section 4:
    L = sum_s CE(c_s, y_s) with y_s ever nearer to y*).

    Args:
        targets: makes the targets y_1 .. y_K; None for the label at every step. Cells without a
            target yet (PAD) are left out of the mean.
    """

    def __init__(self, targets: TargetGenerator | None = None) -> None:
        """Keeps the generator."""
        self.targets = targets

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Makes the targets of K steps."""
        if self.targets is None:
            return {}
        return {"targets": self.targets.targets(puzzle, puzzles, num_steps)}

    def loss(self, rollout: Rollout, puzzle: Puzzle, reasoner: Reasoner) -> Tensor:
        """Returns the mean cross-entropy in nats per cell."""
        target, counted = self.target(rollout), rollout.written
        if self.targets is not None:
            counted = counted & (target != PAD)
        return -masked_mean(token_log_probs(rollout.after.logits, target), counted).mean()

    def target(self, rollout: Rollout) -> Tensor:
        """Returns what every step is asked for, uint8 of shape (K, B, L)."""
        if self.targets is None:
            label: Tensor = rollout.puzzles["solution"]
            return label
        paths: Tensor = rollout.puzzles["targets"]  # (K, B, number of targets, L)
        index = (rollout.k - 1).clamp(max=paths.shape[-2] - 1)
        return paths.take_along_dim(index[..., None, None], -2).squeeze(-2)
