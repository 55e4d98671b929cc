"""From the settings of `pir train` to a trainer."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from pir.checks import check_seed
from pir.components import Components, build_puzzle
from pir.errors import UserError
from pir.laws.training import refuse_unfit
from pir.objective import Objective, Term, Weighted
from pir.runs.folder import RunFolder, resolved
from pir.runs.loggers import Logger
from pir.schedules import LaneSchedule
from pir.settings import plugins
from pir.settings.build import build
from pir.settings.catalog import load_choice
from pir.settings.training import TrainerSettings
from pir.system import processes
from pir.system.terminal import say
from pir.training import sizing
from pir.training.trainer import Trainer


def build_trainer(
    config: DictConfig, folder: RunFolder, typed: Collection[str] | None = ()
) -> Trainer:
    """Builds a trainer and its parts at optimizer step 0.

    Args:
        config: the resolved settings; those that nobody gave are chosen (`pir.training.sizing`),
            entered here, and said.
        folder: the run folder; it is made before training (`RunFolder.create`).
        typed: settings of the command line, by key; None for a run that goes on: its model stays.

    Raises:
        UserError: if a setting is out of range, or settings do not fit together.
    """
    check_seed("seed", config.seed)
    torch.manual_seed(config.seed)
    puzzle = build_puzzle(config)
    refuse_unfit(puzzle, f"{config.choices.env}{plugins.option()}")
    chosen = {} if typed is None else sizing.size_model(config, puzzle, typed)
    parts = Components.build(config, puzzle)
    objective = build_objective(config.objective)
    chosen |= sizing.size_training(config, puzzle, parts.reasoner, objective)
    field_names = [each.name for each in fields(TrainerSettings)]
    settings = TrainerSettings(**{name: config.trainer[name] for name in field_names})
    choices, named = config.choices, parts.reasoner.trained_parameters()
    title = f"{choices.env} · {choices.model} · {choices.objective}"
    trainer = Trainer(
        puzzle,
        parts.reasoner,
        objective,
        build(config.optim, "optim", torch.optim.Optimizer, params=named),
        build_schedule(config, parts),
        settings,
        seed=config.seed,
        folder=folder,
        logger=build(config.logger, "logger", Logger),  # type: ignore[type-abstract]
        title=title if processes.rank() == 0 else None,
    )
    trainer.record = resolved(config)  # in place of what a trainer says of its parts
    config.trainer.compile = trainer.settings.compile
    if processes.rank() == 0 and trainer.settings.compile != "none":
        say("the network is compiled first: half a minute, less the next time", error=True)
    if processes.rank() == 0:
        lines = sizing.told(trainer, chosen) if chosen else sizing.doubts(trainer) if typed else []
        for line in lines:
            say(line, error=True)
    return trainer


def build_schedule(config: DictConfig, parts: Components) -> LaneSchedule:
    """Builds the lane schedule that `trainer.lanes` names or describes.

    Raises:
        UserError: if there is no such schedule, or an argument does not fit.
    """
    chosen: Any = config.trainer.lanes
    if isinstance(chosen, str):
        chosen = load_choice("lanes", chosen, setting="trainer.lanes")
    extra = {"num_steps": parts.reasoner.improvement_steps, "device": parts.device}
    return build(chosen, "trainer.lanes", LaneSchedule, **extra)  # type: ignore[type-abstract]


def build_objective(node: DictConfig) -> Objective:
    """Builds an objective from `objective` of the settings.

    Raises:
        UserError: if a class or an argument does not fit.
    """
    settings: Any = OmegaConf.to_container(node, resolve=True)
    terms = settings.pop("terms", None) if isinstance(settings, dict) else None
    if not isinstance(terms, dict):
        raise UserError("objective.terms: terms by name are needed, each with a _target_")
    weighted = {name: _weighted(term, f"objective.terms.{name}") for name, term in terms.items()}
    return build(settings, "objective", Objective, terms=weighted)


def _weighted(settings: Any, path: str) -> Weighted:
    """Builds a term, and the part of its settings that is the sum's."""
    own = {each.name for each in fields(Weighted)} - {"term"}
    settings = settings if isinstance(settings, dict) else {}
    place = {name: value for name, value in settings.items() if name in own}
    rest = {name: value for name, value in settings.items() if name not in own}
    term = build(rest, path, Term)  # type: ignore[type-abstract]
    return build({"_target_": "pir.objectives.Weighted"} | place, path, Weighted, term=term)
