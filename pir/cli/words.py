"""The words of a command line, turned into Hydra's: settings, then options.

Hydra's grammar gives a meaning to most signs. Values of keys that hold plain text or paths are
quoted for it, so that `puzzle='3 7 8 = 29'` needs no second layer of quotes; `~` at the start of a
path is the home folder. What would end in one of Hydra's own messages is refused here.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import takewhile
from typing import Any, get_args

from omegaconf import ListConfig

from pir.checks import check_choice, suggest
from pir.errors import UserError
from pir.runs.schema import MODEL_NAMES
from pir.settings.catalog import GROUPS, choices
from pir.settings.describe import typed
from pir.settings.explain import unknown_setting
from pir.settings.schema import SCHEMAS, kind_of
from pir.system.stored import literal

PATHS = ("run", "resume", "init", "puzzles", "out", "env.puzzles")
RAW_KEYS = (*PATHS, "runs", "puzzle", "target", "label", "title", "eval.name", "eval", "push")
"""Keys whose value is taken literally, whatever characters it holds."""

TEXT_KEYS = ("puzzle", "runs")
"""Keys whose value often holds blanks."""

SETTING = re.compile(r"[+~]*[A-Za-z_][\w./@:-]*=")
"""What the words of settings begin with."""

SWEPT = ("init", "env.puzzles")
"""Those of them that a sweep takes several of, with commas between."""

PUZZLE_KEYS = {
    "eval": ("env.puzzles", "env.skip_faulty"), "solve": (), "gif": (), "export": ()
}  # fmt: skip
"""Commands that take any setting of a run's puzzle, and which of `env.*` their own files have."""

RECIPES = ("recipe", "recipe_pair", "recipe_objective")
"""Choices that Hydra takes even if there is no such file, as not every puzzle has one."""

FIRST_WORD = {"list": "what", "bench": "what", "check-env": "env"}
"""The key that a command's word without = is the value of."""

SHORT = {
    "-h": "--help",
    "-m": "--multirun",
    "-c": "--cfg",
    "-i": "--info",
    "-p": "--package",
    "-cd": "--config-dir",
}
FLAGS = ("--help", "--hydra-help", "--resolve", "--multirun")
CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
TEXTS = ("--package", "--config-dir")
PRINTING = ("--hydra-help", "--cfg", "--info")
"""Options that print something instead of running the command."""

Options = dict[str, str]
"""Options by their long name, with their value; flags have none."""


def part(words: Sequence[str]) -> tuple[list[str], Options]:
    """Parts settings from options.

    Raises:
        UserError: if an option is unknown, or its value missing, wrong or one too many.
    """
    settings: list[str] = []
    options: Options = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            settings.append(word)
            continue
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if name not in (*FLAGS, *CHOICES, *TEXTS):
            raise UserError(f"{name} is no option{suggest(name, (*FLAGS, *CHOICES, *TEXTS))}")
        if name in options:
            raise UserError(f"{name} is given twice")
        if name in FLAGS and equals:
            raise UserError(f"{name} takes no value")
        if name == "--info" and not equals:
            value = rest.pop(0) if rest and rest[0] in CHOICES[name] else "all"
        elif name not in FLAGS and not equals:
            value = rest.pop(0) if rest else ""
        if name not in FLAGS and not value:
            raise UserError(f"{name} needs a value")
        if name in CHOICES:
            check_choice(name, value, CHOICES[name])
        options[name] = _home(value, name) if name == "--config-dir" else value
    return settings, options


def refuse_unfit(command: str, options: Options) -> None:
    """Refuses options that do not go with the command or with each other.

    Raises:
        UserError: naming them.
    """
    if "--multirun" in options and command != "train":
        raise UserError("-m is for `pir train` alone: it trains a run for every combination")
    jobs = [name for name in ("--multirun", "--cfg", "--info") if name in options]
    if len(jobs) > 1:
        raise UserError(f"{' and '.join(jobs)} exclude each other")
    if "--resolve" in options and "--cfg" not in options:
        raise UserError("--resolve goes with --cfg")
    if "--package" in options and "--cfg" not in options:
        raise UserError("--package goes with --cfg")


