"""Exit rules compared: the front of every rule, chosen on validation and reported on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.components import Components
from pir.errors import UserError
from pir.evaluation.probes import with_interval
from pir.evaluation.rollouts import EVALUATION_SEED, evaluate
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import ExitRule, exit_steps
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.system.device import time_on

TOLERANCE = 0.005
"""A threshold is chosen so that it costs at most this much of the solved share on validation."""

ROUNDING = 1e-6
"""What rounding can make of a difference of shares; they differ by far more or not at all."""


@dataclass
class Point:
    """A rule at one threshold and depth, and what it does on some puzzles.

    Attributes:
        threshold: on the signal.
        depth: the most steps.
        steps: mean steps per puzzle.
        solved: share of puzzles solved at their exit.
    """

    threshold: float
    depth: int
    steps: float
    solved: float


def signals(rule: ExitRule, values: Mapping[str, Tensor], depth: int) -> Tensor:
    """Returns a rule's signals (N, depth) on rollouts that ran to the end, values (N, K)."""
    return rule.signal({name: v[:, :depth] for name, v in values.items()})


def measure(signal: Tensor, solved: Tensor, threshold: float) -> Point:
    """Returns what a threshold does to signals (N, depth) of rollouts that are `solved` (N, K)."""
    steps = exit_steps(signal, threshold)
    at_exit = solved.gather(1, steps[:, None] - 1)
    mean_steps = float(steps.float().mean())
    return Point(threshold, signal.shape[1], mean_steps, float(at_exit.mean()))


def front(rule: ExitRule, values: Mapping[str, Tensor], depths: Sequence[int]) -> list[Point]:
    """Returns the thresholds of a rule that no other one beats in both steps and solved share."""
    points = []
    for depth in depths:
        signal = signals(rule, values, depth)
        thresholds = rule.candidates(signal)
        if rule.threshold is not None:
            thresholds = [rule.unit(rule.threshold)]
        points += [measure(signal, values["solved"], t) for t in dict.fromkeys(thresholds)]
    points.sort(key=lambda point: (point.steps, -point.solved))
    kept: list[Point] = []
    for point in points:
        if not kept or point.solved > kept[-1].solved:
            kept.append(point)
    return kept


class ExitSweep:
    """Every rule on validation and test: thresholds are chosen on the one, reported on the other.

    Args:
        rules: the rules by name; those that learn are fitted here.
        validation: statistics (N, K) of whole rollouts on validation puzzles.
        test: the same on test puzzles.
        trained: the trained depth, at most K, against which savings are counted.
        passes_per_step: forward passes of a step.
        leave_out: whether rules that this model cannot run are left out or refused.

    Attributes:
        rows: see docs/run_folder.md, `eval/exits.csv`.
        chosen: for every rule, the cheapest point that keeps the solved share of the trained depth
            to within `TOLERANCE` on validation.
        skipped: why a rule is missing, by name.
    """

    def __init__(
        self,
        rules: Mapping[str, ExitRule],
        validation: Mapping[str, Tensor],
        test: Mapping[str, Tensor],
        trained: int,
        passes_per_step: int,
        leave_out: bool,
    ) -> None:
        """Sweeps all thresholds.

        Raises:
            UserError: if a rule cannot be run and may not be left out.
        """
        self.rules, self.skipped = dict(rules), dict[str, str]()
        self.rows: list[dict[str, Any]] = []
        self.chosen: dict[str, Point] = {}
        count, last = test["solved"].shape
        self.trained, depths = trained, sorted({trained, last})
        for name, rule in rules.items():
            try:
                known = self._fit(rule, validation, trained)
            except UserError as error:
                if not leave_out:
                    raise UserError(f"eval.exit={name}: {error}") from error
                self.skipped[name] = str(error)
                continue
            points = front(rule, known, depths)
            target = float(known["solved"][:, trained - 1].mean()) - TOLERANCE
            enough = [point for point in points if point.solved >= target - ROUNDING]
            if enough:
                self.chosen[name] = enough[0]
            on_test = {depth: signals(rule, test, depth) for depth in depths}
            for point in points:
                there = measure(on_test[point.depth], test["solved"], point.threshold)
                self.rows.append(
                    {
                        "rule": name,
                        "threshold": rule.unit(point.threshold),
                        "depth": point.depth,
                        "forward_passes": there.steps * passes_per_step,
                        **with_interval(there.solved, count),
                        "chosen": int(point is self.chosen.get(name)),
                    }
                )

    def _fit(
        self, rule: ExitRule, validation: Mapping[str, Tensor], trained: int
    ) -> Mapping[str, Tensor]:
        """Fits a rule that learns on every other puzzle; returns those to choose a threshold on."""
        if missing := lacked(rule, validation):
            raise UserError(f"it needs {', '.join(missing)}, which this model does not have")
        if not rule.learns:
            return validation
        if len(validation["score"]) < 2:
            raise UserError("it needs validation puzzles to learn from, and others to choose on")
        rule.fit({name: v[::2, :trained] for name, v in validation.items()})
        return {name: v[1::2] for name, v in validation.items()}

    def best(self) -> str | None:
        """Returns the rule that can be run, is cheapest on validation, and saves something."""
        can = {n: p for n, p in self.chosen.items() if not self.rules[n].bound and n != "fixed"}
        saving = {n: p for n, p in can.items() if p.steps < self.trained}
        return min(saving, key=lambda name: saving[name].steps, default=None)


def lacked(rule: ExitRule, values: Mapping[str, Tensor]) -> list[str]:
    """Returns the statistics that a rule needs and a model does not have, by some of its values."""
    return [name for name in rule.needs if bool(values[name].isnan().any())]


def values_of_one(parts: Components, puzzles: TensorDict) -> Mapping[str, Tensor]:
    """Returns the statistics of the first step of the first puzzle, NaN where there are none."""
    return evaluate(parts.reasoner, parts.puzzle, puzzles[:1].to(parts.device), 1).values


@dataclass
class Exited:
    """Rollouts of N puzzles that ended at their exits.

    Attributes:
        steps: int64 of shape (N,), the step of the exit.
        solved: bool of shape (N,), the verdict on the answer there.
        seconds: spent.
    """

    steps: Tensor
    solved: Tensor
    seconds: float


def run_rule(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    rule: ExitRule,
    threshold: float,
    depth: int,
    batch_size: int,
) -> Exited:
    """Runs a rule for real, with at most `depth` steps; see `steps_until_exit`."""
    count, device = len(puzzles), puzzles["question"].device
    steps = torch.zeros(count, dtype=torch.int64, device=device)
    solved = torch.zeros(count, dtype=torch.bool, device=device)
    started = time_on(device)
    with by_puzzle(EVALUATION_SEED, device):
        for first in range(0, count, batch_size):
            batch = puzzles[first : first + batch_size]
            for rows, step in steps_until_exit(reasoner, puzzle, batch, rule, threshold, depth):
                steps[first + rows] = step.k
                solved[first + rows] = step.after.solved
    return Exited(steps.cpu(), solved.cpu(), time_on(device) - started)
