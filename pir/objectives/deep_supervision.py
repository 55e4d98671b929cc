"""Deep supervision and deep improvement supervision: after every step, cross-entropy."""

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.improvement import Step
from pir.objectives.base import Term, lane_means, token_log_probs
from pir.puzzle import PAD, Puzzle
from pir.targets import TargetGenerator


class DeepSupervision(Term):
    """The mean over written cells of -log c(y_k), c the improved policy, y_k the step's target.

    Without target generator the target of every step is the whole label (deep supervision: TRM,
    arXiv:2510.04871, section 2.4 and figure 3; HRM, arXiv:2506.21734, section 2). With one, every
    step is asked for a little more than the step before (DIS, arXiv:2511.16886v2, section 4:
    L = sum_s CE(c_s, y_s) with y_s ever nearer to y*).

    Args:
        weight: see `Term`.
        targets: makes the targets y_1 .. y_K; None for the label at every step. Cells without a
            target yet (PAD) are left out of the mean.
        from_step: see `Term`.
        until_step: see `Term`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        targets: TargetGenerator | None = None,
        from_step: int = 0,
        until_step: int | None = None,
    ) -> None:
        """Keeps the generator."""
        super().__init__(weight, from_step, until_step)
        self.targets = targets

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Makes the targets of K steps."""
        if self.targets is None:
            return {}
        return {"targets": self.targets.targets(puzzle, puzzles, num_steps)}

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean cross-entropy in nats per cell."""
        target, counted = self.target(step), step.written
        if self.targets is not None:
            counted = counted & (target != PAD)
        return -lane_means(token_log_probs(step.improved.logits, target), counted).mean()

    def target(self, step: Step) -> Tensor:
        """Returns what every lane's step is asked for, uint8 of shape (B, L)."""
        if self.targets is None:
            label: Tensor = step.puzzles["solution"]
            return label
        paths: Tensor = step.puzzles["targets"]
        index = (step.k - 1).clamp(max=paths.shape[1] - 1)
        return paths[torch.arange(len(paths), device=index.device), index]
