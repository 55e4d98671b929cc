"""The typed settings of every command, and how configured components are built.

Values live in configs/*.yaml, each with a comment; the dataclasses here give their types, so that
a mistyped key or value fails before any work is done. Components (env, model, objective, optim,
logger) name their class by `_target_`; its signature is their schema.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pir.errors import UserError
from pir.plugins import find_class
from pir.terminal import one_line

T = TypeVar("T")


@dataclass
class TrainerConfig:
    """See configs/trainer/default.yaml for the meaning of every key."""

    lanes: Any = MISSING
    batch_size: int = MISSING
    replay_share: float = 0.0
    replay_size: int = 10_000
    warmup_steps: int = MISSING
    decay_steps: int = MISSING
    final_lr_ratio: float = MISSING
    max_grad_norm: float = MISSING
    ema_decay: float = MISSING
    max_optimizer_steps: int | None = None
    max_minutes: float | None = None
    max_forward_passes: int | None = None
    patience: int | None = None
    log_every: int = MISSING
    eval_every: int = MISSING
    val_puzzles: int = MISSING
    test_puzzles: int = MISSING
    eval_batch_size: int | None = None
    threads: int | None = None


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

    improvement_steps: int | None = None
    puzzles: int | None = None
    split: str = MISSING
    batch_size: int | None = None
    samples: int = MISSING
    guidance: list[float] = MISSING
    step_size: list[float] = MISSING
    breadth: int = MISSING
    noise: float = MISSING
    exit: Any = None


@dataclass
class EvalFile:
    """A file of puzzles to evaluate; see configs/eval.yaml."""

    puzzles: str | None = None
    skip_faulty: bool = False


@dataclass
class EvalConfig:
    """The settings of `pir eval`."""

    run: str | None = None
    runs: str | None = None
    env: EvalFile = MISSING
    eval: EvalSettings = MISSING
    device: str = MISSING
    output: str = MISSING


@dataclass
class SolveConfig:
    """The settings of `pir solve`."""

    run: str = MISSING
    puzzle: str | None = None
    puzzles: str | None = None
    improvement_steps: int | None = None
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
    out: str | None = None


@dataclass
class ReportConfig:
    """The settings of `pir report`."""

    run: str = MISSING
    out: str | None = None


@dataclass
class CompareConfig:
    """The settings of `pir compare`."""

    runs: str = MISSING
    metric: str = MISSING
    output: str = MISSING
    out: str | None = None


@dataclass
class TableConfig:
    """The settings of `pir table`."""

    runs: str = MISSING
    rows: Any = MISSING
    columns: Any = MISSING
    metric: str = MISSING
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
    index: int = MISSING
    split: str = MISSING
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
    "compare": CompareConfig,
    "table": TableConfig,
    "list": ListConfig,
    "info": InfoConfig,
    "show": ShowConfig,
    "gif": GifConfig,
    "check-env": CheckEnvConfig,
    "bench": BenchConfig,
}


def register_schemas() -> None:
    """Makes the dataclasses known to Hydra as `<command>_schema`."""
    for command, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)


def check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a value that is none of the allowed ones.

    Raises:
        UserError: naming the key, the value and the allowed values.
    """
    if value not in allowed:
        raise UserError(f"{key}={value}: allowed are {', '.join(allowed)}")


def check_seed(key: str, value: int) -> None:
    """Refuses a number that is no seed, or no number of a puzzle in its stream.

    Raises:
        UserError: naming the key and what is allowed.
    """
    if not 0 <= value < 1 << 62:
        raise UserError(f"{key}={value}: allowed are 0 to 2**62 - 1")