def take_topic(command: str, settings: list[str]) -> str | None:
    """Takes out of the words beside --help the one that names what to explain; None if none does.

    Raises:
        UserError: if there are several.
    """
    names = [word for word in settings if "=" not in word and not word.startswith("~")]
    if command in FIRST_WORD:
        if len(names) > 1:
            raise UserError(f"--help {names[-1]}: `pir {command}` has no groups")
        return None
    if len(names) > 1:
        raise UserError(f"--help {' '.join(names)}: one name at a time")
    settings[:] = [word for word in settings if word not in names]
    return names[0] if names else None


def prepare(command: str, settings: Sequence[str], options: Options) -> list[str]:
    """Turns a command's settings and options into the words that Hydra reads.

    Raises:
        UserError: if a word is no setting, its key is unknown, or it names no recipe.
    """
    sweeping = "--multirun" in options
    _refuse_unquoted(settings)
    bare = [word for word in settings if "=" not in word and not word.startswith("~")]
    if command in FIRST_WORD and len(bare) > 1:
        raise UserError(f"`pir {command}` takes one word at a time, not {' '.join(bare)}")
    prepared = [_setting(command, word, sweeping) for word in settings]
    if command == "check-env" and any(word.startswith("target=") for word in prepared):
        # settings of a class that is named are none of the puzzle that is there by default
        prepared = [re.sub(r"^\+*(?=env\.)", "++", word) for word in prepared]
    prepared[:0] = _logger_of_resumed(settings)
    _refuse_unknown_recipes(prepared)
    if sweeping:
        prepared.append(_names_of_sweep(prepared))
    return prepared + [f"{name}={value}" if value else name for name, value in options.items()]


def _logger_of_resumed(settings: Sequence[str]) -> list[str]:
    """Chooses the logger of the run that goes on, whose settings may be given."""
    given = dict(word.partition("=")[::2] for word in settings)
    if (
        "resume" not in given
        or "logger" in given
        or not any(k.startswith("logger.") for k in given)
    ):
        return []
    from pir.runs.names import find_run  # not at every start

    chosen = find_run(os.path.expanduser(given["resume"])).read_config().choices.logger
    return [f"logger={chosen}"]


def _refuse_unquoted(settings: Sequence[str]) -> None:
    """Refuses words that belong to the text before them, which the shell took apart.

    Raises:
        UserError: with the quotes in their place.
    """
    for place, word in enumerate(settings):
        key, equals, value = word.partition("=")
        if key not in TEXT_KEYS or not equals:
            continue
        rest = list(takewhile(lambda each: not SETTING.match(each), settings[place + 1 :]))
        if rest:
            whole = " ".join([value, *rest])
            raise UserError(f"{key}= has blanks in its value, so it needs quotes: {key}='{whole}'")


def quote(value: str) -> str:
    """Writes any text as a quoted string of Hydra's override grammar."""
    escaped = re.sub(r"(\\*)'", lambda m: m.group(1) * 2 + "\\'", literal(value))
    escaped = re.sub(r"(\\+)$", lambda m: m.group(1) * 2, escaped)
    return f"'{escaped}'"


def several(value: Any) -> list[str]:
    """Returns the words of a setting that takes one, several or none."""
    if value is None:
        return []
    return [str(each) for each in (value if isinstance(value, ListConfig) else [value])]


def known_keys(command: str) -> set[str]:
    """Returns what the keys of a command's settings begin with."""
    known = set(SCHEMAS[command].__annotations__) - {"choices"}
    if command == "train":
        known |= {*RECIPES, "experiment"}
    return known


def _refuse_null(word: str) -> None:
    """Refuses what no path of a file can hold."""
    if "\0" in word:
        raise UserError(f"{word!r}: a setting holds no null byte")


