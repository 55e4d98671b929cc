"""`pir eval`: every improvement step on held-out puzzles, to any depth, and variants of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pir.checks import check_choice, check_count, check_name, check_steps
from pir.cli.loading import loaded
from pir.cli.words import several
from pir.errors import UserError
from pir.runs.folder import RunFolder, as_json, resolved
from pir.runs.names import chosen_runs
from pir.runs.records import Facts, read_facts
from pir.runs.schema import FACTS
from pir.runs.typed import to_json
from pir.settings.catalog import choices, load_choice
from pir.system.terminal import paragraph, say

if TYPE_CHECKING:
    from pir.evaluation.plan import Plan
    from pir.exits.rules import ExitRule


POINTS_SHOWN = 3
"""Points of an exit rule's front that are printed, beside the chosen one."""


def run(config: DictConfig) -> None:
    """Runs the command; see configs/eval.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    check_name("eval.name", config.eval.name)
    folders = chosen_runs(config.run, config.runs)

    from pir.evaluation.batch_size import named_when_short
    from pir.evaluation.run import evaluate_run
    from pir.evaluation.test_file import TestFile
    from pir.puzzle_files.source import STDIN
    from pir.system.view import View

    plan = read_plan(config.eval)
    plan.changed = resolved(config)["env"]
    path, skip_faulty = (plan.changed.pop(name) for name in ("puzzles", "skip_faulty"))
    if not isinstance(skip_faulty, bool):
        raise UserError(f"env.skip_faulty={skip_faulty}: allowed is true or false")
    if path is not None:
        if len(folders) > 1 and path == STDIN:
            raise UserError(
                "env.puzzles=-: standard input is read once; name a file for several runs"
            )
        if plan.split != "test":
            raise UserError(f"eval.split={plan.split}: env.puzzles is a test set of its own")
        plan.file = TestFile(str(path), skip_faulty)
    elif skip_faulty:
        raise UserError("env.skip_faulty=true: there is no file; set env.puzzles=FILE")
    evaluation = config.eval.name or plan.name
    results = []
    for folder in folders:
        run = RunFolder(folder, evaluation)
        before = tables_of(run)
        _tell_of_replaced(run)
        short = named_when_short("eval.batch_size", config.eval.batch_size)
        with View(f"pir eval {folder}"), short:
            parts = loaded(run, config.device, changed=plan.changed, dtype=plan.dtype)
            result = evaluate_run(run, parts, plan)
        results.append(result)
        for name, reason in (result.skipped_exits or {}).items():
            say(f"{folder}: exit rule {name} left out: {reason}", error=True)
        tell_of_gone(run, before)
        if config.output == "text":
            if len(folders) > 1:
                say(f"{folder}:")
            say("\n".join(map(paragraph, evaluation_text(result))))
            say(f"written to {run.evaluation}")
    if config.output == "json":
        say(as_json(to_json(results[0] if config.run else results)))
    elif len(results) > 1:
        say(over_seeds(folders, evaluation))


def _tell_of_replaced(run: RunFolder) -> None:
    """Says which evaluation the new one takes the place of, while it can still be kept."""
    file = run.evaluated(FACTS)
    try:
        facts = read_facts(file) if file.is_file() else None
    except UserError:  # a damaged one is no loss
        return
    if facts is not None:
        say(
            f"will replace the evaluation in {run.evaluation} ({facts.puzzles} {facts.split} "
            f"puzzles, {facts.improvement_steps} steps); eval.name=NAME keeps both",
            error=True,
        )


def tables_of(run: RunFolder) -> set[str]:
    """Returns the names of the tables of an evaluation."""
    return {path.name for path in run.evaluation.glob("*.csv")}


def tell_of_gone(run: RunFolder, before: set[str]) -> None:
    """Says which tables of the evaluation before the new one does not have."""
    if gone := before - tables_of(run):
        files = ", ".join(sorted(gone))
        say(f"{run.path}: gone with the evaluation before: {files}", error=True)


def read_plan(settings: DictConfig) -> "Plan":
    """Checks the settings `eval.*` and builds the exit rules that they name.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    from pir.evaluation.plan import Plan
    from pir.models.puzzle_model import DTYPES
    from pir.puzzle import SPLITS

    check_choice("eval.split", settings.split, SPLITS)
    check_steps("eval.improvement_steps", settings.improvement_steps)
    for key in ("puzzles", "batch_size", "breadth"):
        check_count(f"eval.{key}", settings[key])
    for key in ("samples", "noise", "step_noise", "damping_after"):
        if not 0 <= (settings[key] or 0) < float("inf"):
            raise UserError(f"eval.{key}={settings[key]}: must be at least 0")
    for key, least in (("guidance", -1e6), ("step_size", 0)):
        for value in settings[key]:
            if not least <= value < 1e6:
                raise UserError(f"eval.{key}={list(settings[key])}: {value} is out of range")
    if settings.dtype is not None:
        check_choice("eval.dtype", settings.dtype, [*DTYPES])
    if settings.exit is not None and settings.split == "val":
        raise UserError("eval.exit chooses thresholds on the val split: set eval.split=test")
    if settings.damping_after is not None and not settings.step_size:
        raise UserError(
            f"eval.damping_after={settings.damping_after} says when step sizes begin: "
            "set eval.step_size=[...], or eval.damping_after=null"
        )
    if settings.exit is not None and settings.step_noise:
        raise UserError(
            f"eval.step_noise={settings.step_noise}: exit rules take steps without noise; "
            "set eval.step_noise=0, or eval.exit=null"
        )
    return Plan(
        split=settings.split,
        puzzles=settings.puzzles,
        batch_size=settings.batch_size,
        improvement_steps=settings.improvement_steps,
        dtype=settings.dtype,
        samples=settings.samples,
        guidance=_with_one(settings.guidance),
        step_size=_with_one(settings.step_size),
        damping_after=settings.damping_after or 0,
        breadth=settings.breadth,
        noise=settings.noise,
        step_noise=settings.step_noise,
        exits=exit_rules(settings.exit),
        leave_out_exits=several(settings.exit) == ["all"],
    )


