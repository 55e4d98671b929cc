"""A pool of hard puzzles: those that rollouts failed come back."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.rollout import Lanes
from pir.runs.checkpoint_content import with_tensors
from pir.system.device import fetched
from pir.training import parallel


class HardPuzzles:
    """The puzzles that were failed last, kept on the CPU in TorchRL's replay buffer.

    Args:
        share: of the puzzles that enter the lanes, how many come from the pool; 0 for no pool.
        size: the most puzzles that are kept; new ones push out the oldest.
    """

    def __init__(self, share: float, size: int) -> None:
        """Starts empty."""
        self.share = share
        self.coming: Callable[[], TensorDict] | None = None
        if share > 0:
            from torchrl.data import (  # takes seconds to import
                LazyTensorStorage,
                TensorDictReplayBuffer,
            )

            logging.getLogger("torchrl").setLevel(logging.WARNING)
            self.buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(size))

    def draws(self, count: int) -> int:
        """Returns how many of `count` puzzles come from the pool, the share on average.

        At least one puzzle is always a fresh one, so that the stream goes on.
        """
        if self.share == 0 or len(self.buffer) == 0:
            return 0
        return min(int(self.share * count + float(torch.rand(()))), count - 1)

    def draw(self, count: int) -> TensorDict:
        """Returns puzzles drawn evenly, with replacement, by torch's random state."""
        drawn = self.buffer.sample(count).select("question", "solution")
        return drawn.to(torch.device("cpu"))

    def add_failed(self, lanes: Lanes, lanes_per_puzzle: int) -> None:
        """Keeps the puzzles of finished lanes that at least half of their lanes did not solve."""
        first = lanes[::lanes_per_puzzle]
        mostly_solved = lanes.now.solved.view(len(first), -1).float().mean(1) > 0.5
        failed = first.finished & ~mostly_solved
        self.add(*parallel.everywhere(first.puzzles, failed))

    def add(self, puzzles: TensorDict, failed: Tensor) -> None:
        """Keeps the puzzles that `failed`, bool of shape (B,), marks.

        They enter the pool when the next ones come. By then a GPU has told which they are, and the
        host need not wait for it in the midst of a step.
        """
        if self.share > 0:
            self._enter()
            rows = {name: puzzles[name] for name in ("question", "solution")}
            self.coming = fetched(TensorDict({**rows, "failed": failed}, batch_size=failed.shape))

    def _enter(self) -> None:
        """Takes those that came last into the pool."""
        if self.coming is not None:
            rows = self.coming()
            kept = rows.exclude("failed")[rows["failed"]]
            if len(kept):
                self.buffer.extend(kept)

    def content(self) -> list[TensorDict]:
        """Returns the puzzles of the pool, and those that come next with which of them `failed`."""
        kept = [self.buffer[:]] if len(self.buffer) else []
        return kept if self.coming is None else [*kept, self.coming()]

    def state_dict(self) -> dict[str, Any]:
        """Returns everything, for a checkpoint."""
        if self.share == 0:
            return {}
        state = dict(self.buffer.state_dict())
        state["coming"] = {} if self.coming is None else self.coming().to_dict()
        if len(self.buffer) > 0:
            for tokens in state["_storage"]["_storage"].values():
                tokens[len(self.buffer) :] = 0  # rows not written yet hold what was in memory
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes everything back from a checkpoint; the pool stays on the CPU."""
        self.coming = None
        if self.share > 0:
            state = with_tensors(state, Tensor.cpu)
            coming = state.pop("coming", {})
            self.buffer.load_state_dict(state)
            if coming:
                rows = TensorDict(coming, batch_size=coming["failed"].shape)
                self.coming = lambda: rows
