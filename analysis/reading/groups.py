"""Which runs are seeds of each other, and what to call them: by what tells them apart."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pir.analysis.reading.runs import Run, without_seed
from pir.analysis.reading.settings import (
    BUDGETS,
    FREE,
    INIT,
    PACKS,
    RunSettings,
    fewest,
    short_keys,
    varied_by_users,
)
from pir.analysis.words import plain

from pir.errors import UserError

LONGEST = 28
"""Characters of a value in a name; longer ones are cut."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only; most groups have one run."""

    label: str
    runs: tuple[Run, ...]


def group_by_seed(runs: Sequence[Run]) -> list[Group]:
    """Puts runs together that differ in their seed only, in the order given.

    Where and how fast they ran is free to differ, and so is a budget that grew when a run was
    resumed, and by which recipe settings became what they are.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = RunSettings(run)
        config = {
            key: own.varied(key)
            for key in sorted({*own.settings, *BUDGETS})
            if key not in (*FREE, *PACKS) and not key.startswith("logger.")
        }
        key = json.dumps([config, run.facts.conditions])
        seed = run.config.get("seed")
        while any(other.config.get("seed") == seed for other in groups.get(key, [])):
            key += "again"  # the same seed twice is no second seed
        groups.setdefault(key, []).append(run)
    members = [tuple(group) for group in groups.values()]
    return [Group(*pair) for pair in zip(_labels(members), members, strict=True)]


def run_names(runs: Sequence[Run]) -> list[str]:
    """Returns a name for each of several runs; those of one group have their seed in it."""
    names = {}
    for group in group_by_seed(runs):
        for run in group.runs:
            seed = f", seed {run.config.get('seed')}" if len(group.runs) > 1 else ""
            text = group.label.removesuffix(_seeds(group.runs))
            names[id(run)] = run.label or f"{text}{seed}"
    return [names[id(run)] for run in runs]


def give_labels(runs: Sequence[Run], text: str | None, grouped: bool) -> None:
    """Gives runs the names that a user typed.

    Args:
        runs: the runs.
        text: names with commas between, in brackets or without; None for none.
        grouped: whether runs that differ in their seed only share a name.

    Raises:
        UserError: if there are not as many names as lines.
    """
    if text is None:
        return
    groups = [g.runs for g in group_by_seed(runs)] if grouped else [(run,) for run in runs]
    present = [g.label for g in group_by_seed(runs)] if grouped else run_names(runs)
    for members, label in zip(groups, read_labels(text, present), strict=True):
        for run in members:
            run.label = label


def read_labels(text: str, present: Sequence[str]) -> list[str]:
    """Reads the names that a user typed for lines or rows.

    Args:
        text: names with commas between; those with commas in them stand in double quotes.
        present: the names so far.

    Raises:
        UserError: if there are not as many.
    """
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    labels = [plain(word.strip()) for word in next(csv.reader([inner], skipinitialspace=True), [])]
    if len(labels) != len(present):
        raise UserError(
            f"label={text}: {len(labels)} names for {len(present)}: {'; '.join(present)}"
        )
    return labels


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Names groups by the settings that tell them apart, by their folders if none does."""
    firsts = [RunSettings(members[0]) for members in groups]
    keys = varied_by_users(firsts)
    rows = [{key: _value(run, key) for key in keys} for run in firsts]
    keys = fewest(rows, keys)
    labels = [_in_words(row, keys) for row in rows]
    if len(firsts) == 1:
        chosen = {key: firsts[0].settings.get(key, "") for key in ("model", "objective")}
        labels = [_in_words(chosen, list(chosen)) if all(chosen.values()) else ""]
    if len(set(labels)) < len(labels) or "" in labels:
        labels = [_folder_name(members) for members in groups]
    if len(set(labels)) < len(labels):
        names = ((members[0].folder.resolve().parent.name, members[0].name) for members in groups)
        labels = [plain("/".join(name)) for name in names]
    return [
        members[0].label or f"{label}{_seeds(members)}"
        for label, members in zip(labels, groups, strict=True)
    ]


def _value(run: RunSettings, key: str) -> str:
    """Returns a setting: of a budget that the first command does not name, what it is now."""
    first = run.varied(key)
    text = first if key in (run.run.typed or {}) else run.at([key])[0]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _in_words(row: dict[str, str], keys: Sequence[str]) -> str:
    """Writes settings as words; the name of a choice speaks for itself."""
    short = {key: text.replace("_", " ") for key, text in short_keys(keys).items()}
    return ", ".join(
        f"{short[key]} {row[key]}" if "." in key or key == INIT else row[key].replace("_", " ")
        for key in keys
    )


def _folder_name(members: Sequence[Run]) -> str:
    """Returns the name of a run's folder, of several runs what is left of it without the seed."""
    name = members[0].name
    return name if len(members) == 1 else without_seed(name, members[0].config.get("seed"))


def _seeds(members: Sequence[Run]) -> str:
    return f" ({len(members)} seeds)" if len(members) > 1 else ""
