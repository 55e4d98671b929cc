"""`pir train`: train a reasoner, or go on with a run."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pir.checks import check_choice
from pir.errors import UserError
from pir.runs.folder import RunFolder, write_json
from pir.runs.folder_lock import refuse_lost
from pir.runs.inputs import (
    INIT,
    Inputs,
    entry,
    make_absolute,
    of_run,
    record,
    refuse_changed,
    refuse_changed_init,
)
from pir.runs.lock import new_run
from pir.settings.catalog import GROUPS, choices
from pir.settings.training import CHANGEABLE
from pir.system.interrupt import stoppable
from pir.system.load import OtherPrograms
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/train.yaml for the settings."""
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    recipe = hydra.runtime.choices.get("recipe")
    if any(override.startswith("recipe=") for override in hydra.overrides.task):
        known = [row["name"] for row in choices("recipe")]
        check_choice("recipe", str(recipe), known)
    resuming = config.resume is not None
    if resuming and sweeping:
        raise UserError("resume= goes on with one run; it cannot be swept with -m")
    if resuming:
        folder = RunFolder(config.resume)
        config = _with_changes(folder, config, hydra.overrides.task)
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
                _train(config, folder, resuming, [_key(word) for word in hydra.overrides.task])
        except KeyboardInterrupt:
            refuse_lost(folder.config)  # a run that is there now is another
            if folder.config.exists():
                command = f"pir train resume={shlex.quote(str(folder.path))}"
                say(f"interrupted; go on with: {command}", error=True)
            raise


def _train(config: DictConfig, folder: RunFolder, resuming: bool, typed: list[str]) -> None:
    """Trains in a folder that nobody else trains in, and tests what came out.

    Args:
        config: the settings; those that nobody gave are chosen and entered.
        folder: the run folder.
        resuming: whether a run goes on.
        typed: settings of the command line, by key.
    """
    others = OtherPrograms()
    note = " (resumed)" if resuming else ""
    say(f"run folder {folder.path}{note}", error=True)
    files: Inputs = {}
    if resuming:
        refuse_changed(config, folder)
    else:
        make_absolute(config)
        files = record(config)

    import torch

    from pir.training.build import build_trainer

    trainer = build_trainer(config, folder, typed)
    busy = others.warning(torch.get_num_threads())
    if busy and trainer.device.type == "cpu":
        say(busy, error=True)
    if not (resuming and trainer.resume()):
        if resuming:
            say("there is no checkpoint yet: the run starts anew", error=True)
        if config.init is not None:
            say(trainer.warm_start(RunFolder(config.init)), error=True)
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
    if config.trainer.compile != "none":
        say(
            "the network is compiled first: half a minute, less the next time",
            error=True,
        )
    if not trainer.train():
        raise KeyboardInterrupt
    try:
        _finish(folder, trainer.totals())
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


def _finish(folder: RunFolder, progress: dict[str, Any]) -> None:
    """Evaluates the best averaged weights on the test split and writes the summary."""
    import torch

    from pir.analysis.figures.kinds import save_kind
    from pir.cli.commands.eval import improvement_table
    from pir.components import best_checkpoint
    from pir.evaluation.batch_size import named_when_short
    from pir.evaluation.plan import Plan
    from pir.evaluation.run import evaluate_run
    from pir.runs.records import Summary
    from pir.runs.typed import to_json

    config = folder.read_config()
    wanted = config.trainer.eval_batch_size
    plan = Plan(split="test", puzzles=config.trainer.test_puzzles, batch_size=wanted)
    with named_when_short("trainer.eval_batch_size", wanted):
        result = evaluate_run(folder, config.device, plan)
    tested, _ = best_checkpoint(folder, torch.device("cpu"))
    trained = result.per_step[result.trained_steps - 1]
    low, high = trained["solved_low"], trained["solved_high"]
    summary = Summary(
        env=config.choices.env,
        model=config.choices.model,
        objective=config.choices.objective,
        seed=config.seed,
        parameters=result.parameters,
        improvement_steps=result.trained_steps,
        forward_passes=trained["forward_passes"],
        **progress,
        checkpoint=result.checkpoint,
        validation_solved=tested["progress"]["best_solved"],
        test_puzzles=result.puzzles,
        solved=trained["solved"],
        solved_interval=(low, high),
        exact_accuracy=trained["exact_accuracy"],
        cell_accuracy=trained["cell_accuracy"],
        score=trained["score"],
        dead_fraction=result.dead_fraction,
        live_depth=result.live_depth,
        sampled_solved=result.sampled_solved,
        coverage=result.coverage,
    )
    write_json(folder.summary, to_json(summary))
    save_kind("improvement", [folder.path], folder.figures / "improvement.png")
    say(improvement_table(result))
    say(
        f"solved {summary.solved:.1%} of {summary.test_puzzles} held-out puzzles "
        f"(95 % interval {low:.1%} to {high:.1%}) after {summary.improvement_steps} "
        f"improvement steps, {summary.forward_passes} forward passes"
    )
    quoted = shlex.quote(str(Path(folder.path)))
    say(f"figure {folder.figures / 'improvement.png'}; next: pir eval run={quoted}")
