"""The command line: finds the command, hands its words to Hydra, prints errors for people.

Hydra has no sub-commands, so the first word is taken off and names the primary config;
`pir.cli.words` prepares the others.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from typing import Any

from pir import __version__
from pir.errors import UserError
from pir.system import interrupt
from pir.system.launch import label
from pir.system.terminal import USER_ERROR, columns, one_line, say, write_no_more

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
    "bench": "time puzzles, and training steps",
}


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
        return write_no_more()
    except (UserError, OSError) as error:
        say(f"{name}{label()}: {error}", error=True)
        return USER_ERROR


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
    from pir.cli.job import Job, JobFailedError, of_job
    from pir.cli.words import PRINTING, known_keys, part, prepare, refuse_unfit, take_topic
    from pir.runs.sweep import place_of_sweep
    from pir.settings import plugins
    from pir.settings.catalog import GROUPS
    from pir.settings.explain import explain
    from pir.settings.schema import register_schemas
    from pir.system.surroundings import shut_out

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
            return 0
        prepared = prepare(command, settings, options)
        printing = bool(options.keys() & set(PRINTING))
        sweeping = "--multirun" in options
        with (
            place_of_sweep(prepared, sweeping) as placed,
            interrupt.stoppable() if sweeping else nullcontext(),
        ):
            job = Job(command, prepared)
            _hand_over(command, placed, job, printing)
    except JobFailedError as failed:
        return failed.status
    except (UserError, BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # Hydra and its grammar raise many kinds
        if of_job(error):
            raise
        raise UserError(explain(error, command, prepared)) from error
    return job.status


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
