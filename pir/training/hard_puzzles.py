"""A pool of hard puzzles: those that rollouts failed come back."""

import logging
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.runs.checkpoint_content import with_tensors


class HardPuzzles:
    """The puzzles that were failed last, kept on the CPU in TorchRL's replay buffer.

    Args:
        share: of the puzzles that enter the lanes, how many come from the pool; 0 for no pool.
        size: the most puzzles that are kept; new ones push out the oldest.
    """

    def __init__(self, share: float, size: int) -> None:
        """Starts empty."""
        self.share = share
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

    def add(self, puzzles: TensorDict, failed: Tensor) -> None:
        """Keeps the puzzles that `failed`, bool of shape (B,), marks."""
        if self.share > 0 and bool(failed.any()):
            kept = puzzles.select("question", "solution")[failed]
            self.buffer.extend(kept.to(torch.device("cpu")))

    def state_dict(self) -> dict[str, Any]:
        """Returns everything, for a checkpoint."""
        if self.share == 0:
            return {}
        state = dict(self.buffer.state_dict())
        if len(self.buffer) > 0:
            for tokens in state["_storage"]["_storage"].values():
                tokens[len(self.buffer) :] = 0  # rows not written yet hold what was in memory
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes everything back from a checkpoint; the pool stays on the CPU."""
        if self.share > 0:
            self.buffer.load_state_dict(with_tensors(state, Tensor.cpu))
