"""The ledger: what every improvement step gained, and what it wasted.

Streaming: it keeps sums per step k, on the device of the data, and the same code serves training
and evaluation. For the reference policy u, the improved policy c and the solution y*, per written
cell, with the guided policy p_w ~ u^(1-w) c^w (Asadulaev et al. 2025, arXiv:2511.16886v2, section 4
and Prop. 4.1: log p_w(y*) rises with w iff the advantage A(y*) exceeds its mean under p_w):

* A = log c(y*) - log u(y*), the realised gain in log-probability;
* at w = 0 that mean is -KL(u || c): the step points the right way iff A > -KL(u || c);
* at w = 1 it is KL(c || u): the advantage margin A - KL(c || u) is positive where a longer step
  would gain still more.

A step of one puzzle is *dead* if its score did not rise. A dead step is *idle* if the policy hardly
moved (mean KL(c || u) below `IDLE_KL` nats per cell), an *overshoot* if it moved the right way but
too far (-sum KL(u || c) < sum A < 0), and *busy* otherwise.
"""

import torch
from torch import Tensor

from pir.improvement import Step

IDLE_KL = 1e-3
"""Mean KL(improved || reference) per written cell, in nats, below which a step counts as idle."""

STATISTICS = (
    "solved",
    "exact_accuracy",
    "cell_accuracy",
    "score",
    "gain",
    "log_prob_gain",
    "improved",
    "worsened",
    "unchanged",
    "kl",
    "advantage_margin",
    "dead",
    "idle",
    "busy",
    "overshoot",
)
"""The columns of the ledger, each a mean over puzzles (docs/metrics.md says what they mean)."""


class Ledger:
    """Sums of `STATISTICS` per improvement step.

    Args:
        num_steps: the largest k that is kept.
        passes_per_step: forward passes of one step.
        device: where the sums live.
    """

    def __init__(self, num_steps: int, passes_per_step: int, device: torch.device) -> None:
        """Starts empty."""
        self.passes_per_step = passes_per_step
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self.counts = torch.zeros(num_steps, dtype=dtype, device=device)
        self.sums = torch.zeros(num_steps, len(STATISTICS), dtype=dtype, device=device)

    @torch.no_grad()
    def record(self, step: Step) -> None:
        """Adds one step of every lane."""
        values = torch.stack(puzzle_statistics(step), dim=1).to(self.sums.dtype)
        self.counts.index_add_(0, step.k - 1, torch.ones_like(values[:, 0]))
        self.sums.index_add_(0, step.k - 1, values)

    def rows(self) -> list[dict[str, float]]:
        """Returns one row per step that was seen: k, forward passes, then the statistics."""
        counts, sums = self.counts.cpu(), self.sums.cpu()
        return [
            {"k": k + 1, "forward_passes": (k + 1) * self.passes_per_step}
            | dict(zip(STATISTICS, (sums[k] / counts[k]).tolist(), strict=True))
            for k in range(len(counts))
            if counts[k] > 0
        ]

    def dead_fraction(self, num_steps: int | None = None) -> float:
        """Returns the forward passes of dead steps over all, in the first `num_steps` steps."""
        total = self.counts[:num_steps].sum()
        dead = self.sums[:num_steps, STATISTICS.index("dead")].sum()
        return float(dead / total) if total else 0.0

    def clear(self) -> None:
        """Forgets everything recorded."""
        self.counts.zero_()
        self.sums.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the sums for a checkpoint."""
        return {"counts": self.counts, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes sums back from a checkpoint."""
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])


def puzzle_statistics(step: Step) -> list[Tensor]:
    """Computes the `STATISTICS` of one step for every puzzle, each of shape (B,)."""
    written, label = step.written, step.puzzles["solution"]
    index = written.flatten().nonzero().squeeze(1)
    rows = index // written.shape[1]
    cells = written.sum(1).clamp(min=1)

    def per_puzzle(cell_values: Tensor) -> Tensor:
        return torch.zeros(len(written), device=rows.device).index_add_(0, rows, cell_values)

    def log_policy(logits: Tensor) -> Tensor:
        return logits.detach().flatten(0, 1).index_select(0, index).log_softmax(-1)

    reference, improved = log_policy(step.reference), log_policy(step.improved.logits)
    shift = improved - reference
    solution = label.flatten().index_select(0, index).long()
    log_prob_gain = per_puzzle(shift.gather(1, solution[:, None]).squeeze(1))
    kl = per_puzzle((improved.exp() * shift).sum(-1))
    reverse_kl = per_puzzle((reference.exp() * -shift).sum(-1))

    right = (step.answer == label) | ~written
    gain = step.after.score - step.before.score
    dead = gain <= 0
    idle = dead & (kl / cells < IDLE_KL)
    overshoot = dead & ~idle & (log_prob_gain < 0) & (log_prob_gain > -reverse_kl)
    busy = dead & ~idle & ~overshoot
    statistics = {
        "solved": step.after.solved,
        "exact_accuracy": right.all(1),
        "cell_accuracy": (right & written).sum(1) / cells,
        "score": step.after.score,
        "gain": gain,
        "log_prob_gain": log_prob_gain,
        "improved": gain > 0,
        "worsened": gain < 0,
        "unchanged": gain == 0,
        "kl": kl / cells,
        "advantage_margin": (log_prob_gain - kl) / cells,
        "dead": dead,
        "idle": idle,
        "busy": busy,
        "overshoot": overshoot,
    }
    return [statistics[name].float() for name in STATISTICS]
