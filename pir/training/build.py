"""From the settings of `pir train` to a trainer."""

from collections.abc import Collection
from dataclasses import fields

import torch
from omegaconf import DictConfig

from pir.checks import check_seed
from pir.components import Components, build_puzzle
from pir.runs.folder import RunFolder, resolved
from pir.settings.training import TrainerSettings
from pir.system.terminal import say
from pir.training import sizing
from pir.training.trainer import Trainer


def build_trainer(config: DictConfig, folder: RunFolder, typed: Collection[str] = ()) -> Trainer:
    """Builds a trainer and its parts at optimizer step 0.

    Args:
        config: the resolved settings; those that nobody gave are chosen (`pir.training.sizing`),
            entered here, and said.
        folder: the run folder; it is made before training (`RunFolder.create`).
        typed: settings of the command line, by key.

    Raises:
        UserError: if a setting is out of range, or settings do not fit together.
    """
    check_seed("seed", config.seed)
    torch.manual_seed(config.seed)
    puzzle = build_puzzle(config)
    chosen = sizing.size_model(config, puzzle, typed)
    parts = Components.build(config, puzzle)
    objective = parts.build_objective(config)
    chosen |= sizing.size_training(config, puzzle, parts.reasoner, objective)
    names = [each.name for each in fields(TrainerSettings)]
    settings = TrainerSettings(**{name: config.trainer[name] for name in names})
    choices = config.choices
    trainer = Trainer(
        puzzle,
        parts.reasoner,
        objective,
        parts.build_optimizer(config),
        parts.build_schedule(config),
        settings,
        seed=config.seed,
        folder=folder,
        logger=parts.build_logger(config),
        title=f"{choices.env} · {choices.model} · {choices.objective}",
        record=resolved(config),
    )
    config.trainer.compile = trainer.settings.compile
    for line in sizing.told(trainer, chosen) if chosen else ():
        say(line, error=True)
    return trainer
