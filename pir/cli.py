"""The command line: finds the command, hands its words to Hydra, prints errors for people.

Hydra has no sub-commands, so the first word is taken off and names the primary config. Values of
keys that hold plain text or paths are quoted for Hydra, so that `puzzle='3 7 8 = 29'` needs no
second layer of quotes.
"""

import importlib
import io
import os
import re
import sys
from collections.abc import Sequence

from pir import __version__, interrupt
from pir.errors import UserError

COMMANDS = {
    "train": "train a reasoner on a puzzle, or go on with a run",
    "eval": "measure every improvement step on held-out puzzles",
    "solve": "solve a puzzle of your own, step by step",
    "plot": "draw a figure of one or several runs",
    "report": "write one page with every figure and table of a run",
    "compare": "compare runs at equal forward passes",
    "table": "tabulate means over seeds, by settings",
    "list": "list puzzles, models, objectives, optimizers ...",
    "info": "print versions, hardware and model sizes",
    "show": "show a puzzle as text and as a figure",
    "gif": "animate an answer that improves step by step",
    "check-env": "check a puzzle, yours or ours, against the laws of puzzles",
    "bench": "time generators, verifiers and views",
}

RAW_KEYS = ("run", "resume", "runs", "puzzle", "puzzles", "out", "env.puzzles", "target")
"""Keys whose value is taken literally, whatever characters it holds."""

FIRST_WORD = {"list": "what", "bench": "what", "check-env": "env"}
"""The key that a command's word without = is the value of."""

TAKE_ANYTHING = ("--config-dir", "-cd")
TAKE_A_WORD = ("--cfg", "-c", "--info", "-i", "--package", "-p")
"""Hydra's options that any word, or a word without =, may follow."""

USER_ERROR = 2
"""Exit status after a mistake that the user can mend."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the words after `pir`; those of the process by default.

    Returns:
        The exit status: 0, `USER_ERROR` after a printed message, or 130 after Ctrl-C and 143 after
        SIGTERM.
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
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"pir {__version__}")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        from pir.config import suggest

        print(f"pir: {command} is no command{suggest(command, COMMANDS)}", file=sys.stderr)
        return USER_ERROR
    try:
        return _run_hydra(command, rest)
    except UserError as error:
        print(f"pir {command}: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        print(f"pir {command}: {error}", file=sys.stderr)
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
            "Settings are key=value, choices are group=option; `pir COMMAND --help` lists them.",
            "  pir train env=countdown run=runs/a",
            "  pir solve run=runs/a puzzle='3 7 8 = 29'",
        ]
    )


def prepare_words(command: str, words: Sequence[str]) -> list[str]:
    """Turns the words after a command into Hydra's: settings first, then options.

    Raises:
        UserError: if a word is neither, or its key is unknown.
    """
    from pir.catalog import GROUPS
    from pir.config import SCHEMAS, suggest

    settings, options = _partition(words)
    sweeping = command == "train" and bool({"-m", "--multirun"} & set(options))
    known = {*SCHEMAS[command].__annotations__, *GROUPS.values()} - {"choices"}
    prepared = []
    for word in settings:
        key, equals, value = word.partition("=")
        if command in FIRST_WORD and not equals:
            key, equals, value = FIRST_WORD[command], "=", word
            if key == "env" and ":" in word:
                key = "target"
        if not equals and not word.startswith("~"):
            raise UserError(f"{word!r} is no setting: settings are key=value")
        if re.fullmatch(r"\w+", key) and key not in known:
            raise UserError(f"{key} is no setting{suggest(key, known)}")
        if key in RAW_KEYS and value != "null":
            if not value:
                raise UserError(f"{key}= is empty")
            key = "hydra.sweep.dir" if sweeping and key == "run" else key
            value = quote(value)
        prepared.append(f"{key}{equals}{value}")
    if sweeping:
        prepared.append(_names_of_sweep(prepared))
    return prepared + options


def _partition(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts settings from Hydra's options with their values."""
    settings: list[str] = []
    options: list[str] = []
    before = ""
    for word in words:
        follows = before in TAKE_ANYTHING or (before in TAKE_A_WORD and "=" not in word)
        (options if follows or word.startswith("-") else settings).append(word)
        before = "" if follows else word
    return settings, options


def _names_of_sweep(settings: list[str]) -> str:
    """Returns the setting that names a sweep's folders by the swept keys alone."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(settings)
    constant = [o.key_or_group for o in parsed if not o.is_sweep_override()]
    return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"


def quote(value: str) -> str:
    """Writes any text as a quoted string of Hydra's override grammar."""
    escaped = re.sub(r"(\\*)\$\{", lambda m: m.group(1) * 2 + "\\${", value)
    escaped = re.sub(r"(\\*)'", lambda m: m.group(1) * 2 + "\\'", escaped)
    escaped = re.sub(r"(\\+)$", lambda m: m.group(1) * 2, escaped)
    return f"'{escaped}'"


def _run_hydra(command: str, words: list[str]) -> int:
    """Composes a command's settings and runs it, once or (with -m) for every combination."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from pir import plugins
    from pir.config import register_schemas
    from pir.sweep import place_of_sweep

    status = 0

    def run(config: DictConfig) -> None:
        nonlocal status
        try:
            with interrupt.stoppable():
                importlib.import_module(f"pir.commands.{command.replace('-', '_')}").run(config)
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (UserError, OSError) as error:  # the other jobs of a sweep still run
            print(f"pir {command}: {error}", file=sys.stderr)
            status = USER_ERROR

    register_schemas()
    plugins.register()
    plugins.open_folders(words)
    # With this set Hydra lets exceptions through instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    prepared = prepare_words(command, words)
    sweeping = command == "train" and bool({"-m", "--multirun"} & set(words))
    try:
        with place_of_sweep(prepared, sweeping) as placed:
            sys.argv = [f"pir {command}", *placed]
            hydra.main(version_base="1.3", config_path="pkg://pir.configs", config_name=command)(
                run
            )()
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        from pir.catalog import explain

        raise UserError(explain(error, command, prepared)) from error
    return status
