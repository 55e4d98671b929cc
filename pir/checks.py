"""What a setting may be, and messages that say so; imports nothing but the errors."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from pir.errors import UserError

MOST_STEPS = 1_000_000
"""The most improvement steps of a rollout, and the largest number of one that is read."""

FIGURES = (".png", ".pdf", ".svg")
"""Endings of figures."""

LONGEST_NAME = 100
"""Characters of a name that a user may give to what is written."""


def check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a value that is none of the allowed ones.

    Raises:
        UserError: naming the key, the value and the allowed values.
    """
    if value not in allowed:
        raise UserError(f"{key}={value}: allowed are {', '.join(allowed)}")


def check_seed(key: str, value: int) -> None:
    """Refuses a number that is no seed, or no number of a puzzle in its stream.

    Raises:
        UserError: naming the key and what is allowed.
    """
    if not 0 <= value < 1 << 62:
        raise UserError(f"{key}={value}: allowed are 0 to 2**62 - 1")


def check_steps(key: str, value: float | None) -> None:
    """Refuses a number of improvement steps that is out of range; None is a number not given.

    Raises:
        UserError: naming the key and what is allowed.
    """
    if value is not None and not 1 <= value <= MOST_STEPS:
        raise UserError(f"{key}={value}: must be at least 1 and at most {MOST_STEPS}")


def check_count(key: str, value: int | None) -> None:
    """Refuses a number of things that is below 1; None is a number not given.

    Raises:
        UserError: naming the key and what is allowed.
    """
    if value is not None and value < 1:
        raise UserError(f"{key}={value}: must be at least 1")


def check_whole(key: str, value: Any) -> int:
    """Returns a whole number that is at least 1, of Python or numpy.

    Raises:
        UserError: naming the key and what is allowed, if it is another.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UserError(f"{key}={value}: allowed is a whole number, at least 1")
    return int(value)


def check_pairs(path: str, **pairs: Sequence[int] | None) -> None:
    """Refuses settings that are no pair of whole numbers; None is a pair not given.

    Raises:
        UserError: naming the key of the first one.
    """
    for name, pair in pairs.items():
        if pair is None:
            continue
        if not isinstance(pair, Sequence) or [isinstance(n, Integral) for n in pair] != [True] * 2:
            raise UserError(f"{path}.{name}={pair}: allowed are two whole numbers, as (4, 9)")


def check_ending(out: Path, allowed: Sequence[str] = FIGURES) -> None:
    """Refuses a file to write by its ending, by default one that is no figure's.

    Raises:
        UserError: naming the file and the allowed endings.
    """
    if out.suffix not in allowed:
        one = "one of " if len(allowed) > 1 else ""
        raise UserError(f"out={out}: the ending must be {one}{', '.join(allowed)}")


def check_name(key: str, value: str | None) -> None:
    """Refuses a name that cannot be that of a folder.

    Raises:
        UserError: naming the key, the name and what is allowed.
    """
    if value is None:
        return
    fits = 0 < len(value) <= LONGEST_NAME and value.isprintable() and value[0] not in ".-"
    if not fits or {"/", "\\"} & {*value}:
        raise UserError(
            f"{key}={value}: allowed is the name of a folder: up to {LONGEST_NAME} characters, "
            "none of them / or \\, the first no . or -"
        )


def check_keywords(path: str, given: Iterable[str], kind: type, shared: type) -> None:
    """Refuses keywords that a class does not take.

    Args:
        path: where its settings are, such as `env`.
        given: the keywords that its signature does not name.
        kind: the class.
        shared: has the keywords that it hands on to its base as annotations.

    Raises:
        UserError: naming the keyword, a near miss if there is one, and what exists.
    """
    own = inspect.signature(kind).parameters.values()
    known = [*(p.name for p in own if p.kind is not p.VAR_KEYWORD), *shared.__annotations__]
    for name in given:
        if name not in known:
            raise UserError(f"{path}.{name} is unknown{suggest(name, known)}")


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: a near miss if any, and what exists."""
    options = list(allowed)
    near = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint} (allowed: {', '.join(sorted(options))})"
