"""A trained model as two files, for others: its weights, and a manifest with what they solve."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pir.checks import check_choice
from pir.components import Components
from pir.errors import UserError
from pir.evaluation.batch_size import fitting_batch
from pir.evaluation.intervals import wilson_interval
from pir.evaluation.rollouts import Evaluation, evaluate, held_out
from pir.runs import inputs
from pir.runs.folder import RunFolder, as_json, resolved, write_atomically, write_text
from pir.runs.load import load_trained
from pir.runs.records import MODEL_FORMAT, MODEL_VERSION, Manifest, Reference, ReferenceStep
from pir.runs.schema import MODEL_DTYPES
from pir.runs.typed import to_json
from pir.runs.weights import packed, round_weights
from pir.system.stored import read_settings

SPLIT = "test"

FIRST = 100
"""Puzzles of which the manifest counts the solved ones apart, for a quick look at a copy."""


def export_run(
    run: RunFolder | str | Path,
    out: RunFolder | str | Path,
    dtype: str,
    puzzles: int,
    device: str,
    *,
    changed: Mapping[str, Any] | None = None,
    minutes: float | None,
    hardware: str,
    command: str,
) -> Manifest:
    """Writes the averaged weights of a run's best checkpoint, and the manifest.

    Args:
        run: the run folder, or its path.
        out: the folder that is written, or its path.
        dtype: `float32`, or `bfloat16` to round the weights to it.
        puzzles: first puzzles of the test split, which the written weights are evaluated on.
        device: to evaluate on, as the setting names it.
        changed: settings of the puzzle that are other than in training, by name.
        minutes: of training.
        hardware: that the run trained on, in a few words.
        command: that trained it.

    Raises:
        UserError: if the dtype is another, or the run cannot be read, or `out` holds anything or
            cannot be written.
    """
    check_choice("dtype", dtype, MODEL_DTYPES)
    run, out = (RunFolder(f) if isinstance(f, str | Path) else f for f in (run, out))
    if out.path.exists() and (not out.path.is_dir() or any(out.path.iterdir())):
        raise UserError(f"out={out.path} is there already and not empty: name another folder")
    parts, config, _ = load_trained(run, device, changed=changed)
    unrounded = None
    if dtype == "bfloat16":
        unrounded = float(_evaluation(parts, puzzles).solved[:, -1].float().mean())
        round_weights(parts.reasoner)
    settings = read_settings(run.config)
    settings["env"] = resolved(config)["env"]
    content = packed(parts.reasoner, dtype)
    manifest = Manifest(
        format=MODEL_FORMAT,
        schema_version=MODEL_VERSION,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        dtype=dtype,
        parameters=parts.reasoner.parameter_count(),
        improvement_steps=parts.reasoner.improvement_steps,
        evaluation=_reference(_evaluation(parts, puzzles), unrounded),
        minutes=minutes,
        hardware=hardware,
        command=command,
        info=run.read_info() | {"inputs": inputs.of_exported(run, config)},
        config=settings,
    )
    text = as_json(to_json(manifest), indent=2)  # if this fails, nothing is written
    write_atomically(out.weights, lambda file: file.write(content))
    write_text(out.manifest, text + "\n")
    return manifest


def _evaluation(parts: Components, puzzles: int) -> Evaluation:
    sample = held_out(parts.puzzle, SPLIT, puzzles, parts.device)
    batch = fitting_batch(None, parts.reasoner, sample["question"])
    depth = parts.reasoner.improvement_steps
    return evaluate(parts.reasoner, parts.puzzle, sample, depth, batch)


def _reference(evaluation: Evaluation, unrounded: float | None) -> Reference:
    """Returns what the manifest says of an evaluation."""
    count = len(evaluation.solved)
    first = evaluation.solved[:FIRST].sum(0).tolist()
    steps = []
    for row, solved in zip(evaluation.ledger.rows(), first, strict=True):
        low, high = wilson_interval(row["solved"] * count, count)
        steps.append(
            ReferenceStep(
                k=row["k"],
                forward_passes=row["forward_passes"],
                solved=row["solved"],
                solved_low=low,
                solved_high=high,
                score=row["score"],
                first_solved=solved,
            )
        )
    return Reference(
        split=SPLIT,
        puzzles=count,
        first_puzzles=min(FIRST, count),
        unrounded_solved=unrounded,
        per_step=tuple(steps),
    )
