"""Every puzzle under a Gymnasium id: `pir/Countdown-v0` for configs/env/countdown.yaml.

Importing this costs what Gymnasium's registry costs: neither torch nor any puzzle is imported
before an environment is made.
"""

import re
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

if TYPE_CHECKING:
    from pir.puzzle import Puzzle


def puzzle_names() -> list[str]:
    """Returns the names of the built-in puzzles, one per file in configs/env, sorted."""
    found = (file.name for file in files("pir.configs").joinpath("env").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def environment_id(name: str) -> str:
    """Returns the Gymnasium id of a puzzle; `maze_hard` becomes `pir/MazeHard-v0`."""
    words = re.findall(r"[0-9A-Za-z]+", name)
    return f"pir/{''.join(word[0].upper() + word[1:] for word in words)}-v0"


def register_puzzles() -> None:
    """Registers every built-in puzzle with Gymnasium."""
    for name in puzzle_names():
        register(
            id=environment_id(name),
            entry_point="pir.envs.views.gymnasium_view:make_env",
            vector_entry_point="pir.envs.views.gymnasium_view:make_vector_env",
            kwargs={"name": name},
        )


def build_puzzle(name: str, **settings: Any) -> "Puzzle":
    """Builds a built-in puzzle.

    Args:
        name: the name of its config file, such as "countdown".
        settings: values in place of those in the file.

    Raises:
        UserError: if there is no such puzzle, or a setting is unknown (`UnknownSettingError`, a
            `TypeError` too) or not allowed.
    """
    return build_parts(name, settings, ())[0]


def build_parts(
    name: str, settings: Mapping[str, Any], others: Collection[str]
) -> tuple["Puzzle", dict[str, Any]]:
    """Builds a built-in puzzle from settings among which are those of something else.

    Args:
        name: the name of its config file.
        settings: values in place of those in the file, and the others.
        others: the names of the settings that are not the puzzle's.

    Returns:
        the puzzle, and the other settings that were given.

    Raises:
        UserError: if there is no such puzzle, or a setting is unknown (`UnknownSettingError`, a
            `TypeError` too) or not allowed.
    """
    from omegaconf import OmegaConf

    from pir.checks import suggest
    from pir.errors import UnknownSettingError, UserError
    from pir.puzzle import Puzzle
    from pir.settings.build import build, plain

    names = puzzle_names()
    if name not in names:
        raise UserError(f"env={name}: there is no such choice{suggest(name, names)}")
    text = files("pir.configs").joinpath("env").joinpath(f"{name}.yaml").read_text()
    node: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    known = {*node, *others} - {"_target_"}
    rest = {}
    for key, value in settings.items():
        if key not in known:
            raise UnknownSettingError(
                f"{key} is unknown{suggest(key, known)}: unexpected keyword argument '{key}'"
            )
        if key in others:
            rest[key] = value
        else:
            node[key] = plain(value)
    return build(node, "env", Puzzle), rest  # type: ignore[type-abstract]
