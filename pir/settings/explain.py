"""Messages about mistakes in settings, with the valid names."""

import difflib
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from pir.checks import suggest
from pir.errors import installs
from pir.settings.catalog import GROUPS, SHARED
from pir.settings.describe import Composed, composed
from pir.settings.schema import kind_of
from pir.system.terminal import one_line

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[float]: "a list of numbers, such as [0.5,1]",
    types.NoneType: "null",
}
"""What a setting may be, by its type."""

LAUNCHERS = dict.fromkeys(
    ("joblib", "submitit_local", "submitit_slurm"), f"it comes with {installs('sweeps')}"
)
"""Choices of hydra/launcher that an extra brings, and how."""


def explain(error: Exception, command: str, settings: Sequence[str]) -> str:
    """Turns one of Hydra's errors into one message with the valid names."""
    message, cause = str(error), error.__cause__
    if isinstance(error, MissingConfigException):
        group, options = _missing_choice(message)
        if options:
            named = re.search(r"Could not (?:find|load) '(?:[^']*/)?([^'/]+)'", message)
            wrong = named.group(1) if named else ""
            more = f" ({LAUNCHERS[wrong]})" if wrong in LAUNCHERS else ""
            return f"{group}={wrong}: there is no such choice{suggest(wrong, options)}{more}"
    unknown = re.match(r"Could not override '([^']+)'", message)
    if unknown:
        return unknown_setting(unknown.group(1), command, settings)
    lacking = re.search(r"Missing mandatory value: (\S+)", message)
    if lacking:
        return f"{lacking.group(1)}= must be given (`pir {command} --help`)"
    unread = re.match(r"LexerNoViableAltException: (.*)", message)
    if unread:
        return f"{one_line(unread.group(1))} cannot be read: put quotes inside, key=\"'...'\""
    several = re.match(r"Ambiguous value for argument '(.*)'\n", message)
    if several:
        return _several(several.group(1).lstrip("+"), command)
    override = re.match(r"Error merging override \+*(([^=]*)=.*)", message)
    if override and (allowed := _allowed(kind_of(command, override.group(2)))):
        return f"{one_line(override.group(1))}: allowed is {allowed}"
    lines = [message.split("\nSee https")[0], *([str(cause)] if cause else [])]
    first = [line.splitlines()[0] if i else " ".join(line.split()) for i, line in enumerate(lines)]
    return ": ".join(first)


def unknown_setting(key: str, command: str, settings: Sequence[str]) -> str:
    """Returns the message about a key that a command does not have, and what may be meant.

    Args:
        key: as it was typed.
        command: its name.
        settings: of the command line; the choices among them are made.
    """
    if key.startswith("hydra."):
        return f"{key} is no setting of Hydra's (`pir {command} --cfg hydra` prints them)"
    chosen = [
        word for word in settings if word.split("=")[0] in GROUPS.values() and "," not in word
    ]
    try:
        known = composed(command, chosen)
    except HydraException:  # another mistake, which has a message of its own
        return f"{key} is no setting"
    name = key.rpartition(".")[2]
    places: dict[str, list[str]] = {}
    for each in known.settings():
        places.setdefault(each.rpartition(".")[2], []).append(each)
    if name in places:
        return f"{key} is no setting; did you mean {' or '.join(places[name])}?"
    options = _beside(key, known)
    near = difflib.get_close_matches(name, places, n=1)
    if near and not difflib.get_close_matches(name, options, n=1):
        return f"{key} is no setting; did you mean {' or '.join(places[near[0]])}?"
    return f"{key} is no setting{suggest(name, options) if options else ''}"


def origin(key: str) -> str:
    """Says which recipe or experiment of this command gives a key; "" if none does."""
    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    try:
        pack = composed(str(hydra.job.config_name), hydra.overrides.task).pack_of(key)
    except HydraException:  # the settings are those of another program
        return ""
    return f": {pack}.yaml sets it, '~{key}' leaves it out" if pack else ""


def _allowed(kind: Any) -> str:
    """Says what a setting of a type may be; "" where only a component knows."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    options = typing.get_args(kind) if union else [kind]
    return " or ".join(KINDS[each] for each in options if each in KINDS)


def _several(word: str, command: str) -> str:
    """Returns the message about values with commas between."""
    key, _, value = word.partition("=")
    kind = kind_of(command, key)
    listed = kind is Any or typing.get_origin(kind) is list
    allowed = f"several values are written {key}=[{value}]" if listed else "allowed is one value"
    more = "; -m trains a run for each" if command == "train" else ""
    return f"{one_line(word)}: {allowed}{more}"


def _missing_choice(message: str) -> tuple[str, list[str]]:
    listed = re.search(r"Available options in '([^']+)':\n((?:\t.*\n?)*)", message)
    if not listed:
        return "", []
    names = [line.strip() for line in listed.group(2).splitlines() if line.strip()]
    return listed.group(1), [name for name in names if not name.startswith(SHARED)]


def _beside(key: str, known: Composed) -> list[str]:
    """Returns the names that there are in the place of an unknown key."""
    place, names = known.config, {*map(str, known.config), *known.choices} - {"choices"}
    for name in key.split("."):
        known_here = name in place and not OmegaConf.is_interpolation(place, name)
        inside = OmegaConf.select(place, name) if known_here else None
        if not isinstance(inside, DictConfig):
            break
        place, names = inside, set(map(str, inside))
    return [name for name in names if "/" not in name]
