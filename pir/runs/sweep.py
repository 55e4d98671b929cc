"""The folder of a sweep (`pir train -m`), and the names of the runs in it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from omegaconf import OmegaConf

from pir.runs.lock import sweep_folder

KEY = "hydra.sweep.dir"
"""Hydra's setting that names the folder."""

LONGEST_NAME = 200
"""Bytes of a run's name; file systems take 255."""


@contextmanager
def place_of_sweep(settings: Sequence[str], sweeping: bool) -> Iterator[list[str]]:
    """Keeps a sweep in a folder of its own.

    Args:
        settings: the prepared words of the command line.
        sweeping: whether the command runs once for every combination of values.

    Yields:
        The words, with one that names the folder where the user named none.

    Raises:
        UserError: if another sweep runs in the folder, or it cannot be made.
    """
    register_resolvers()
    if not sweeping:
        yield list(settings)
        return
    named = _named(settings)
    default = Path("runs/sweep") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    place = Path(named) if named else default
    with sweep_folder(place, numbered=named is None) as path:
        yield list(settings) if named else [f"{KEY}='{path}'", *settings]


def register_resolvers() -> None:
    """Makes known to OmegaConf what the names of a sweep's runs are written with."""
    OmegaConf.register_new_resolver("flat_name", flat_name, replace=True)


def flat_name(name: str) -> str:
    """Returns the name of one folder for a run of a sweep, whatever characters its values hold."""
    bare = re.sub(r"='((?:[^'\\]|\\.)*)'", lambda quoted: f"={quoted[1]}", name)
    flat = bare.replace("/", "_")
    if len(flat.encode()) > LONGEST_NAME:
        short = flat.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
        flat = f"{short}-{sha256(name.encode()).hexdigest()[:8]}"
    return flat


def _named(settings: Sequence[str]) -> str | None:
    """Returns the folder that the settings name, if any."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [word for word in settings if word.startswith(f"{KEY}=")]
    if not words:
        return None
    return str(OverridesParser.create().parse_overrides(words)[-1].value()).replace("\\${", "${")
