"""What measurements read, the pass over the puzzles, and what each of them returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tensordict import TensorDict
from torch import Tensor

from pir.components import Components
from pir.evaluation.batch_size import fitting_batch
from pir.evaluation.examples import AnswerSample
from pir.evaluation.exit_sweep import run_rule
from pir.evaluation.plan import Plan
from pir.evaluation.probes import (
    CellSample,
    GuidanceSweep,
    LatentSample,
    OptimalitySweep,
    StepSizeProbe,
)
from pir.evaluation.rollouts import Evaluation, Observer, evaluate
from pir.evaluation.sampling import PolicySample
from pir.exits.rules import ExitRule
from pir.runs.typed import Rows


@dataclass
class Measured:
    """What a measurement found.

    Attributes:
        file: of the table or the arrays, as in `pir.runs.schema`.
        rows: of the table; without any, the file is not written.
        arrays: of a .npz file.
        facts: keys of eval.json, see `pir.runs.records.Facts`.
    """

    file: str | None = None
    rows: Rows = ()
    arrays: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Pass:
    """The pass over the puzzles that all measurements share.

    Args:
        parts: puzzle and reasoner.
        plan: what to measure.
        sample: `question` and, if known, `solution` of N puzzles.

    Attributes:
        trained: the improvement steps that the reasoner was trained for.
        num_steps: the improvement steps K that are taken.
        depth: the smaller one of the two, called the trained depth below.
        passes: forward passes of a step.
        batch_size: puzzles improved at once.
        result: what the pass measured.
    """

    def __init__(self, parts: Components, plan: Plan, sample: TensorDict) -> None:
        """Improves all puzzles, and shows every step to the observers."""
        self.parts, self.plan, self.sample = parts, plan, sample
        self.reasoner, self.puzzle = parts.reasoner, parts.puzzle
        self.trained = parts.reasoner.improvement_steps
        self.num_steps = plan.improvement_steps or 2 * self.trained
        self.depth = min(self.trained, self.num_steps)
        self.passes = parts.reasoner.passes_per_step
        self.batch_size = fitting_batch(plan.batch_size, self.reasoner, sample["question"])
        reasoner, puzzle, num_steps = self.reasoner, self.puzzle, self.num_steps
        self.guidance = GuidanceSweep(puzzle, plan.guidance, num_steps)
        self.optimality = OptimalitySweep(reasoner, puzzle, plan.guidance, num_steps)
        self.step_size = StepSizeProbe(reasoner, puzzle, plan.step_size, num_steps)
        self.cells, self.policy, self.answers = (
            CellSample(), PolicySample(self.depth), AnswerSample(),
        )  # fmt: skip
        self.latents = LatentSample(reasoner, num_steps, self.depth)
        self.result = self.evaluate(
            sample,
            (
                self.guidance,
                self.optimality,
                self.step_size,
                self.cells,
                self.latents,
                self.policy,
                self.answers,
            ),
        )

    def evaluate(
        self, puzzles: TensorDict, observers: Sequence[Observer] = (), step_size: float = 1.0
    ) -> Evaluation:
        """Improves puzzles as in this pass; see `pir.evaluation.rollouts.evaluate`."""
        return evaluate(
            self.reasoner,
            self.puzzle,
            puzzles,
            self.num_steps,
            self.batch_size,
            observers,
            step_size,
            self.plan.damping_after,
            self.plan.step_noise,
        )

    @property
    def outcome(self) -> Tensor:
        """Whether the answer after the trained depth is right, bool (N,)."""
        return self.result.solved[:, self.depth - 1]

    @cached_property
    def rating(self) -> Tensor:
        """The difficulty of every puzzle, (N,), on the CPU."""
        return self.puzzle.rating(self.sample["question"]).cpu()

    def at_depth(self, rows: Rows) -> Rows:
        """Returns the rows of a table at the trained depth."""
        return tuple(row for row in rows if row["k"] == self.depth)

    def seconds(self, rule: ExitRule, threshold: float, depth: int) -> float:
        """Runs a rule on the puzzles and returns how long that takes."""
        size = self.batch_size
        done = run_rule(self.reasoner, self.puzzle, self.sample, rule, threshold, depth, size)
        return done.seconds
