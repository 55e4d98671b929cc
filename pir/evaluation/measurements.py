"""The measurements of an evaluation: each a function that returns its table and its facts.

All of them read one pass over the puzzles (`Pass`); some take further steps of their own. Columns
and keys are those of `pir.runs.schema`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pir.evaluation.breadth import breadth
from pir.evaluation.cost import flops_per_step
from pir.evaluation.examples import EXAMPLES, changes, most_instructive
from pir.evaluation.exit_sweep import ExitSweep
from pir.evaluation.floors import look_up, masked_random, one_blank
from pir.evaluation.measured import Measured, Pass
from pir.evaluation.path_independence import path_independence
from pir.evaluation.plan import HELD_OUT_PUZZLES
from pir.evaluation.probes import with_interval
from pir.evaluation.rollouts import held_out
from pir.evaluation.sampling import sample_rollouts
from pir.exits.rules import FixedDepth
from pir.ledger.cells import IDLE_KL
from pir.ledger.statistics import LIVE_GAIN, STATISTICS, describe
from pir.notation.picture import as_text
from pir.runs import schema
from pir.runs.records import BestExit, Cost, ExitPoint, Floor, OneBlank, PathIndependence

STRATA = 4
"""Groups of puzzles by difficulty, of about equal size."""


# ---------------------------------------------------------------- the ledger


def size_of_run(run: Pass) -> Measured:
    """Counts puzzles, steps, parameters and seconds."""
    return Measured(
        facts={
            "puzzles": len(run.sample),
            "trained_steps": run.trained,
            "improvement_steps": run.num_steps,
            "parameters": run.reasoner.parameter_count(),
            "seconds": round(run.result.seconds, 3),
            "rating_name": run.puzzle.rating_name,
            "step_noise": run.plan.step_noise or None,
        }
    )


def per_step(run: Pass) -> Measured:
    """The ledger, one row per step, and what it amounts to in the trained depth."""
    ledger, solved = run.result.ledger, run.result.solved
    rows = tuple(row | with_interval(row["solved"], len(run.sample)) for row in ledger.rows())
    facts = {
        "dead_fraction": ledger.dead_fraction(run.depth),
        "live_depth": ledger.live_depth(run.depth),
        "live_gain": LIVE_GAIN,
        "idle_kl": IDLE_KL,
        "steps_to_solve": steps_to_solve(solved[:, : run.depth]),
        "fixed_point_rate": fixed_point_rate(solved),
        "statistics": describe(STATISTICS.values()),
        "per_step": rows,
    }
    return Measured(schema.PER_STEP, rows, facts=facts)


def per_outcome(run: Pass) -> Measured:
    """The ledger for solved and failed puzzles apart."""
    return Measured(schema.PER_OUTCOME, tuple(run.result.ledger.outcome_rows()))


def strata(run: Pass) -> Measured:
    """Every step of puzzles that are about equally hard, from the easiest on."""
    rating = run.rating.double()
    quantiles = rating.quantile(torch.linspace(0, 1, STRATA + 1).double())
    easiest = float(rating.min())
    edges = sorted({edge for edge in quantiles[1:-1].tolist() if edge > easiest})
    if not edges:  # most puzzles are the easiest there are: all harder ones are a group
        edges = sorted({value for value in rating.tolist() if value > easiest})[:1]
    group = torch.bucketize(rating, torch.tensor(edges, dtype=torch.float64), right=True)
    rows = []
    for stratum, index in enumerate(sorted(set(group.tolist())), start=1):
        inside = group == index
        for k in range(run.num_steps):
            mean = {
                name: float(run.result.values[name][inside, k].mean())
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
                    "forward_passes": (k + 1) * run.passes,
                }
                | mean
                | with_interval(mean["solved"], count)
            )
    return Measured(schema.STRATA, tuple(rows))


def per_puzzle(run: Pass) -> Measured:
    """One row per puzzle: text, first step that solves it, last score, difficulty."""
    rows = []
    ratings = run.rating.tolist()
    for index, question in enumerate(run.sample["question"].cpu()):
        solved = run.result.solved[index]
        first = int(solved.int().argmax()) + 1 if bool(solved.any()) else ""
        rows.append(
            {
                "index": index,
                "puzzle": run.puzzle.format_question(question),
                "first_solved": first,
                "solved": int(solved[-1]),
                "score": float(run.result.values["score"][index, -1]),
                "rating": ratings[index],
            }
        )
    return Measured(schema.PER_PUZZLE, tuple(rows))


def steps(run: Pass) -> Measured:
    """Every statistic of every puzzle at every step."""
    return Measured(schema.STEPS, arrays=run.result.values | {"rating": run.rating})


# ---------------------------------------------------------------- cells, latents, other steps


def cells(run: Pass) -> Measured:
    """A sample of written cells at every step."""
    return Measured(schema.CELLS, tuple(run.cells.with_outcome(run.outcome)))


def latents(run: Pass) -> Measured:
    """The latent states of the first puzzles."""
    states = run.latents.arrays
    solved = run.outcome[: len(states["latents"])]
    return Measured(schema.LATENTS, arrays=states | {"solved": solved})


def examples(run: Pass) -> Measured:
    """The answers to a few puzzles, drawn after every step that changes them."""
    seen, last = run.answers, run.depth
    answers, solved = seen.answers[:, : last + 1], seen.solved[:, : last + 1]
    score, changed = seen.score, changes(answers)
    rows = []
    for index in most_instructive(answers, solved)[:EXAMPLES]:
        question = run.sample["question"][index].cpu()
        for k in range(last + 1):
            if k not in (0, last) and not changed[index, k - 1]:
                continue
            rows.append(
                {
                    "index": index,
                    "puzzle": run.puzzle.format_question(question),
                    "k": k,
                    "solved": int(solved[index, k]),
                    "score": float(score[index, k]),
                    "drawing": as_text(run.puzzle.picture(question, answers[index, k])),
                }
            )
    return Measured(schema.EXAMPLES, tuple(rows))


def guidance(run: Pass) -> Measured:
    """What guided policies answer."""
    rows = tuple(run.guidance.sweep.rows("w", run.passes))
    return Measured(schema.GUIDANCE, rows, facts={"guidance": run.at_depth(rows)})


def optimality(run: Pass) -> Measured:
    """What policies guided from the unconditional to the good one answer."""
    rows = tuple(run.optimality.rows(run.passes))
    return Measured(schema.OPTIMALITY, rows, facts={"optimality": run.at_depth(rows)})


def step_size(run: Pass) -> Measured:
    """Rollouts whose every step is scaled, beside single steps that are."""
    rows = run.step_size.sweep.rows("step_size", run.passes)
    for alpha in run.plan.step_size:
        scaled = run.evaluate(run.sample, step_size=alpha).ledger.rows()
        single = [row for row in rows if row["step_size"] == alpha]
        for row, whole in zip(single, scaled, strict=True):
            row |= {"probe_solved": row["solved"], "probe_score": row["score"]}
            row |= with_interval(whole["solved"], len(run.sample)) | {"score": whole["score"]}
            row["lost"] = whole["lost"]
    facts: dict[str, Any] = {"step_size": run.at_depth(tuple(rows))}
    if run.plan.damping_after:
        facts["damping_after"] = run.plan.damping_after
    return Measured(schema.STEP_SIZE, tuple(rows), facts=facts)


def starts(run: Pass) -> Measured:
    """Several starts per puzzle, and ways to choose among their answers."""
    plan, rows = run.plan, list[dict[str, Any]]()
    if plan.breadth > 1:
        rows = breadth(
            run.reasoner,
            run.puzzle,
            run.sample,
            plan.breadth,
            plan.noise,
            run.batch_size,
            plan.improvement_steps,
            plan.step_noise,
        )
    return Measured(schema.BREADTH, tuple(rows), facts={"breadth": tuple(rows)})


# ---------------------------------------------------------------- single numbers


def floors(run: Pass) -> Measured:
    """What policies without a model solve."""
    return Measured(
        facts={
            "floors": {
                "masked_random": Floor(**masked_random(run.puzzle, run.sample)),
                "look_up": Floor(**look_up(run.puzzle, run.sample)),
            }
        }
    )


def blank(run: Pass) -> Measured:
    """Puzzles with all cells but one given."""
    found = one_blank(run.reasoner, run.puzzle, run.sample, run.batch_size)
    return Measured(facts={"one_blank": OneBlank(**found) if found else None})


def paths(run: Pass) -> Measured:
    """Whether where a rollout began matters for where it ends."""
    found = path_independence(run.reasoner, run.puzzle, run.sample, run.batch_size)
    return Measured(facts={"path_independence": PathIndependence(**found)})


def cost(run: Pass) -> Measured:
    """What a step of one puzzle costs."""
    each = Cost(
        passes_per_step=run.passes,
        flops_per_step=flops_per_step(run.reasoner, run.sample["question"][:1]),
        seconds_per_step=run.result.seconds / (len(run.sample) * run.num_steps),
        batch_size=run.batch_size,
    )
    return Measured(facts={"cost": each})


def samples(run: Pass) -> Measured:
    """Several answers per puzzle, where puzzles have several."""
    plan, puzzle = run.plan, run.puzzle
    if not plan.samples or puzzle.unique:
        return Measured()
    draws = "partial_answer" in run.reasoner.inputs  # then rollouts differ
    if draws:
        sampled = sample_rollouts(
            run.reasoner, puzzle, run.sample, plan.samples, run.depth, run.batch_size
        )
    else:
        sampled = run.policy.draw(puzzle, plan.samples)
    return Measured(
        facts={
            "samples": plan.samples,
            "sampled_from": "rollouts" if draws else "policy",
            "sampled_solved": sampled.solved,
            "pass_at_k": sampled.pass_at_k,
            "coverage": sampled.coverage,
            "sampled_puzzles": sampled.puzzles,
        }
    )


# ---------------------------------------------------------------- exit rules


def exits(run: Pass) -> Measured:
    """Compares the exit rules, and runs the chosen points."""
    if not run.plan.exits:
        return Measured(schema.EXITS)
    count = run.plan.puzzles or HELD_OUT_PUZZLES
    validation = run.evaluate(held_out(run.puzzle, "val", count, run.parts.device))
    sweep = ExitSweep(
        run.plan.exits,
        validation.values,
        run.result.values,
        run.depth,
        run.passes,
        run.plan.leave_out_exits,
    )
    can_run = {n: p for n, p in sweep.chosen.items() if not sweep.rules[n].bound}
    seconds = {
        name: run.seconds(sweep.rules[name], point.threshold, point.depth)
        for name, point in can_run.items()
    }
    for row in sweep.rows:
        row["seconds"] = seconds.get(row["rule"], "") if row["chosen"] else ""
    rows = tuple(sweep.rows)
    points = {
        name: ExitPoint(
            threshold=sweep.rules[name].unit(point.threshold),
            improvement_steps=point.depth,
            state=sweep.rules[name].state_dict(),
        )
        for name, point in can_run.items()
    }
    facts = {
        "best_exit": _best_exit(run, sweep),
        "skipped_exits": sweep.skipped,
        "exits": points,
        "exit_front": rows,
    }
    return Measured(schema.EXITS, rows, facts=facts)


def _best_exit(run: Pass, sweep: ExitSweep) -> BestExit | None:
    """Returns the cheapest rule that can be run, beside the trained depth."""
    name = sweep.best()
    if name is None:
        return None
    row = next(row for row in sweep.rows if row["rule"] == name and row["chosen"])
    return BestExit(
        rule=name,
        threshold=row["threshold"],
        depth=row["depth"],
        solved=row["solved"],
        forward_passes=row["forward_passes"],
        full_solved=float(run.outcome.float().mean()),
        full_forward_passes=run.depth * run.passes,
        seconds=row["seconds"],
        full_seconds=run.seconds(FixedDepth(), run.depth, run.depth),
    )


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


MEASUREMENTS: tuple[Callable[[Pass], Measured], ...] = (
    size_of_run,
    per_step,
    per_outcome,
    strata,
    per_puzzle,
    steps,
    cells,
    latents,
    examples,
    guidance,
    optimality,
    step_size,
    starts,
    floors,
    blank,
    paths,
    cost,
    exits,
    samples,
)
"""Everything that is measured; what the plan does not ask for comes back empty."""
