"""The evaluation of a run: everything that is measured, written to `eval/` of its folder.

The files are described in docs/run_folder.md. `eval.json` goes first and comes last, so a folder
with it holds the files of one whole evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pir.components import Components, load_trained
from pir.evaluation.batch_size import fitting_batch
from pir.evaluation.breadth import breadth
from pir.evaluation.cost import flops_per_step
from pir.evaluation.exit_sweep import ExitSweep, run_rule
from pir.evaluation.floors import look_up, masked_random, one_blank
from pir.evaluation.path_independence import path_independence
from pir.evaluation.probes import (
    CellSample,
    GuidanceSweep,
    LatentSample,
    OptimalitySweep,
    StepSizeProbe,
    with_interval,
)
from pir.evaluation.rollouts import Evaluation, Observer, evaluate, held_out
from pir.evaluation.sampling import PolicySample, sample_rollouts
from pir.evaluation.test_file import TestFile
from pir.exits.rules import ExitRule, FixedDepth
from pir.ledger.cells import IDLE_KL
from pir.ledger.statistics import LIVE_GAIN, STATISTICS, describe
from pir.puzzle import Puzzle
from pir.runs.folder import RunFolder, write_arrays, write_json, write_rows
from pir.runs.folder_lock import remove

HELD_OUT_PUZZLES = 2000
"""Puzzles of a split that are evaluated by default."""

STRATA = 4
"""Groups of puzzles by difficulty, of about equal size."""


@dataclass
class Plan:
    """What to evaluate; see configs/eval.yaml.

    Attributes:
        split: which split the puzzles come from.
        puzzles: how many; None for `HELD_OUT_PUZZLES`, or for all of a file.
        batch_size: how many at once; None for as many as fit into memory, see `fitting_batch`.
        improvement_steps: K; None for twice the trained number.
        samples: answers drawn per puzzle at the trained depth, where a puzzle has several.
        guidance: weights w of guided policies.
        step_size: shares alpha of the state's changes.
        breadth: starts per puzzle; 1 for no breadth.
        noise: of the further starts, see `noisy_start`.
        exits: exit rules by name.
        leave_out_exits: whether rules that this model cannot run are left out or refused.
        file: puzzles of a file instead of a split.
    """

    split: str
    puzzles: int | None
    batch_size: int | None
    improvement_steps: int | None = None
    samples: int = 20
    guidance: Sequence[float] = ()
    step_size: Sequence[float] = ()
    breadth: int = 1
    noise: float = 0.3
    exits: Mapping[str, ExitRule] = field(default_factory=dict)
    leave_out_exits: bool = False
    file: TestFile | None = None


def evaluate_run(folder: RunFolder, device: str, plan: Plan) -> dict[str, Any]:
    """Evaluates a run's best averaged weights and writes `eval/` in its folder.

    Returns:
        The content of eval.json.

    Raises:
        UserError: if a setting is out of range or the run cannot be read.
    """
    parts, config, path = load_trained(folder, device)
    of_file: dict[str, Any] = {}
    if plan.file:
        sample, of_file["puzzle_file"] = plan.file.read(parts.puzzle, plan.puzzles)
        sample = sample.to(parts.device)
    else:
        count = plan.puzzles or HELD_OUT_PUZZLES
        sample = held_out(parts.puzzle, plan.split, count, parts.device)
    return _Run(parts, plan, folder, sample).evaluate(
        {
            "run": str(folder.path),
            "checkpoint": path.name,
            "env": config.choices.env,
            "model": config.choices.model,
            "objective": config.choices.objective,
            "seed": config.seed,
            "split": "file" if plan.file else plan.split,
        }
        | of_file
    )


class _Run:
    """One evaluation under way."""

    def __init__(
        self, parts: Components, plan: Plan, folder: RunFolder, sample: TensorDict
    ) -> None:
        self.parts, self.plan, self.folder = parts, plan, folder
        self.reasoner, self.puzzle = parts.reasoner, parts.puzzle
        self.trained = parts.reasoner.improvement_steps
        self.num_steps = plan.improvement_steps or 2 * self.trained
        self.depth = min(self.trained, self.num_steps)
        self.passes = parts.reasoner.passes_per_step
        self.sample = sample
        self.batch_size = fitting_batch(plan.batch_size, self.reasoner, sample["question"])
        self.tables: dict[str, list[dict[str, Any]]] = {}

    def _evaluate(
        self,
        puzzles: TensorDict,
        observers: Sequence[Observer] = (),
        step_size: float = 1.0,
    ) -> Evaluation:
        size = self.batch_size
        return evaluate(
            self.reasoner, self.puzzle, puzzles, self.num_steps, size, observers, step_size
        )

    def evaluate(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Measures everything that the plan asks for, and writes it."""
        plan, count = self.plan, len(self.sample)
        guidance = GuidanceSweep(self.puzzle, plan.guidance, self.num_steps)
        optimality = OptimalitySweep(self.reasoner, self.puzzle, plan.guidance, self.num_steps)
        probe = StepSizeProbe(self.reasoner, self.puzzle, plan.step_size, self.num_steps)
        cells, policy = CellSample(), PolicySample(self.depth)
        latents = LatentSample(self.reasoner, self.num_steps, self.depth)
        observers = (guidance, optimality, probe, cells, latents, policy)
        result = self._evaluate(self.sample, observers)
        outcome = result.solved[:, self.depth - 1]
        per_step = [row | with_interval(row["solved"], count) for row in result.ledger.rows()]
        self.tables = {
            "per_step": per_step,
            "per_outcome": result.ledger.outcome_rows(),
            "strata": self._strata(result),
            "per_puzzle": puzzle_rows(self.puzzle, self.sample, result),
            "cells": cells.with_outcome(outcome),
            "guidance": guidance.sweep.rows("w", self.passes),
            "optimality": optimality.rows(self.passes),
            "step_size": self._step_sizes(probe),
            "breadth": self._breadth(),
            "exits": [],
        }
        content = facts | {
            "puzzles": count,
            "trained_steps": self.trained,
            "improvement_steps": self.num_steps,
            "parameters": self.reasoner.parameter_count(),
            "seconds": round(result.seconds, 3),
            "dead_fraction": result.ledger.dead_fraction(self.depth),
            "live_depth": result.ledger.live_depth(self.depth),
            "live_gain": LIVE_GAIN,
            "idle_kl": IDLE_KL,
            "steps_to_solve": steps_to_solve(result.solved[:, : self.depth]),
            "fixed_point_rate": fixed_point_rate(result.solved),
            "floors": {
                "masked_random": masked_random(self.puzzle, self.sample),
                "look_up": look_up(self.puzzle, self.sample),
            },
            "one_blank": one_blank(self.reasoner, self.puzzle, self.sample, self.batch_size),
            "path_independence": path_independence(
                self.reasoner, self.puzzle, self.sample, self.batch_size
            ),
            "rating_name": self.puzzle.rating_name,
            "cost": {
                "passes_per_step": self.passes,
                "flops_per_step": flops_per_step(self.reasoner, self.sample["question"][:1]),
                "seconds_per_step": result.seconds / (count * self.num_steps),
                "batch_size": self.batch_size,
            },
            "guidance": self._at_depth("guidance"),
            "optimality": self._at_depth("optimality"),
            "step_size": self._at_depth("step_size"),
            "breadth": self.tables["breadth"],
            **self._exits(result),
            "statistics": describe(STATISTICS.values()),
            "per_step": per_step,
        }
        if plan.samples and not self.puzzle.unique:
            draws = "partial_answer" in self.reasoner.inputs  # then rollouts differ
            if draws:
                sampled = sample_rollouts(
                    self.reasoner,
                    self.puzzle,
                    self.sample,
                    plan.samples,
                    self.depth,
                    self.batch_size,
                )
            else:
                sampled = policy.draw(self.puzzle, plan.samples)
            content["samples"] = plan.samples
            content["sampled_from"] = "rollouts" if draws else "policy"
            content["sampled_solved"], content["coverage"], content["sampled_puzzles"] = sampled
        ratings = self.puzzle.rating(self.sample["question"]).cpu()
        states = latents.arrays
        arrays = {
            "steps": result.values | {"rating": ratings},
            "latents": states | {"solved": outcome[: len(states["latents"])]},
        }
        write_evaluation(self.folder, content, self.tables, arrays)
        return content

    def _at_depth(self, table: str) -> list[dict[str, Any]]:
        """Returns the rows of a table at the trained depth."""
        return [row for row in self.tables[table] if row["k"] == self.depth]

    def _strata(self, result: Evaluation) -> list[dict[str, Any]]:
        """Returns every step of puzzles that are about equally hard, from the easiest on."""
        rating = self.puzzle.rating(self.sample["question"]).cpu().double()
        quantiles = rating.quantile(torch.linspace(0, 1, STRATA + 1).double())
        edges = torch.tensor(sorted(set(quantiles[1:-1].tolist())), dtype=torch.float64)
        group = torch.bucketize(rating, edges, right=True)
        rows = []
        for stratum, index in enumerate(sorted(set(group.tolist())), start=1):
            inside = group == index
            for k in range(self.num_steps):
                mean = {
                    name: float(result.values[name][inside, k].mean())
                    for name in ("solved", "score", "gain", "dead")
                }
                count = int(inside.sum())
                rows.append(
                    {
                        "stratum": stratum,
                        "rating_low": float(rating[inside].min()),
                        "rating_high": float(rating[inside].max()),
                        "puzzles": count,
                        "k": k + 1,
                        "forward_passes": (k + 1) * self.passes,
                    }
                    | mean
                    | with_interval(mean["solved"], count)
                )
        return rows

    def _step_sizes(self, probe: StepSizeProbe) -> list[dict[str, Any]]:
        """Returns rollouts whose every step is scaled, beside single steps that are."""
        rows = probe.sweep.rows("step_size", self.passes)
        for alpha in self.plan.step_size:
            scaled = self._evaluate(self.sample, step_size=alpha).ledger.rows()
            for row, whole in zip(
                [r for r in rows if r["step_size"] == alpha], scaled, strict=True
            ):
                row |= {"probe_solved": row["solved"], "probe_score": row["score"]}
                row |= with_interval(whole["solved"], len(self.sample)) | {"score": whole["score"]}
        return rows

    def _breadth(self) -> list[dict[str, Any]]:
        plan = self.plan
        if plan.breadth == 1:
            return []
        return breadth(
            self.reasoner, self.puzzle, self.sample, plan.breadth, plan.noise, self.batch_size
        )

    def _exits(self, result: Evaluation) -> dict[str, Any]:
        """Compares the exit rules, runs the chosen points, and returns what eval.json says."""
        if not self.plan.exits:
            return {"best_exit": None}
        count = self.plan.puzzles or HELD_OUT_PUZZLES
        validation = held_out(self.puzzle, "val", count, self.parts.device)
        rollouts = self._evaluate(validation)
        sweep = ExitSweep(
            self.plan.exits,
            rollouts.values,
            result.values,
            self.depth,
            self.passes,
            self.plan.leave_out_exits,
        )
        can_run = {n: p for n, p in sweep.chosen.items() if not sweep.rules[n].bound}
        seconds = {
            name: self._seconds(sweep.rules[name], point.threshold, point.depth)
            for name, point in can_run.items()
        }
        for row in sweep.rows:
            row["seconds"] = seconds.get(row["rule"], "") if row["chosen"] else ""
        self.tables["exits"] = sweep.rows
        points = {
            name: {
                "threshold": sweep.rules[name].unit(point.threshold),
                "improvement_steps": point.depth,
                "state": sweep.rules[name].state_dict(),
            }
            for name, point in can_run.items()
        }
        return {
            "best_exit": self._best_exit(sweep, result),
            "skipped_exits": sweep.skipped,
            "exits": points,
            "exit_front": sweep.rows,
        }

    def _best_exit(self, sweep: ExitSweep, result: Evaluation) -> dict[str, Any] | None:
        """Returns the cheapest rule that can be run, beside the trained depth."""
        name = sweep.best()
        if name is None:
            return None
        row = next(row for row in sweep.rows if row["rule"] == name and row["chosen"])
        return {
            "rule": name,
            "threshold": row["threshold"],
            "depth": row["depth"],
            "solved": row["solved"],
            "forward_passes": row["forward_passes"],
            "full_solved": float(result.solved[:, self.depth - 1].float().mean()),
            "full_forward_passes": self.depth * self.passes,
            "seconds": row["seconds"],
            "full_seconds": self._seconds(FixedDepth(), self.depth, self.depth),
        }

    def _seconds(self, rule: ExitRule, threshold: float, depth: int) -> float:
        """Runs a rule on the test puzzles and returns how long that takes."""
        size = self.batch_size
        done = run_rule(self.reasoner, self.puzzle, self.sample, rule, threshold, depth, size)
        return done.seconds


