"""What `pir eval` is asked to measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pir.checks import LONGEST_NAME
from pir.evaluation.test_file import TestFile
from pir.exits.rules import ExitRule

HELD_OUT_PUZZLES = 2000
"""Puzzles of a split that are evaluated by default."""


@dataclass
class Plan:
    """What to evaluate; see configs/eval.yaml.

    Attributes:
        split: which split the puzzles come from.
        puzzles: how many; None for `HELD_OUT_PUZZLES`, or for all of a file.
        batch_size: how many at once; None for as many as fit into memory, see `fitting_batch`.
        improvement_steps: K; None for twice the trained number.
        dtype: of activations and products; None for that of the run.
        samples: answers drawn per puzzle at the trained depth, where a puzzle has several.
        guidance: weights w of guided policies.
        step_size: shares alpha of the state's changes.
        damping_after: the first steps, which are made whole whatever alpha is.
        breadth: starts per puzzle; 1 for no breadth.
        noise: of the further starts, see `noisy_start`.
        step_noise: on the state after every step, see `pir.rollout.improve`.
        exits: exit rules by name.
        leave_out_exits: whether rules that this model cannot run are left out or refused.
        file: puzzles of a file instead of a split.
        changed: settings of the puzzle that are other than in training, by name.
    """

    split: str
    puzzles: int | None
    batch_size: int | None
    improvement_steps: int | None = None
    dtype: str | None = None
    samples: int = 20
    guidance: Sequence[float] = ()
    step_size: Sequence[float] = ()
    damping_after: int = 0
    breadth: int = 1
    noise: float = 0.3
    step_noise: float = 0.0
    exits: Mapping[str, ExitRule] = field(default_factory=dict)
    leave_out_exits: bool = False
    file: TestFile | None = None
    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """A name for the folder of its results; None for those of the run's own puzzles."""
        settings = [f"{name}={value}".replace(" ", "") for name, value in self.changed.items()]
        words = [*settings, *([self.file.name] if self.file else [])]
        return ",".join(words).replace("/", "-")[:LONGEST_NAME] or None
