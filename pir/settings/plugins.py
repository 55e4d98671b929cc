"""Plug-ins: settings and classes of other packages, and of bare folders.

A package names the folder of its settings by an entry point of the group `pir.configs`, such as
`lights = "pir_lights.configs"`; its files `env/<name>.yaml` are then choices like our own. A bare
folder is given by `--config-dir=FOLDER`: its `env/<name>.yaml` may name classes of modules that lie
in the folder itself.

Settings may come from other people, so naming a class imports nothing but our own modules, torch's
optimizers, packages with an entry point, and what the user named on this command line.
"""

import importlib
import inspect
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pir.errors import UserError
from pir.system.stored import refuse_aliases
from pir.system.terminal import say

GROUP = "pir.configs"
OWN_FOLDERS = ("envs", "configs", "analysis")
"""What a source checkout has beside this package."""

folders: list[Path] = []
"""Folders that this command line names; a class of theirs may be chosen."""

modules: set[str] = set()
"""Modules that this command line names by themselves (`check-env module:Class`)."""


_told: set[str] = set()


def config_packages() -> dict[str, str]:
    """Returns the packages of settings that are installed, by the name of their entry point.

    Entry points to packages that cannot be found are reported on stderr and left out.
    """
    found: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            exists = find_spec(entry.value) is not None
        except Exception as error:  # looking for it runs the code of its parent package
            _tell(f"the plug-in {entry.name} fails: {error!r}")
            continue
        if not exists:
            _tell(f"the plug-in {entry.name} names no package {entry.value}")
        elif found.setdefault(entry.name, entry.value) != entry.value:
            used = found[entry.name]
            _tell(f"two plug-ins are called {entry.name}: {used} is used, {entry.value} is not")
    return found


def _holds(package: str, group: str, name: str) -> bool:
    """Says whether a package of settings has a file, without importing it."""
    spec = find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return any(Path(place, group, name).is_file() for place in places)


def _tell_of_hidden(packages: Iterable[str]) -> None:
    """Says which files of packages are not used, as one before has the same name."""
    before = ["pir.configs"]
    for package in packages:
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            for file in sorted(Path(place).glob("*/*.yaml")):
                group = file.parent.name
                for used in (other for other in before if _holds(other, group, file.name)):
                    _tell(f"{group}/{file.name} of {package} is not used: that of {used} is")
        before.append(package)


def _tell(text: str) -> None:
    """Writes a message once for a command line."""
    if text not in _told:
        _told.add(text)
        say(f"pir: {text}", error=True)


class NotImportedError(UserError):
    """A class is of a module that settings may not name."""


class PackagesOfSettings(SearchPathPlugin):
    """Puts the packages of settings behind our own, so that our names win."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends every package."""
        packages = config_packages()
        _tell_of_hidden(packages.values())
        for name, package in packages.items():
            search_path.append(provider=name, path=f"pkg://{package}")


def register() -> None:
    """Makes installed plug-ins known to Hydra."""
    if PackagesOfSettings not in list(Plugins.instance().discover(SearchPathPlugin)):
        Plugins.instance().register(PackagesOfSettings)


def forget() -> None:
    """Forgets what an earlier command line in this process named."""
    folders.clear()
    modules.clear()
    _told.clear()


def option() -> str:
    """Returns ` --config-dir=FOLDER` as this command line has it, for commands to copy, or ""."""
    if not folders:
        return ""
    folder = os.path.relpath(folders[0])
    return f" --config-dir={shlex.quote(str(folders[0]) if folder.startswith('..') else folder)}"


def open_folder(path: str, groups: Iterable[str], keys: Iterable[str] = ()) -> None:
    """Lets classes be chosen from modules in a folder; none is imported yet.

    Args:
        path: the folder.
        groups: names of its folders of settings.
        keys: settings given that are no choices; Hydra takes a folder of the name for choices.

    Raises:
        UserError: if there is no such folder, settings in it cannot be read safely, or Hydra would
            pass over a file of it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"--config-dir={folder}: there is no such folder")
    hiding = [key for key in keys if (folder / key).is_dir()]
    if hiding:
        raise UserError(f"--config-dir={folder}: its folder {hiding[0]} hides a setting; rename it")
    owners = {package: f"the installed {package}" for package in config_packages().values()}
    owners = {"pir.configs": "pir's own"} | owners
    for group in sorted(groups):
        for file in sorted((folder / group).glob("*.yaml")):
            refuse_aliases(file)
            for package, owner in owners.items():
                if _holds(package, group, file.name):
                    raise UserError(
                        f"--config-dir={folder}: {group}/{file.name} has the name of one of "
                        f"{owner}, which wins; rename it"
                    )
    folders.append(folder.resolve())


def open_module(name: str) -> None:
    """Lets a class be chosen from a named module, of the current folder or installed."""
    top, here = name.split(".")[0], Path.cwd()
    if PathFinder.find_spec(top, [str(here)]) is not None:
        folders.append(here)
    else:
        modules.add(top)


def find_class(target: str, key: str) -> type:
    """Imports the class that a dotted path names, if its module may be imported.

    Args:
        target: such as "pir.models.trm.TRM".
        key: the setting that names it, for messages.

    Raises:
        UserError: if there is no such class, or its module is none of those that settings may name.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target, re.ASCII):
        raise UserError(f"{key}={target}: no such class (it is no dotted path)")
    found = _imported(target, key, "class")
    if not inspect.isclass(found):
        raise UserError(f"{key}={target}: no such class ({target.rpartition('.')[2]} is no class)")
    return found


