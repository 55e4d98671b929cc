"""Folders that a refused command would leave empty are taken away again."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SWEEP = "multirun.yaml"
"""What Hydra writes into the folder of a sweep before the first run begins."""

_missing: dict[Path, None] = {}


def note(folder: str | Path) -> None:
    """Remembers which of a folder and those above it do not exist yet."""
    path = Path(folder).absolute()
    _missing.update(dict.fromkeys(p for p in (path, *path.parents) if not p.exists()))


def clean() -> None:
    """Removes the remembered folders that are empty, or hold nothing but empty runs of a sweep."""
    for folder in sorted(_missing, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            for inside in [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]:
                with suppress(OSError):
                    inside.rmdir()
            if [p.name for p in folder.iterdir()] == [SWEEP]:
                (folder / SWEEP).unlink()
            folder.rmdir()
    _missing.clear()


class SweepFolder(Callback):
    """Is told by Hydra where a sweep will be, before anything is written."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remembers the folder."""
        note(config.hydra.sweep.dir)
