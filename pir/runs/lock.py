"""One folder, one run: who makes a folder, who trains in it, and what is taken back.

A folder is made by one process alone (`mkdir` succeeds once), and while a process trains in it, it
holds the lock on the file `.lock` there (`pir.runs.folder_lock`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.folder_lock import FolderLock, refuse_lost
from pir.runs.schema import LOCK, SWEEP
from pir.system.interrupt import postponed

ATTEMPTS = 20
"""How often a folder is made anew that others take away again in the same moment."""


@contextmanager
def new_run(path: Path, numbered: bool = False, made_for_it: bool = False) -> Iterator[RunFolder]:
    """Makes the folder of a new run and keeps every other process out of it.

    If no run has begun in the end, what was made is taken back. Signals are only remembered here;
    who works in the folder enters `stoppable`, so none comes between making and taking back.

    Args:
        path: the folder; it may be there already if it holds no run.
        numbered: take `path-2`, `path-3` and so on if it is there.
        made_for_it: an empty folder there was made for this run and goes with it.

    Raises:
        UserError: if the folder holds a run, another process trains in it, or it cannot be made.
    """
    try:
        refuse_lost(path)  # the sweep's folder
        if not numbered:
            RunFolder(path).refuse_existing()  # before anything is made
    except UserError:
        _take_back([], [path] if made_for_it else [])
        raise
    with postponed():
        path, made, lock = _made_and_locked(path, numbered)
        folder = RunFolder(path)
        if made_for_it and path not in made:
            made.append(path)
        try:
            folder.refuse_existing()
            yield folder
        finally:
            if lock.still_ours() and not folder.config.exists():
                started = (folder.info, folder.command)
                partial = [f.with_name(f.name + ".partial") for f in (*started, folder.config)]
                _take_back([*started, *partial, path / LOCK], made)
            lock.close()


@contextmanager
def sweep_folder(path: Path, numbered: bool) -> Iterator[Path]:
    """Makes the folder of a sweep and keeps every other sweep out of it.

    If no run has begun in the end, what was made is taken back.

    Raises:
        UserError: if another sweep runs in it, or it cannot be made.
    """
    with postponed():
        path, made, lock = _made_and_locked(path, numbered, ".sweep.lock", "sweeping in")
        try:
            yield path
        finally:
            if lock.still_ours():
                plan = path / SWEEP
                if made:
                    _take_back([], [job for job in path.glob("*") if job.is_dir()])
                only_plan = {file.name for file in path.glob("*")} <= {plan.name, lock.name}
                _take_back([path / lock.name, *([plan] if made and only_plan else [])], made)
            lock.close()


def _made_and_locked(
    path: Path, numbered: bool, name: str = LOCK, doing: str = "training in"
) -> tuple[Path, list[Path], FolderLock]:
    """Returns the folder, the folders that were made for it, and the lock on it."""
    for attempt in range(ATTEMPTS):
        made: list[Path] = []
        try:
            chosen = _make(path, made, numbered)
            return chosen, made, FolderLock(chosen, name, doing)
        except FileNotFoundError as error:
            # Another process took back a folder just then; or the path cannot be.
            _take_back([], made)
            failure: OSError = error
            time.sleep(0.01 * min(attempt, 5))
        except OSError as error:
            _take_back([], made)
            failure = error
            break
    raise UserError(f"cannot write in {path}: {failure}") from failure


def _make(path: Path, made: list[Path], numbered: bool) -> Path:
    """Makes a folder and those above it, adds them to `made`, and returns it."""
    for number in count(1):
        chosen = path.with_name(f"{path.name}-{number}") if number > 1 else path
        for folder in (*reversed(chosen.parents), chosen):
            with suppress(FileExistsError):
                if not folder.is_dir():
                    folder.mkdir()
                    made.append(folder)
        if chosen in made or not numbered:
            return chosen
    raise AssertionError


def _take_back(files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Removes files and empty folders; what cannot be removed stays, for another error counts."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()
