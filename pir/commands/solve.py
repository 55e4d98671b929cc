"""`pir solve`: puzzles of your own, with the answer after every improvement step."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pir.config import check_choice
from pir.errors import PuzzleTextError, UserError
from pir.puzzle_file import read_lines
from pir.run_folder import RunFolder
from pir.stored import refuse
from pir.terminal import say

if TYPE_CHECKING:
    from torch import Tensor

    from pir.components import Components
    from pir.exits import ExitRule
    from pir.puzzle import Puzzle


CHUNK = 500
"""Puzzles read before the first answers are printed, so by default the most at once."""


def run(config: DictConfig) -> None:
    """Runs the command; see configs/solve.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    if (config.puzzle is None) == (config.puzzles is None):
        raise UserError("give either puzzle='...' or puzzles=FILE")
    if config.improvement_steps is not None and config.improvement_steps < 1:
        raise UserError(f"improvement_steps={config.improvement_steps}: must be at least 1")
    if config.batch_size is not None and config.batch_size < 1:
        raise UserError(f"batch_size={config.batch_size}: must be at least 1")
    if config.puzzle is not None:
        lines = [(1, config.puzzle)]
    else:
        lines = read_lines(config.puzzles, "puzzles")

    from pir.components import load_trained

    parts, _, _ = load_trained(RunFolder(config.run), config.device)
    stop = stopping(config, parts.reasoner.improvement_steps)
    malformed = 0
    chunk = config.batch_size or CHUNK
    for start in range(0, len(lines), chunk):
        for number, result in solve_lines(
            parts, lines[start : start + chunk], stop, config.batch_size
        ):
            if "error" in result:
                where = f"{config.puzzles}, line {number}: " if config.puzzles else ""
                say(f"{where}{result['puzzle']}: {result['error']}", error=True)
                malformed += result["answer"] is None
            if config.output == "json":
                say(json.dumps(result))
            elif result["answer"] is not None:
                say(as_table(result))
    if malformed:
        raise UserError(f"{malformed} of {len(lines)} puzzles could not be read")


def solve_lines(
    parts: Components, lines: list[tuple[int, str]], stop: Stop, batch_size: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Solves numbered puzzle texts together; yields each number with its JSON object, in order."""
    questions: dict[int, Tensor] = {}
    errors: dict[int, str] = {}
    for number, text in lines:
        try:
            questions[number] = parts.puzzle.parse(text)
        except PuzzleTextError as error:
            errors[number] = str(error)
    steps = dict(zip(questions, improve(parts, questions, stop, batch_size), strict=True))
    for number, text in lines:
        result: dict[str, Any] = {
            "puzzle": text.strip(),
            "answer": None,
            "solved": False,
            "steps": [],
        }
        if number in errors:
            result["error"] = errors[number]
        else:
            last = steps[number][-1]
            result |= {"answer": last["answer"], "solved": last["solved"], "steps": steps[number]}
            if not last["solved"] and has_no_answer(parts.puzzle, questions[number]):
                result["error"] = "no answer exists (exhaustive search)"
        yield number, result


def has_no_answer(puzzle: Puzzle, question: Tensor) -> bool:
    """Says whether an exhaustive search finds that a question of shape (L,) has no answer."""
    try:
        return not bool(puzzle.solutions(question[None], limit=1)[1].any())
    except NotImplementedError:
        return False


def improve(
    parts: Components, questions: dict[int, Tensor], stop: Stop, batch_size: int | None
) -> list[list[dict[str, Any]]]:
    """Improves the answers to some questions; returns every step of every question."""
    import torch
    from tensordict import TensorDict

    from pir.batch_size import fitting_batch, named_when_short
    from pir.early_exit import steps_until_exit
    from pir.evaluation.rollouts import EVALUATION_SEED
    from pir.noise import by_puzzle

    steps: list[list[dict[str, Any]]] = [[] for _ in questions]
    if not questions:
        return steps
    batch = torch.stack(list(questions.values()))
    puzzles = TensorDict({"question": batch.to(parts.device)}, batch_size=[len(batch)])
    reasoner, puzzle = parts.reasoner, parts.puzzle
    with named_when_short("batch_size", batch_size), by_puzzle(EVALUATION_SEED, parts.device):
        size = fitting_batch(batch_size, reasoner, puzzles["question"])
        for first in range(0, len(batch), size):
            some = puzzles[first : first + size]
            for rows, step in steps_until_exit(
                reasoner, puzzle, some, stop.rule, stop.threshold, stop.most
            ):
                for place, row in enumerate((first + rows).tolist()):
                    steps[row].append(
                        {
                            "k": int(step.k[place]),
                            "answer": puzzle.format_answer(batch[row], step.answer[place].cpu()),
                            "solved": bool(step.after.solved[place]),
                            "score": round(float(step.after.score[place]), 4),
                        }
                    )
    return steps


class Stop(NamedTuple):
    """When to stop improving an answer: a rule, the threshold on its signal, and the most steps."""

    rule: ExitRule
    threshold: float
    most: int


def stopping(config: DictConfig, trained_steps: int) -> Stop:
    """Builds the exit rule; what is not set is taken from the run's last evaluation of it.

    Raises:
        UserError: if a rule lacks a threshold, or looks ahead.
    """
    from pir.analysis.runs import FACTS, Run
    from pir.exits import FixedDepth, build_rule

    rule = build_rule(config.exit, "exit")
    most = config.improvement_steps or trained_steps
    if isinstance(rule, FixedDepth):
        if rule.threshold is not None and config.improvement_steps is None:
            most = int(rule.threshold)
        if most < 1:
            raise UserError(f"exit.threshold={rule.threshold}: must be at least 1")
        return Stop(rule, most, most)
    name = HydraConfig.get().runtime.choices["exit"]
    if rule.bound:
        raise UserError(f"exit={name} looks ahead: it cannot be run")
    evaluated = Run(Path(config.run))
    known = (evaluated.facts.exits or {}).get(name) if evaluated.has(FACTS) else None
    if known is None and (rule.threshold is None or rule.learns):
        raise UserError(
            f"exit={name} is not known for this run: `pir eval run={shlex.quote(config.run)} "
            f"eval.exit={name}`, which chooses a threshold"
            + ("" if rule.learns else ", or set exit.threshold")
        )
    if known is not None:
        try:
            rule.load_state_dict(known.state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            refuse(evaluated.folder / FACTS, error)
    if rule.threshold is not None:
        return Stop(rule, rule.unit(rule.threshold), most)
    assert known is not None
    most = config.improvement_steps or known.improvement_steps
    return Stop(rule, rule.unit(known.threshold), most)


def as_table(content: dict[str, Any]) -> str:
    """Returns a puzzle's steps as a table of fixed-width text."""
    width = max(len(step["answer"]) for step in content["steps"])
    lines = [content["puzzle"]]
    for step in content["steps"]:
        mark = "solved" if step["solved"] else f"score {step['score']:.2f}"
        lines.append(f"  step {step['k']:>2}  {step['answer']:<{width}}  {mark}")
    return "\n".join(lines)
