"""From the settings of `pir train` to a trainer."""

from dataclasses import fields

import torch
from omegaconf import DictConfig

from pir.checks import check_seed
from pir.components import Components
from pir.runs.folder import RunFolder, resolved
from pir.settings.training import TrainerSettings
from pir.training.compiled import chosen_mode
from pir.training.trainer import Trainer


def build_trainer(config: DictConfig, folder: RunFolder) -> Trainer:
    """Builds a trainer and its parts at optimizer step 0.

    Args:
        config: the resolved settings.
        folder: the run folder; it is made before training (`RunFolder.create`).

    Raises:
        UserError: if a setting is out of range, or settings do not fit together.
    """
    names = [each.name for each in fields(TrainerSettings)]
    settings = TrainerSettings(**{name: config.trainer[name] for name in names})
    check_seed("seed", config.seed)
    torch.manual_seed(config.seed)
    parts = Components.build(config)
    device = next(parts.reasoner.parameters()).device
    question = torch.zeros(1, parts.puzzle.length, dtype=torch.uint8, device=device)
    settings.compile = chosen_mode(settings, parts.reasoner, question)
    config.trainer.compile = settings.compile
    choices = config.choices
    return Trainer(
        parts.puzzle,
        parts.reasoner,
        parts.build_objective(config),
        parts.build_optimizer(config),
        parts.build_schedule(config),
        settings,
        seed=config.seed,
        folder=folder,
        logger=parts.build_logger(config),
        title=f"{choices.env} · {choices.model} · {choices.objective}",
        record=resolved(config),
    )