def build(node: Any, path: str, kind: type[T], **extra: Any) -> T:
    """Builds the component that a config node describes by `_target_` and keyword arguments.

    Nested nodes with a `_target_` are built first. Only classes of the expected kind are ever
    called, and only of modules that settings may name (`pir.plugins.find_class`).

    Args:
        node: the config node.
        path: its place in the config, for messages.
        kind: the class that the component must be a subclass of.
        extra: further keyword arguments, not part of the config.

    Raises:
        UserError: if the class is missing or of another kind, or an argument is unknown, missing
            or of the wrong type.
    """
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path} has no _target_: choose one with {path}=NAME (`pir list`)")
    component = find_class(str(node["_target_"]), f"{path}._target_")
    if not issubclass(component, kind):
        raise UserError(
            f"{path}._target_={node['_target_']} is no {kind.__module__}.{kind.__name__}"
        )
    hints, needed, open_ended = _schema(component)
    known = [name for name in hints if name not in extra]
    arguments: dict[str, Any] = {}
    for name, value in node.items():
        if name == "_target_":
            continue
        key = f"{path}.{name}"
        if name not in known and (name in extra or not open_ended):
            raise UserError(f"{key} is unknown{suggest(name, known)}")
        arguments[name] = _convert(value, hints.get(name, Any), key)
    missing = [f"{path}.{n}" for n in known if n in needed and n not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)} must be given")
    try:
        return component(**arguments, **extra)
    except UserError:
        raise
    except Exception as error:  # a plug-in may fail in any way
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{path} ({node['_target_']}) cannot be built: {reason}") from error


def _schema(component: type) -> tuple[dict[str, Any], set[str], bool]:
    """Reads off a signature what a component may be given.

    Returns:
        The type of every argument by name, with those of `**shared: Unpack[Shared]`; the names
        without a default; and whether any further name is taken.
    """
    annotated = typing.get_type_hints(component.__init__)  # type: ignore[misc]
    hints: dict[str, Any] = {}
    needed, open_ended = set(), False
    for name, parameter in inspect.signature(component).parameters.items():
        hint = annotated.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            if typing.get_origin(hint) is typing.Unpack:
                hints |= typing.get_type_hints(typing.get_args(hint)[0])
            else:
                open_ended = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            hints[name] = hint
            if parameter.default is parameter.empty:
                needed.add(name)
    return hints, needed, open_ended


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Checks a config value against a type annotation; lists become tuples."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        kinds = [kind for kind in options or (hint,) if kind is not types.NoneType]
        if len(kinds) != 1 or not inspect.isclass(kinds[0]):
            raise UserError(f"{key} takes no component: remove its _target_")
        return build(value, key, kinds[0])
    if isinstance(value, Mapping) and _is_kind(origin, Mapping):
        return {name: _convert(item, options[1], f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, Mapping)) and origin in (typing.Union, types.UnionType):
        kind = Sequence if isinstance(value, list) else Mapping
        fitting = [o for o in options if _is_kind(typing.get_origin(o), kind)]
        return _convert(value, fitting[0], key) if fitting else _refuse(value, hint, key)
    if isinstance(value, list) and _is_kind(origin, Sequence):
        if origin is not tuple or ... in options:
            options = (options[0] if options else Any,) * len(value)
        if len(value) != len(options):
            raise UserError(f"{key}={value}: {len(options)} values are expected")
        return tuple(_convert(v, h, key) for v, h in zip(value, options, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    return value if _fits(value, hint) else _refuse(value, hint, key)


def _refuse(value: Any, hint: Any, key: str) -> NoReturn:
    raise UserError(f"{key}={value}: allowed is {_describe(hint)}")


def _is_kind(origin: Any, kind: type) -> bool:
    return inspect.isclass(origin) and issubclass(origin, kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is typing.Literal:
        return value in options
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint or value is hint  # None is its own annotation


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    names |= {type(None): "null"}
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and ... not in options:
        return f"[{', '.join(map(_describe, options))}]"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, options))
    return names.get(hint) or str(hint)


def suggest(name: str, allowed: Any) -> str:
    """Returns the end of a message about an unknown name: a near miss if any, and what exists."""
    options = list(allowed)
    near = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint} (allowed: {', '.join(sorted(options))})"
