"""What there is to choose from, read off the config files, and messages that say so."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from hydra.initialize import initialize_config_module
from omegaconf import DictConfig, OmegaConf

from pir.checks import check_choice, suggest
from pir.errors import UserError
from pir.settings import plugins
from pir.system.stored import MOST_SETTINGS, parse_settings, read_bytes
from pir.system.terminal import one_line

GROUPS = {
    "envs": "env",
    "models": "model",
    "objectives": "objective",
    "targets": "objective/targets",
    "optims": "optim",
    "trainers": "trainer",
    "lanes": "lanes",
    "loggers": "logger",
    "exits": "exit",
    "recipes": "recipe",
    "recipe_pairs": "recipe_pair",
    "experiments": "experiment",
}

SHARED = "_"
"""Files whose names begin so hold settings that several choices share; they are no choices."""


def choices(group: str) -> list[dict[str, str]]:
    """Returns the choices of a config group with their summaries, sorted by name.

    Args:
        group: the group's folder, such as "env".

    Returns:
        One `{"name", "summary"}` per choice; the summary is the first comment of its file.
    """
    found = _files(group)
    return [{"name": name, "summary": _summary(_text(found[name]))} for name in sorted(found)]


def load_choice(group: str, name: str, setting: str | None = None) -> Any:
    """Reads the settings of one choice of a config group, as a config node.

    Args:
        group: the group's folder, such as "exit".
        name: of the choice.
        setting: that names it, for messages; the group itself by default.

    Raises:
        UserError: if there is no such choice.
    """
    found = _files(group)
    check_choice(setting or group, name, sorted(found))
    settings = OmegaConf.create(parse_settings(_text(found[name]), found[name]))
    if "defaults" in settings:
        raise UserError(f"{group}={name}: {found[name]} has a defaults list; write it out")
    return settings


def _files(group: str) -> dict[str, Any]:
    """Returns the settings files of a group by name.

    They are those of pir, of installed plug-ins, and of folders that this command line names; the
    first that has a name wins, as in Hydra.
    """
    packages = ["pir.configs", *plugins.config_packages().values()]
    found: dict[str, Any] = {}
    for folder in (each.joinpath(group) for each in (*map(files, packages), *plugins.folders)):
        if folder.is_dir():
            for file in folder.iterdir():
                if file.name.endswith(".yaml") and not file.name.startswith(SHARED):
                    found.setdefault(file.name[: -len(".yaml")], file)
    return found


def _text(file: Any) -> str:
    """Returns a settings file's text; one of a folder may be of somebody else."""
    if isinstance(file, Path):
        return read_bytes(file, MOST_SETTINGS).decode(errors="replace")
    text: str = file.read_text()
    return text


def _summary(text: str) -> str:
    comments = (line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def explain(error: Exception, command: str, settings: list[str]) -> str:
    """Turns one of Hydra's errors into one message with the valid names."""
    message, cause = str(error), error.__cause__
    if isinstance(error, MissingConfigException):
        group, options = _missing_choice(message)
        if options:
            named = re.search(r"Could not (?:find|load) '(?:[^']*/)?([^'/]+)'", message)
            wrong = named.group(1) if named else ""
            return f"{group}={wrong}: there is no such choice{suggest(wrong, options)}"
    unknown = re.match(r"Could not override '([^']+)'", message)
    if unknown:
        key = unknown.group(1)
        try:
            return f"{key} is no setting{_near(key, command, settings)}"
        except HydraException:  # a choice that only a --config-dir has
            return f"{key} is no setting"
    lacking = re.search(r"Missing mandatory value: (\S+)", message)
    if lacking:
        return f"{lacking.group(1)}= must be given (`pir {command} --help`)"
    unread = re.match(r"LexerNoViableAltException: (.*)", message)
    if unread:
        return f"{one_line(unread.group(1))} cannot be read: put quotes inside, key=\"'...'\""
    lines = [message.split("\nSee https")[0], *([str(cause)] if cause else [])]
    first = [line.splitlines()[0] if i else " ".join(line.split()) for i, line in enumerate(lines)]
    return ": ".join(first)


def composed(command: str, settings: list[str]) -> DictConfig:
    """Composes the settings of a command, as Hydra does for a command line."""
    GlobalHydra.instance().clear()
    with initialize_config_module(config_module="pir.configs", version_base="1.3"):
        return compose(command, overrides=settings)


def _missing_choice(message: str) -> tuple[str, list[str]]:
    listed = re.search(r"Available options in '([^']+)':\n((?:\t.*\n?)*)", message)
    if not listed:
        return "", []
    names = [line.strip() for line in listed.group(2).splitlines() if line.strip()]
    return listed.group(1), [name for name in names if not name.startswith(SHARED)]


def _near(key: str, command: str, settings: list[str]) -> str:
    """Returns what there is in the place of an unknown key, with the choices made."""
    chosen = [word for word in settings if word.split("=")[0] in GROUPS.values()]
    place: Any = composed(command, [word for word in chosen if "," not in word])
    for name in key.split("."):
        inside = OmegaConf.select(place, name) if name in place else None
        if not isinstance(inside, DictConfig):
            return suggest(name, map(str, place))
        place = inside
    return ""
