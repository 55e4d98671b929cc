"""The ledger: what every improvement step gained, and what it wasted.

Streaming, on the device of the data, and the same code serves training and evaluation: the values
of `pir.ledger.statistics` are kept for the rollouts that are under way, and when a rollout ends
they are added to sums per step k, those of solved puzzles apart from those of failed ones. What the
columns mean is written in docs/metrics.md.
"""

from typing import Any

import torch
from torch import Tensor

from pir.errors import UserError
from pir.ledger.statistics import STATISTICS, finish, parts, puzzle_statistics
from pir.rollout import Rollout
from pir.system import processes

OUTCOMES = ("failed", "solved")
"""How a rollout may end."""


class Ledger:
    """Sums of `STATISTICS` per outcome and improvement step.

    Args:
        lanes: rollouts that are under way side by side, B.
        num_steps: the largest k that is kept, K.
        passes_per_step: forward passes of one step.
        device: where the sums live.
    """

    def __init__(
        self, lanes: int, num_steps: int, passes_per_step: int, device: torch.device
    ) -> None:
        """Starts empty."""
        self.passes_per_step = passes_per_step
        self.names = tuple(STATISTICS)
        width = sum(statistic.width for statistic in STATISTICS.values())
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self.under_way = torch.zeros(lanes, num_steps, width, dtype=torch.float32, device=device)
        self.counts = torch.zeros(len(OUTCOMES), num_steps, dtype=dtype, device=device)
        self.sums = torch.zeros(len(OUTCOMES), num_steps, width, dtype=dtype, device=device)

    @torch.no_grad()
    def record(self, step: Rollout, ends: Tensor | None, solved: Tensor | None = None) -> None:
        """Adds one step.

        Args:
            step: of the first lanes, at most B.
            ends: bool, one per lane of `step`: the rollout ends with this step; None if none does.
            solved: bool, one per lane: the outcome of the rollouts that end; by default whether
                the answer after this step is right.
        """
        outcomes = step.after.solved if solved is None else solved
        lanes, num_steps = len(step.k), self.under_way.shape[1]
        lane = torch.arange(lanes, device=step.k.device)
        self.under_way[lane, step.k - 1] = puzzle_statistics(step)
        if ends is None:
            return
        # sums under masks: to pick the lanes that end would make the host wait for a GPU
        rollouts, dtype = self.under_way[:lanes], self.sums.dtype
        seen = ends[:, None] & (torch.arange(num_steps, device=ends.device) < step.k[:, None])
        for outcome in (0, 1):
            taken = seen & (outcomes == outcome)[:, None]
            self.counts[outcome] += taken.sum(0)
            self.sums[outcome] += torch.where(taken[..., None], rollouts, 0.0).sum(0, dtype=dtype)

    def values(self, count: int) -> dict[str, Tensor]:
        """Returns the present rollouts of the first `count` lanes, (count, K) per statistic.

        A statistic with parts is left out: it is no mean of values of single puzzles.
        """
        return {
            name: part.squeeze(-1).clone()
            for name, part in parts(self.under_way[:count]).items()
            if part.shape[-1] == 1
        }

    def rows(self, outcome: str | None = None) -> list[dict[str, Any]]:
        """Returns one row per step that was seen: k, forward passes, then the statistics.

        Args:
            outcome: of the rollouts, one of `OUTCOMES`; None for all of them.
        """
        chosen = slice(None) if outcome is None else [OUTCOMES.index(outcome)]
        counts, sums = self.counts[chosen].sum(0).cpu(), self.sums[chosen].sum(0).cpu()
        columns = finish(sums / counts[:, None])
        return [
            {"k": k + 1, "forward_passes": (k + 1) * self.passes_per_step}
            | {name: float(column[k]) for name, column in columns.items()}
            for k in range(len(counts))
            if counts[k] > 0
        ]

    def outcome_rows(self) -> list[dict[str, Any]]:
        """Returns the rows of solved and of failed puzzles, with how many there are."""
        return [
            {"outcome": outcome, "puzzles": int(self.counts[OUTCOMES.index(outcome), row["k"] - 1])}
            | row
            for outcome in reversed(OUTCOMES)
            for row in self.rows(outcome)
        ]

    def solved_share(self) -> float | None:
        """Returns the share of the ended rollouts whose last answer is right; None if none ended.

        At a step k, rows know only the rollouts that came so far.
        """
        failed, solved = self.counts[:, 0].tolist()
        return solved / (failed + solved) if failed + solved else None

    def dead_fraction(self, num_steps: int | None = None) -> float:
        """Returns the forward passes of dead steps over all, in the first `num_steps` steps."""
        return self._per_step("dead", num_steps)

    def live_depth(self, num_steps: int | None = None) -> float:
        """Returns the live steps of a puzzle, mean over puzzles, among the first `num_steps`."""
        steps = self.counts[:, :num_steps].sum() / self.counts[:, 0].sum().clamp(min=1)
        return self._per_step("live", num_steps) * float(steps)

    def _per_step(self, name: str, num_steps: int | None) -> float:
        """Returns the mean of a share over all steps of all puzzles."""
        counts, sums = self.counts.sum(0)[:num_steps], self.sums.sum(0)[:num_steps]
        total = float(counts.sum())
        return float(finish(sums)[name].sum()) / total if total else 0.0

    def add_up(self) -> None:
        """Adds the sums of the other processes that train this run, if any."""
        self.counts, self.sums = processes.total(self.counts), processes.total(self.sums)

    def clear(self) -> None:
        """Forgets the rollouts that have ended."""
        self.counts.zero_()
        self.sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Returns everything, for a checkpoint."""
        return {
            "names": list(self.names),
            "under_way": self.under_way,
            "counts": self.counts,
            "sums": self.sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes everything back from a checkpoint.

        Raises:
            UserError: if it was written with other statistics.
        """
        if tuple(state["names"]) != self.names:
            changed = sorted({*state["names"]} ^ {*self.names})
            raise UserError(
                "the checkpoint's ledger has other statistics than this version of pir: "
                + (", ".join(changed) or "another order")
                + "; go on with the statistics that it began with, or start a new run"
            )
        for name in ("under_way", "counts", "sums"):
            getattr(self, name).copy_(state[name])