def _with_one(values: Sequence[float]) -> Sequence[float]:
    """Returns the values of a sweep in order and 1, the step as trained; none if there are none."""
    return sorted({*values, 1.0}) if values else ()


def exit_rules(wanted: Any) -> "dict[str, ExitRule]":
    """Builds exit rules by name: all of them, one, a list, or none."""
    from pir.exits.build import build_rule

    known = [row["name"] for row in choices("exit")]
    names: Sequence[str] = several(wanted)
    if names == ["all"]:
        names = known
    for name in names:
        check_choice("eval.exit", name, ("all", *known))
    return {name: build_rule(load_choice("exit", name), f"exit={name}") for name in names}


def evaluation_text(result: Facts) -> list[str]:
    """Returns what an evaluation found: tables of fixed width, and sentences."""
    floors, cost = result.floors, result.cost
    assert floors is not None
    assert cost is not None
    lines = improvement_table(result).splitlines()
    lines.append(
        f"dead fraction {result.dead_fraction:.1%}, live depth {result.live_depth:.2f} of "
        f"{result.depth} steps"
        + _optional(", solved at step {:.2f} on average", result.steps_to_solve)
        + _optional(", {:.1%} of solved answers stay solved", result.fixed_point_rate)
    )
    lines.append(
        f"floors: random moves {floors['masked_random'].solved:.1%}, look-up of training "
        f"answers {floors['look_up'].solved:.1%}"
        + (f"; puzzles with one blank {result.one_blank.solved:.1%}" if result.one_blank else "")
    )
    lines.append(
        f"cost of a step: {cost.passes_per_step} forward passes, "
        f"{(cost.flops_per_step or 0) / 1e6:.1f} MFLOP, {1e6 * (cost.seconds_per_step or 0):.0f} "
        "microseconds per puzzle"
    )
    if result.samples is not None:
        lines.append(
            f"{result.samples} samples by {result.sampled_from} at {result.depth_name}, "
            f"{result.sampled_puzzles} puzzles: {result.sampled_solved:.1%} right, at least one of "
            f"them for {result.pass_at_k:.1%} of the puzzles"
            + _optional(", coverage {:.1%}", result.coverage)
        )
    lines += sweep_lines(result)
    if result.exits is not None:
        lines += exit_table(result.exit_front).splitlines()
    if result.best_exit:
        best = result.best_exit
        share = best.forward_passes / best.full_forward_passes
        lines.append(
            f"cheapest exit rule: {best.rule} (threshold {best.threshold:.4g}) solves "
            f"{best.solved:.1%} with {best.forward_passes:.2f} forward passes, {share:.0%} "
            f"of the {best.full_forward_passes} that solve {best.full_solved:.1%}; "
            f"{best.seconds:.2f} s instead of {best.full_seconds:.2f}"
        )
    return lines


