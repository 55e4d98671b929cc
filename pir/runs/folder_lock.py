"""Locks on folders, and whether a folder that is locked is still the one at its place.

Files are written by path. A folder that is moved or removed while a run trains in it leaves its
name to another run, so before anything is written or removed in it the lock is looked at: the file
that this process holds must be the one that lies there.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from pir.errors import UserError
from pir.runs.schema import LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NEVER_ELSEWHERE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags that open a file itself: no link is followed, no pipe is waited for."""


class FolderLock:
    """A lock on a folder, held until it is closed; it goes with the process, however that ends.

    Args:
        folder: the folder, which exists.
        name: of the file in it that is locked.
        doing: what its holder does there, for messages.

    Raises:
        UserError: if another process holds the lock.
        OSError: if the file cannot be opened.
    """

    def __init__(self, folder: Path, name: str = LOCK, doing: str = "training in") -> None:
        """Opens the file and locks it."""
        self.folder, self.name, self.doing = folder, name, doing
        self.place, self.process = os.path.abspath(folder), os.getpid()
        self.file = self._locked()
        _held.append(self)

    def _locked(self) -> IO[str]:
        """Returns the locked file.

        The file that was opened may be gone when it is locked, for its owner took it back: then it
        locks nothing.
        """
        flags = os.O_RDWR | os.O_CREAT | NEVER_ELSEWHERE
        while True:
            file = os.fdopen(os.open(self.folder / self.name, flags, 0o666), "r+")
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _lies_in(self.folder, self.name, file):
                    return file
            except BlockingIOError as error:
                file.close()
                raise UserError(f"another process is {self.doing} {self.folder} now") from error
            except BaseException:
                file.close()
                raise
            file.close()

    def still_ours(self) -> bool:
        """Says whether the folder at its place is the one that was locked."""
        return _lies_in(Path(self.place), self.name, self.file)

    def refuse_lost(self) -> None:
        """Makes sure that the folder at its place is the one that was locked.

        Raises:
            UserError: if it is not.
        """
        if self.still_ours():
            return
        now = ""
        with suppress(OSError):  # Linux knows where an open file lies
            found = Path(os.readlink(f"/proc/self/fd/{self.file.fileno()}")).parent
            if _lies_in(found, self.name, self.file):
                now = f"; its files are in {found} now"
        raise UserError(
            f"the folder {self.folder} was moved or removed while this process was {self.doing} "
            f"it, or {self.name} in it was: nothing more is written there{now}"
        )

    def close(self) -> None:
        """Gives the lock back."""
        _held.remove(self)
        self.file.close()


_held: list[FolderLock] = []
"""The locks that this process holds: that of a run, and that of the sweep which the run is in."""


def held(folder: Path) -> bool:
    """Says whether this process, and no parent that forked it, holds the lock on a run's folder."""
    place, here = os.path.realpath(folder), os.getpid()
    runs = (lock for lock in _held if lock.name == LOCK and lock.process == here)
    return any(os.path.realpath(lock.place) == place for lock in runs)


def refuse_lost(path: Path) -> None:
    """Makes sure that a path leads into no other folder than one that this process has locked.

    Args:
        path: what is about to be written or removed; outside locked folders all is well.

    Raises:
        UserError: if the locked folder was moved or removed.
    """
    place = Path(os.path.abspath(path))
    for lock in _held:
        if place.is_relative_to(lock.place):
            lock.refuse_lost()


def remove(path: Path) -> None:
    """Removes a file, if there is one.

    Raises:
        UserError: if it lay in a locked folder that was moved or removed.
    """
    refuse_lost(path)
    path.unlink(missing_ok=True)


def _lies_in(folder: Path, name: str, file: IO[str]) -> bool:
    """Says whether an open file is the one that lies in a folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(folder / name))
    return False
