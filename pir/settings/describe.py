"""What settings mean, read where it is written: comments of settings files, docstrings of classes.

The comment of a setting stands above it in the file that first sets it. What has no comment there
is explained by a docstring: `TrainerSettings`, `ModelSettings`, or the class that a `_target_`
names.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import initialize_config_module
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from pir.errors import UserError
from pir.settings import plugins
from pir.settings.catalog import settings_text
from pir.settings.model import ModelSettings
from pir.settings.training import TrainerSettings

SETTINGS_CLASSES = {"trainer": TrainerSettings, "model": ModelSettings}
"""Dataclasses whose docstrings explain the settings of a place."""

KEY = re.compile(r"(\s*)([\w-]+):(?:\s|$)")


@dataclass(frozen=True)
class Composed:
    """The settings of a command, with the choices made.

    Attributes:
        config: all of them, not resolved.
        files: the settings files that they come from in their order: path and place in `config`.
        choices: the chosen name of every group; None where nothing is chosen.
    """

    config: DictConfig
    files: Sequence[tuple[str, str]]
    choices: Mapping[str, str | None]

    @cached_property
    def comments(self) -> dict[str, str]:
        """What is written about the settings, by key; the first file that says something wins."""
        found: dict[str, str] = {}
        for path, place in self.files:
            for key, comment in comments(settings_text(path)).items():
                found.setdefault(f"{place}.{key}".lstrip("."), comment)
        return found

    def pack_of(self, key: str) -> str | None:
        """Returns the path of the last recipe or experiment that sets a key; None if none does."""
        packs = (path for path, place in reversed(self.files) if not place)
        return next((path for path in packs if key in entries(settings_text(path))), None)

    def meaning(self, key: str) -> str:
        """Returns what a setting means, empty if that is written nowhere."""
        place, _, name = key.rpartition(".")
        own = SETTINGS_CLASSES.get(place)
        known = documented(own) if own else {}
        return known.get(name) or self.comments.get(key) or self._of_class(place).get(name, "")

    def _of_class(self, place: str) -> dict[str, str]:
        """Returns what the class named at a place, or beside it, says of its arguments."""
        node = OmegaConf.select(self.config, place) if place else None
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        if target is None:
            return {}
        try:
            found = plugins.find_class(str(target), f"{place}._target_")
        except UserError:
            return {}
        merged: dict[str, str] = {}
        for each in reversed(found.__mro__):
            merged |= documented(each)
        return merged

    def settings(self, place: str = "") -> list[str]:
        """Returns the keys of all settings at a place and below, without those that name classes.

        A place may be a setting itself.
        """
        node: Any = OmegaConf.select(self.config, place) if place else self.config
        return [f"{place}{key}".lstrip(".") for key in _leaves(node)]

    def value(self, key: str) -> str:
        """Returns a setting's value as it is typed; `???` where it must be given.

        It is empty where only the running command knows it.
        """
        parent, _, name = key.rpartition(".")
        node: Any = OmegaConf.select(self.config, parent) if parent else self.config
        if OmegaConf.is_missing(node, name):
            return str(MISSING)
        raw = node._get_node(name)._value()
        if isinstance(raw, str):
            return "" if re.search(r"\$\{(hydra|now):", raw) else raw
        return typed(OmegaConf.select(node, name))


def composed(command: str, overrides: Sequence[str]) -> Composed:
    """Composes a command's settings without running it.

    Args:
        command: its name.
        overrides: settings in Hydra's grammar, without sweeps.

    Raises:
        Exception: Hydra's, of many kinds; `pir.settings.explain` turns them into messages.
    """
    words = list(overrides)
    if plugins.folders:
        places = ",".join(f"'file://{folder}'" for folder in plugins.folders)
        words.append(f"hydra.searchpath=[{places}]")
    GlobalHydra.instance().clear()
    with initialize_config_module(config_module="pir.configs", version_base="1.3"):
        config = compose(command, overrides=words)
        loader = GlobalHydra.instance().config_loader()
        found = loader.compute_defaults_list(command, words, RunMode.RUN)
    own = [each for each in found.defaults if not str(each.config_path).startswith("hydra/")]
    files = [(str(each.config_path), each.package or "") for each in own]
    chosen = {k: v for k, v in found.overrides.known_choices.items() if not k.startswith("hydra/")}
    return Composed(config, files, chosen)


def comments(text: str) -> dict[str, str]:
    """Returns the comments that stand right above keys in a YAML text, by the whole key."""
    return {key: comment for key, comment in entries(text).items() if comment}


def entries(text: str) -> dict[str, str]:
    """Returns the whole keys of a YAML text, with the comment right above each, "" for none.

    The first comment of the text is about the file, not about its first key.
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    pending: list[str] = []
    about_file = True
    for line in text.splitlines():
        comment = re.match(r"\s*#\s?(.*)", line)
        key = KEY.match(line)
        if comment:
            if comment.group(1).startswith("@"):
                continue
            if about_file:
                about_file = False
                continue
            pending.append(comment.group(1).strip())
            continue
        if key:
            indent = len(key.group(1))
            while path and path[-1][0] >= indent:
                path.pop()
            path.append((indent, key.group(2)))
            found[".".join(name for _, name in path)] = " ".join(pending)
        pending = []
    return found


def documented(kind: type) -> dict[str, str]:
    """Returns what a class's docstring says of its arguments or attributes, by name."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        if not line.startswith(" "):
            inside = line in ("Args:", "Attributes:") or (inside and not line)
            continue
        entry = re.match(r" {4}\*{0,2}(\w+)(?: \([^)]*\))?: (.*)", line)
        if inside and entry:
            name = entry.group(1)
            found[name] = entry.group(2)
        elif inside and name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def typed(value: Any) -> str:
    """Writes a value as it is typed after `key=`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if OmegaConf.is_list(value):
        return f"[{','.join(map(typed, value))}]"
    if OmegaConf.is_dict(value):
        return "{" + ",".join(f"{key}:{typed(item)}" for key, item in value.items()) + "}"
    return str(value)


def _leaves(node: Any) -> Iterator[str]:
    """Yields the keys below a node, each with a dot before it; an empty one for a leaf itself."""
    if not isinstance(node, DictConfig) or not node:
        yield ""
        return
    for key in node:
        if str(key) in ("_target_", "choices"):
            continue
        inner: Any = node._get_node(key)
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_missing():
            yield from (f".{key!s}{rest}" for rest in _leaves(inner))
        else:
            yield f".{key!s}"
