"""`pir train`: train a reasoner, or go on with a run."""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pir.checks import check_choice
from pir.cli.commands.train_end import finish, say_finished
from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.folder_lock import refuse_lost
from pir.runs.inputs import (
    INIT,
    Inputs,
    entry,
    make_absolute,
    naming_config_dir,
    of_run,
    record,
    refuse_changed,
    refuse_changed_init,
)
from pir.runs.lock import new_run
from pir.runs.names import find_run
from pir.settings.catalog import GROUPS, choices
from pir.settings.training import CHANGEABLE
from pir.system.interrupt import stoppable
from pir.system.load import OtherPrograms
from pir.system.terminal import program, say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/train.yaml for the settings."""
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    recipe = hydra.runtime.choices.get("recipe")
    if any(override.startswith("recipe=") for override in hydra.overrides.task):
        known = [row["name"] for row in choices("recipe")]
        check_choice("recipe", str(recipe), known)
    resuming, same = config.resume is not None, False
    if resuming and sweeping:
        raise UserError("resume= goes on with one run; it cannot be swept with -m")
    if resuming:
        folder = RunFolder(config.resume)
        before = folder.read_config()
        config = _with_changes(folder, config, hydra.overrides.task)
        same = config == before
        place = folder.claim()
    else:
        if config.run is None:
            raise UserError("run=null: name a folder, or leave run= out")
        with open_dict(config):
            config.choices = {group: hydra.runtime.choices.get(group) for group in GROUPS.values()}
        path = Path(hydra.runtime.output_dir if sweeping else config.run)
        named = any(_key(override) == "run" for override in hydra.overrides.task)
        place = new_run(path, numbered=not (named or sweeping), made_for_it=sweeping)
    with place as folder:
        try:
            with stoppable():
                if not (same and say_finished(folder, config)):
                    _train(config, folder, resuming, map(_key, hydra.overrides.task))
        except KeyboardInterrupt:
            refuse_lost(folder.config)  # a run that is there now is another
            if folder.config.exists():
                command = f"{program()} train resume={shlex.quote(str(folder.path))}"
                say(f"interrupted; go on with: {command}", error=True)
            raise


def _train(
    config: DictConfig, folder: RunFolder, resuming: bool, typed: Iterable[str] = ()
) -> None:
    """Trains in a folder that nobody else trains in, and tests what came out.

    Args:
        config: the settings; those that nobody gave are chosen and entered.
        folder: of the run.
        resuming: whether the run was there before.
        typed: settings of the command line, by key.
    """
    others = OtherPrograms()
    files: Inputs = {}
    if resuming:
        refuse_changed(config, folder)
    else:
        make_absolute(config)
        files = record(config)

    import torch

    from pir.system.view import View

    with View("pir train"), naming_config_dir(folder):
        from pir.training.build import build_trainer

        trainer = build_trainer(config, folder, [*typed])
    busy = others.warning(torch.get_num_threads())
    if busy and trainer.device.type == "cpu":
        say(busy, error=True)
    if not (resuming and trainer.resume()):
        if resuming:
            say("there is no checkpoint yet: the run starts anew", error=True)
        if config.init is not None:
            say(trainer.warm_start(find_run(config.init)), error=True)
        elif trainer.reasoner.needs_init:
            raise UserError("this model has parts that are never trained: set init=RUN")
    if resuming:
        if trainer.began_with is not None:
            refuse_changed_init(trainer.began_with, folder)
        folder.write_config(config)
    else:
        if trainer.began_with is not None:
            files[INIT] = entry(trainer.began_with)
        folder.create(config, sys.orig_argv, files)
    say(f"run folder {folder.path}{' (resumed)' if resuming else ''}", error=True)
    if config.trainer.compile != "none":
        say("the network is compiled first: half a minute, less the next time", error=True)
    if not trainer.train():
        raise KeyboardInterrupt
    try:
        finish(folder, trainer)
    except KeyboardInterrupt:
        say("the run has ended and is saved; its test was interrupted", error=True)
        raise


def _with_changes(folder: RunFolder, composed: DictConfig, overrides: list[str]) -> DictConfig:
    """Returns a run's config with the settings that the command line changes.

    Raises:
        UserError: if one of them is not among `CHANGEABLE`, and no file that lies elsewhere now.
    """
    stored, files = folder.read_config(), of_run(folder).keys() - {INIT}
    for override in overrides:
        key = _key(override)
        if key == "resume":
            continue
        if key not in CHANGEABLE and key not in files and not key.startswith("logger."):
            raise UserError(
                f"{key} cannot change when a run is resumed; start a new run for that "
                f"(allowed: {', '.join([*CHANGEABLE, *sorted(files)])})"
            )
        before, after = OmegaConf.select(stored, key), OmegaConf.select(composed, key)
        if key in files and isinstance(after, str):
            after = os.path.abspath(after)
        if before != after:
            say(f"changed on resume: {key} {before} -> {after}", error=True)
            OmegaConf.update(stored, key, after, merge=False)
    return stored


def _key(override: str) -> str:
    """Returns the setting that a word of the command line changes."""
    return override.split("=", 1)[0].lstrip("+~")
