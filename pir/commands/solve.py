"""`pir solve`: puzzles of your own, with the answer after every improvement step."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pir.config import check_choice
from pir.errors import PuzzleTextError, UserError
from pir.run_folder import RunFolder


def run(config: DictConfig) -> None:
    """Runs the command; see configs/solve.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    if (config.puzzle is None) == (config.puzzles is None):
        raise UserError("give either puzzle='...' or puzzles=FILE")
    if config.improvement_steps is not None and config.improvement_steps < 1:
        raise UserError(f"improvement_steps={config.improvement_steps}: must be at least 1")
    lines = read_lines(config)

    from pir.components import load_trained

    parts, _, _ = load_trained(RunFolder(config.run), config.device)
    malformed = 0
    for number, text in lines:
        try:
            question = parts.puzzle.parse(text)
        except PuzzleTextError as error:
            malformed += 1
            where = f"{config.puzzles}, line {number}" if config.puzzles else "puzzle"
            report_failure(config.output, text, f"{where}: {error}")
            continue
        steps = improve(parts, question, config.improvement_steps)
        last = steps[-1]
        solution = {"answer": last["answer"], "solved": last["solved"], "steps": steps}
        content = {"puzzle": text, **solution}
        if not last["solved"] and not parts.puzzle.solvable(question):
            content["error"] = "no answer exists (exhaustive search)"
            where = f"line {number}: " if config.puzzles else ""
            print(f"{where}{text}: {content['error']}", file=sys.stderr)
        print(json.dumps(content) if config.output == "json" else as_table(content), flush=True)
    if malformed:
        raise UserError(f"{malformed} of {len(lines)} puzzles could not be read")


def read_lines(config: DictConfig) -> list[tuple[int, str]]:
    """Returns the puzzles with their line numbers, blank lines left out.

    Raises:
        UserError: if the file cannot be read as text or holds no puzzle.
    """
    if config.puzzle is not None:
        return [(1, config.puzzle)]
    try:
        text = Path(config.puzzles).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"puzzles={config.puzzles} cannot be read: {error}") from error
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"puzzles={config.puzzles} holds no puzzle")
    return lines


def improve(parts: Any, question: Any, num_steps: int | None) -> list[dict[str, Any]]:
    """Improves the answer to one question of shape (L,); returns every step for the output."""
    import torch
    from tensordict import TensorDict

    from pir.improvement import Lanes, improvement_steps

    def steps() -> Iterator[dict[str, Any]]:
        puzzles = TensorDict({"question": question[None].to(parts.device)}, batch_size=[1])
        lanes = Lanes.begin(parts.reasoner, parts.puzzle, puzzles)
        count = num_steps or parts.reasoner.improvement_steps
        for step in improvement_steps(parts.reasoner, parts.puzzle, lanes, count):
            yield {
                "k": int(step.k[0]),
                "answer": parts.puzzle.format_answer(question, step.answer[0].cpu()),
                "solved": bool(step.after.solved[0]),
                "score": round(float(step.after.score[0]), 4),
            }

    with torch.no_grad():
        return list(steps())


def report_failure(output: str, text: str, message: str) -> None:
    """Says that a puzzle could not be read; in JSON output its line still gets an object."""
    print(message, file=sys.stderr)
    if output == "json":
        empty: dict[str, Any] = {"answer": None, "solved": False, "steps": [], "error": message}
        print(json.dumps({"puzzle": text, **empty}), flush=True)


def as_table(content: dict[str, Any]) -> str:
    """Returns a puzzle's steps as a table of fixed-width text."""
    width = max(len(step["answer"]) for step in content["steps"])
    lines = [content["puzzle"]]
    for step in content["steps"]:
        mark = "solved" if step["solved"] else f"score {step['score']:.2f}"
        lines.append(f"  step {step['k']:>2}  {step['answer']:<{width}}  {mark}")
    return "\n".join(lines)
