"""Plug-ins: settings and classes of other packages, and of bare folders.

A package names the folder of its settings by an entry point of the group `pir.configs`, such as
`lights = "pir_lights.configs"`; its files `env/<name>.yaml` are then choices like our own. A bare
folder is given by `--config-dir=FOLDER`: its `env/<name>.yaml` may name classes of modules that lie
in the folder itself.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pir.errors import UserError

GROUP = "pir.configs"


def config_packages() -> dict[str, str]:
    """Returns the packages of settings that are installed, by the name of their entry point.

    Entry points to packages that cannot be found are reported on stderr and left out.
    """
    found = {}
    for entry in entry_points(group=GROUP):
        try:
            exists = find_spec(entry.value) is not None
        except Exception as error:  # looking for it runs the code of its parent package
            print(f"pir: the plug-in {entry.name} fails: {error!r}", file=sys.stderr)
            continue
        if exists:
            found[entry.name] = entry.value
        else:
            print(f"pir: the plug-in {entry.name} names no package {entry.value}", file=sys.stderr)
    return found


class PackagesOfSettings(SearchPathPlugin):
    """Puts the packages of settings behind our own, so that our names win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends every package."""
        for name, package in config_packages().items():
            search_path.append(provider=name, path=f"pkg://{package}")


def register() -> None:
    """Makes installed plug-ins known to Hydra."""
    if PackagesOfSettings not in list(Plugins.instance().discover(SearchPathPlugin)):
        Plugins.instance().register(PackagesOfSettings)


def open_folders(words: Sequence[str]) -> None:
    """Lets modules be imported from the folder that `--config-dir` names.

    Raises:
        UserError: if there is no such folder.
    """
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            folder = Path(value if equals else following)
            if not folder.is_dir():
                raise UserError(f"--config-dir={folder}: there is no such folder")
            sys.path.insert(0, str(folder.resolve()))
