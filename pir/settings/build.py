"""How components are built from settings.

Components (env, model, objective, optim, logger ...) name their class by `_target_`; its signature
is their schema. Hydra's `instantiate` would call whatever a setting names, and settings may come
from other people: here only classes of the expected kind are called, with arguments of their types.
"""

import contextlib
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from omegaconf import DictConfig, OmegaConf

from pir.checks import suggest
from pir.errors import UserError
from pir.settings.explain import origin
from pir.settings.plugins import find_class, place_of
from pir.system.terminal import one_line

T = TypeVar("T")


def build(node: Any, path: str, kind: type[T], **extra: Any) -> T:
    """Builds the component that a config node describes by `_target_` and keyword arguments.

    Nested nodes with a `_target_` are built first. Only classes of the expected kind are ever
    called, and only of modules that settings may name (`pir.settings.plugins.find_class`).

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
            raise UserError(f"{key} is unknown{origin(key)}{suggest(name, known)}")
        arguments[name] = _convert(value, hints.get(name, Any), key)
    missing = [f"{path}.{n}" for n in known if n in needed and n not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)} must be given")
    try:
        return component(**arguments, **extra)
    except UserError:
        raise
    except Exception as error:  # a plug-in may fail in any way
        reason = one_line(f"{type(error).__name__}: {error}{place_of(error, component.__module__)}")
        raise UserError(f"{path} ({node['_target_']}) cannot be built: {reason}") from error


def plain(value: Any) -> Any:
    """Returns a value from Python as a file of settings has it: lists, and no types of numpy."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _schema(component: type) -> tuple[dict[str, Any], set[str], bool]:
    """Reads off a signature what a component may be given.

    Returns:
        The type of every argument by name, with those of `**shared: Unpack[Shared]`; the names
        without a default; and whether any further name is taken.
    """
    annotated = _hints(component.__init__)  # type: ignore[misc]
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


def _hints(function: Any) -> dict[str, Any]:
    """Returns the types of arguments, without those that are imported for type checkers alone."""
    known: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(NameError):
            known |= typing.get_type_hints(one, inspect.unwrap(function).__globals__)
    return known


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
    if hint is int and type(value) is float and value.is_integer():  # such as 1e3
        return int(value)
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
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return type(value) is hint or value is hint  # None is its own annotation


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}
    names |= {type(None): "null"}
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and ... not in options:
        return f"[{', '.join(map(_describe, options))}]"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, options))
    return names.get(hint) or str(hint)
