"""Runs that are begun, gone on with, and compared to the bit; a trainer from Python."""

import csv
from functools import partial
from pathlib import Path

import torch
from pir.envs.sudoku.rules import Sudoku

import pir
from pir.models.trm import TRM
from pir.objectives import DeepSupervision
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.training.build import build_trainer
from pir.training.resume import resume
from pir.training.trainer import Trainer
from tests.conftest import compose_config

ROW_FILES = (
    "metrics.csv",
    "improvement.csv",
    "improvement_outcomes.csv",
    "improvement_train.csv",
    "improvement_train_outcomes.csv",
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads a CSV file; a missing file has no rows."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def start(folder: Path, *overrides: str) -> Trainer:
    config = compose_config(*overrides)
    run = RunFolder(folder)
    run.create(config, ["pir", "train"])
    return build_trainer(config, run)


def go_on(folder: Path, *overrides: str) -> Trainer:
    trainer = build_trainer(compose_config(*overrides), RunFolder(folder))
    resume(trainer)
    return trainer


def assert_equal(a, b, where: str) -> None:
    """Compares nested containers of tensors to the bit."""
    if isinstance(a, torch.Tensor):
        undefined = a.is_floating_point() and bool(a.isnan().any())  # nan is not equal to itself
        assert torch.equal(a.nan_to_num(7), b.nan_to_num(7)) if undefined else torch.equal(a, b), (
            where
        )
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


def assert_same_run(one: Path, other: Path) -> None:
    for file in ("last", "best"):
        a, b = (
            checkpoint.load(getattr(RunFolder(path), file), torch.device("cpu"))
            for path in (one, other)
        )
        for state in (a, b):
            del (
                state["watch"],
                state["progress"]["ledger_seconds"],
                state["config"],
                state["checksum"],
                state["run"],
            )
        assert_equal(a, b, file)
    for name in ROW_FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def trainer_of(folder=None, steps=6, objective=None, clues=(8, 12), reasoner=None, **options):
    torch.manual_seed(0)
    puzzle = Sudoku(box=(2, 2), clues=clues)
    make = partial(TRM, hidden_size=16, heads=2, improvement_steps=2)
    reasoner = (reasoner or make)(puzzle)
    settings = pir.TrainerSettings(
        batch_size=8,
        max_optimizer_steps=steps,
        log_every=2,
        eval_every=2,
        val_puzzles=10,
    )
    objective = objective or pir.Objective({"supervision": DeepSupervision()})
    return pir.Trainer(puzzle, reasoner, objective, settings=settings, folder=folder, **options)
