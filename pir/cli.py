"""The command line: finds the command, hands its words to Hydra, prints errors for people.

Hydra has no sub-commands, so the first word is taken off and names the primary config. Values of
keys that hold plain text or paths are quoted for Hydra, so that `puzzle='3 7 8 = 29'` needs no
second layer of quotes.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence

from pir import __version__
from pir.errors import UserError

COMMANDS = {
    "train": "train a reasoner on a puzzle, or go on with a run",
    "eval": "measure every improvement step on held-out puzzles",
    "solve": "solve a puzzle of your own, step by step",
    "plot": "draw the improvement curve of one or several runs",
    "list": "list puzzles, models, objectives, optimizers ...",
    "info": "print versions, hardware and model sizes",
}

RAW_KEYS = ("run", "resume", "runs", "puzzle", "puzzles", "out")
"""Keys whose value is taken literally, whatever characters it holds."""

OPTIONS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--config-dir", "-cd", "--package", "-p")
"""Hydra's options that are followed by a value."""

USER_ERROR = 2
"""Exit status after a mistake that the user can mend."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the words after `pir`; those of the process by default.

    Returns:
        The exit status: 0, or `USER_ERROR` after a printed message.
    """
    words = list(sys.argv[1:] if argv is None else argv)
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
        _run_hydra(command, rest)
    except UserError as error:
        print(f"pir {command}: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def usage() -> str:
    """Returns the text of `pir --help`."""
    lines = [f"  pir {name:<7}{summary}" for name, summary in COMMANDS.items()]
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
    """Turns the words after a command into Hydra's: options first, then settings.

    Raises:
        UserError: if a word is neither.
    """
    options, settings = _partition(words)
    if command == "list" and settings and "=" not in settings[0]:
        settings[0] = f"what={settings[0]}"
    sweeping = bool({"-m", "--multirun"} & set(options))
    prepared = []
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals and not word.startswith("~"):
            raise UserError(f"{word!r} is no setting: settings are key=value")
        if key in RAW_KEYS:
            if not value:
                raise UserError(f"{key}= is empty")
            target = "hydra.sweep.dir" if sweeping and key == "run" else key
            word = f"{target}={quote(value)}"
        prepared.append(word)
    if sweeping:
        prepared.append(_names_of_sweep(prepared))
    return options + prepared


def _partition(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts Hydra's options, with their values, from settings."""
    options: list[str] = []
    settings: list[str] = []
    takes_value = False
    for word in words:
        if word.startswith("-"):
            options.append(word)
            takes_value = word in OPTIONS_WITH_VALUE
        elif takes_value and "=" not in word:
            options.append(word)
            takes_value = False
        else:
            settings.append(word)
    return options, settings


def _names_of_sweep(settings: list[str]) -> str:
    """Returns the setting that names a sweep's folders by the swept keys alone."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(settings)
    constant = [o.key_or_group for o in parsed if not o.is_sweep_override()]
    return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"


def quote(value: str) -> str:
    """Writes any text as a quoted string of Hydra's override grammar."""
    escaped = value.replace("${", "\\${")
    escaped = re.sub(r"(\\*)'", lambda m: m.group(1) * 2 + "\\'", escaped)
    escaped = re.sub(r"(\\+)$", lambda m: m.group(1) * 2, escaped)
    return f"'{escaped}'"


def _run_hydra(command: str, words: list[str]) -> None:
    """Composes the settings of a command and runs it, once or (with -m) for every combination."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from pir.config import register_schemas

    def run(config: DictConfig) -> None:
        importlib.import_module(f"pir.commands.{command}").run(config)

    register_schemas()
    # With this set Hydra lets exceptions through instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        sys.argv = [f"pir {command}", *prepare_words(command, words)]
        hydra.main(version_base="1.3", config_path="pkg://pir.configs", config_name=command)(run)()
    except (HydraException, OmegaConfBaseException) as error:
        from pir.catalog import explain

        raise UserError(explain(error, command)) from error
