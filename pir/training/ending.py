"""How a run ended: which budget stopped it, and what of its schedule is left."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig

from pir.errors import UserError
from pir.runs import checkpoint
from pir.runs.folder import RunFolder, resolved
from pir.runs.records import Summary
from pir.runs.typed import from_json
from pir.system import processes
from pir.system.stored import read_object
from pir.system.view import clock
from pir.training.optim import learning_rate_factor
from pir.training.record import refuse_other_settings

if TYPE_CHECKING:
    from pir.training.trainer import Trainer

TOTALS = {
    "max_optimizer_steps": "optimizer_steps",
    "max_minutes": "seconds",
    "max_forward_passes": "training_forward_passes",
}
"""What is counted against each budget, by its key in summary.json."""


def facts(trainer: "Trainer") -> dict[str, Any]:
    """Returns how a finished run ended, for summary.json."""
    settings, steps = trainer.settings, trainer.progress.optimizer_step
    shares, patience = trainer.ended_at, settings.patience
    most = max(shares, key=lambda name: shares[name])
    spent = patience is not None and trainer.progress.evaluations_since_best >= patience
    return {
        "stopped_by": "patience" if shares[most] < 1 and spent else most,
        "schedule_share": min(1.0, steps / settings.decay_steps) if settings.decay_steps else 1.0,
        "learning_rate_share": learning_rate_factor(
            max(0, steps - 1),
            settings.warmup_steps,
            settings.decay_steps,
            settings.final_lr_ratio,
        ),
    }


def test_seconds(trainer: "Trainer") -> float:
    """Estimates how long the final test takes, from the last validation.

    It takes twice the trained steps, and one process takes them, as it does all else after them.
    """
    settings = trainer.settings
    share = settings.test_puzzles / settings.val_puzzles
    return 2 * share * trainer.validated_in * processes.size()


def sentences(summary: Summary, settings: Mapping[str, Any]) -> list[str]:
    """Says how a run ended, and what that cost.

    Args:
        summary: of the run.
        settings: `trainer.*`, by name.
    """
    name, steps = summary.stopped_by, summary.optimizer_steps or 0
    ended = f"ended after {steps:,} optimizer steps, {clock(summary.seconds or 0)} of training, by "
    if name == "patience":
        reason = f"trainer.patience: {settings[name]} validations brought no better result"
    else:
        reason = f"trainer.{name}={settings[str(name)]}"
    lines = [ended + reason]
    if summary.schedule_share is not None and summary.schedule_share < 1 and name != "patience":
        warming = steps < settings["warmup_steps"]
        rate = "warming up, at" if warming else "at"
        lines.append(
            f"that is {summary.schedule_share:.0%} of the learning rate's schedule "
            f"(trainer.decay_steps={settings['decay_steps']}): it was still {rate} "
            f"{summary.learning_rate_share:.0%} of its peak, so the result is not what the whole "
            "schedule gives"
        )
    if steps < settings["log_every"]:
        lines.append(
            f"no curve of training was written, as trainer.log_every={settings['log_every']} is "
            "more than these steps"
        )
    return lines


def to_the_end(summary: Summary, settings: Mapping[str, Any]) -> list[str]:
    """Returns the budgets, as settings, with which a run reaches the end of its schedule.

    There are none if it has reached it.
    """
    steps, end = summary.optimizer_steps or 0, settings["decay_steps"]
    if not 0 < steps < end:
        return []
    changes = []
    for name, total in TOTALS.items():
        spent, budget = getattr(summary, total), settings[name]
        if spent is None or budget is None:
            continue
        needed = spent * end / steps / (60 if name == "max_minutes" else 1)
        needed = math.ceil(needed if name == "max_optimizer_steps" else 1.1 * needed)
        if needed > budget:
            changes.append(f"trainer.{name}={needed}")
    return changes


def already(folder: RunFolder, config: DictConfig) -> Summary | None:
    """Returns the summary of a run that has ended, if its budgets are spent as they are now.

    Raises:
        UserError: if its last checkpoint is damaged.
    """
    if not folder.summary.is_file() or not folder.last.is_file():
        return None
    try:
        summary: Summary = from_json(Summary, read_object(folder.summary))
    except (ValueError, UserError):
        return None  # it will be written anew
    saved = checkpoint.load(folder.last, torch.device("cpu"))
    try:
        refuse_other_settings(folder, saved["config"], resolved(config), folder.last)
    except UserError:
        return None  # what is wrong is said where the run goes on
    settings, progress = config.trainer, saved["progress"]
    if (
        summary.stopped_by not in (*TOTALS, "patience")
        or summary.optimizer_steps != progress["optimizer_step"]
    ):
        return None
    if summary.stopped_by == "patience":
        patience = settings["patience"]
        ended = patience is not None and progress["evaluations_since_best"] >= patience
    else:
        budget = settings[summary.stopped_by]
        spent = getattr(summary, TOTALS[summary.stopped_by])
        if summary.stopped_by == "max_minutes":  # which the summary rounds
            spent = saved["watch"]["seconds"] / 60
        ended = budget is not None and spent is not None and spent >= budget
    return summary if ended else None
