"""The settings of a run, and in which of them runs differ that a user varied.

Settings of two runs may differ because the user typed others, or because recipes, another version
or a resumed budget did it. The command that started a run tells: what no command names was not
varied. Of a run that no `pir train` started, any setting may have been.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from pir.analysis.reading.runs import Run
from pir.analysis.words import NONE, are_numbers, plain

INIT = "init"
"""The run that another began with; it has no parts, and still is no mere name of a choice."""

FREE = (
    "seed",
    "device",
    "logger",
    "trainer.threads",
    "trainer.max_minutes",
    "trainer.eval_batch_size",
    "trainer.log_every",
    "trainer.test_puzzles",
)
"""What may differ between runs that are averaged: the seed, where they ran and how fast, what they
noted, the guard on time, and how many puzzles the last test has."""

BUDGETS = ("trainer.max_optimizer_steps", "trainer.max_forward_passes", "trainer.patience")
"""Settings that change when a run is resumed: what its first command says is what was varied."""


PACKS = ("experiment", "recipe", "recipe_pair", "recipe_objective")
"""Choices that set what is not their own; recipes follow env, model and objective if not named."""


class RunSettings:
    """The settings of a run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        """Reads nothing yet."""
        self.run = run

    @cached_property
    def settings(self) -> dict[str, str]:
        """Every setting by dotted key, as text; `objective` and the like are the choices."""
        return {
            key.removeprefix("choices."): text_of(value)
            for key, value in flat(self.run.config).items()
        }

    def at(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Returns the values of settings, a dash for one that the run does not have."""
        return tuple(self.settings.get(key, NONE) for key in keys)

    def names(self, key: str) -> bool:
        """Says whether the command that started the run names a setting, or what holds it."""
        typed = self.run.typed
        parts = key.split(".")
        return typed is None or any(".".join(parts[: n + 1]) in typed for n in range(len(parts)))

    def varied(self, key: str) -> str:
        """Returns the value of a setting to tell runs apart by: budgets are those of the start."""
        typed = self.run.typed
        if key not in BUDGETS or typed is None:
            return self.at([key])[0]
        first = typed.get(key, NONE)
        if "," in first:  # a sweep names them all
            return self.at([key])[0]
        return text_of(float(first)) if are_numbers([first]) else first

    def has(self, key: str) -> bool:
        """Says whether a setting is one of this run at all."""
        return True


def differing(runs: Sequence[RunSettings], alone: Iterable[str] = (INIT,)) -> list[str]:
    """Returns the settings in which runs differ; where choices do, those stand for what they set.

    A choice alone makes no difference: two recipes may set the same.

    Args:
        runs: the settings of the runs.
        alone: choices that make a difference all the same.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    apart = [
        key
        for key in keys
        if key not in FREE and not key.startswith("logger.") and _values(runs, key) > 1
    ]
    set_by = {key.split(".")[0] for key in apart if "." in key}
    chosen = [key for key in apart if key in set_by or key in alone]
    return chosen + [key for key in apart if "." in key and key.split(".")[0] not in chosen]


def _values(runs: Sequence[RunSettings], key: str) -> int:
    """Counts the values of a setting; a run without an evaluation has none of its settings."""
    return len({run.varied(key) for run in runs if run.has(key)})


def varied_by_users(runs: Sequence[RunSettings], alone: Iterable[str] = (INIT,)) -> list[str]:
    """Returns the settings in which runs differ and which a command names, or a choice of many.

    Args:
        runs: the settings of the runs.
        alone: see `differing`.
    """
    apart = differing(runs, alone)
    named = [key for key in apart if "." not in key or any(run.names(key) for run in runs)]
    if len(named) == len(apart):
        return named
    packs = [pack for pack in PACKS if len({_typed(run, pack) for run in runs}) > 1]
    return packs + named


def _typed(run: RunSettings, pack: str) -> str | None:
    """Returns a choice of many settings that the command of a run names."""
    return run.at([pack])[0] if pack in (run.run.typed or {}) else None


def fewest(rows: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[str]:
    """Returns as few keys as tell rows apart as well as all do, the first ones rather.

    Budgets are among the first: that a run was short says more than how its parts were made small.
    """
    kept = sorted(keys, key=lambda key: ("." in key, key not in BUDGETS))
    whole = len({tuple(row.get(key, NONE) for key in kept) for row in rows})
    for key in kept[::-1]:
        rest = [other for other in kept if other != key]
        if len({tuple(row.get(other, NONE) for other in rest) for row in rows}) == whole:
            kept = rest
    return [key for key in keys if key in kept]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Returns the last parts of keys, as many as tell them apart."""
    short = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        others = [f".{other}" for other in keys if other != key]
        short[key] = next(
            (end for end in ends if not any(o.endswith(f".{end}") for o in others)), key
        )
    return short


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested content by dotted keys."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def text_of(value: Any) -> str:
    """Writes a setting so that equal ones are equal: 1 and 1.0 are."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return plain(value if isinstance(value, str) else json.dumps(value, default=str))