def find_function(name: str, key: str) -> Callable[..., Any]:
    """Imports the function that the command line names as `module:function`.

    Args:
        name: the module lies in the current folder, or is installed.
        key: the setting that names it, for messages.

    Raises:
        UserError: if there is no such function.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name, re.ASCII):
        raise UserError(f"{key}={name}: is no module:function")
    open_module(name.partition(":")[0])
    found = _imported(name.replace(":", "."), key, "function")
    if not callable(found):
        raise UserError(f"{key}={name}: is no function")
    return cast(Callable[..., Any], found)


def _imported(target: str, key: str, kind: str) -> Any:
    """Imports the class or function that a dotted path names, if its module may be imported."""
    module, _, name = target.rpartition(".")
    _refuse_unknown(module, f"{key}={target}")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # importing a plug-in may fail in any way
        reason = f"{type(error).__name__}: {error}{place_of(error, module)}"
        raise UserError(f"{key}={target}: no such {kind} ({reason})") from error


def place_of(error: BaseException, module: str) -> str:
    """Returns `, FILE, line N`, where an error was raised in a plug-in; "" in a module of ours.

    Args:
        error: that was caught.
        module: of the plug-in; the last place in it or in what lies beside it counts.
    """
    place = raised_in(error, module)
    return f", {place.line}" if place else ""


class Place(NamedTuple):
    """Where code of a plug-in raised an error: the function, and `FILE, line N`."""

    function: str
    line: str


def raised_in(error: BaseException, *of: str) -> Place | None:
    """Returns the last place in code of plug-ins that an error came through; None if in none.

    Args:
        error: that was caught.
        of: modules of the plug-in; by default all that settings may name.
    """
    place, tops = None, {_top(module) for module in of}
    for frame, line in traceback.walk_tb(error.__traceback__):
        top = _top(str(frame.f_globals.get("__name__")))
        code = frame.f_code
        named = top in tops if of else _is_plug_in(top, code.co_filename)
        if named and top != "pir":
            place = Place(code.co_qualname, f"{os.path.relpath(code.co_filename)}, line {line}")
    return place


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_plug_in(top: str, file: str) -> bool:
    """Says whether a module is of those that this command line may name, or beside them."""
    if top in modules | _packages():
        return True
    inside = [Path(file).relative_to(f).parts[0] for f in folders if Path(file).is_relative_to(f)]
    return top in inside or f"{top}.py" in inside


def _packages() -> set[str]:
    """Returns the packages that have an entry point."""
    return {_top(entry.value) for entry in entry_points(group=GROUP)}


def _refuse_unknown(module: str, what: str) -> None:
    """Refuses a module that settings may not name; opens the folder of one that lies in it."""
    top, *below = module.split(".")
    if top in modules | _packages() or f"{module}.".startswith("torch.optim."):
        return
    own = [str(Path(__file__).parents[1])]
    if top == "pir" and (
        not below or below[0] in OWN_FOLDERS or PathFinder.find_spec(f"pir.{below[0]}", own)
    ):
        return
    for folder in folders:
        there = PathFinder.find_spec(top, [str(folder)])
        if there is not None:
            imported = getattr(sys.modules.get(top), "__spec__", there)
            if _places(imported) != _places(there):
                raise UserError(f"{what}: another module is called {top}; rename yours")
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return
    if folders:
        reason = f"there is no {top}.py and no package {top} in {', '.join(map(str, folders))}"
    else:
        reason = "those of a folder need --config-dir=FOLDER in every command"
    raise NotImportedError(
        f"{what}: no such class ({top} is not imported: settings name classes of pir, torch.optim "
        f"and installed plug-ins; {reason})"
    )


def _places(spec: ModuleSpec | None) -> tuple[str | None, tuple[str, ...]]:
    """Returns where a module comes from: its file, and the folders of a package."""
    if spec is None:
        return None, ()
    return spec.origin, tuple(spec.submodule_search_locations or ())
