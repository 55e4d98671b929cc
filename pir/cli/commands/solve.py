"""`pir solve`: puzzles of your own, with the answer after every improvement step."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pir.checks import check_choice, check_count, check_steps
from pir.cli.loading import loaded
from pir.errors import UserError
from pir.runs.folder import resolved
from pir.runs.names import results_of
from pir.runs.records import read_facts
from pir.runs.schema import FACTS
from pir.system.stored import refuse
from pir.system.terminal import columns, say

if TYPE_CHECKING:
    from torch import Tensor

    from pir.components import Components
    from pir.evaluation.solve import StepAnswer, Stop
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
    check_settings(config)
    from pir.cli.boards import has_board, write_example
    from pir.evaluation.breadth import check_starts
    from pir.system.view import View

    with View(f"pir solve {config.run}"):
        changed = resolved(config)["env"]
        parts, _, _ = loaded(config.run, config.device, reads_puzzles=False, changed=changed)
    check_starts(parts.reasoner, "breadth", config.breadth, config.noise)
    boards = config.output == "boards" or (sys.stdout.isatty() and has_board(parts.puzzle))
    stop = stopping(config, parts)
    malformed = total = 0
    size = config.batch_size
    for items in _portions(parts.puzzle, config.puzzle, config.puzzles, size or CHUNK):
        results = solve_all(parts, items, stop, size, config.breadth, config.noise)
        for (where, _), result in zip(items, results, strict=True):
            total += 1
            if "error" in result:
                say(f"{where}{result['puzzle']}: {result['error']}", error=True)
                malformed += result["answer"] is None
            if config.output == "json":
                say(json.dumps(_plain(result)))
            elif result["answer"] is not None:
                say(as_boards(parts.puzzle, result) if boards else as_table(result))
                gave_up = not result["solved"] and "error" not in result
                if config.puzzle is not None and gave_up and len(result["steps"]) == stop.most:
                    say(f"not solved; {_more(config, parts, stop)}", error=True)
    if malformed:
        say(f"this puzzle is written so: {write_example(parts.puzzle)}", error=True)
        raise UserError(f"{malformed} of {total} puzzles could not be read")


def check_settings(config: DictConfig) -> None:
    """Checks what can be checked before the model is read.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    check_choice("output", config.output, ("text", "boards", "json"))
    if (config.puzzle is None) == (config.puzzles is None):
        raise UserError("give either puzzle='...' or puzzles=FILE")
    check_steps("improvement_steps", config.improvement_steps)
    for key in ("batch_size", "breadth"):
        check_count(key, config[key])
    if not 0 <= config.noise < float("inf"):
        raise UserError(f"noise={config.noise}: must be at least 0")


def _more(config: DictConfig, parts: Components, stop: Stop) -> str:
    """Returns which settings spend more on a puzzle that was not solved."""
    from pir.evaluation.breadth import starts_differ

    more = f"improvement_steps={4 * stop.most} takes more"
    if starts_differ(parts.reasoner):
        more += f", breadth={8 * config.breadth} begins more often"
    return more


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
    starts: int = 1,
    noise: float = 0.3,
) -> Iterator[dict[str, Any]]:
    """Solves puzzles together; yields what is said of each, and of each fault, in order."""
    from pir.evaluation.batch_size import named_when_short
    from pir.evaluation.solve import solve

    given = [item for _, item in items if isinstance(item, Given)]
    questions = [item.question for item in given]
    with named_when_short("batch_size", batch_size):
        solved = solve(parts.reasoner, parts.puzzle, questions, stop, batch_size, starts, noise)
    steps = iter(solved)
    for _, item in items:
        result: dict[str, Any] = {
            "puzzle": item.text,
            "answer": None,
            "solved": False,
            "start": None,
            "steps": [],
        }
        if isinstance(item, Given):
            own = next(steps)
            last = own[-1]
            result |= {"answer": last.answer, "solved": last.solved}
            result |= {"start": last.start, "steps": own}
            result["question"] = item.question
            if item.answer is not None:
                verdict = parts.puzzle.verify(item.question[None], item.answer[None])
                result["given_solved"] = bool(verdict.solved[0])
            if not last.solved and has_no_answer(parts.puzzle, item.question):
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


def stopping(config: DictConfig, parts: Components) -> Stop:
    """Builds the exit rule; what is not set is taken from the run's last evaluation of it.

    Raises:
        UserError: if a rule lacks a threshold, looks ahead, or needs what the model does not have.
    """
    from pir.evaluation.exit_sweep import lacked, values_of_one
    from pir.evaluation.solve import Stop
    from pir.exits.build import build_rule
    from pir.exits.rules import FixedDepth

    rule = build_rule(config.exit, "exit")
    most = config.improvement_steps or parts.reasoner.improvement_steps
    if isinstance(rule, FixedDepth):
        if rule.threshold is not None:
            if config.improvement_steps is not None:
                raise UserError(
                    "exit.threshold and improvement_steps both say when to stop: set one"
                )
            check_steps("exit.threshold", rule.threshold)
            most = int(rule.threshold)
            if most != rule.threshold:
                raise UserError(f"exit.threshold={rule.threshold}: must be a whole number of steps")
        return Stop(rule, most, most)
    name = HydraConfig.get().runtime.choices["exit"]
    if rule.bound:
        raise UserError(f"exit={name} looks ahead: it cannot be run")
    if lacking := lacked(rule, values_of_one(parts, parts.puzzle.sample(1, "test", seed=0))):
        raise UserError(
            f"exit={name} needs {', '.join(lacking)}, which this model does not have; "
            "`pir list exits` names other rules"
        )
    file = results_of(config.run).evaluated(FACTS)
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
        return Stop(rule, rule.threshold, most)
    assert known is not None
    most = config.improvement_steps or known.improvement_steps
    return Stop(rule, known.threshold, most)


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """Returns what is said of a puzzle as a JSON object, without tokens."""
    steps = [
        {name: value for name, value in step._asdict().items() if name not in ("start", "tokens")}
        for step in content["steps"]
    ]
    return {n: v for n, v in content.items() if n != "question"} | {"steps": steps}


def as_table(content: dict[str, Any]) -> str:
    """Returns the question and every answer that differs from the one before, a line each."""
    parts = list(_parts(content["steps"]))
    names, width = max(len(name) for name, _ in parts), max(len(s.answer) for _, s in parts)
    lines = [f"  {name:<{names}}  {s.answer:<{width}}  {_verdict(s)}" for name, s in parts]
    return "\n".join([content["puzzle"], *lines])


def as_boards(puzzle: Puzzle, content: dict[str, Any]) -> str:
    """Returns the question and every answer that differs from the one before, as boards."""
    from pir.cli.boards import Board, draw, side_by_side

    question = content["question"]
    boards = [Board("question", draw(puzzle, question, question))]
    for name, step in _parts(content["steps"]):
        boards.append(Board(f"{name} {_verdict(step)}", draw(puzzle, question, step.tokens)))
    return side_by_side(boards, columns()) + "\n"


def _parts(steps: Sequence[StepAnswer]) -> Iterator[tuple[str, StepAnswer]]:
    """Yields the last of all steps in a row that give one answer, and the name of these steps."""
    first = 1
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if after is None or after.answer != step.answer:
            name = f"step {step.k}" if first == step.k else f"steps {first}-{step.k}"
            yield name if step.start == 1 else f"start {step.start}, {name}", step
            first = step.k + 1


def _verdict(step: StepAnswer) -> str:
    return "solved" if step.solved else f"score {step.score:.2f}"
