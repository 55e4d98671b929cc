"""The evaluation of a run: every measurement, written to `eval/` of its folder.

The files are described in docs/run_folder.md. `eval.json` goes first and comes last, so a folder
with it holds the files of one whole evaluation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tensordict import TensorDict

from pir.components import Components
from pir.errors import UserError
from pir.evaluation.breadth import check_starts
from pir.evaluation.exit_sweep import lacked, values_of_one
from pir.evaluation.measured import Measured, Pass
from pir.evaluation.measurements import MEASUREMENTS
from pir.evaluation.plan import HELD_OUT_PUZZLES, Plan
from pir.evaluation.rollouts import held_out
from pir.ledger.statistics import STATISTICS
from pir.runs.folder import RunFolder, as_json, write_arrays, write_rows, write_text
from pir.runs.folder_lock import remove
from pir.runs.records import Facts, PuzzleFile
from pir.runs.schema import FACTS, FILES
from pir.runs.typed import to_json
from pir.system.work import part


def evaluate_run(
    folder: RunFolder, loaded: tuple[Components, DictConfig, Path], plan: Plan
) -> Facts:
    """Evaluates a run's best averaged weights and writes `eval/` in its folder.

    Args:
        folder: of the run.
        loaded: the run, from `load_trained`.
        plan: what to measure.

    Returns:
        The content of eval.json.

    Raises:
        UserError: if a setting is out of range.
    """
    parts, config, path = loaded
    about: dict[str, Any] = {
        "run": str(folder.path),
        "checkpoint": path.name,
        "env": config.choices.env,
        "model": config.choices.model,
        "objective": config.choices.objective,
        "seed": config.seed,
        "split": "file" if plan.file else plan.split,
    }
    if plan.dtype:
        about["dtype"] = plan.dtype
    if plan.changed:
        about["changed"] = dict(plan.changed)
    if plan.file:
        sample, of_file = plan.file.read(parts.puzzle, plan.puzzles)
        sample, about["puzzle_file"] = sample.to(parts.device), PuzzleFile(**of_file)
    else:
        count = plan.puzzles or HELD_OUT_PUZZLES
        sample = held_out(parts.puzzle, plan.split, count, parts.device)
    return evaluate_puzzles(parts, plan, folder, sample, about)


def evaluate_puzzles(
    parts: Components, plan: Plan, folder: RunFolder, sample: TensorDict, about: Mapping[str, Any]
) -> Facts:
    """Measures everything that the plan asks for, and writes it.

    Args:
        parts: puzzle and reasoner.
        plan: what to measure.
        folder: of the run.
        sample: the puzzles.
        about: what eval.json says of the run and the puzzles.

    Returns:
        The content of eval.json.
    """
    if plan.breadth:  # before minutes are spent
        noise = plan.noise, plan.step_noise
        check_starts(parts.reasoner, "eval.breadth", plan.breadth, *noise)
    if plan.exits and not plan.leave_out_exits:
        values = values_of_one(parts, sample)
        for name, rule in plan.exits.items():
            if lacking := lacked(rule, values):
                raise UserError(
                    f"eval.exit={name}: it needs {', '.join(lacking)}, which this model does not "
                    "have"
                )
    with part(f"{len(sample):,} puzzles"):
        run = Pass(parts, plan, sample)
        measured = []
        for measure in MEASUREMENTS:
            with part(measure.__name__.replace("_", " ")):
                measured.append(measure(run))
    found = {key: value for each in measured for key, value in each.facts.items()}
    facts = Facts(**about, **found)
    write_evaluation(folder, facts, measured)
    return facts


def write_evaluation(folder: RunFolder, facts: Facts, measured: Sequence[Measured]) -> None:
    """Writes one evaluation; files of an earlier one that this one lacks are removed."""
    content = as_json(to_json(facts), indent=2)  # if this fails, the earlier one is still there
    remove(folder.evaluated(FACTS))
    for each in measured:
        if each.file is None:
            continue
        path, columns = folder.evaluated(each.file), FILES[each.file].names(list(STATISTICS))
        if each.arrays:
            assert each.arrays.keys() <= set(columns), path
            write_arrays(path, {name: array.cpu().numpy() for name, array in each.arrays.items()})
        elif each.rows:
            assert list(each.rows[0]) == columns, path
            write_rows(path, each.rows)
        else:
            remove(path)
    write_text(folder.evaluated(FACTS), content + "\n")
