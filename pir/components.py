"""From settings to a puzzle and a reasoner for it."""

from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.settings.build import build
from pir.system.device import choose_device


@dataclass
class Components:
    """A puzzle and a reasoner for it, on a device."""

    puzzle: Puzzle
    reasoner: Reasoner
    device: torch.device

    @classmethod
    def build(cls, config: DictConfig, puzzle: Puzzle) -> "Components":
        """Builds a fresh reasoner for a puzzle (`build_puzzle`)."""
        device = choose_device(config.device)
        reasoner = build(config.model, "model", Reasoner, puzzle=puzzle)  # type: ignore[type-abstract]
        return cls(puzzle, reasoner.to(device), device)


def build_puzzle(config: DictConfig) -> Puzzle:
    """Builds the puzzle."""
    return build(config.env, "env", Puzzle)  # type: ignore[type-abstract]
