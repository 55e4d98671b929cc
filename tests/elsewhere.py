"""Runs and evaluations on the second device, for the tests of devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pir.configs
import torch
from omegaconf import OmegaConf

from pir.components import Components, build_puzzle
from pir.evaluation.plan import Plan
from pir.evaluation.rollouts import held_out
from pir.evaluation.run import evaluate_puzzles
from pir.exits.build import build_rule
from pir.laws.second_device import SECOND, SecondDevice
from pir.runs.folder import RunFolder
from pir.runs.typed import to_json
from pir.training.build import build_trainer
from pir.training.resume import resume
from pir.training.trainer import Trainer
from tests.conftest import compose_config

CONFIGS = Path(pir.configs.__file__).parent


def names(group: str) -> list[str]:
    """Returns the names of a group of settings."""
    found = (path.stem for path in (CONFIGS / group).glob("*.yaml"))
    return sorted(name for name in found if not name.startswith("_"))


FAMILIES = {
    "trm": [],
    "hrm": [],
    "looped": [],
    "recurrent_depth": [],
    "deep_thinking": [],
    "dual": [],
    "soft_embedding": [],
    "feedforward": [],
    "dual_lm": [
        "optim=adamw",
        "model.backbone.name=null",
        "+model.backbone.config={model_type: gpt2, n_layer: 1, n_embd: 16, n_head: 2}",
    ],
}
"""The reasoner families, with what makes each tiny."""


TELLING = ("cfg", "input_curriculum")
"""Objectives that take no puzzles back, see `Trainer._refuse_told`."""


@contextmanager
def second_device() -> Iterator[None]:
    """`SecondDevice`, to which checkpoints can be loaded."""
    load = torch.load

    def load_to(file: Any, map_location: Any = None, **options: Any) -> Any:
        content = load(file, map_location="cpu", **options)
        if map_location == SECOND:
            _move(content)
        return content

    with SecondDevice(), patch("torch.load", load_to):
        yield


def _move(content: Any) -> None:
    """Moves nested tensors in place, as `map_location` does."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, torch.Tensor):
            content[key] = value.to(SECOND)
        elif isinstance(value, dict | list):
            _move(value)


def train_and_resume(folder: Path, device: str, *overrides: str, steps: int = 3) -> Trainer:
    """Trains, resumes and trains as far again."""
    for budget in (steps, 2 * steps):
        config = compose_config(
            *overrides,
            f"device={device}",
            "trainer.eval_every=2",
            f"trainer.max_optimizer_steps={budget}",
        )
        run = RunFolder(folder)
        trainer = build_trainer(config, run)
        if budget == steps:
            run.create(config, ["pir", "train"])
        else:
            resume(trainer)
        assert trainer.train()
    assert trainer.progress.optimizer_step == 2 * steps
    return trainer


def evaluate_fresh(
    folder: Path, device: str, *overrides: str, exits: bool = True
) -> dict[str, Any]:
    """Evaluates a fresh model in every way, exit rules on demand; returns what eval.json says."""
    config = compose_config(*overrides, "model.dtype=float32", f"device={device}")
    torch.manual_seed(0)
    parts = Components.build(config, build_puzzle(config))
    parts.reasoner.eval()
    rules = {
        name: build_rule(OmegaConf.load(CONFIGS / "exit" / f"{name}.yaml"), "exit")
        for name in names("exit")
        if exits
    }
    plan = Plan(
        split="test",
        puzzles=20,
        batch_size=8,
        samples=4,
        guidance=[0.5, 2.0],
        step_size=[0.5],
        damping_after=1,
        breadth=2,
        step_noise=0.01,
        exits=rules,
        leave_out_exits=True,
    )
    run = RunFolder(folder)
    run.create(config, ["pir", "eval"])
    sample = held_out(parts.puzzle, plan.split, plan.puzzles, parts.device)
    facts = evaluate_puzzles(parts, plan, run, sample, {"env": "made", "split": "test"})
    return to_json(facts)
