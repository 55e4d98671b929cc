"""Files that a run was made from: puzzle files, and the run that it began with.

They lie outside the run folder, so that somebody may move or change them. `info.json` keeps where
each was, as an absolute path, and its SHA-256; who reads one again is told if it is another.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pir.errors import UserError
from pir.puzzle_files.source import STDIN
from pir.runs.folder import RunFolder
from pir.runs.names import absolute
from pir.settings import plugins
from pir.system.terminal import one_line

FILE_KEY = "puzzles"
"""A setting of a puzzle, ours or a plug-in's, that names a file."""

INIT = "init"
"""The setting that names the run to begin with; its file is the checkpoint that was read."""

Inputs = dict[str, dict[str, str]]
"""By setting, such as `env.puzzles`: `path`, absolute, and `sha256` of the file."""


def file_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_absolute(config: DictConfig) -> None:
    """Writes the paths of the inputs in a run's config as absolute ones, so that they stay good.

    Raises:
        UserError: if an input cannot be read again later, such as standard input.
    """
    for key, path in _puzzle_files(config, lambda path: path == STDIN or os.path.exists(path)):
        if path == STDIN or not os.path.isfile(path):
            raise UserError(f"{key}={path}: training needs a file, for a run reads it again later")
        OmegaConf.update(config, key, os.path.abspath(path))
    if config.init is not None:
        config.init = absolute(config.init)


def record(config: DictConfig) -> Inputs:
    """Returns what a new run remembers of its puzzle files."""
    return {key: entry(path) for key, path in _puzzle_files(config)}


def entry(path: str | Path) -> dict[str, str]:
    """Returns what a run remembers of a file."""
    return {"path": os.path.abspath(path), "sha256": file_sha256(path)}


def of_run(folder: RunFolder) -> Inputs:
    """Returns what a run remembers of its inputs, as far as info.json can be read."""
    found = folder.read_info().get("inputs")
    found = found if isinstance(found, dict) else {}
    return {
        key: entry
        for key, entry in found.items()
        if isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("path", "sha256"))
    }


def of_exported(folder: RunFolder, config: DictConfig) -> Inputs:
    """Returns what an exported model remembers of its inputs.

    Args:
        folder: of the run.
        config: its settings, with those of the puzzle that the model has.
    """
    kept = {key: entry for key, entry in of_run(folder).items() if key == INIT}
    return kept | record(config)


def refuse_changed(config: DictConfig, folder: RunFolder) -> None:
    """Makes sure that the puzzle files of a run are those that it was made from.

    Args:
        config: the run's settings, as they are now.
        folder: the run folder.

    Raises:
        UserError: naming the setting, the file and what differs.
    """
    inputs = of_run(folder)
    for key in dict.fromkeys([*(k for k in inputs if k != INIT), *dict(_puzzle_files(config))]):
        path, known = OmegaConf.select(config, key), inputs.get(key)
        if known is None:
            raise UserError(
                f"{key}={path}: {folder.info} does not hold the file's checksum, so it "
                "is not known whether this is the file that the run was made from"
            )
        command = f"pir train resume={shlex.quote(str(folder.path))} {key}=NEWPATH"
        instead = (
            "solve puzzles of your own, for which it is not needed"
            if folder.exported
            else f"name its new place with `{command}`"
        )
        _refuse_other(key, path, known, instead)


def refuse_changed_init(path: Path, folder: RunFolder) -> None:
    """Makes sure that the checkpoint to begin with is the one that a run began with before.

    Raises:
        UserError: if it is another.
    """
    known = of_run(folder).get(INIT)
    if known is not None:
        _refuse_other(INIT, str(path), known, "begin a new run")


@contextmanager
def naming_config_dir(folder: RunFolder) -> Iterator[None]:
    """Adds to the refusal of a class which `--config-dir` the run was trained with.

    That folder is only named: what a run folder says makes no code run.
    """
    try:
        yield
    except plugins.NotImportedError as error:
        known = folder.read_info().get("config_dir")
        if not isinstance(known, str) or Path(known) in plugins.folders:
            raise
        option = one_line(f"--config-dir={shlex.quote(known)}", 1000)
        raise UserError(
            f"{error}; this run was trained with {option}: repeat the command with that added, or "
            "in Python give load_trained that folder as config_dir, if you trust the code in it"
        ) from error


def _refuse_other(key: str, path: Any, known: Mapping[str, str], instead: str) -> None:
    then = f"the run was made from {known['path']} (SHA-256 {known['sha256'][:12]}...)"
    put_back = f"put that file back, or {instead}"
    if not isinstance(path, str) or not os.path.isfile(path):
        raise UserError(f"{key}={path}: there is no such file; {then}: {put_back}")
    now = file_sha256(path)
    if now != known["sha256"]:
        raise UserError(
            f"{key}={path} has changed: its SHA-256 is {now[:12]}..., but {then}: {put_back}"
        )


def without_files(settings: Any, inputs: Inputs, prefix: str) -> Any:
    """Returns plain settings without the paths of inputs: a file may lie elsewhere later."""
    if not isinstance(settings, dict):
        return settings
    return {
        name: without_files(value, inputs, f"{prefix}.{name}")
        for name, value in settings.items()
        if f"{prefix}.{name}" not in inputs
    }


def _puzzle_files(
    config: DictConfig, is_file: Callable[[str], bool] = os.path.isfile
) -> Iterator[tuple[str, str]]:
    """Yields key and path of every setting of the puzzle that names an existing file."""

    def search(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in node.items() if isinstance(node, Mapping) else ():
            key = f"{prefix}.{name}"
            if name == FILE_KEY and isinstance(value, str) and is_file(value):
                yield key, value
            else:
                yield from search(value, key)

    env = config.env
    if isinstance(env, DictConfig):
        yield from search(OmegaConf.to_container(env, resolve=True), "env")
