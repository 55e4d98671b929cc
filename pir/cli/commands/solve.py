"""`pir solve`: puzzles of your own, with the answer after every improvement step."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pir.checks import check_choice
from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.records import read_facts
from pir.runs.schema import FACTS
from pir.system.stored import refuse
from pir.system.terminal import say

if TYPE_CHECKING:
    from torch import Tensor

    from pir.components import Components
    from pir.evaluation.solve import Stop
    from pir.puzzle import Puzzle
    from pir.puzzle_files.batch import Batch, Fault


CHUNK = 500
"""Puzzles read before the first answers are printed, so by default the most at once."""


class Given(NamedTuple):
    """A puzzle to solve: its text, its tokens, and the answer that came with it, (L,) each."""

    text: str
    question: Tensor
    answer: Tensor | None


def run(config: DictConfig) -> None:
    """Runs the command; see configs/solve.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    if (config.puzzle is None) == (config.puzzles is None):
        raise UserError("give either puzzle='...' or puzzles=FILE")
    if config.improvement_steps is not None and config.improvement_steps < 1:
        raise UserError(f"improvement_steps={config.improvement_steps}: must be at least 1")
    if config.batch_size is not None and config.batch_size < 1:
        raise UserError(f"batch_size={config.batch_size}: must be at least 1")

    from pir.components import load_trained

    parts, _, _ = load_trained(RunFolder(config.run), config.device, reads_puzzles=False)
    stop = stopping(config, parts.reasoner.improvement_steps)
    malformed = total = 0
    size = config.batch_size
    for items in _portions(parts.puzzle, config.puzzle, config.puzzles, size or CHUNK):
        for (where, _), result in zip(items, solve_all(parts, items, stop, size), strict=True):
            total += 1
            if "error" in result:
                say(f"{where}{result['puzzle']}: {result['error']}", error=True)
                malformed += result["answer"] is None
            if config.output == "json":
                say(json.dumps(result))
            elif result["answer"] is not None:
                say(as_table(result))
    if malformed:
        raise UserError(f"{malformed} of {total} puzzles could not be read")


def _portions(
    puzzle: Puzzle, text: str | None, path: str | None, most: int
) -> Iterator[list[tuple[str, Given | Fault]]]:
    """Yields puzzles and faults, at most `most` together, in their order and with their places."""
    from pir.puzzle_files.reader import read_one, read_puzzles

    if text is not None:
        batches = iter([read_one(puzzle, text)])
    else:
        batches = read_puzzles(puzzle, str(path), "puzzles")
    for batch in batches:
        items = _items(puzzle, batch, f"puzzles={path}, {batch.unit} " if path else "")
        for first in range(0, len(items), most):
            yield items[first : first + most]


def _items(puzzle: Puzzle, batch: Batch, name: str) -> list[tuple[str, Given | Fault]]:
    import torch

    items: list[tuple[tuple[int, int], Given | Fault]]
    items = [((fault.line, fault.column), fault) for fault in batch.faults]
    questions = torch.from_numpy(batch.questions)
    answers = None if batch.answers is None else torch.from_numpy(batch.answers)
    places = zip(batch.lines.tolist(), batch.columns.tolist(), strict=True)
    for row, place in enumerate(places):
        text = batch.texts.get(row) or puzzle.format_question(questions[row])
        answer = answers[row] if answers is not None and answers[row].any() else None
        items.append((place, Given(text, questions[row], answer)))
    items.sort(key=lambda item: item[0])
    return [(f"{name}{place[0]}: " if name else "", item) for place, item in items]


def solve_all(
    parts: Components,
    items: Sequence[tuple[str, Given | Fault]],
    stop: Stop,
    batch_size: int | None,
) -> Iterator[dict[str, Any]]:
    """Solves puzzles together; yields a JSON object for each, and for each fault, in order."""
    from pir.evaluation.batch_size import named_when_short
    from pir.evaluation.solve import solve

    given = [item for _, item in items if isinstance(item, Given)]
    questions = [item.question for item in given]
    with named_when_short("batch_size", batch_size):
        solved = solve(parts.reasoner, parts.puzzle, questions, stop, batch_size)
    steps = iter([[answer._asdict() for answer in answers] for answers in solved])
    for _, item in items:
        result: dict[str, Any] = {
            "puzzle": item.text,
            "answer": None,
            "solved": False,
            "steps": [],
        }
        if isinstance(item, Given):
            own = next(steps)
            last = own[-1]
            result |= {"answer": last["answer"], "solved": last["solved"], "steps": own}
            if item.answer is not None:
                verdict = parts.puzzle.verify(item.question[None], item.answer[None])
                result["given_solved"] = bool(verdict.solved[0])
            if not last["solved"] and has_no_answer(parts.puzzle, item.question):
                rule = f": {parts.puzzle.no_answer}" if parts.puzzle.no_answer else ""
                result["error"] = f"no answer exists (exhaustive search){rule}"
        else:
            result["error"] = f"{item.reason} (column {item.column})"
        yield result


def has_no_answer(puzzle: Puzzle, question: Tensor) -> bool:
    """Says whether an exhaustive search finds that a question of shape (L,) has no answer."""
    if not puzzle.lists_solutions:
        return False
    listed = puzzle.solutions(question[None], limit=1)
    return bool(listed.complete[0] & ~listed.valid[0, 0])


def stopping(config: DictConfig, trained_steps: int) -> Stop:
    """Builds the exit rule; what is not set is taken from the run's last evaluation of it.

    Raises:
        UserError: if a rule lacks a threshold, or looks ahead.
    """
    from pir.components import build_rule
    from pir.evaluation.solve import Stop
    from pir.exits.rules import FixedDepth

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
    file = RunFolder(config.run).evaluated(FACTS)
    known = (read_facts(file).exits or {}).get(name) if file.is_file() else None
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
            refuse(file, error)
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
