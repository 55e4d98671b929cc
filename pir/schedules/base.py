"""The contract of a lane schedule."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from pir.rollout import Rollout


class LaneSchedule(ABC):
    """Says which lanes take a new puzzle, and when.

    Several processes that train together have a schedule each, which sees the lanes of its process
    (`pir.rollout.lane_numbers` says which these are).

    Args:
        num_steps: K, the improvement steps of a rollout.
        device: where the lanes are.

    Attributes:
        depth: improvement steps of a rollout by this schedule; `objective.depth` may draw another
            number for each.
        whole_rollouts: whether all lanes start together and are refilled after whole rollouts,
            which updates can then see; else finished lanes are refilled after every step.
        reads_outcomes: whether it learns from how rollouts end; an objective must then tell the
            reasoner nothing that it does not know in use.
        outputs: what it needs of the read-out beside logits: fields of `Policy`.
    """

    whole_rollouts: bool = False
    reads_outcomes: bool = False
    outputs: tuple[str, ...] = ()

    def __init__(self, num_steps: int, device: torch.device) -> None:
        """Keeps the depth."""
        self.num_steps = self.depth = num_steps

    @abstractmethod
    def finished(self, step: Rollout, steps_so_far: int, length: int) -> Tensor:
        """Returns which lanes take a new puzzle after a step, bool of shape (B,).

        Args:
            step: of shape (B,).
            steps_so_far: improvement steps of this run, this one included.
            length: improvement steps of the present rollouts; K, if the objective draws none.
        """

    def finished_count(self, steps_so_far: int, lanes: range) -> int | None:
        """Returns how many lanes take a new puzzle after a step, where that is known beforehand.

        It is the number that `finished` marks in rollouts of K steps, also in subclasses. Training
        then need not wait for a device to tell it.

        Args:
            steps_so_far: improvement steps of this run, that one included.
            lanes: the numbers of this process's lanes.

        Returns:
            None, as by default, where it depends on the rollouts.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Returns what changes while it is used, for a checkpoint; by default nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027, most have no state
        """Takes back what `state_dict` returned; by default nothing."""
