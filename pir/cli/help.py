"""`pir COMMAND --help`: what a command does, its choices, and its settings with their meaning.

Sentence and examples of a command stand at the top of configs/COMMAND.yaml, the meaning of a
setting where `pir.settings.describe` finds it; nothing is written twice.
"""

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

from omegaconf import MISSING

from pir.checks import suggest
from pir.errors import UserError
from pir.settings.catalog import GROUPS, choices, settings_text
from pir.settings.describe import Composed, composed

NAMED = {"trainer.lanes": "lanes", "eval.exit": "exit"}
"""Settings whose value is the name of a choice, and the group of the choice."""

MOST_USED = {
    "train": (
        "trainer.max_minutes",
        "trainer.max_optimizer_steps",
        "trainer.batch_size",
        "trainer.lanes",
        "model.hidden_size",
        "model.improvement_steps",
        "model.mixer",
        "optim.lr",
        "objective.terms.set_likelihood.limit",
    )
}
"""Settings of groups that the first page shows."""


def page(command: str, overrides: Sequence[str], topic: str | None, width: int) -> str:
    """Returns the page of a command, or of one of its groups.

    Args:
        command: its name.
        overrides: settings in Hydra's grammar; the page shows the values that they make.
        topic: a group of choices, such as "model", or the begin of keys, such as "eval"; None for
            the command itself.
        width: columns of the terminal.

    Raises:
        UserError: if the command has no such group.
    """
    known = composed(command, overrides)
    named = {group: key for key, group in NAMED.items() if key in known.settings()}
    present = [group for group in GROUPS.values() if group in known.choices or group in named]
    groups = {group: named.get(group, group) for group in present}
    typed = {word.partition("=")[0] for word in overrides}
    lines = list(
        _command_page(command, known, groups, typed, width)
        if topic is None
        else _group_page(command, known, groups, topic, width)
    )
    return "\n".join(lines)


def _command_page(
    command: str, known: Composed, groups: Mapping[str, str], typed: Collection[str], width: int
) -> Iterator[str]:
    """Yields the lines of a command.

    Args:
        command: its name.
        known: its settings.
        groups: by which setting each group of choices is chosen.
        typed: settings of the command line, by key; of choices among them all settings are shown.
        width: columns of the terminal.
    """
    yield from _about(settings_text(command), width)
    if groups:
        yield from ("", "Choices (GROUP=NAME, * is chosen):")
        yield from _choices(known, groups, width)
    own = [key for key in known.settings() if key.partition(".")[0] not in groups]
    chosen = {group: _below(known, group) for group in groups if group in typed}
    shown = [key for keys in chosen.values() for key in keys]
    used = [
        key for key in MOST_USED.get(command, ()) if key in known.settings() and key not in shown
    ]
    yield from ("", "Settings (KEY=VALUE):")
    yield from _settings(known, own, width)
    if used:
        yield from ("", "The most used of the groups:")
        yield from _settings(known, used, width)
    for group, keys in chosen.items():
        if keys:
            yield from ("", f"Settings of {group}={known.choices.get(group)}:")
            yield from _settings(known, keys, width)
    more = [f"`pir {command} --cfg job` prints all settings as YAML."]
    if groups:
        names = ", ".join(groups)
        more.insert(0, f"`pir {command} --help GROUP` explains choices and settings of: {names}.")
    yield ""
    for text in more:
        yield from textwrap.wrap(text, width)


def _group_page(
    command: str, known: Composed, groups: Mapping[str, str], topic: str, width: int
) -> Iterator[str]:
    topic = next((group for group, key in groups.items() if key == topic), topic)
    typed = groups.get(topic, topic)
    keys = _below(known, typed)
    if topic not in groups and not keys:
        names = sorted({*groups, *(key.partition(".")[0] for key in known.settings())})
        raise UserError(f"--help {topic}: `pir {command}` has no such group{suggest(topic, names)}")
    if topic in groups:
        name = known.choices.get(topic)
        chosen = f", {topic}={name} is chosen" if name else ""
        yield f"Choices ({typed}=NAME{chosen}):"
        yield from _named({row["name"]: row["summary"] for row in choices(topic)}, width)
    if keys:
        yield from (*([""] if topic in groups else []), "Settings (KEY=VALUE):")
        yield from _settings(known, keys, width)


def _below(known: Composed, group: str) -> list[str]:
    """Returns the keys of the settings of a group, or of all that begin so."""
    place = group.replace("/", ".")
    return [key for key in known.settings() if f"{key}.".startswith(f"{place}.")]


def _about(text: str, width: int) -> Iterator[str]:
    """Yields the comment at the top of a settings file; indented lines stay as they are."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        words = line[1:].removeprefix(" ") if line.startswith("#") else None
        if words and not words.startswith((" ", "@")):
            paragraph.append(words)
            continue
        yield from textwrap.wrap(" ".join(paragraph), width)
        paragraph = []
        if words is None:
            return
        if not words.startswith("@"):
            yield words


def _choices(known: Composed, groups: Mapping[str, str], width: int) -> Iterator[str]:
    column = max(map(len, groups.values())) + 4
    for group, typed in groups.items():
        chosen = known.choices.get(group) if typed == group else known.value(typed)
        names = (row["name"] for row in choices(group))
        listed = (f"{name}*" if name == chosen else name for name in names)
        yield from _hanging(f"  {typed}", ", ".join(listed), column, width)


def _settings(known: Composed, keys: Sequence[str], width: int) -> Iterator[str]:
    for key in keys:
        value = known.value(key)
        meaning = known.meaning(key).removesuffix(".")
        if value == MISSING:
            value, meaning = "", f"{meaning}; must be given"
        yield f"  {key}={value or '...'}"
        yield from textwrap.wrap(
            meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        if key in VALUES:
            yield from _named(VALUES[key](), width, 6)


def _named(rows: Mapping[str, str], width: int, indent: int = 2) -> Iterator[str]:
    column = max(map(len, rows), default=0) + indent + 2
    for name, sentence in rows.items():
        yield from _hanging(" " * indent + name, sentence, column, width)


def _hanging(name: str, text: str, column: int, width: int) -> Iterator[str]:
    """Yields a text beside a name, its further lines under its first."""
    yield from textwrap.wrap(
        text or " ", width, initial_indent=f"{name:<{column}}", subsequent_indent=" " * column,
        drop_whitespace=bool(text), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _kinds_of_figures() -> dict[str, str]:
    from pir.analysis.figures.kinds import KINDS

    return {name: kind.title for name, kind in KINDS.items()}


VALUES = {"kind": _kinds_of_figures}
"""What gives the values of a setting with a sentence each, where a registry in code knows them."""
