"""The typed settings of every command.

Values live in configs/*.yaml, each with a comment, but for those of the training loop
(`TrainerSettings`) and those that all reasoners share (`ModelSettings`). The dataclasses here give
the types, so that a mistyped key or value fails before any work is done. What components may be
given, their own signatures say (`pir.settings.build`).
"""

import typing
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pir.settings.model import ModelSettings
from pir.settings.training import TrainerSettings


@dataclass
class TrainerConfig(TrainerSettings):
    """The training loop's own settings, and the choice of a lane schedule.

    Those of `SIZED` have no default here: a recipe or the user gives them, or `pir train` chooses
    them by the puzzle (`pir.training.sizing`), so that config.yaml always has numbers.
    """

    batch_size: int = MISSING
    warmup_steps: int = MISSING
    decay_steps: int = MISSING
    max_optimizer_steps: int | None = MISSING
    val_puzzles: int = MISSING
    test_puzzles: int = MISSING
    lanes: Any = MISSING


@dataclass
class TrainConfig:
    """The settings of `pir train`, as written to config.yaml."""

    env: Any = MISSING
    model: Any = MISSING
    objective: Any = MISSING
    optim: Any = MISSING
    trainer: TrainerConfig = MISSING
    logger: Any = None
    seed: int = MISSING
    device: str = MISSING
    run: str | None = None
    init: str | None = None
    resume: str | None = None
    choices: Any = None


@dataclass
class EvalSettings:
    """See configs/eval.yaml."""

    name: str | None = None
    improvement_steps: int | None = None
    puzzles: int | None = None
    split: str = MISSING
    batch_size: int | None = None
    dtype: str | None = None
    samples: int = MISSING
    guidance: list[float] = MISSING
    step_size: list[float] = MISSING
    damping_after: int | None = None
    breadth: int = MISSING
    noise: float = MISSING
    step_noise: float = MISSING
    exit: Any = None


@dataclass
class EvalConfig:
    """The settings of `pir eval`."""

    run: str | None = None
    runs: str | None = None
    env: Any = MISSING
    eval: EvalSettings = MISSING
    device: str = MISSING
    output: str = MISSING


@dataclass
class SolveConfig:
    """The settings of `pir solve`."""

    run: str = MISSING
    env: Any = MISSING
    puzzle: str | None = None
    puzzles: str | None = None
    improvement_steps: int | None = None
    breadth: int = MISSING
    noise: float = MISSING
    batch_size: int | None = None
    exit: Any = MISSING
    device: str = MISSING
    output: str = MISSING


@dataclass
class PlotConfig:
    """The settings of `pir plot`."""

    run: str | None = None
    runs: str | None = None
    kind: str = MISSING
    eval: str | None = None
    label: str | None = None
    title: str | None = None
    width: float = MISSING
    out: str | None = None


@dataclass
class ReportConfig:
    """The settings of `pir report`."""

    run: str = MISSING
    eval: str | None = None
    title: str | None = None
    out: str | None = None


@dataclass
class ExportConfig:
    """The settings of `pir export`."""

    run: str = MISSING
    out: str | None = None
    env: Any = MISSING
    dtype: str = MISSING
    test_puzzles: int = MISSING
    push: str | None = None
    device: str = MISSING


@dataclass
class CompareConfig:
    """The settings of `pir compare`."""

    runs: str = MISSING
    metric: str = MISSING
    eval: str | None = None
    label: str | None = None
    title: str | None = None
    output: str = MISSING
    out: str | None = None


@dataclass
class TableConfig:
    """The settings of `pir table`."""

    runs: str = MISSING
    rows: Any = MISSING
    columns: Any = MISSING
    metric: str = MISSING
    share: float = MISSING
    eval: str | None = None
    label: str | None = None
    title: str | None = None
    output: str = MISSING
    out: str | None = None


@dataclass
class ListConfig:
    """The settings of `pir list`."""

    what: str | None = None
    output: str = MISSING


@dataclass
class InfoConfig:
    """The settings of `pir info`."""

    env: Any = MISSING
    model: Any = MISSING
    output: str = MISSING


@dataclass
class CheckEnvConfig:
    """The settings of `pir check-env`."""

    env: Any = MISSING
    target: str | None = None
    output: str = MISSING


@dataclass
class BenchConfig:
    """The settings of `pir bench`."""

    what: str = MISSING
    seconds: float = MISSING
    preset: Any = MISSING
    against: Any = None
    batch_size: int | None = None
    axes: Any = MISSING
    out: str | None = None
    device: str = MISSING
    threads: int | None = None
    output: str = MISSING


@dataclass
class ShowConfig:
    """The settings of `pir show`."""

    env: Any = MISSING
    split: str | None = None
    index: int = MISSING
    seed: int = MISSING
    out: str | None = None


@dataclass
class GifConfig:
    """The settings of `pir gif`."""

    run: str = MISSING
    index: int | None = None
    split: str = MISSING
    env: Any = MISSING
    puzzle: str | None = None
    improvement_steps: int | None = None
    out: str | None = None
    device: str = MISSING


SCHEMAS = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "solve": SolveConfig,
    "plot": PlotConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "compare": CompareConfig,
    "table": TableConfig,
    "list": ListConfig,
    "info": InfoConfig,
    "show": ShowConfig,
    "gif": GifConfig,
    "check-env": CheckEnvConfig,
    "bench": BenchConfig,
}


def kind_of(command: str, key: str) -> Any:
    """Returns the type of a setting of a command or of Hydra's; None if there is no such setting.

    It is `Any` for a part that any component may fill, and for everything below.
    """
    inside = typing.get_type_hints(SCHEMAS[command]) | {"hydra": HydraConf}
    kind: Any = None
    for name in key.split("."):
        if kind is Any or typing.get_origin(kind) is dict:
            return Any
        kind = inside.get(name)
        inside = typing.get_type_hints(kind) if is_dataclass(kind) else {}
    return kind


OBJECTIVES = {"sudoku9_trm": "truncated"}
"""Objectives of a model on a puzzle, ENV_MODEL, that have one of their own where none is named."""


def objective_for(env: str, model: str, *, _root_: DictConfig) -> str:
    """Returns the objective of a run, the one that is named or else the one that suits it.

    Args:
        env: name of the puzzle.
        model: name of the model.
        _root_: the choices that are known.
    """
    return str(_root_.get("objective") or OBJECTIVES.get(f"{env}_{model}", "set_likelihood"))


def register_schemas() -> None:
    """Makes the dataclasses known to Hydra: `<command>_schema`, and `_shared` of the models.

    OmegaConf learns the resolver by which configs/train.yaml chooses an objective.
    """
    OmegaConf.register_new_resolver("objective_for", objective_for, replace=True)
    ConfigStore.instance().store(group="model", name="_shared", node=asdict(ModelSettings()))
    for command, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)