def sweep_lines(result: Facts) -> list[str]:
    """Returns what guidance and step sizes solve at `Facts.depth`, and several starts."""
    lines = []
    for rows, setting, title in (
        (result.guidance, "w", "guidance from the step's reference to its policy"),
        (result.optimality, "w", "guidance from the unconditional to the good policy"),
        (result.step_size, "step_size", "step size"),
    ):
        if rows:
            shares = (f"{row[setting]:g} {row['solved']:.1%}" for row in rows)
            lines.append(f"{title}, at {result.depth_name}: {', '.join(shares)}")
            if "drawn_solved" in rows[0]:
                shares = (f"{row[setting]:g} {row['drawn_solved']:.1%}" for row in rows)
                lines.append(f"  of answers drawn from these policies: {', '.join(shares)}")
    if result.breadth:
        shares = (f"{row['selector']} {row['solved']:.1%}" for row in result.breadth)
        most = max(result.breadth, key=lambda row: row["starts"])
        lines.append(
            f"{most['starts']} starts, {most['forward_passes']} forward passes: {', '.join(shares)}"
        )
    return lines


def exit_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the front of every exit rule, thinned, as one line each of fixed width."""
    lines = ["exit rules: mean forward passes, solved (* chosen on validation)"]
    for rule in dict.fromkeys(row["rule"] for row in rows):
        front = [row for row in rows if row["rule"] == rule]
        spread = {round(i * (len(front) - 1) / (POINTS_SHOWN - 1)) for i in range(POINTS_SHOWN)}
        shown = [row for i, row in enumerate(front) if i in spread or row["chosen"]]
        points = (
            f"{row['forward_passes']:>6.1f} {row['solved']:>6.1%}{'*' if row['chosen'] else ' '}"
            for row in shown
        )
        lines.append(f"  {rule:<14}{' '.join(points)}".rstrip())
    return "\n".join(lines)


def _optional(text: str, value: float | None) -> str:
    return "" if value is None else text.format(value)


def improvement_table(result: Facts) -> str:
    """Returns the improvement steps as a table that fits 80 columns, trained depth marked."""
    lines = ["step passes solved  95 % interval score   gain   dead   idle      KL"]
    for row in result.per_step:
        mark = " <- trained" if row["k"] == result.trained_steps else ""
        interval = f"{row['solved_low']:.1%}-{row['solved_high']:.1%}"
        lines.append(
            f"{row['k']:>4} {row['forward_passes']:>6} {row['solved']:>6.1%} {interval:>14} "
            f"{row['score']:>5.3f} {row['gain']:>+6.3f} {row['dead']:>6.1%} {row['idle']:>6.1%} "
            f"{row['kl']:>7.4f}{mark}"
        )
    return "\n".join(lines)


def over_seeds(folders: Sequence[Path], evaluation: str | None = None) -> str:
    """Sums up runs that differ in their seed only: mean at `Facts.depth`, interval over seeds.

    The interval is a bootstrap over runs, which with few of them is too narrow, and says so.

    Args:
        folders: of the runs.
        evaluation: the name of the evaluation.
    """
    import numpy as np

    from pir.analysis.reading.groups import group_by_seed
    from pir.analysis.reading.runs import PER_STEP, Run
    from pir.analysis.statistics.resampling import FEW_SEEDS, bootstrap_interval

    lines = []
    for group in group_by_seed([Run(folder, evaluation) for folder in folders]):
        at_depth = [run.at_trained_depth(run.required(PER_STEP)) for run in group.runs]
        solved = np.array([rows["solved"][0] for rows in at_depth])
        text = f"{group.label}: solved {solved.mean():.1%} at {group.runs[0].facts.depth_name}"
        if len(solved) > 1:
            low, high = bootstrap_interval(solved[:, None])
            text += (
                f", {low[0]:.1%} to {high[0]:.1%} by a 95 % bootstrap over {len(solved)} seeds"
                + (" (too narrow with so few)" if len(solved) < FEW_SEEDS else "")
            )
        lines.append(text)
    return "\n".join(lines)
