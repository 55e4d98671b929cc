"""From settings to objects: puzzle, reasoner, objective, optimizer, logger."""

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from pir import checkpoint
from pir.config import build
from pir.device import choose_device, prepare_cpu
from pir.loggers import Logger
from pir.objectives import Objective
from pir.optim import averaged
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.run_folder import RunFolder


@dataclass
class Components:
    """A puzzle and a reasoner for it, on a device."""

    puzzle: Puzzle
    reasoner: Reasoner
    device: torch.device

    @classmethod
    def build(cls, config: DictConfig) -> "Components":
        """Builds the puzzle and a fresh reasoner."""
        device = choose_device(config.device)
        puzzle = build(config.env, "env", Puzzle)  # type: ignore[type-abstract]
        reasoner = build(config.model, "model", Reasoner, puzzle=puzzle)  # type: ignore[type-abstract]
        return cls(puzzle, reasoner.to(device), device)

    def build_objective(self, config: DictConfig) -> Objective:
        """Builds the objective."""
        return build(config.objective, "objective", Objective)  # type: ignore[type-abstract]

    def build_optimizer(self, config: DictConfig) -> torch.optim.Optimizer:
        """Builds the optimizer over the reasoner's named parameters."""
        named = list(self.reasoner.named_parameters())
        return build(config.optim, "optim", torch.optim.Optimizer, params=named)

    def build_logger(self, config: DictConfig) -> Logger:
        """Builds the logger."""
        return build(config.logger, "logger", Logger)  # type: ignore[type-abstract]


def load_trained(folder: RunFolder, device: str) -> tuple[Components, DictConfig, Path]:
    """Loads the averaged weights of a run's best checkpoint.

    Returns:
        puzzle and reasoner, the run's config, and the checkpoint that was read.

    Raises:
        UserError: if the folder holds no run, no checkpoint yet, or a damaged one.
    """
    config = folder.read_config()
    config.device = device
    prepare_cpu(config.trainer.threads)
    parts = Components.build(config)
    path = next((p for p in (folder.end, folder.best) if p.is_file()), folder.last)
    average = averaged(parts.reasoner, config.trainer.ema_decay)
    saved = checkpoint.load(path, parts.device)
    checkpoint.load_weights(average, saved["average"], path)
    parts.reasoner.load_state_dict(average.module.state_dict())
    parts.reasoner.improvement_steps = saved["numbers"]["best_depth"]
    parts.reasoner.eval()
    torch.manual_seed(0)  # stochastic rollouts answer alike in every process
    return parts, config, path