def _setting(command: str, word: str, sweeping: bool) -> str:
    """Turns one word into a setting of Hydra's."""
    _refuse_null(word)
    key, equals, value = word.partition("=")
    if command in FIRST_WORD and not equals:
        key, equals, value = FIRST_WORD[command], "=", word
        if key == "env" and ":" in word:
            key = "target"
    if not equals and not word.startswith("~"):
        meant = f"; did you mean run={word}?" if word.startswith(MODEL_NAMES) else ""
        raise UserError(f"{word!r} is no setting: settings are key=value{meant}")
    bare = key.lstrip("+~")
    _refuse_unknown(command, bare, word)
    if bare in RAW_KEYS and value != "null" and equals:
        value = _literal(bare, value, sweeping)
        if sweeping and bare == "run":
            key = key.replace("run", "hydra.sweep.dir")
    elif value == "~" or value.startswith("~/"):
        value = _home(value, bare)
    elif re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d+", value) and _is_whole(command, bare):
        if not float(value).is_integer():
            raise UserError(f"{bare}={value}: allowed is a whole number")
        value = str(int(float(value)))
    elif bare in GROUPS.values() and value[:1] not in "'\"" and not sweeping:
        value = quote(value)  # the name of a choice, whatever else it could be read as
    if command in PUZZLE_KEYS:
        if bare == "env":
            raise UserError(f"{word}: the puzzle is that of the run; env.NAME= changes a setting")
        key = _added(key, PUZZLE_KEYS[command])
    return f"{key}{equals}{value}"


def _added(key: str, known: Sequence[str]) -> str:
    """Marks a setting of the puzzle that the command's own file does not have, for Hydra."""
    return f"+{key}" if key.startswith("env.") and key not in known else key


def _refuse_unknown(command: str, key: str, word: str) -> None:
    """Refuses keys that a command does not have, and those of Hydra's that pir takes care of.

    Hydra's + adds any key and its ~ removes any, but what the schema has is all there and stays.
    """
    first = re.split(r"[./@:]", key, maxsplit=1)[0]
    if first not in (known := known_keys(command)) and first != "hydra":
        if first and "=" in word:
            raise UserError(unknown_setting(first, command, []))
        raise UserError(f"{first or repr(word)} is no setting{suggest(first, known)}")
    if key.startswith(("hydra.run", "hydra.output_subdir", "hydra.job.chdir")):
        raise UserError(f"{key} is no setting: run=DIR names the folder of a run")
    if key == "hydra.mode":
        raise UserError("hydra.mode is no setting: `pir train -m` trains a run per combination")
    if re.search("[/@]", key):  # a choice and its place
        return
    place, dot, _ = key.rpartition(".")
    kind = kind_of(command, key)
    if dot and kind is None:
        raise UserError(unknown_setting(key, command, []))
    if word.startswith("~") and kind and (not dot or is_dataclass(kind_of(command, place))):
        raise UserError(f"{word}: {key} cannot be removed")


def _refuse_unknown_recipes(settings: Sequence[str]) -> None:
    """Refuses names that are none of a recipe, also among several of a sweep."""
    chosen = [word for word in settings if word.partition("=")[0] in RECIPES and "=" in word]
    if not chosen:
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob

    for override in OverridesParser.create().parse_overrides(chosen):
        value = override.value()
        if isinstance(value, Glob):  # stands for names that there are
            continue
        names = override.sweep_iterator() if override.is_sweep_override() else [value]
        known = [row["name"] for row in choices(override.key_or_group)]
        for name in names:
            check_choice(override.key_or_group, typed(getattr(name, "text", name)), known)


def _is_whole(command: str, key: str) -> bool:
    """Says whether the schema of a command wants a whole number."""
    kind = kind_of(command, key)
    return int in (kind, *get_args(kind))


def _literal(key: str, value: str, sweeping: bool) -> str:
    """Quotes a value for Hydra, every part of a sweep by itself."""
    parts = value.split(",") if sweeping and key in SWEPT else [value]
    if not all(parts):
        raise UserError(
            f"{key}={value} is empty" if value == "" else f"{key}={value}: a part is empty"
        )
    if key in PATHS:
        parts = [_home(part, key) for part in parts]
    elif key == "runs" and not os.path.exists(value):  # patterns, with blanks between
        parts = [re.sub(r"(?<!\S)~\S*", lambda found: _home(found.group(), key), value)]
    return ",".join(map(quote, parts))


def _home(path: str, key: str) -> str:
    """Puts the home folder in the place of a leading `~` or `~user`.

    Raises:
        UserError: if there is no such user.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.split(os.sep)[0]
        raise UserError(f"{key}={path}: there is no home folder {user}; write ./{path} for a name")
    return expanded


def _names_of_sweep(settings: list[str]) -> str:
    """Returns the setting that names a sweep's folders by the swept keys alone."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(settings)
    constant = [o.key_or_group for o in parsed if not o.is_sweep_override()]
    return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"
