"""`pir train`: train a reasoner, or go on with a run."""

import os
import shlex
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

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
from pir.settings import plugins
from pir.settings.catalog import GROUPS
from pir.settings.training import CHANGEABLE
from pir.system.interrupt import stoppable
from pir.system.launch import is_first, launched
from pir.system.load import OtherPrograms, usable_cores
from pir.system.memory import is_out_of_memory
from pir.system.terminal import one_line, program, say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/train.yaml for the settings."""
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    launcher = hydra.runtime.choices.get("hydra/launcher")
    if not sweeping and (launcher != "basic" or hydra.sweeper.params):
        raise UserError("a launcher or a sweep is named: start it with `pir train -m ...`")
    if config.resume is not None and sweeping:
        raise UserError("resume= goes on with one run; it cannot be swept with -m")
    if not launched():
        _run_one(config, hydra, sweeping)
        return
    if sweeping:
        raise UserError("-m starts a run for every combination, and torchrun is for a single one")
    from pir.system.processes import joined

    with joined():
        _run_one(config, hydra, sweeping)


def _run_one(config: DictConfig, hydra: HydraConf, sweeping: bool) -> None:
    """Trains one run, alone or with the processes that torchrun started: the first writes it."""
    resuming, restarted, same = config.resume is not None, _begun(), False
    if resuming:
        folder = find_run(config.resume)
        before = folder.read_config()
        config = _with_changes(folder, config, hydra.overrides.task)
        same = config == before
        place = folder.claim()
    elif restarted is not None:
        resuming, folder = True, RunFolder(restarted)
        config, place = folder.read_config(), folder.claim()
    else:
        if config.run is None:
            raise UserError("run=null: name a folder, or leave run= out")
        with open_dict(config):
            config.choices = {group: hydra.runtime.choices.get(group) for group in GROUPS.values()}
        path = Path(hydra.runtime.output_dir if sweeping else config.run)
        named = any(_key(override) == "run" for override in hydra.overrides.task)
        place = new_run(path, numbered=not (named or sweeping), made_for_it=sweeping)
    with place if is_first() else nullcontext(RunFolder("")) as made:
        folder = _agreed(made)
        try:
            with stoppable():
                if not (same and say_finished(folder, config)):
                    _train(config, folder, resuming, map(_key, hydra.overrides.task))
        except KeyboardInterrupt:
            refuse_lost(folder.config)  # a run that is there now is another
            if is_first() and folder.config.exists():
                say(f"interrupted; go on with: {_resuming(folder)}", error=True)
            raise
        except Exception as error:
            at = plugins.raised_in(error)
            if at is None or isinstance(error, UserError | OSError) or is_out_of_memory(error):
                raise
            traceback.print_exc()
            what = one_line(f"{type(error).__name__}: {error}")
            later = f"; mend it, then go on with: {_resuming(folder)}"
            raise UserError(
                f"{at.function} of a plug-in fails: {what} ({at.line})"
                f"{later if folder.last.exists() else ''}"
            ) from error


def _resuming(folder: RunFolder) -> str:
    """Returns the command that goes on with a run."""
    return f"{program()} train resume={shlex.quote(str(folder.path))}{plugins.option()}"


RUN = "run"
"""Names the folder of the run among what outlives a restart by torchrun."""


def _begun() -> str | None:
    """Returns the folder of the run that this command began before torchrun started it again."""
    if not launched():
        return None
    from pir.system.processes import kept, told

    path = kept(RUN) if is_first() else None
    return told(path if path and RunFolder(path).config.is_file() else "") or None


def _agreed(folder: RunFolder) -> RunFolder:
    """Tells all processes the folder that the first one has."""
    if not launched():
        return folder
    from pir.system.processes import kept, told

    folder = RunFolder(told(str(folder.path)))
    if is_first():
        kept(RUN, str(folder.path.absolute()))
    return folder


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
        if config.init is not None and not find_run(config.init).path.is_dir():
            raise UserError(f"init={config.init}: there is no such folder")
        make_absolute(config)
        files = record(config)

    from pir.system.view import View

    with View("pir train") if is_first() else nullcontext(), naming_config_dir(folder):
        from pir.system.device import choose_device
        from pir.training.build import build_trainer

        if choose_device(config.device).type == "cpu":  # before steps are timed
            _take_threads(config, folder.read_info() if resuming else {}, others)
        trainer = build_trainer(config, folder, None if resuming else [*typed])
    if not (resuming and trainer.resume()):
        if resuming:
            _tell("there is no checkpoint yet: the run starts anew")
        if config.init is not None:
            _tell(trainer.warm_start(find_run(config.init)))
        elif trainer.reasoner.needs_init:
            raise UserError("this model has parts that are never trained: set init=RUN")
    if is_first():
        _write_settings(config, folder, files, trainer.began_with, resuming)
    _tell(f"run folder {folder.path}{' (resumed)' if resuming else ''}")
    if not trainer.train():
        raise KeyboardInterrupt
    if not is_first():
        return
    try:
        finish(folder, trainer)
    except KeyboardInterrupt:
        say("the run has ended and is saved; its test was interrupted", error=True)
        raise


def _take_threads(config: DictConfig, before: Mapping[str, Any], others: OtherPrograms) -> None:
    """Sets how many threads compute where the user does not say: as many as others leave free.

    A run that goes on takes as many as `before`, its info.json, says: rounding depends on it.
    """
    import torch

    threads = config.trainer.threads or torch.get_num_threads()
    chosen = config.trainer.threads is not None or "OMP_NUM_THREADS" in os.environ or launched()
    known = None if chosen else before.get("threads")
    if isinstance(known, int) and 1 <= known <= usable_cores():
        threads = known
    left, told = others.room(threads, chosen or threads == known)
    if not chosen:
        torch.set_num_threads(left)
    _tell(told)


def _tell(text: str | None) -> None:
    """Writes a message, if there is one, once for all processes."""
    if text and is_first():
        say(text, error=True)


def _write_settings(
    config: DictConfig, folder: RunFolder, files: Inputs, began_with: Path | None, resuming: bool
) -> None:
    """Writes the settings of a run that begins or goes on."""
    if resuming:
        if began_with is not None:
            refuse_changed_init(began_with, folder)
        folder.write_config(config)
    else:
        if began_with is not None:
            files[INIT] = entry(began_with)
        folder.create(config, sys.orig_argv, files)


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
            _tell(f"changed on resume: {key} {before} -> {after}")
            OmegaConf.update(stored, key, after, merge=False)
        if key == "logger":
            stored.choices.logger = HydraConfig.get().runtime.choices["logger"]
    return stored


def _key(override: str) -> str:
    """Returns the setting that a word of the command line changes."""
    return override.split("=", 1)[0].lstrip("+~")
