"""`pir solve`: puzzles of your own, with the answer after every improvement step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pir.config import check_choice
from pir.errors import PuzzleTextError, UserError
from pir.puzzle_file import read_lines
from pir.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from pir.components import Components
    from pir.puzzle import Puzzle


BATCH = 500
"""Puzzles improved at once."""


def run(config: DictConfig) -> None:
    """Runs the command; see configs/solve.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    if (config.puzzle is None) == (config.puzzles is None):
        raise UserError("give either puzzle='...' or puzzles=FILE")
    if config.improvement_steps is not None and config.improvement_steps < 1:
        raise UserError(f"improvement_steps={config.improvement_steps}: must be at least 1")
    if config.puzzle is not None:
        lines = [(1, config.puzzle)]
    else:
        lines = read_lines(config.puzzles, "puzzles")

    from pir.components import load_trained

    parts, _, _ = load_trained(RunFolder(config.run), config.device)
    malformed = 0
    for start in range(0, len(lines), BATCH):
        for number, result in solve_lines(parts, lines[start : start + BATCH], config):
            if "error" in result:
                where = f"{config.puzzles}, line {number}: " if config.puzzles else ""
                print(f"{where}{result['puzzle']}: {result['error']}", file=sys.stderr)
                malformed += result["answer"] is None
            if config.output == "json":
                print(json.dumps(result), flush=True)
            elif result["answer"] is not None:
                print(as_table(result), flush=True)
    if malformed:
        raise UserError(f"{malformed} of {len(lines)} puzzles could not be read")


def solve_lines(
    parts: Components, lines: list[tuple[int, str]], config: DictConfig
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Solves numbered puzzle texts together; yields each number with its JSON object, in order."""
    questions: dict[int, Tensor] = {}
    errors: dict[int, str] = {}
    for number, text in lines:
        try:
            questions[number] = parts.puzzle.parse(text)
        except PuzzleTextError as error:
            errors[number] = str(error)
    steps = dict(zip(questions, improve(parts, questions, config), strict=True))
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
    parts: Components, questions: dict[int, Tensor], config: DictConfig
) -> list[list[dict[str, Any]]]:
    """Improves the answers to some questions; returns every step of every question."""
    import torch
    from tensordict import TensorDict

    from pir.improvement import Lanes, improvement_steps

    steps: list[list[dict[str, Any]]] = [[] for _ in questions]
    if not questions:
        return steps
    batch = torch.stack(list(questions.values()))
    puzzles = TensorDict({"question": batch.to(parts.device)}, batch_size=[len(batch)])
    count = config.improvement_steps or parts.reasoner.improvement_steps
    with torch.no_grad():
        lanes = Lanes.begin(parts.reasoner, parts.puzzle, puzzles)
        for step in improvement_steps(parts.reasoner, parts.puzzle, lanes, count):
            for row, question in enumerate(batch):
                steps[row].append(
                    {
                        "k": int(step.k[row]),
                        "answer": parts.puzzle.format_answer(question, step.answer[row].cpu()),
                        "solved": bool(step.after.solved[row]),
                        "score": round(float(step.after.score[row]), 4),
                    }
                )
    return steps


def as_table(content: dict[str, Any]) -> str:
    """Returns a puzzle's steps as a table of fixed-width text."""
    width = max(len(step["answer"]) for step in content["steps"])
    lines = [content["puzzle"]]
    for step in content["steps"]:
        mark = "solved" if step["solved"] else f"score {step['score']:.2f}"
        lines.append(f"  step {step['k']:>2}  {step['answer']:<{width}}  {mark}")
    return "\n".join(lines)
