"""The command line: finds the command, hands its words to Hydra, prints errors for people.

Hydra has no sub-commands, so the first word is taken off and names the primary config;
`pir.cli.words` prepares the others.
"""

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from pir import __version__
from pir.errors import UserError
from pir.system import interrupt
from pir.system.launch import label
from pir.system.terminal import columns, one_line, say

COMMANDS = {
    "train": "train a reasoner on a puzzle, or go on with a run",
    "eval": "measure every improvement step on held-out puzzles",
    "solve": "solve a puzzle of your own, step by step",
    "plot": "draw a figure of one or several runs",
    "report": "write one page with every figure and table of a run",
    "export": "write a trained model as two files for others",
    "compare": "compare runs at equal forward passes",
    "table": "tabulate means over seeds, by settings",
    "list": "list puzzles, models, objectives, optimizers ...",
    "info": "print versions, hardware and model sizes",
    "show": "show a puzzle as text and as a figure",
    "gif": "animate an answer that improves step by step",
    "check-env": "check a puzzle, yours or ours, against the laws of puzzles",
    "bench": "time generators, verifiers and views",
}


COMPUTING = ("train", "eval", "solve", "info", "show", "gif", "check-env", "bench")
"""Commands that need torch, whose import takes seconds."""

USER_ERROR = 2
"""Exit status after a mistake that the user can mend."""

NO_READER = 1
"""Exit status when the reader of the output has seen enough, as `head` has."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the words after `pir`; those of the process by default.

    Returns:
        The exit status: 0, `USER_ERROR` after a printed message, `NO_READER`, or 130 after Ctrl-C
        and 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? for a bar
    words = list(sys.argv[1:] if argv is None else argv)
    with interrupt.handled(own_process=argv is None):
        try:
            status = _answer(words)
        except KeyboardInterrupt:
            return interrupt.exit_status()
        except Exception:
            if not interrupt.requested():
                raise
            status = USER_ERROR
        # what an interrupt broke, such as an import, is no error of the user
        return interrupt.exit_status() if status and interrupt.requested() else status


def _answer(words: list[str]) -> int:
    """Runs the command that the words name, and prints errors for people."""
    name = "pir"
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            say(usage())
            return 0
        if words[0] in ("-V", "--version"):
            say(f"pir {__version__}")
            return 0
        command, *rest = words
        if command not in COMMANDS:
            from pir.checks import suggest

            raise UserError(f"{one_line(command, 60)} is no command{suggest(command, COMMANDS)}")
        name = f"pir {command}"
        return _run_hydra(command, rest)
    except BrokenPipeError:
        return _write_no_more()
    except (UserError, OSError) as error:
        say(f"{name}{label()}: {error}", error=True)
        return USER_ERROR


def _write_no_more() -> int:
    """Lets further output vanish, for nobody reads it, and returns the exit status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NO_READER


def usage() -> str:
    """Returns the text of `pir --help`."""
    lines = [f"  pir {name:<11}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            f"pir {__version__}: policy-improvement reasoners",
            "",
            *lines,
            "",
            "Settings are key=value, choices are group=name; `pir COMMAND --help` explains them.",
            "  pir train env=countdown run=runs/a",
            "  pir solve run=runs/a puzzle='3 7 8 = 29'",
        ]
    )


def _run_hydra(command: str, words: list[str]) -> int:
    """Composes a command's settings and runs it, once or (with -m) for every combination."""
    from omegaconf.errors import OmegaConfBaseException

    from pir.cli.words import PRINTING, known_keys, part, prepare, refuse_unfit, take_topic
    from pir.runs.sweep import place_of_sweep
    from pir.settings import plugins
    from pir.settings.catalog import GROUPS
    from pir.settings.explain import explain
    from pir.settings.schema import register_schemas
    from pir.system.memory import is_out_of_memory, limited_memory
    from pir.system.surroundings import shut_out

    composed, status = False, 0

    def run(config: Any) -> None:
        nonlocal composed, status
        composed = True
        try:
            with limited_memory(), interrupt.stoppable():
                _load(command).run(config)
        except BrokenPipeError:
            status = _write_no_more()
        except (UserError, OSError) as error:  # the other jobs of a sweep still run
            say(f"pir {command}{label()}: {error}", error=True)
            status = USER_ERROR
        except OmegaConfBaseException as error:
            say(f"pir {command}: {explain(error, command, prepared)}", error=True)
            status = USER_ERROR
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            say(f"pir {command}: out of memory ({one_line(str(error))})", error=True)
            status = USER_ERROR

    settings, options = part(words)
    refuse_unfit(command, options)
    helping = options.pop("--help", None) is not None
    topic = take_topic(command, settings) if helping else None
    plugins.forget()
    if "--config-dir" in options:
        groups = {*GROUPS.values()}
        given = {word.partition("=")[0].lstrip("+") for word in settings}
        plugins.open_folder(options["--config-dir"], groups, given & known_keys(command) - groups)
    shut_out()
    register_schemas()
    plugins.register()
    prepared: list[str] = []
    try:
        if helping:
            from pir.cli.help import page

            prepared = prepare(command, settings, {})
            say(page(command, prepared, topic, columns()))
            return status
        prepared = prepare(command, settings, options)
        printing = bool(options.keys() & set(PRINTING))
        with place_of_sweep(prepared, "--multirun" in options) as placed:
            _hand_over(command, placed, run, printing)
    except (UserError, BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # Hydra and its grammar raise many kinds
        if composed:
            raise
        raise UserError(explain(error, command, prepared)) from error
    return status


def _load(command: str) -> Any:
    """Imports a command, and torch with it where it will be needed, so that the wait is seen."""
    from pir.system.view import View

    if command in COMPUTING:
        with View(f"pir {command}"):
            importlib.import_module("torch")
    return importlib.import_module(f"pir.cli.commands.{command.replace('-', '_')}")


def _hand_over(command: str, words: list[str], run: Callable[[Any], None], printing: bool) -> None:
    """Lets Hydra compose the settings and call `run`, or print what its options ask for."""
    import hydra

    # With this set Hydra lets exceptions through instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"pir {command}", *words]
    main = hydra.main(version_base="1.3", config_path="pkg://pir.configs", config_name=command)(run)
    if not printing:
        main()
        return
    printed, refused = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(refused):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise UserError(refused.getvalue().strip() or "Hydra gave up") from end
    say(printed.getvalue().rstrip("\n"))
