"""What there is to choose from, read off the config files."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pir.checks import check_choice
from pir.errors import UserError
from pir.settings import plugins
from pir.system.stored import MOST_SETTINGS, parse_settings, read_bytes

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
    "recipe_objectives": "recipe_objective",
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


def settings_text(path: str) -> str:
    """Returns the text of a settings file by its path without ending, such as "model/trm".

    It is empty where there is no such file: some settings are dataclasses.
    """
    files_there = (folder.joinpath(f"{path}.yaml") for folder in _folders())
    return next((_text(file) for file in files_there if file.is_file()), "")


def _folders() -> list[Any]:
    """Returns the folders of settings: of pir, of plug-ins, and those that the user names.

    Where two hold a file of one name the first wins, as in Hydra.
    """
    packages = ["pir.configs", *plugins.config_packages().values()]
    return [*map(files, packages), *plugins.folders]


def _files(group: str) -> dict[str, Any]:
    """Returns the settings files of a group by name."""
    found: dict[str, Any] = {}
    for folder in (each.joinpath(group) for each in _folders()):
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
