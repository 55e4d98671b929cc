"""Messages about mistakes in settings, with the valid names."""

import difflib
import re
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from pir.checks import suggest
from pir.errors import installs
from pir.settings.catalog import GROUPS, SHARED
from pir.settings.describe import Composed, composed
from pir.system.terminal import one_line

KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
"""What a setting may be, by OmegaConf's names."""

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
    wrong_kind = re.match(r"Value .* could not be converted to (\w+)", str(cause))
    if wrong_kind and (override := re.match(r"Error merging override (.*)", message)):
        allowed = KINDS.get(wrong_kind.group(1), wrong_kind.group(1))
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
        inside = OmegaConf.select(place, name) if name in place else None
        if not isinstance(inside, DictConfig):
            break
        place, names = inside, set(map(str, inside))
    return [name for name in names if "/" not in name]
