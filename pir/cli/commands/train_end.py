"""The end of `pir train`: the test, why training stopped, examples, and what can be done next."""

import csv
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pir.cli.loading import loaded
from pir.runs.folder import RunFolder, write_json
from pir.runs.schema import PER_PUZZLE
from pir.settings import plugins
from pir.system.launch import is_first
from pir.system.terminal import columns, paragraph, program, say

if TYPE_CHECKING:
    from pir.components import Components
    from pir.runs.load import Trained
    from pir.runs.records import Facts, Summary
    from pir.training.trainer import Trainer

LONGEST_TEXT = 100
"""Characters of a puzzle that is put into a command."""

LONG_TEST = 30.0
"""Seconds; a test that takes longer is told before it starts."""

EXAMPLES = 3
"""Solved puzzles, and failed ones, that are shown at the end."""


def finish(folder: RunFolder, trainer: "Trainer") -> None:
    """Evaluates the best averaged weights on the test split, writes the summary, and tells."""
    from pir.analysis.figures.kinds import save_kind
    from pir.cli.commands.eval import improvement_table, tables_of, tell_of_gone
    from pir.evaluation.batch_size import named_when_short
    from pir.evaluation.plan import Plan
    from pir.evaluation.run import evaluate_run
    from pir.runs.load import read_trained
    from pir.runs.typed import to_json
    from pir.system.view import View, clock
    from pir.training import ending

    config, totals = folder.read_config(), trainer.totals() | ending.facts(trainer)
    wanted = config.trainer.eval_batch_size
    plan = Plan(split="test", puzzles=config.trainer.test_puzzles, batch_size=wanted)
    if (seconds := ending.test_seconds(trainer)) > LONG_TEST:
        resume = f"{program()} train resume={shlex.quote(str(folder.path))}{plugins.option()}"
        say(
            f"the test of {config.trainer.test_puzzles:,} puzzles takes about {clock(seconds)}; "
            f"after Ctrl-C, {resume} trainer.test_puzzles=N tests fewer",
            error=True,
        )
    with (
        View(f"test of {folder.path}"),
        named_when_short("trainer.eval_batch_size", wanted),
    ):
        trained = read_trained(folder, trainer.device)
        run = loaded(folder, config.device, trained=trained)
        before = tables_of(folder)
        result = evaluate_run(folder, run, plan)
        examples = _examples(folder, run[0])
    summary = _summary(config, trained, result, totals)
    write_json(folder.summary, to_json(summary))
    save_kind("improvement", [folder.path], folder.figures / "improvement.png")
    tell_of_gone(folder, before)
    say(improvement_table(result))
    say(paragraph(_solved(result)))
    for sentence in ending.sentences(summary, config.trainer):
        say(paragraph(sentence))
    say(examples)
    say(f"figure {folder.figures / 'improvement.png'}")
    _say_next(folder, config, summary)


def _summary(
    config: DictConfig, trained: "Trained", result: "Facts", totals: Mapping[str, Any]
) -> "Summary":
    """Returns what summary.json holds: of the test at the trained depth, and of the training."""
    from pir.runs.records import Summary

    last = result.per_step[result.trained_steps - 1]
    return Summary(
        env=config.choices.env,
        model=config.choices.model,
        objective=config.choices.objective,
        seed=config.seed,
        parameters=result.parameters,
        improvement_steps=result.trained_steps,
        forward_passes=last["forward_passes"],
        **totals,
        checkpoint=result.checkpoint,
        validation_solved=trained.validation_solved,
        test_puzzles=result.puzzles,
        solved=last["solved"],
        solved_interval=(last["solved_low"], last["solved_high"]),
        exact_accuracy=last["exact_accuracy"],
        cell_accuracy=last["cell_accuracy"],
        score=last["score"],
        dead_fraction=result.dead_fraction,
        live_depth=result.live_depth,
        sampled_solved=result.sampled_solved,
        pass_at_k=result.pass_at_k,
        coverage=result.coverage,
    )


