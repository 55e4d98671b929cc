"""`pir train`: train a reasoner, or go on with a run."""

import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pir.errors import UserError
from pir.run_folder import RunFolder, write_json

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

RESUMABLE = ("trainer", "logger", "device")
FIXED_ON_RESUME = ("trainer.lanes", "trainer.batch_size")


def run(config: DictConfig) -> None:
    """Runs the command; see configs/train.yaml for the settings."""
    folder, config, resumed = _open(config)
    print(f"run folder {folder.path}{' (resumed)' if resumed else ''}", file=sys.stderr, flush=True)

    from pir.train import Trainer

    trainer = Trainer(config, folder)
    if resumed:
        trainer.resume()
    if not trainer.train():
        command = f"pir train resume={shlex.quote(str(folder.path))}"
        print(f"interrupted and saved; go on with: {command}", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    _finish(folder, trainer.progress())


def _open(config: DictConfig) -> tuple[RunFolder, DictConfig, bool]:
    """Creates a new run folder or opens the one to resume; returns it with the run's config."""
    hydra = HydraConfig.get()
    if config.resume is not None:
        if hydra.mode == RunMode.MULTIRUN:
            raise UserError("resume= goes on with one run; it cannot be swept with -m")
        return _reopen(config, hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        config.run = hydra.runtime.output_dir
    with open_dict(config):
        groups = ("env", "model", "objective", "optim", "trainer", "logger", "experiment")
        config.choices = {group: hydra.runtime.choices.get(group) for group in groups}
    folder = RunFolder(config.run)
    folder.create(config, ["pir", "train", *hydra.overrides.task])
    return folder, config, False


def _reopen(config: DictConfig, overrides: list[str]) -> tuple[RunFolder, DictConfig, bool]:
    """Opens an existing run; only budgets and the like may differ from before."""
    folder = RunFolder(config.resume)
    stored = folder.read_config()
    changes: dict[str, Any] = {}
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if key == "resume":
            continue
        if key.split(".")[0] not in RESUMABLE or key in FIXED_ON_RESUME:
            raise UserError(
                f"{key} cannot change when a run is resumed (allowed: trainer.* except "
                "lanes and batch_size, logger, device); start a new run for that"
            )
        changes[key] = OmegaConf.select(config, key)
    for key, value in changes.items():
        before = OmegaConf.select(stored, key)
        if before != value:
            print(f"changed on resume: {key} {before} -> {value}", file=sys.stderr)
            OmegaConf.update(stored, key, value, merge=False)
    folder.write_config(stored)
    return folder, stored, True


def _finish(folder: RunFolder, progress: dict[str, Any]) -> None:
    """Evaluates the best averaged weights on the test split and writes the summary."""
    from pir.analysis.curves import draw_improvement
    from pir.commands.eval import evaluate_run, improvement_table

    config = folder.read_config()
    result = evaluate_run(
        folder, config.device, split="test", puzzles=config.trainer.test_puzzles, batch_size=1000
    )
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
    }
    write_json(folder.summary, summary)
    draw_improvement([folder.path], folder.figures / "improvement.png")
    low, high = summary["solved_interval"]
    print(improvement_table(result))
    print(
        f"solved {summary['solved']:.1%} of {summary['test_puzzles']} held-out puzzles "
        f"(95 % interval {low:.1%} to {high:.1%}) after {summary['improvement_steps']} "
        f"improvement steps, {summary['forward_passes']} forward passes"
    )
    quoted = shlex.quote(str(Path(folder.path)))
    print(f"figure {folder.figures / 'improvement.png'}; next: pir eval run={quoted}")
