"""`pir eval`: every improvement step on held-out puzzles, to any depth."""

import json
import time
from typing import Any

from omegaconf import DictConfig

from pir.config import check_choice
from pir.errors import UserError
from pir.run_folder import RunFolder, write_json, write_rows


def run(config: DictConfig) -> None:
    """Runs the command; see configs/eval.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    result = evaluate_run(RunFolder(config.run), config.device, **config.eval)
    if config.output == "json":
        print(json.dumps(result))
    else:
        print(improvement_table(result))
        print(f"written to {RunFolder(config.run).evaluation}")


def evaluate_run(
    folder: RunFolder,
    device: str,
    *,
    split: str,
    puzzles: int,
    batch_size: int,
    samples: int = 20,
    improvement_steps: int | None = None,
) -> dict[str, Any]:
    """Evaluates a run's best averaged weights and writes `eval/` in its folder.

    Args:
        folder: the run.
        device: where to compute, "auto" for the best there is.
        split: which split the puzzles come from.
        puzzles: how many.
        batch_size: how many at once.
        samples: answers drawn per puzzle at the trained depth, for puzzles with several answers.
        improvement_steps: how many steps; None for twice the trained number.

    Returns:
        The content of eval.json.

    Raises:
        UserError: if a setting is out of range or the run cannot be read.
    """
    from pir.components import load_trained
    from pir.evaluate import evaluate, held_out, wilson_interval
    from pir.puzzle import SPLITS

    check_choice("eval.split", split, SPLITS)
    for key, value in {
        "improvement_steps": improvement_steps,
        "puzzles": puzzles,
        "batch_size": batch_size,
    }.items():
        if value is not None and value < 1:
            raise UserError(f"eval.{key}={value}: must be at least 1")
    if samples < 0:
        raise UserError(f"eval.samples={samples}: must be at least 0")
    parts, config, path = load_trained(folder, device)
    trained_steps = parts.reasoner.improvement_steps
    num_steps = improvement_steps or 2 * trained_steps
    sample = held_out(parts.puzzle, split, puzzles, parts.device)
    started = time.monotonic()
    draws = 0 if parts.puzzle.unique else samples
    result = evaluate(parts.reasoner, parts.puzzle, sample, num_steps, batch_size, draws)
    seconds = time.monotonic() - started

    rows = []
    puzzles = len(sample)
    for row in result.ledger.rows():
        low, high = wilson_interval(row["solved"] * puzzles, puzzles)
        rows.append(row | {"solved_low": low, "solved_high": high})
    content = {
        "run": str(folder.path),
        "checkpoint": path.name,
        "env": config.choices.env,
        "split": split,
        "puzzles": puzzles,
        "trained_steps": trained_steps,
        "improvement_steps": num_steps,
        "parameters": parts.reasoner.parameter_count(),
        "seconds": round(seconds, 3),
        "dead_fraction": result.ledger.dead_fraction(trained_steps),
        "per_step": rows,
    }
    if result.sampled is not None:
        content["samples"] = samples
        content["sampled_solved"], content["coverage"], content["sampled_puzzles"] = result.sampled
    _write(folder, content, puzzle_rows(parts.puzzle, sample, result))
    return content


def puzzle_rows(puzzle: Any, sample: Any, result: Any) -> list[dict[str, Any]]:
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
                "score": float(result.score[index, -1]),
                "rating": ratings[index],
            }
        )
    return rows


def _write(folder: RunFolder, content: dict[str, Any], puzzles: list[dict[str, Any]]) -> None:
    write_rows(folder.evaluation / "per_step.csv", content["per_step"])
    write_rows(folder.evaluation / "per_puzzle.csv", puzzles)
    write_json(folder.evaluation / "eval.json", content)


def improvement_table(result: dict[str, Any]) -> str:
    """Returns the improvement steps as a table of fixed-width text, trained depth marked."""
    lines = [
        f"{'step':>4} {'passes':>7} {'solved':>7} {'95 % interval':>15} {'score':>6} "
        f"{'gain':>7} {'dead':>6} {'KL':>8}"
    ]
    for row in result["per_step"]:
        mark = "  <- trained depth" if row["k"] == result["trained_steps"] else ""
        lines.append(
            f"{row['k']:>4} {row['forward_passes']:>7} {row['solved']:>7.1%} "
            f"{row['solved_low']:>7.1%}-{row['solved_high']:<7.1%} {row['score']:>6.3f} "
            f"{row['gain']:>+7.3f} {row['dead']:>6.1%} {row['kl']:>8.4f}{mark}"
        )
    if "samples" in result:
        lines.append(
            f"{result['samples']} samples of the policy at the trained depth, "
            f"{result['sampled_puzzles']} puzzles: {result['sampled_solved']:.1%} right"
            + (f", coverage {result['coverage']:.1%}" if result["coverage"] is not None else "")
        )
    return "\n".join(lines)