def _solved(result: "Facts") -> str:
    """Says in a sentence how many test puzzles were solved."""
    last = result.per_step[result.trained_steps - 1]
    return (
        f"solved {last['solved']:.1%} of {result.puzzles} held-out puzzles "
        f"(95 % interval {last['solved_low']:.1%} to {last['solved_high']:.1%}) after "
        f"{result.trained_steps} improvement steps, {last['forward_passes']} forward passes"
    )


def say_finished(folder: RunFolder, config: DictConfig) -> bool:
    """Says so if a run has ended by the budgets that it has; returns whether it has."""
    if not (folder.summary.is_file() and folder.last.is_file()):
        return False

    from pir.training import ending

    summary = ending.already(folder, config)
    if summary is None:
        return False
    if not is_first():
        return True
    say(f"{folder.path} is finished: nothing is left to train, and it has been tested")
    for sentence in ending.sentences(summary, config.trainer):
        say(paragraph(sentence))
    if summary.solved is not None:
        say(f"solved {summary.solved:.1%} of {summary.test_puzzles} held-out puzzles")
    _say_next(folder, config, summary)
    return True


def _say_next(folder: RunFolder, config: DictConfig, summary: "Summary") -> None:
    """Names the commands that a user may want now, ready to copy."""
    from pir.training import ending

    run, pir = shlex.quote(str(folder.path)) + plugins.option(), program()
    changes = ending.to_the_end(summary, config.trainer)
    if not changes and (steps := config.trainer.max_optimizer_steps) is not None:
        changes = [f"trainer.max_optimizer_steps={2 * steps}"]
    say("next:")
    say(f"  {pir} eval run={run} eval.improvement_steps={4 * (summary.improvement_steps or 1)}")
    say(f"  {pir} report run={run}")
    say(f"  {pir} solve run={run} {_some_puzzle(folder)}")
    if changes:
        say(f"  {pir} train resume={run} {' '.join(changes)}")


def _examples(folder: RunFolder, parts: "Components") -> str:
    """Returns some solved and some failed test puzzles with their answers at the trained depth."""
    import numpy as np

    from pir.cli.boards import Board, draw, has_board, is_tall, side_by_side
    from pir.evaluation.rollouts import EVALUATION_SEED
    from pir.evaluation.solve import solve
    from pir.runs.schema import STEPS

    puzzle, depth = parts.puzzle, parts.reasoner.improvement_steps
    with np.load(folder.evaluated(STEPS)) as arrays:
        solved = arrays["solved"][:, depth - 1] > 0
    chosen = [*np.flatnonzero(solved)[:EXAMPLES], *np.flatnonzero(~solved)[:EXAMPLES]]
    questions = [
        puzzle.sample(1, "test", seed=EVALUATION_SEED, start=int(i))["question"][0] for i in chosen
    ]
    ends = [steps[-1] for steps in solve(parts.reasoner, puzzle, questions)]
    marks = ["solved" if end.solved else f"failed, score {end.score:.2f}" for end in ends]
    pairs = list(zip(questions, ends, marks, strict=True))
    if has_board(puzzle):
        boards = [Board(mark, draw(puzzle, q, end.tokens)) for q, end, mark in pairs]
        if is_tall(boards[0]):  # one of each
            boards = list({board.caption.split(",")[0]: board for board in boards}.values())
        return side_by_side(boards, columns())
    lines = []
    for question, end, mark in pairs:
        line = f"{mark:<18}  {puzzle.format_question(question)}"
        fits = len(line) + len(end.answer) + 4 <= columns()
        lines.append(f"{line}  ->  {end.answer}" if fits else f"{line}\n{'':<18}  {end.answer}")
    return "\n".join(lines)


def _some_puzzle(folder: RunFolder) -> str:
    """Returns the setting of `pir solve` that names a puzzle of the last evaluation."""
    path, text = folder.evaluated(PER_PUZZLE), ""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            text = next(csv.DictReader(file), {}).get("puzzle") or ""
    return f"puzzle={shlex.quote(text)}" if 0 < len(text) <= LONGEST_TEXT else "puzzles=FILE"
