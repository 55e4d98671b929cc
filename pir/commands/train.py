"""`pir train`: train a reasoner, or go on with a run."""

import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pir.catalog import GROUPS, choices
from pir.config import check_choice
from pir.errors import UserError
from pir.run_folder import RunFolder, write_json
from pir.terminal import say
from pir.trainer_settings import CHANGEABLE


def run(config: DictConfig) -> None:
    """Runs the command; see configs/train.yaml for the settings."""
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    resuming = config.resume is not None
    recipe = hydra.runtime.choices.get("recipe")
    if any(override.startswith("recipe=") for override in hydra.overrides.task):
        known = [row["name"] for row in choices("recipe", hydra.runtime.config_sources)]
        check_choice("recipe", str(recipe), known)
    if resuming and sweeping:
        raise UserError("resume= goes on with one run; it cannot be swept with -m")
    if resuming:
        folder = RunFolder(config.resume)
        config = _with_changes(folder.read_config(), config, hydra.overrides.task)
    else:
        folder = RunFolder(hydra.runtime.output_dir if sweeping else config.run)
        folder.refuse_existing()
        with open_dict(config):
            config.choices = {group: hydra.runtime.choices.get(group) for group in GROUPS.values()}
    say(f"run folder {folder.path}{' (resumed)' if resuming else ''}", error=True)
    try:
        with folder.claim():
            from pir.train import Trainer

            trainer = Trainer(config, folder)
            if resuming:
                trainer.resume()
                folder.write_config(config)
            else:
                if config.init is not None:
                    say(trainer.warm_start(RunFolder(config.init)), error=True)
                elif trainer.reasoner.needs_init:
                    raise UserError("this model has parts that are never trained: set init=RUN")
                folder.create(config, sys.orig_argv)
            if not trainer.train():
                raise KeyboardInterrupt
            _finish(folder, trainer.progress())
    except KeyboardInterrupt:
        if folder.config.exists():
            command = f"pir train resume={shlex.quote(str(folder.path))}"
            say(f"interrupted; go on with: {command}", error=True)
        raise


def _with_changes(stored: DictConfig, composed: DictConfig, overrides: list[str]) -> DictConfig:
    """Returns a stored config with the settings that the command line changes.

    Raises:
        UserError: if one of them is not among `CHANGEABLE`.
    """
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if key == "resume":
            continue
        if key not in CHANGEABLE and not key.startswith("logger."):
            raise UserError(
                f"{key} cannot change when a run is resumed; start a new run for that "
                f"(allowed: {', '.join(CHANGEABLE)})"
            )
        before, after = OmegaConf.select(stored, key), OmegaConf.select(composed, key)
        if before != after:
            say(f"changed on resume: {key} {before} -> {after}", error=True)
            OmegaConf.update(stored, key, after, merge=False)
    return stored


def _finish(folder: RunFolder, progress: dict[str, Any]) -> None:
    """Evaluates the best averaged weights on the test split and writes the summary."""
    from pir.analysis.figures import save_kind
    from pir.commands.eval import improvement_table
    from pir.evaluation.run import Plan, evaluate_run

    config = folder.read_config()
    plan = Plan(split="test", puzzles=config.trainer.test_puzzles, batch_size=1000)
    result = evaluate_run(folder, config.device, plan)
    trained = result["per_step"][result["trained_steps"] - 1]
    summary = {
        "env": config.choices.env,
        "model": config.choices.model,
        "objective": config.choices.objective,
        "seed": config.seed,
        "parameters": result["parameters"],
        "improvement_steps": result["trained_steps"],
        "forward_passes": trained["forward_passes"],
        **progress,
        "test_puzzles": result["puzzles"],
        "solved": trained["solved"],
        "solved_interval": [trained["solved_low"], trained["solved_high"]],
        "exact_accuracy": trained["exact_accuracy"],
        "cell_accuracy": trained["cell_accuracy"],
        "score": trained["score"],
        "dead_fraction": result["dead_fraction"],
        "live_depth": result["live_depth"],
    }
    summary |= {key: result[key] for key in ("sampled_solved", "coverage") if key in result}
    write_json(folder.summary, summary)
    save_kind("improvement", [folder.path], folder.figures / "improvement.png")
    low, high = summary["solved_interval"]
    say(improvement_table(result))
    say(
        f"solved {summary['solved']:.1%} of {summary['test_puzzles']} held-out puzzles "
        f"(95 % interval {low:.1%} to {high:.1%}) after {summary['improvement_steps']} "
        f"improvement steps, {summary['forward_passes']} forward passes"
    )
    quoted = shlex.quote(str(Path(folder.path)))
    say(f"figure {folder.figures / 'improvement.png'}; next: pir eval run={quoted}")
