"""Everything that changes while a run trains, into a checkpoint and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from pir import checkpoint
from pir.errors import UserError
from pir.improvement import Lanes
from pir.progress import Stopwatch
from pir.run_folder import resolved
from pir.stored import parse_settings, refuse
from pir.trainer_settings import CHANGEABLE

if TYPE_CHECKING:
    from pir.train import Trainer

NUMBERS = (
    "optimizer_step",
    "improvement_step",
    "lane_steps",
    "puzzles_seen",
    "logged_at",
    "evaluated_at",
    "best_solved",
    "best_depth",
    "evaluations_since_best",
    "interval_updates",
)
"""The trainer's plain counters, as kept in a checkpoint."""


def snapshot(trainer: "Trainer") -> dict[str, Any]:
    """Returns the content of a checkpoint (`checkpoint.CONTENT`): plain tensors and numbers."""
    return {
        "config": OmegaConf.to_yaml(trainer.config, resolve=True),
        "weights": trainer.reasoner.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "random": checkpoint.random_state(),
        "lanes": trainer.lanes.state_dict() if trainer.lanes else None,
        "ledger": trainer.ledger.state_dict(),
        "ledger_depth": trainer.ledger_depth.state_dict(),
        "hard_puzzles": trainer.hard_puzzles.state_dict(),
        "interval": trainer.interval,
        "seconds": [trainer.watch.seconds(), trainer.ledger_seconds],
        "numbers": {name: getattr(trainer, name) for name in NUMBERS},
    }


def restore(trainer: "Trainer", saved: dict[str, Any], path: Path) -> None:
    """Puts a trainer where the checkpoint at `path` was written.

    Raises:
        UserError: if the checkpoint does not fit the trainer's config.
    """
    _refuse_other_settings(trainer, parse_settings(saved["config"], path), path)
    checkpoint.load_weights(trainer.reasoner, saved["weights"], path)
    checkpoint.load_weights(trainer.average, saved["average"], path)
    trainer.optimizer.load_state_dict(saved["optimizer"])
    for name in NUMBERS:
        setattr(trainer, name, saved["numbers"][name])
    trainer.ledger.load_state_dict(saved["ledger"])
    trainer.ledger_depth.load_state_dict(saved["ledger_depth"])
    trainer.hard_puzzles.load_state_dict(saved["hard_puzzles"])
    trainer.interval = saved["interval"]
    seconds, trainer.ledger_seconds = saved["seconds"]
    trainer.watch = Stopwatch(seconds)
    if saved["lanes"] is not None:
        trainer.lanes = Lanes.from_state_dict(saved["lanes"])
    checkpoint.set_random_state(saved["random"])


def _refuse_other_settings(trainer: "Trainer", saved: dict[str, Any], path: Path) -> None:
    """Makes sure that config.yaml still says what the checkpoint was trained with.

    Raises:
        UserError: naming the settings that differ.
    """
    free = {key.removeprefix("trainer.") for key in CHANGEABLE}
    try:
        then, now = (
            {
                **{key: config[key] for key in ("env", "model", "objective", "optim", "seed")},
                "trainer": {k: v for k, v in config["trainer"].items() if k not in free},
            }
            for config in (saved, resolved(trainer.config))
        )
    except (KeyError, AttributeError) as error:
        refuse(path, f"its settings lack {error}")
    different = [key for key in then if then[key] != now[key]]
    if different:
        raise UserError(
            f"{trainer.folder.config} does not fit {path}: "
            + "; ".join(f"{key} was {then[key]}, is {now[key]}" for key in different)
        )