def steps_to_solve(solved: Tensor) -> float | None:
    """Returns the mean number of the first step whose answer is right, over puzzles with one.

    Args:
        solved: bool of shape (N, K).
    """
    ever = solved.any(1)
    first = solved.int().argmax(1)[ever] + 1
    return float(first.float().mean()) if len(first) else None


def fixed_point_rate(solved: Tensor) -> float | None:
    """Returns, of the puzzles solved before the last step, the share that is never lost again.

    Args:
        solved: bool of shape (N, K).
    """
    early = solved[:, :-1].any(1)
    if not early.any():
        return None
    lost = (solved[:, :-1] & ~solved[:, 1:]).any(1)
    return float((~lost[early]).float().mean())


def puzzle_rows(puzzle: Puzzle, sample: TensorDict, result: Evaluation) -> list[dict[str, Any]]:
    """Returns one row per puzzle: text, first step that solves it, last score, difficulty."""
    rows = []
    ratings = puzzle.rating(sample["question"]).tolist()
    for index, question in enumerate(sample["question"].cpu()):
        solved = result.solved[index]
        first = int(solved.int().argmax()) + 1 if bool(solved.any()) else ""
        rows.append(
            {
                "index": index,
                "puzzle": puzzle.format_question(question),
                "first_solved": first,
                "solved": int(solved[-1]),
                "score": float(result.values["score"][index, -1]),
                "rating": ratings[index],
            }
        )
    return rows


def write_evaluation(
    folder: RunFolder,
    content: dict[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    arrays: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Writes one evaluation; files of an earlier one that this one lacks are removed."""
    remove(folder.evaluation / "eval.json")
    for name, rows in tables.items():
        path = folder.evaluation / f"{name}.csv"
        if rows:
            write_rows(path, rows)
        else:
            remove(path)
    for name, parts in arrays.items():
        numbers: dict[str, np.ndarray] = {key: part.cpu().numpy() for key, part in parts.items()}
        write_arrays(folder.evaluation / f"{name}.npz", numbers)
    write_json(folder.evaluation / "eval.json", content)
