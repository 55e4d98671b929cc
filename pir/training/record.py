"""What a checkpoint keeps of the settings of a run, and whether they are still the same later."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.inputs import of_run, without_files
from pir.schedules import LaneSchedule
from pir.settings.training import CHANGEABLE

if TYPE_CHECKING:
    from pir.training.trainer import Trainer

NOT_TRAINED = ("lr", "initial_lr", "foreach", "fused", "capturable", "differentiable")
"""Numbers of an optimizer that are compared elsewhere (the rates) or change no result."""


def described(
    trainer: "Trainer",
    optimizer: torch.optim.Optimizer,
    schedule: LaneSchedule,
    record: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns what a checkpoint keeps of a trainer that was not built from settings.

    Raises:
        UserError: if `record` holds more than JSON does.
    """

    def name(part: object) -> str:
        return f"{type(part).__module__}.{type(part).__qualname__}"

    terms = {
        key: [name(each.term), each.weight, each.from_step, each.until_step]
        for key, each in trainer.objective.terms.items()
    }
    try:
        own = json.loads(json.dumps(dict(record or {})))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"record: {error}; allowed are names with numbers, texts, lists and such mappings"
        ) from error
    return {
        "env": name(trainer.puzzle),
        "model": name(trainer.reasoner),
        "objective": terms,
        "optim": name(optimizer),
        "trainer": asdict(trainer.settings) | {"lanes": name(schedule)},
        "seed": trainer.seed,
        "settings": dict(_settings(trainer, optimizer)),
        "record": own,
    }


def _settings(trainer: "Trainer", optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Yields the plain settings of the parts, by place and name."""
    reasoner, objective = trainer.reasoner, trainer.objective
    parts = {f"objective.terms.{name}": vars(t.term) for name, t in objective.terms.items()}
    parts |= {"puzzle": vars(trainer.puzzle), "reasoner": vars(reasoner)}
    parts["reasoner"] = parts["reasoner"] | {"passes_per_step": reasoner.passes_per_step}
    parts["objective"] = {
        "update": objective.update,
        "epochs": objective.epochs,
        "backprop_steps": objective.backprop_steps,
        "depth": None if objective.depth is None else objective.depth.deviation,
    }
    for number, group in enumerate(optimizer.param_groups):
        parts[f"optimizer.{number}"] = {k: v for k, v in group.items() if k not in NOT_TRAINED}
    for place, values in parts.items():
        for name, value in values.items():
            if not name.startswith("_") and name != "training" and _is_plain(value):
                is_file = place == "puzzle" and isinstance(value, str) and os.path.isfile(value)
                yield f"{place}.{name}", "a file" if is_file else value  # it may be moved


def _is_plain(value: object) -> bool:
    """Says whether a value is a number, a text, a truth value, nothing, or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or (isinstance(value, bool | int | float | str) and value == value)


def refuse_other_settings(
    folder: RunFolder, saved: str, record: Mapping[str, Any], path: Path
) -> None:
    """Makes sure that config.yaml, or the trainer, still says what the checkpoint was trained with.

    Args:
        folder: of the run.
        saved: the settings in the checkpoint, as JSON.
        record: the settings of the run now.
        path: the checkpoint.

    Raises:
        UserError: naming the settings that differ.
    """
    free = {key.removeprefix("trainer.") for key in CHANGEABLE}
    inputs = of_run(folder)
    try:
        then, now = (
            {
                "env": without_files(config["env"], inputs, "env"),
                **{key: config[key] for key in ("model", "objective", "optim", "seed")},
                "trainer": {k: v for k, v in config["trainer"].items() if k not in free},
                **config.get("settings", {}),
                **{f"record.{name}": value for name, value in config.get("record", {}).items()},
            }
            for config in (json.loads(saved), json.loads(json.dumps(record)))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: its config cannot be read") from error
    # an older checkpoint knows fewer settings
    different = [key for key in then if key in now and then[key] != now[key]]
    if different:
        raise UserError(
            f"{folder.config if folder.config.exists() else 'this trainer'} does not fit {path}: "
            + "; ".join(f"{key} was {then[key]}, is {now[key]}" for key in different)
        )
