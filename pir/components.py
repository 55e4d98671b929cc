"""From settings to objects: puzzle, reasoner, objective, optimizer, logger."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from pir.checks import suggest
from pir.errors import UserError
from pir.exits.rules import ExitRule
from pir.ledger.statistics import STATISTICS
from pir.objective import Objective, Term, Weighted
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.runs.inputs import refuse_changed
from pir.runs.loggers import Logger
from pir.schedules import LaneSchedule
from pir.settings.build import build
from pir.settings.catalog import load_choice
from pir.system.device import choose_device, prepare_cpu
from pir.system.terminal import say


@dataclass
class Components:
    """A puzzle and a reasoner for it, on a device."""

    puzzle: Puzzle
    reasoner: Reasoner
    device: torch.device

    @classmethod
    def build(cls, config: DictConfig, puzzle: Puzzle | None = None) -> "Components":
        """Builds the puzzle, if it is not given, and a fresh reasoner."""
        device = choose_device(config.device)
        puzzle = puzzle or build_puzzle(config)
        reasoner = build(config.model, "model", Reasoner, puzzle=puzzle)  # type: ignore[type-abstract]
        return cls(puzzle, reasoner.to(device), device)

    def build_objective(self, config: DictConfig) -> Objective:
        """Builds the objective, and its terms with their places in the sum."""
        return build_objective(config.objective)

    def build_schedule(self, config: DictConfig) -> LaneSchedule:
        """Builds the lane schedule that `trainer.lanes` names or describes."""
        chosen: Any = config.trainer.lanes
        if isinstance(chosen, str):
            chosen = load_choice("lanes", chosen, setting="trainer.lanes")
        extra = {"num_steps": self.reasoner.improvement_steps, "device": self.device}
        return build(chosen, "trainer.lanes", LaneSchedule, **extra)  # type: ignore[type-abstract]

    def build_optimizer(self, config: DictConfig) -> torch.optim.Optimizer:
        """Builds the optimizer over the reasoner's named parameters, without the frozen ones."""
        named = self.reasoner.trained_parameters()
        return build(config.optim, "optim", torch.optim.Optimizer, params=named)

    def build_logger(self, config: DictConfig) -> Logger:
        """Builds the logger."""
        return build(config.logger, "logger", Logger)  # type: ignore[type-abstract]


def build_puzzle(config: DictConfig) -> Puzzle:
    """Builds the puzzle."""
    return build(config.env, "env", Puzzle)  # type: ignore[type-abstract]


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


def build_rule(node: Any, key: str) -> ExitRule:
    """Builds an exit rule from its settings.

    Raises:
        UserError: if it cannot be built, or needs what a rule cannot have: an unknown statistic,
            one that needs a label, or one that single puzzles do not have.
    """
    rule: ExitRule = build(node, key, ExitRule)  # type: ignore[type-abstract]
    for name in rule.needs:
        found = STATISTICS.get(name)
        if found is None or found.label or found.width > 1:
            known = [n for n, s in STATISTICS.items() if not s.label and s.width == 1]
            raise UserError(f"{key} needs the statistic {name}{suggest(name, known)}")
    return rule


def best_checkpoint(folder: RunFolder, device: torch.device) -> tuple[dict[str, Any], Path]:
    """Reads a run's best checkpoint, or the last if that is gone, which is said; and says which.

    Raises:
        UserError: if there is none, or it is damaged or of another run.
    """
    path = next((p for p in (folder.end, folder.best) if p.is_file()), folder.last)
    saved = checkpoint.load(path, device)
    if not checkpoint.refuse_other_run(folder, saved, path):
        rest = "" if path == folder.last else f", and {folder.last} is missing"
        say(
            f"warning: whether {path} is of this run is not known: {folder.info} does not name "
            f"the run{rest}",
            error=True,
        )
    if path == folder.last:
        say(f"warning: {folder.best} is missing; {path.name} is used", error=True)
    return saved, path


def load_trained(
    folder: RunFolder, device: str, reads_puzzles: bool = True
) -> tuple[Components, DictConfig, Path]:
    """Loads the averaged weights of a run's best checkpoint.

    Args:
        folder: the run folder.
        device: where to compute, as the setting names it.
        reads_puzzles: whether puzzles of the run's own will be read, so that a puzzle file that it
            was made from has to be there, unchanged.

    Returns:
        puzzle and reasoner, the run's config, and the checkpoint that was read.

    Raises:
        UserError: if the folder holds no run, no checkpoint yet, or a damaged one, or the puzzle
            file of the run is another.
    """
    config = folder.read_config()
    if reads_puzzles:
        refuse_changed(config, folder)
    config.device = device
    prepare_cpu(config.trainer.threads)
    parts = Components.build(config)
    saved, path = best_checkpoint(folder, parts.device)
    checkpoint.load_weights(parts.reasoner, checkpoint.averaged_weights(saved), path)
    depth = saved["progress"]["best_depth"]
    if depth > parts.reasoner.improvement_steps:
        raise UserError(f"{path} is damaged: progress.best_depth is {depth}")
    parts.reasoner.improvement_steps = depth
    parts.reasoner.eval()
    torch.manual_seed(0)  # stochastic rollouts answer alike in every process
    return parts, config, path


def take_weights(reasoner: Reasoner, folder: RunFolder, device: torch.device) -> tuple[Path, str]:
    """Gives a reasoner a run's trained weights, as far as names and shapes agree.

    Returns:
        the checkpoint that was read; what was taken and what stays fresh, for the user.

    Raises:
        UserError: if that run cannot be read, has no weight in common, or lacks one that the
            reasoner never trains.
    """
    saved, path = best_checkpoint(folder, device)
    own, theirs = reasoner.state_dict(), checkpoint.averaged_weights(saved)
    common = {n: w for n, w in theirs.items() if n in own and w.shape == own[n].shape}
    if not any(w.ndim > 1 for w in common.values()):  # a bias fits any width
        raise UserError(f"init={folder.path}: no matrix in {path} is one of this model")
    never = {n for n, p in reasoner.named_parameters() if not p.requires_grad}
    if reasoner.needs_init and (lacking := never - common.keys()):
        parts = ", ".join(sorted({n.split(".")[0] for n in lacking}))
        raise UserError(f"init={folder.path}: {path} lacks weights that are not trained: {parts}")
    reasoner.load_state_dict(own | common)
    # every tensor once, also where two networks are the same
    names = [n for n, _ in (*reasoner.named_parameters(), *reasoner.named_buffers()) if n in own]
    taken = f"{sum(n in common for n in names)} of {len(names)} weights from {path}"
    fresh = sorted({n.split(".")[0] for n in names if n not in common})
    return path, taken + (f"; fresh: {', '.join(fresh)}" if fresh else "")
