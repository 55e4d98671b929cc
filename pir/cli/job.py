"""What Hydra calls with the composed settings, once or for every job of a sweep.

A launcher (`hydra/launcher=joblib`) takes it to another process, so it can be pickled, and brings
along what a command line makes known to its own process only.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pir.errors import UserError
from pir.system import interrupt
from pir.system.launch import is_first, label
from pir.system.terminal import USER_ERROR, Screen, one_line, say, write_no_more


class JobFailedError(Exception):
    """A command has failed in another process, and said why.

    Args:
        status: its exit status.
    """

    def __init__(self, status: int) -> None:
        """Keeps the status."""
        super().__init__(status)
        self.status = status


class Job:
    """A command.

    Args:
        command: its name.
        words: the settings as Hydra reads them, for messages.

    Attributes:
        status: the exit status of the last job that failed in this process, 0 if none did.
    """

    __name__ = "pir"  # Hydra asks a function for it

    def __init__(self, command: str, words: Sequence[str]) -> None:
        """Remembers the process."""
        self.command, self.words, self.process = command, list(words), os.getpid()
        self.status = 0

    def __reduce__(self) -> tuple[Callable[..., "Job"], tuple[Any, ...]]:
        """Brings along the folders of plug-ins and what the user typed."""
        from pir.settings import plugins

        known = plugins.folders, plugins.modules
        return _elsewhere, (self.command, self.words, self.process, sys.orig_argv, known)

    def __call__(self, config: Any) -> None:
        """Runs the command, and says why if it fails.

        Raises:
            JobFailedError: if it has failed, and this is not the process that composed the sweep.
        """
        from omegaconf.errors import OmegaConfBaseException

        from pir.settings.explain import explain
        from pir.system.memory import is_out_of_memory, limited_memory

        name = f"pir {self.command}{label()}"
        try:
            with limited_memory(), interrupt.stoppable():
                _load(self.command).run(config)
            return
        except BrokenPipeError:
            self.status = write_no_more()
        except (UserError, OSError) as error:
            say(f"{name}: {error}", error=True)
            self.status = USER_ERROR
        except OmegaConfBaseException as error:
            say(f"{name}: {explain(error, self.command, self.words)}", error=True)
            self.status = USER_ERROR
        except Exception as error:
            if not (isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error)):
                if self._is_elsewhere():
                    error.add_note(traceback.format_exc())  # the traceback itself stays here
                error.__dict__[_OF_JOB] = True
                raise
            say(f"{name}: out of memory ({one_line(str(error))})", error=True)
            self.status = USER_ERROR
        if self._is_elsewhere():
            raise JobFailedError(self.status)

    def _is_elsewhere(self) -> bool:
        return os.getpid() != self.process


COMPUTING = ("train", "eval", "solve", "export", "info", "show", "gif", "check-env", "bench")
"""Commands that need torch, whose import takes seconds."""


def _load(command: str) -> Any:
    """Imports a command, and torch with it where it will be needed, so that the wait is seen."""
    from pir.system.view import View

    if command in COMPUTING and is_first():
        with View(f"pir {command}"):
            importlib.import_module("torch")
    return importlib.import_module(f"pir.cli.commands.{command.replace('-', '_')}")


_OF_JOB = "of_job"


def of_job(error: Exception) -> bool:
    """Says whether an error came out of a job, and not while Hydra composed its settings."""
    return _OF_JOB in error.__dict__


def _elsewhere(
    command: str,
    words: Sequence[str],
    process: int,
    typed: list[str],
    known: tuple[list[Path], set[str]],
) -> Job:
    """Makes the job in another process, before Hydra composes its settings there."""
    from pir.runs.sweep import register_resolvers
    from pir.settings import plugins
    from pir.settings.schema import register_schemas
    from pir.system.surroundings import shut_out

    shut_out()
    register_schemas()
    register_resolvers()
    plugins.folders[:], sys.orig_argv = known[0], typed
    plugins.modules.clear()
    plugins.modules.update(known[1])
    plugins.register()
    Screen.shared = True
    job = Job(command, words)
    job.process = process
    return job
