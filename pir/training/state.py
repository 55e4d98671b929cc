"""Everything that changes while a run trains, with torch's protocol of states."""

from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from tensordict import TensorDict

from pir.ledger.ledger import Ledger
from pir.reasoner import Reasoner
from pir.rollout import Iterate, Lanes, StepCounter
from pir.schedules import LaneSchedule
from pir.system.device import device_of, random_state, set_random_state
from pir.system.stopwatch import Stopwatch
from pir.training.hard_puzzles import HardPuzzles
from pir.training.optim import Averaged


class Stateful(Protocol):
    """Something whose state can be saved and taken back, as torch's modules and optimizers."""

    def state_dict(self) -> dict[str, Any]:
        """Returns plain tensors, numbers and text."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Takes back what `state_dict` returned."""


@dataclass
class Progress(StepCounter):
    """How far a run has come, in plain numbers.

    Attributes:
        lane_steps: improvement steps that single lanes took, those taken again for an update
            included.
        optimizer_step: updates of the parameters.
        improvement_step: improvement steps of all lanes together.
        puzzles_seen: fresh puzzles that entered the lanes.
        logged_at: optimizer step of the last row in metrics.csv.
        evaluated_at: optimizer step of the last validation, -1 before the first.
        best_solved: largest validation solved share, -1 before the first.
        best_depth: improvement steps at which it was reached.
        evaluations_since_best: validations after that one.
        interval_updates: updates since the last row.
        interval: sums of the losses by name since the last row.
        ledger_seconds: time that the ledger took.
    """

    optimizer_step: int = 0
    improvement_step: int = 0
    puzzles_seen: int = 0
    logged_at: int = 0
    evaluated_at: int = -1
    best_solved: float = -1.0
    best_depth: int = 1
    evaluations_since_best: int = 0
    interval_updates: int = 0
    interval: dict[str, float] = field(default_factory=dict)
    ledger_seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Returns every field by its name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes every field back."""
        for each in fields(self):
            setattr(self, each.name, state[each.name])


class RandomState:
    """torch's global random generators, of the CPU and of the device that computes.

    Args:
        device: where the run computes.
    """

    def __init__(self, device: torch.device) -> None:
        """Keeps the device."""
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the generators."""
        own = random_state(self.device)
        states = {} if own is None else {self.device.type: [own]}
        return {"cpu": torch.get_rng_state(), "cuda": [], **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the generators back; that of a device only where one of its kind was and is."""
        torch.set_rng_state(state["cpu"].cpu())
        kept = [] if self.device.type == "cpu" else state.get(self.device.type, [])
        for own in kept:
            set_random_state(self.device, own.cpu())


class TrainState:
    """The parts of a run that change; a part added to `parts` is saved and resumed.

    Args:
        reasoner: the network that is trained.
        optimizer: updates it.
        schedule: says which lanes take a new puzzle.
        ledger: sums of the training steps.
        hard_puzzles: the pool of failed puzzles.
        ema_decay: of the averaged weights.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        optimizer: torch.optim.Optimizer,
        schedule: LaneSchedule,
        ledger: Ledger,
        hard_puzzles: HardPuzzles,
        ema_decay: float,
    ) -> None:
        """Starts at optimizer step 0, without lanes."""
        self.reasoner, self.optimizer, self.schedule = reasoner, optimizer, schedule
        self.ledger, self.hard_puzzles = ledger, hard_puzzles
        self.average = Averaged(reasoner, ema_decay)
        self.progress = Progress(best_depth=reasoner.improvement_steps)
        self.watch = Stopwatch()
        self.random = RandomState(device_of(reasoner))
        self.lanes: Lanes | None = None

    def parts(self) -> dict[str, Stateful]:
        """Returns all parts but the lanes, which are data without methods."""
        return {
            "weights": self.reasoner,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "ledger": self.ledger,
            "hard_puzzles": self.hard_puzzles,
            "progress": self.progress,
            "watch": self.watch,
            "random": self.random,
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns plain tensors, numbers and text by part."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return states | {"lanes": None if self.lanes is None else self.lanes.to_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes every part back."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.lanes = None if state["lanes"] is None else lanes_of(state["lanes"])


def lanes_of(content: dict[str, Any]) -> Lanes:
    """Takes lanes back from `Lanes.to_dict`, as a checkpoint keeps them."""
    size = content["k"].shape

    def mapping(part: dict[str, Any]) -> TensorDict:
        return TensorDict(part, batch_size=size)

    now = content["now"]
    nested = {name: mapping(now[name]) for name in ("state", "context")}
    iterate = Iterate(**now | nested, batch_size=size)
    return Lanes(
        **content | {"puzzles": mapping(content["puzzles"]), "now": iterate}, batch_size=size
    )
